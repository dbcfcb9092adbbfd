"""Writes small archives in the layout of LIDC-IDRI: series in DICOM, and the readers' XML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydicom.dataset import Dataset
from scipy.ndimage import binary_dilation

from tests.data.dicom.writers import Phantom, write_series

UIDS = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
SHAPE, SPACING_MM = (40, 36, 12), (0.7, 0.7, 2.0)
RATINGS = {
    "subtlety": 5, "internalStructure": 1, "calcification": 6, "sphericity": 4, "margin": 4,
    "lobulation": 1, "spiculation": 1, "texture": 5, "malignancy": 4,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Roi:
    """An outline: slice, x y of each pixel, and whether it is a hole."""

    k: int
    points: Sequence[tuple[int, int]]
    inclusion: str = "TRUE"
    sop_uid: str | None = None
    z_mm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A nodule of one reader; `ratings` None leaves the characteristics out."""

    rois: Sequence[Roi]
    ratings: Mapping[str, int | str] | None = field(default_factory=lambda: RATINGS)


def phantom_of(series: str) -> Phantom:
    """The scan of a series."""
    return Phantom(shape=SHAPE, spacing_mm=SPACING_MM, series_uid=f"{UIDS}.{series}")


def series_folder(root: Path, patient: str, series: str) -> Path:
    """Where the archive has a series."""
    return root / patient / f"{UIDS}.9" / f"{UIDS}.{series}"


def write_scan(
    root: Path, patient: str, series: str, *, modality: str = "CT", skip: tuple[int, ...] = ()
) -> Path:
    """Writes a series."""
    folder = series_folder(root, patient, series)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _files_of(patient, series, modality, skip).items():
        (folder / name).write_bytes(content)
    return folder


@cache
def _files_of(
    patient: str, series: str, modality: str, skip: tuple[int, ...]
) -> Mapping[str, bytes]:
    def edit(k: int, image: Dataset) -> None:
        image.PatientID, image.Modality = patient, modality
        image.SOPInstanceUID = sop_uid(series, k)

    with TemporaryDirectory() as folder:
        written = write_series(Path(folder), phantom_of(series), edit=edit, skip=skip)
        return {file.name: file.read_bytes() for file in written.iterdir()}


def sop_uid(series: str, k: int) -> str:
    """Of a slice."""
    return f"{UIDS}.{series}.{k}"


def square(low: int, high: int, k: int, *, inclusion: str = "TRUE", at: int = 0) -> Roi:
    """The outline of a square, its pixels from low to high, moved by `at` along x."""
    side = range(low, high)
    points = [(each, low) for each in side] + [(high, each) for each in side]
    points += [(low + high - each, high) for each in side]
    points += [(low, low + high - each) for each in side]
    return Roi(k=k, points=[(x + at, y) for x, y in points], inclusion=inclusion)


def around_disc(centre: tuple[int, int], radius: float, k: int) -> Roi:
    """The first pixels outside of a disc, in the order in which they lie around it."""
    x, y = np.indices(SHAPE[:2]) - np.array(centre)[:, None, None]
    disc = x**2 + y**2 < radius**2
    outside = binary_dilation(disc) & ~disc
    points = np.argwhere(outside)[np.argsort(np.arctan2(y[outside], x[outside]))]
    return Roi(k=k, points=[(int(i), int(j)) for i, j in points])


def write_xml(
    folder: Path, series: str, readers: Sequence[Sequence[Drawn]], *, name: str = "069.xml"
) -> Path:
    """Writes the file of a scan as the archive has it."""
    sessions = "".join(_session(reader, series) for reader in readers)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<LidcReadMessage uid="{UIDS}.1307390361851.0" xmlns="http://www.nih.gov"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://www.nih.gov http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd">
<ResponseHeader>
<Version>1.7</Version>
<MessageId>-421198203</MessageId>
<DateRequest>2005-11-03</DateRequest>
<TimeRequest>12:25:11</TimeRequest>
<RequestingSite>removed</RequestingSite>
<ServicingSite>removed</ServicingSite>
<TaskDescription>Second unblinded read</TaskDescription>
<CtImageFile>removed</CtImageFile>
<SeriesInstanceUid>{UIDS}.{series}</SeriesInstanceUid>
<StudyInstanceUID>{UIDS}.9</StudyInstanceUID>
<DateService>2005-11-03</DateService>
<TimeService>12:25:11</TimeService>
<ResponseDescription>1 - Reading complete</ResponseDescription>
<ResponseComments></ResponseComments>
</ResponseHeader>
{sessions}</LidcReadMessage>
"""
    )
    return folder / name


def _session(reader: Sequence[Drawn], series: str) -> str:
    nodules = "".join(_nodule(drawn, number, series) for number, drawn in enumerate(reader))
    return f"""<readingSession>
<annotationVersion>3.12</annotationVersion>
<servicingRadiologistID>anonymous</servicingRadiologistID>
{nodules}<nonNodule>
<nonNoduleID>2321</nonNoduleID>
<imageZposition>-110.0</imageZposition>
<imageSOP_UID>{sop_uid(series, 1)}</imageSOP_UID>
<locus><xCoord>30</xCoord><yCoord>2</yCoord></locus>
</nonNodule>
</readingSession>
"""


def _nodule(drawn: Drawn, number: int, series: str) -> str:
    ratings = ""
    if drawn.ratings is not None:
        lines = "".join(f"<{name}>{value}</{name}>\n" for name, value in drawn.ratings.items())
        ratings = f"<characteristics>\n{lines}</characteristics>\n"
    rois = "".join(_roi(roi, series) for roi in drawn.rois)
    return f"""<unblindedReadNodule>
<noduleID>Nodule {number:03d}</noduleID>
{ratings}{rois}</unblindedReadNodule>
"""


def _roi(roi: Roi, series: str) -> str:
    pixels = "".join(
        f"<edgeMap>\n<xCoord>{x}</xCoord>\n<yCoord>{y}</yCoord>\n</edgeMap>\n"
        for x, y in roi.points
    )
    z_mm = phantom_of(series).position_lps_mm(roi.k)[2] if roi.z_mm is None else roi.z_mm
    uid = sop_uid(series, roi.k) if roi.sop_uid is None else roi.sop_uid
    return f"""<roi>
<imageZposition>{z_mm:.6f} </imageZposition>
<imageSOP_UID>{uid}</imageSOP_UID>
<inclusion>{roi.inclusion}</inclusion>
{pixels}</roi>
"""


ONE, TWO = "LIDC-IDRI-0001", "LIDC-IDRI-0002"
MARK = Drawn(rois=[Roi(k=2, points=[(30, 30)])], ratings=None)
# Four readers, two of whom did not draw the second nodule, and one who rated it in part.
NODULE_A = [Drawn(rois=[square(2, 6, 4), square(2, 6, 5)], ratings={**RATINGS, "malignancy": m})
            for m in (4, 5, 3, 4)]  # fmt: skip
NODULE_B = [
    Drawn(rois=[square(20, 28, 8)], ratings={**RATINGS, "malignancy": 2}),
    Drawn(rois=[square(21, 29, 8)], ratings={**RATINGS, "malignancy": "", "texture": 0}),
]


def write_archive(root: Path) -> Path:
    """Four readers: all drew nodule A, two nodule B, and one marked a third."""
    write_scan(root, ONE, "1")
    readers = [
        [NODULE_A[0], NODULE_B[0]],
        [NODULE_B[1], NODULE_A[1]],
        [NODULE_A[2], MARK],
        [NODULE_A[3]],
    ]
    write_xml(series_folder(root, ONE, "1"), "1", readers)
    return root
