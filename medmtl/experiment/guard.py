"""The contamination guard: what is refused, and what is told, before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medmtl.data.audit import AuditEntry, first_of, require_no_leak, require_one_patient
from medmtl.data.contamination.exposure import Exposure
from medmtl.data.contamination.near import Fingerprint, near_duplicates
from medmtl.data.contamination.resemblance import standing_out
from medmtl.data.privacy.secret import Secret
from medmtl.errors import LeakageError


@dataclass(frozen=True, kw_only=True)
class Resembling:
    """Scans of two sides that look nearly the same.

    Attributes:
        pairs: Worth a look, with their scores.
        alike: How many further pairs are no more alike than many scans of the collection are.
    """

    pairs: Sequence[tuple[AuditEntry, AuditEntry, float]]
    alike: int


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What an experiment's networks begin with, and who may check it.

    Attributes:
        exposures: What the first weights of an arm have seen; no entry, if they are random.
        accepted: Why weights that saw test patients are used all the same; empty: they are not.
        secret: The project's, if it has one.
    """

    exposures: Mapping[str, Exposure] = field(default_factory=dict)
    accepted: str = ""
    secret: Secret | None = None

    def inspect(
        self, entries: Sequence[AuditEntry], fingerprints: Mapping[str, Fingerprint]
    ) -> dict[str, Any]:
        """Refuses contamination and describes what was found.

        Args:
            entries: All scans of all folds, each of which is tested in some cell.
            fingerprints: By scan id.

        Raises:
            LeakageError: A patient, series or image is in two folds or under two patients; or
                the first weights of an arm have seen it, and nobody has accepted that.

        Returns:
            For `audit.json`: counts, and pairs of scans in two folds that are nearly the same.
        """
        require_no_leak(entries)
        require_one_patient(entries)
        near = find_resembling(entries, fingerprints)
        return {
            "scans": len(entries),
            "weights": {arm: self.judge_weights(arm, entries) for arm in self.exposures},
            "accepted": self.accepted,
            "near_duplicates": [
                {
                    "scans": [a.scan_id, b.scan_id],
                    "folds": [a.fold, b.fold],
                    "score": round(score, 3),
                }
                for a, b, score in near.pairs
            ],
            "alike_pairs": near.alike,
        }

    def judge_weights(self, arm: str, entries: Sequence[AuditEntry]) -> dict[str, Any]:
        """Counts the scans that the first weights of an arm have seen.

        Of imported weights nobody here knows what they saw: that is no fault, but it is told.

        Args:
            arm: One of `exposures`.
            entries: Scans that are tested.

        Raises:
            LeakageError: They have seen one, and nobody has accepted that.
        """
        exposure = self.exposures[arm]
        seen = seen_by(exposure, entries, self.secret)
        if seen and not self.accepted:
            raise LeakageError(
                "\n".join(
                    [
                        f"the first weights of the arm {arm} have seen {len(seen)} of "
                        f"{len(entries)} scans, all of which are tested; begin with other weights, "
                        "exclude these scans in the manifest's card, or say in start.accept_seen "
                        "why it does not matter, which the report shows on its first page:",
                        *name_seen(seen),
                    ]
                )
            )
        return {
            "images": exposure.count,
            "seen": len(seen),
            "unchecked_lists": exposure.unchecked(self.secret),
            "unknown": exposure.notes,
        }


def seen_by(
    exposure: Exposure, entries: Sequence[AuditEntry], secret: Secret | None
) -> list[tuple[AuditEntry, str]]:
    """The scans that weights have seen, and by what each is known: content, series, patient."""
    found = [(entry, exposure.sightings(entry, secret)) for entry in entries]
    return [(entry, ", ".join(by)) for entry, by in found if by]


def name_seen(seen: Sequence[tuple[AuditEntry, str]]) -> list[str]:
    """Names the first scans of `seen_by`, a line each."""
    lines = (f"{by}: scan {each.scan_id} of patient {each.patient_id}" for each, by in seen)
    return first_of(lines, len(seen))


def tell_unknown(whose: str, notes: Sequence[str]) -> list[str]:
    """Says of imported weights that nobody here knows what they have seen; lines."""
    return [
        f"caution: what {whose} has seen is not known by us, so whether scans that are tested were "
        f"among it was not checked; imported with the words: {note}"
        for note in notes
    ]


def find_resembling(
    entries: Sequence[AuditEntry], fingerprints: Mapping[str, Fingerprint]
) -> Resembling:
    """Pairs of scans on two sides that seem to show the same; to be looked at, not refused."""
    known = [entry for entry in entries if entry.scan_id in fingerprints]
    found = [
        pair
        for pair in near_duplicates([fingerprints[entry.scan_id] for entry in known])
        if known[pair[0]].content_hash != known[pair[1]].content_hash  # that is another matter
    ]
    outstanding = set(standing_out(found, len(known)))
    crossing = [pair for pair in found if known[pair[0]].fold != known[pair[1]].fold]
    pairs = [
        (known[i], known[j], score) for i, j, score in crossing if (i, j, score) in outstanding
    ]
    return Resembling(pairs=pairs, alike=len(crossing) - len(pairs))


def tell_resembling(near: Sequence[tuple[str, str, float]], alike: int, sides: str) -> list[str]:
    """What a user should know of scans that look nearly the same; lines.

    Args:
        near: Scan ids and score of pairs worth a look.
        alike: See `Resembling`.
        sides: What they lie in two of, such as folds.
    """
    lines = []
    if near:
        lines.append(
            f"caution: {len(near)} pairs of scans of two {sides} seem to show the same; look at "
            "them, and exclude copies in the manifest's card:"
        )
        ranked = sorted(near, key=lambda each: -each[2])
        lines += first_of((f"{a} and {b}, score {score:.1f}" for a, b, score in ranked), len(near))
    if alike:
        lines.append(
            f"note: {alike} pairs of scans of two {sides} look alike, as many of this collection "
            "do (synthetic ones, or of one mould); a copy that was changed much may be among them"
        )
    return lines


def tell(found: Mapping[str, Any]) -> list[str]:
    """What a user should know of an audit that refused nothing; lines."""
    lines = []
    for arm, weights in found["weights"].items():
        if weights["seen"]:
            lines.append(
                f"caution: the first weights of the arm {arm} have seen {weights['seen']} of "
                f"{found['scans']} scans; accepted: {found['accepted']}"
            )
        if weights["unchecked_lists"]:
            lines.append(
                f"note: what the first weights of the arm {arm} have seen was checked by image "
                "content alone; patients and series are listed under another secret, or none"
            )
        lines += tell_unknown(f"the network that the arm {arm} begins with", weights["unknown"])
    near = [(*each["scans"], each["score"]) for each in found["near_duplicates"]]
    return lines + tell_resembling(near, found["alike_pairs"], "folds")
