"""New cases and the arms that are asked about them: one table, and the masks beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medmtl.data.contamination.exposure import Exposure
from medmtl.data.contamination.facts import audit_entry
from medmtl.data.manifest import Manifest
from medmtl.data.privacy.secret import Secret
from medmtl.errors import RunError
from medmtl.inference.ensemble import PREDICTED, ArmEnsemble, Row
from medmtl.run_folder import write_table

PREDICTION_COLUMNS = [
    "arm", "patient_id", "scan_id", "lesion_id", "task", "output", "status", "prediction",
    "lowest_of_folds", "highest_of_folds", "models", "note",
]  # fmt: skip
EXCLUDED = "excluded"
SEEN = (
    "this {what} was in the training data, or in that of the weights that training began with: no "
    "prediction of a new case"
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """All arms on all new cases.

    Attributes:
        arms: What predicts.
        manifest: Of the new cases, excluded ones and all.
        seen: What each model has seen, directly or through its first weights.
        secret: The project's, if it has one; without it patients and series are not compared.
    """

    arms: Sequence[ArmEnsemble]
    manifest: Manifest
    seen: Sequence[Exposure]
    secret: Secret | None = None

    def run(self, out: Path) -> pd.DataFrame:
        """Predicts and writes `predictions.csv`, `masks/` and `organs/` below `out`.

        A case that cannot be predicted keeps a row that says why. `masks/<arm>/<scan>.nii.gz` is
        a label map: lesion k of its scan, in the order of lesions.csv, has the value k; where two
        overlap, the later one is drawn over the earlier. `organs/<arm>/<task>/structures.csv`
        says what the values of the maps beside it mean.
        """
        values = {
            lesion.lesion_id: number
            for scan in self.manifest.scans
            for number, lesion in enumerate(self.manifest.lesions_of(scan.scan_id), start=1)
        }
        if (out / "predictions.csv").exists():
            raise RunError(
                f"{out.name} holds predictions already; name another folder, or delete it"
            )
        rows = [row for arm in self.arms for row in arm.predict(out, values)]
        predicted = {row["scan_id"] for row in rows if row["status"] == PREDICTED}
        known = self._seen_scans(predicted)
        for row in rows:
            if row["status"] == PREDICTED and row["scan_id"] in known:
                row["note"] = SEEN.format(what=known[row["scan_id"]])
        table = pd.DataFrame([*rows, *self._excluded()], columns=PREDICTION_COLUMNS)
        write_table(out / "predictions.csv", table)
        return table

    def _seen_scans(self, predicted: set[str]) -> dict[str, str]:
        """What of a scan a model has seen: the scan itself, its series, or its patient."""
        loader = next(iter(self.arms[0].loaders.values()))
        found = {}
        for scan in loader.manifest.scans:
            if scan.scan_id not in predicted:
                continue
            entry = audit_entry(scan, loader.open(scan).content_hash, "new")
            by = {each for seen in self.seen for each in seen.sightings(entry, self.secret)}
            if by:
                what = "scan" if "content" in by else "series" if "series" in by else "patient"
                found[scan.scan_id] = what
        return found

    def _excluded(self) -> list[Row]:
        reasons = {each.id: each.reason for each in self.manifest.card.exclusions}
        rows = []
        for scan in self.manifest.scans:
            lesions = [one.lesion_id for one in self.manifest.lesions_of(scan.scan_id)]
            for lesion_id in lesions or [""]:
                reason = reasons.get(lesion_id) or reasons.get(scan.scan_id)
                if reason:
                    rows.append(
                        {
                            "patient_id": scan.patient_id,
                            "scan_id": scan.scan_id,
                            "lesion_id": lesion_id,
                            "status": EXCLUDED,
                            "note": reason,
                        }
                    )
        return rows
