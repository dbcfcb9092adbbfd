"""From a manifest to cached cases: every scan read, checked against its masks, resampled."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from medmtl.data.cache import CachedCase, CaseCache
from medmtl.data.contamination.facts import ImageFacts, image_facts
from medmtl.data.dicom.choice import split_choice
from medmtl.data.geometry import Grid
from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.data.reading import (
    MaskVolume,
    Volume,
    read_grid,
    read_mask,
    read_volume,
    to_grid,
)
from medmtl.data.transforms import Case, depth_first_grid, prepare_case

Annotations = Literal["lesions", "organs"]


@dataclass(frozen=True, kw_only=True)
class CaseLoader:
    """Opens the cases of a manifest through the cache.

    Attributes:
        manifest: The scans and lesions.
        cache: Where preprocessed cases are kept.
        spacing_mm: The working grid: depth, height, width.
        annotations: Which masks are brought onto it: for windows around lesions theirs, for
            patches of whole scans the organs.
    """

    manifest: Manifest
    cache: CaseCache
    spacing_mm: tuple[float, float, float]
    annotations: Annotations = "lesions"

    def open(self, scan: Scan, image: "ScanImage | None" = None) -> CachedCase:
        """Opens one case; reads and resamples the scan if it is not cached.

        Args:
            scan: Of the manifest.
            image: The scan's, where other loaders need it too.

        Raises:
            ScanError: Image or mask cannot be read, or do not fit each other.
            ManifestError: A path leaves the data root.
        """
        masks = self._mask_paths(scan)
        organ_path = scan.organ_mask if self.annotations == "organs" else None
        sources = {"image": self._existing(scan.image)}
        sources |= {f"mask {name}": self._existing(path) for name, path in masks.items()}
        if organ_path is not None:
            sources["organs"] = self._existing(organ_path)

        read = image or ScanImage(self, scan)

        def make() -> tuple[Case, Mapping[str, Any]]:
            volume, organs = read.volume, None
            if organ_path is not None:
                organs = self._mask_on(volume.grid, organ_path, may_be_empty=True)
            case = prepare_case(
                volume,
                {name: self._mask_on(volume.grid, path) for name, path in masks.items()},
                spacing_mm=self.spacing_mm,
                name=f"{scan.scan_id} ({scan.image})",
                organs=organs,
            )
            facts = {
                "content_hash": read.facts.content_hash,
                "spacing_mm": depth_first_grid(volume.grid).spacing_mm,
            }
            return case, facts

        return self.cache.get(sources, {"spacing_mm": list(self.spacing_mm)}, make)

    def read_volume(self, scan: Scan) -> Volume:
        """Reads a scan as it is stored."""
        return read_volume(self.manifest.resolve(scan.image), name=f"{scan.scan_id} ({scan.image})")

    def read_grid(self, scan: Scan) -> Grid:
        """Reads where the voxels of a scan lie."""
        return read_grid(self.manifest.resolve(scan.image), name=f"{scan.scan_id} ({scan.image})")

    def read_lesion_mask(self, scan: Scan, lesion: Lesion) -> MaskVolume | None:
        """Reads the mask of a lesion on the grid of its scan; None if it was not outlined."""
        if lesion.mask is None:
            return None
        return self._mask_on(self.read_grid(scan), lesion.mask)

    def read_organs(self, scan: Scan) -> MaskVolume | None:
        """Reads the label map of a scan on the scan's grid; None if nothing was drawn."""
        if scan.organ_mask is None:
            return None
        return self._mask_on(self.read_grid(scan), scan.organ_mask, may_be_empty=True)

    def _mask_paths(self, scan: Scan) -> dict[str, str]:
        if self.annotations != "lesions":
            return {}
        lesions = self.manifest.lesions_of(scan.scan_id)
        return {each.lesion_id: each.mask for each in lesions if each.mask is not None}

    def _mask_on(self, grid: Grid, relative: str, *, may_be_empty: bool = False) -> MaskVolume:
        path = self.manifest.resolve(relative)
        mask = read_mask(path, name=relative, may_be_empty=may_be_empty)
        return to_grid(mask, grid, name=relative)

    def _existing(self, relative: str) -> Path:
        path = self.manifest.resolve(relative)
        if not split_choice(path)[0].exists():
            read_volume(path, name=relative)  # tells what is wrong
        return path


class ScanImage:
    """A scan's image and what the guard knows of it, read when first asked for, then kept."""

    def __init__(self, loader: CaseLoader, scan: Scan) -> None:
        self._loader = loader
        self._scan = scan

    @cached_property
    def volume(self) -> Volume:
        """The image as it is stored."""
        return self._loader.read_volume(self._scan)

    @cached_property
    def facts(self) -> ImageFacts:
        """Its hash and fingerprint."""
        path = self._loader.manifest.resolve(self._scan.image)
        return image_facts(self._loader.cache, path, lambda: self.volume)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Scans that are brought onto one working grid before anything is trained."""

    loader: CaseLoader
    scans: Sequence[Scan]


def prepare_cases(
    preparations: Sequence[Preparation],
    on_each: Callable[[], object] = lambda: None,
    workers: int = 1,
) -> dict[str, ImageFacts]:
    """Fills the cache, some scans at a time, and keeps it within its bound afterwards.

    A scan that several grids need is read once.

    Args:
        preparations: All of one manifest, with one cache.
        on_each: Called when a scan is done.
        workers: How many scans are worked on at a time.

    Raises:
        ScanError, ManifestError: As `CaseLoader.open`.

    Returns:
        What the guard compares of each scan, by its id.
    """
    scans = {scan.scan_id: scan for each in preparations for scan in each.scans}
    loaders: dict[str, list[CaseLoader]] = {scan_id: [] for scan_id in scans}
    for each in preparations:
        for scan in each.scans:
            loaders[scan.scan_id].append(each.loader)

    def open_everywhere(scan: Scan) -> tuple[list[CachedCase], ImageFacts]:
        image = ScanImage(loaders[scan.scan_id][0], scan)
        return [loader.open(scan, image) for loader in loaders[scan.scan_id]], image.facts

    facts, folders = {}, set()
    with ThreadPoolExecutor(workers) as pool:
        opened = pool.map(open_everywhere, scans.values())
        for scan_id, (cases, of_scan) in zip(scans, opened, strict=True):
            facts[scan_id] = of_scan
            folders |= {case.folder for case in cases}
            on_each()
    preparations[0].loader.cache.trim(keep=frozenset(folders))
    return facts
