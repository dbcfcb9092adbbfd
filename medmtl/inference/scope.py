"""What a head was trained on, and so what it may be asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import DataCard
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import ClassificationTask, OrganTask, Task

SLACK = 1.05  # scanners round their spacing


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The scans that a head has learned from.

    Attributes:
        body_regions: As the data cards name them, in small letters.
        slice_mm: Least and largest distance of slices (along the body).
        in_plane_mm: Least and largest distance of voxels within a slice.
    """

    body_regions: tuple[str, ...]
    slice_mm: tuple[float, float]
    in_plane_mm: tuple[float, float]

    def refusal(self, body_region: str, spacing_mm: tuple[float, float, float]) -> str:
        """Why the head should not be asked about a scan; empty if it may be.

        Args:
            body_region: Of the scan's data card.
            spacing_mm: Of the scan as stored: depth, height, width.
        """
        region = _normal(body_region)
        if region not in self.body_regions:
            shown = region or "not said in its card.yaml (body_region)"
            return f"body region {shown}; trained on {', '.join(self.body_regions)}"
        depth_mm, *plane_mm = spacing_mm
        checks = [("slices", [depth_mm], self.slice_mm), ("voxels", plane_mm, self.in_plane_mm)]
        for what, values, (low, high) in checks:
            for value in values:
                if not low / SLACK <= value <= high * SLACK:
                    return f"{what} {value:.2f} mm apart; trained on {low:.2f} to {high:.2f} mm"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, as a checkpoint holds them."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scope":
        """Undoes `to_dict`."""
        slice_low, slice_high = values["slice_mm"]
        plane_low, plane_high = values["in_plane_mm"]
        return cls(
            body_regions=tuple(values["body_regions"]),
            slice_mm=(slice_low, slice_high),
            in_plane_mm=(plane_low, plane_high),
        )


def joined_scope(scopes: Sequence[Scope]) -> Scope:
    """What the models of an ensemble were trained on, taken together."""
    depths_mm = [value for scope in scopes for value in scope.slice_mm]
    plane_mm = [value for scope in scopes for value in scope.in_plane_mm]
    return Scope(
        body_regions=tuple(sorted({name for scope in scopes for name in scope.body_regions})),
        slice_mm=(min(depths_mm), max(depths_mm)),
        in_plane_mm=(min(plane_mm), max(plane_mm)),
    )


def trained_scope(task: Task, lesions: LesionDataset, scans: Mapping[str, ScanDataset]) -> Scope:
    """The scope of a head: of the training scans that carry a label of its task."""
    if isinstance(task, OrganTask):
        data = scans[task.window]
        seen = [scan for scan in data.scans if data.manifest.drawn(scan) & {*task.structures}]
        return _scope_of(
            [data.manifest.card_of(scan) for scan in seen],
            [data.cases[scan.scan_id].spacing_mm for scan in seen],
        )
    labelled = [
        lesion
        for lesion in lesions.lesions
        if (
            lesion.labels.get(task.label) is not None
            if isinstance(task, ClassificationTask)
            else lesion.mask is not None
        )
    ]
    ids = dict.fromkeys(lesion.scan_id for lesion in labelled)
    return _scope_of(
        [lesions.manifest.card_of(lesions.manifest.scan(scan_id)) for scan_id in ids],
        [lesions.cases[scan_id].spacing_mm for scan_id in ids],
    )


def _scope_of(cards: Sequence[DataCard], spacings_mm: Sequence[tuple[float, ...]]) -> Scope:
    depths_mm = [spacing[0] for spacing in spacings_mm]
    plane_mm = [value for spacing in spacings_mm for value in spacing[1:]]
    return Scope(
        body_regions=tuple(sorted({_normal(card.body_region) for card in cards})),
        slice_mm=(min(depths_mm), max(depths_mm)),
        in_plane_mm=(min(plane_mm), max(plane_mm)),
    )


def _normal(body_region: str) -> str:
    return " ".join(body_region.lower().replace("_", " ").split())
