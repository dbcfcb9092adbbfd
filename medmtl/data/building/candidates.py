"""What may become a scan of the manifest: a series of CT, or a NIfTI file with or without masks."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medmtl.data.adapters.table import without_ending
from medmtl.data.building.places import FoundSeries
from medmtl.data.building.walk import folder_of, joined
from medmtl.errors import ManifestError

STEM = "{stem}"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A scan to be.

    Attributes:
        image: As the manifest writes it.
        place: The folder of the series, or the NIfTI file.
        files: That are read for it.
        series_uid: SeriesInstanceUID, None for NIfTI.
        organ_mask: A label map of organs.
    """

    image: str
    place: str
    files: tuple[str, ...]
    series_uid: str | None = None
    organ_mask: str | None = None


def series_candidates(series: Iterable[FoundSeries]) -> list[Candidate]:
    """The scans that series are."""
    return [
        Candidate(image=each.image, place=each.folder, files=each.files, series_uid=each.uid)
        for each in series
    ]


def nifti_candidates(files: Sequence[str], *, masks: str | None) -> list[Candidate]:
    """The scans that NIfTI files are; masks are none.

    Args:
        files: Relative paths.
        masks: How the mask of an image is named, beside it: `{stem}_seg.nii.gz`, where the stem
            is the image's name without its ending; or how both are named, with `=` between:
            `{stem}_ct.nii.gz={stem}_seg.nii.gz`. A mask's pattern may lead to another folder:
            `../masks/{stem}.nii.gz`.

    Raises:
        ManifestError: A pattern has no place for the stem, or no file fits.
    """
    if masks is None:
        return [Candidate(image=each, place=each, files=(each,)) for each in files]
    of_image, _, of_mask = masks.rpartition("=")
    if of_mask.count(STEM) != 1 or of_image.count(STEM) != bool(of_image):
        raise ManifestError(
            f"--masks: got {masks!r}; write {STEM} once, where the image's name without its "
            f"ending stands, as in {STEM}_seg.nii.gz, or {STEM}_ct.nii.gz={STEM}_seg.nii.gz"
        )
    there = set(files)
    mask_of = {each: _mask_of(each, of_image, of_mask) for each in files}
    mask_of = {each: mask for each, mask in mask_of.items() if mask in there and mask != each}
    if not mask_of:
        raise ManifestError(f"--masks: no file is the mask of another by {masks!r}")
    are_masks = set(mask_of.values())
    return [
        Candidate(image=each, place=each, files=(each,), organ_mask=mask_of.get(each))
        for each in files
        if each not in are_masks
    ]


def _mask_of(image: str, of_image: str, of_mask: str) -> str | None:
    stem = without_ending(image)
    if of_image:
        before, _, after = of_image.partition(STEM)
        name = image.rpartition("/")[2]
        if not (name.startswith(before) and name.endswith(after)):
            return None
        stem = name[len(before) : len(name) - len(after)]
    return posixpath.normpath(joined(folder_of(image), of_mask.replace(STEM, stem)))
