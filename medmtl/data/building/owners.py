"""Finds the owner of every candidate, and refuses paths that tell who a patient is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.building.candidates import Candidate
from medmtl.data.building.left_out import LeftOut
from medmtl.data.building.patients import Owned, PatientBy, Pseudonyms, make_rule
from medmtl.data.building.pool import Workers
from medmtl.data.building.whose import WhoseJob, read_whose, words_of
from medmtl.data.privacy.out_folder import TABLE as DEIDENTIFIED
from medmtl.data.privacy.secret import read_secret
from medmtl.errors import PrivacyError

OF_PATIENT = re.compile(r"nifti/([0-9a-f]{16})/")
UNMATCHED = "its path does not say whose it is (--patient-from is not found in it)"


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """How the user says whose scans are.

    Attributes:
        by: What part of a path is the patient; None: see `make_rule`.
        pattern: Or a regular expression.
        already: Whether names in paths, and PatientIDs, are pseudonyms already.
        named_paths: Whether paths that tell who a patient is may stand in the manifest.
    """

    by: PatientBy | None = None
    pattern: str | None = None
    already: bool = False
    named_paths: bool = False


@dataclass(frozen=True, kw_only=True)
class Owners:
    """Scans with their pseudonyms, and what has none."""

    owned: list[Owned]
    left_out: list[LeftOut]
    parts: frozenset[str]  # of all names and ids in headers; never written


def find_owners(
    root: Path,
    candidates: Sequence[Candidate],
    ownership: Ownership,
    *,
    out: Path,
    workers: Workers,
) -> Owners:
    """Reads whose the scans are.

    Args:
        root: The folder that is searched.
        candidates: The scans.
        ownership: What the user says.
        out: The manifest's folder, in which the secret must not lie.
        workers: Who reads.

    Raises:
        ManifestError: Neither headers nor paths say whose scans are.
        PrivacyError: There is no secret, and it is needed.
    """
    series = [each for each in candidates if each.series_uid is not None]
    jobs = [WhoseJob(root=root, image=each.image, file=each.files[0]) for each in series]
    headers = {each.image: each for each in workers.map(read_whose, jobs)}
    said = {image: each for image, each in headers.items() if each.patient_id}
    # What 'medmtl deidentify' wrote holds nothing but pseudonyms, in its paths too.
    cleaned = (root / DEIDENTIFIED).is_file()
    already = ownership.already or cleaned
    placed = {
        each.image: found[1]
        for each in candidates
        if cleaned and (found := OF_PATIENT.match(each.image))
    }
    unsaid = [each for each in candidates if each.image not in {*said, *placed}]
    rule = make_rule(by=ownership.by, pattern=ownership.pattern, root_name=root.name, unsaid=unsaid)
    names = placed | {each.image: rule.patient_of(each.place) for each in unsaid}
    unknown = [each for each in unsaid if not names[each.image]]
    needs_secret = len(unsaid) > len(unknown) or not all(
        each.is_pseudonym for each in said.values()
    )
    secret = read_secret(outside=out) if needs_secret and not already else None
    pseudonyms = Pseudonyms(secret=secret, already=already)
    owned = [
        pseudonyms.of_header(each, said[each.image]) for each in candidates if each.image in said
    ]
    owned += [
        pseudonyms.of_path(each, name)
        for each in candidates
        if each.image not in said and (name := names[each.image])
    ]
    telling = [] if already else [each.parts for each in headers.values()]
    return Owners(
        owned=sorted(owned, key=lambda each: (each.patient_id, each.key, each.candidate.image)),
        left_out=[
            LeftOut(path=each.image, reason=UNMATCHED, files=len(each.files)) for each in unknown
        ],
        parts=frozenset().union(*telling),
    )


def refuse_named_paths(owners: Owners, left_out: Sequence[LeftOut], places: Sequence[str]) -> None:
    """Refuses to write paths that tell who a patient is.

    Args:
        owners: Of the scans.
        left_out: Whose paths are written too.
        places: What else is written of paths: the way to the folder, the collection's name.

    Raises:
        PrivacyError: Says how many paths do, and names none.
    """
    scans = sum(each.is_named for each in owners.owned)
    others = sum(not owners.parts.isdisjoint(words_of(each.path)) for each in left_out)
    others += sum(not owners.parts.isdisjoint(words_of(each)) for each in places)
    if not scans and not others:
        return
    counted = f"{scans} of {len(owners.owned)} scans"
    if others:
        counted += f" (and {others} other paths)"
    raise PrivacyError(
        f"the paths of {counted} name their patients, and a manifest, which is kept in git, holds "
        "the paths of its scans; nothing was written. Run 'medmtl deidentify' on the folder "
        "first, or rename its folders and files. If what stands in the paths are pseudonyms, say "
        "--pseudonyms-already; if the manifest stays as secret as the scans, --allow-named-paths"
    )
