"""What the labels and measurements of LIDC-IDRI mean, and what an import of it has to tell."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from medmtl.data.adapters.public_counts import (
    LIDC_CLUSTERED,
    LIDC_CLUSTERED_SOURCE,
    LIDC_IDRI,
    NODULES,
    READINGS,
    say_complete,
)
from medmtl.data.manifest import DataCard, Exclusion, Label

NODULE = "nodule"
N_READINGS = "n_readings"
NOT_READ = "not one volume for this tool: "
INDETERMINATE = "median malignancy is 3, which is neither benign nor malignant"
UNDECIDED = 3
MEASUREMENTS = {
    "malignancy": "1 highly unlikely to 5 highly suspicious",
    "subtlety": "1 extremely subtle to 5 obvious",
    "internalStructure": "1 soft tissue, 2 fluid, 3 fat, 4 air",
    "calcification": "1 popcorn to 6 absent",
    "sphericity": "1 linear to 5 round",
    "margin": "1 poorly defined to 5 sharp",
    "lobulation": "1 none to 5 marked",
    "spiculation": "1 none to 5 marked",
    "texture": "1 non-solid to 5 solid",
}
MALIGNANT = Label(
    classes=["benign", "malignant"],
    reference_standard="readers' opinion: median malignancy of the readings below 3, or above 3; "
    "not pathology",
    description="Suspicion of malignancy on CT; not known at a median of exactly 3.",
)
MASK_STANDARD = (
    "voxels that at least half of the nodule's readings enclose, of up to four radiologists; the "
    "outlines themselves lie outside of the nodule"
)
HOW = (
    "Readings whose outlines come within a slice thickness are one nodule (pylidc's rule); the "
    "diameter is that of the sphere of the mask's volume; the position is the mask's centre. "
    "Spiculation and lobulation of about 100 early scans were rated on inconsistent scales, says "
    "the archive."
)


def median_rating(ratings: Sequence[Mapping[str, int]], name: str) -> float | None:
    """The median over the readings that rated it; None if none did."""
    rated = [each[name] for each in ratings if name in each]
    return float(median(rated)) if rated else None


def malignancy_class(rating: float | None) -> int | None:
    """0 below a median of 3, 1 above it, None at 3 or where nothing was rated."""
    if rating is None or rating == UNDECIDED:
        return None
    return int(rating > UNDECIDED)


def card_of(
    tally: Counter[str], *, root: Path, out: Path, exclusions: Sequence[Exclusion]
) -> DataCard:
    """The card of an import.

    Args:
        tally: How many there are of what is worth telling.
        root: The folder that holds images and masks.
        out: The manifest's folder.
        exclusions: What the import leaves out.
    """
    clustered = (
        f"{tally[NODULES]} nodules of {tally[READINGS]} readings (all of LIDC-IDRI in "
        f"{LIDC_CLUSTERED_SOURCE}: {LIDC_CLUSTERED[NODULES]} of {LIDC_CLUSTERED[READINGS]})."
    )
    told = {NODULES, READINGS, *LIDC_IDRI.counts}
    beside = [f"{count} {what}" for what, count in tally.items() if count and what not in told]
    also = f" Also there: {'; '.join(beside)}." if beside else ""
    return DataCard(
        name="LIDC-IDRI",
        description=f"{say_complete(tally, LIDC_IDRI.counts)} {clustered}{also} {HOW}",
        body_region=LIDC_IDRI.body_region,
        data_root=Path(os.path.relpath(root, out.resolve())).as_posix(),
        licence=LIDC_IDRI.licence,
        provenance=LIDC_IDRI.citation,
        lesion_structure=NODULE,
        lesion_mask_reference_standard=MASK_STANDARD,
        labels={"malignant": MALIGNANT},
        measurements={
            **{
                name.lower(): f"median of the readings, {scale}"
                for name, scale in MEASUREMENTS.items()
            },
            N_READINGS: "readings of this nodule, of up to four readers",
        },
        exclusions=list(exclusions),
    )
