"""What public collections are published to hold: counts, licences, citations."""

from collections.abc import Mapping
from dataclasses import dataclass

SCANS, PATIENTS, NODULES, READINGS = "scans", "patients", "nodules", "readings"
TRAINING, TEST = "training scans", "test scans"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One collection as it was published.

    Attributes:
        counts: What a complete download must show.
        licence: Of images and annotations.
        citation: Whom to cite, and where the counts stand.
        body_region: What the scans show.
    """

    counts: Mapping[str, int]
    licence: str
    citation: str
    body_region: str


LIDC_IDRI = Published(
    counts={SCANS: 1018, PATIENTS: 1010},
    licence="CC BY 3.0",
    citation="Armato et al., Med Phys 38 (2011) 915; data: The Cancer Imaging Archive, LIDC-IDRI, "
    "doi 10.7937/K9/TCIA.2015.LO9QL9SX",
    body_region="chest",
)
# By the same clustering; of scans that were all readable there. Not asked for exactly: ours
# keeps readings that rate only some characteristics, and leaves out scans that it cannot read.
LIDC_CLUSTERED = {NODULES: 2651, READINGS: 6859}
LIDC_CLUSTERED_SOURCE = "Fedorov et al., Med Phys 47 (2020) 5953"

LUNA16 = Published(
    counts={SCANS: 888, NODULES: 1186},
    licence="CC BY 4.0; the scans are of LIDC-IDRI, CC BY 3.0",
    citation="Setio et al., Med Image Anal 42 (2017) 1; luna16.grand-challenge.org/Data; scans: "
    "Armato et al., Med Phys 38 (2011) 915",
    body_region="chest",
)

DECATHLON_LICENCE = "CC BY-SA 4.0"
DECATHLON_CITATION = (
    "Medical Segmentation Decathlon: Antonelli et al., Nat Commun 13 (2022) 4128; data: Simpson "
    "et al., arXiv 1902.09063"
)


def _decathlon(training: int, test: int, body_region: str) -> Published:
    return Published(
        counts={TRAINING: training, TEST: test},
        licence=DECATHLON_LICENCE,
        citation=DECATHLON_CITATION,
        body_region=body_region,
    )


# The tasks on CT, by the name of their folder. Counts as the dataset.json of each has them: the
# paper counts one training scan more of lung and of pancreas.
DECATHLON = {
    "Task03_Liver": _decathlon(131, 70, "abdomen"),
    "Task06_Lung": _decathlon(63, 32, "chest"),
    "Task07_Pancreas": _decathlon(281, 139, "abdomen"),
    "Task08_HepaticVessel": _decathlon(303, 140, "abdomen"),
    "Task09_Spleen": _decathlon(41, 20, "abdomen"),
    "Task10_Colon": _decathlon(126, 64, "abdomen"),
}


def say_complete(got: Mapping[str, int], published: Mapping[str, int]) -> str:
    """Says whether a download is complete, as one sentence for the card.

    Args:
        got: How many of each kind are there.
        published: How many there should be.
    """
    if all(got[kind] == count for kind, count in published.items()):
        shown = ", ".join(f"{count} {kind}" for kind, count in published.items())
        return f"Complete: yes, {shown}."
    shown = ", ".join(f"got {got[kind]} of {count} {kind}" for kind, count in published.items())
    return f"Complete: no, {shown}."
