"""Lesions as batches: windows of the image, targets, and whether a label is there at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.intensity import (
    IntensityAugmentation,
    IntensityWindow,
    Shown,
    hide_image,
)
from medmtl.data.manifest import Lesion, Manifest
from medmtl.data.placement import Placement, SpatialAugmentation, exact_placement
from medmtl.data.tasks import ClassificationTask, LesionTask
from medmtl.data.windows import Site, WindowSampler
from medmtl.errors import ManifestError

NOT_OBSERVED = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a model and its losses are given.

    Attributes:
        image: Scaled to -1 ... 1.
        inside: Which voxels lie in the file.
        targets: By task: class numbers [batch], outlines [batch 1 depth height width], or
            organs [batch structures depth height width].
        observed: By task: whether the case has the label (organs: [batch structures]). Where it
            has not, its target is meaningless and must not be looked at.
    """

    image: Float[Tensor, "batch 1 depth height width"]
    inside: Bool[Tensor, "batch 1 depth height width"]
    targets: Mapping[str, Tensor]
    observed: Mapping[str, Bool[Tensor, "batch *structures"]]


@dataclass(frozen=True, kw_only=True)
class WindowShape:
    """A window on the working grid.

    Attributes:
        size: Voxels along depth, height, width.
        augmentation: How it moves while training.
    """

    size: tuple[int, int, int]
    augmentation: SpatialAugmentation


@dataclass(frozen=True, kw_only=True)
class InputView:
    """What every window's voxels go through on their way to the network."""

    intensity: IntensityWindow
    disturbance: IntensityAugmentation
    shown: Shown = "image"

    def apply(
        self,
        image_hu: Float[Tensor, "batch 1 d h w"],
        inside: Bool[Tensor, "batch 1 d h w"],
        generator: Generator | None,
    ) -> Float[Tensor, "batch 1 d h w"]:
        """Hides what a control must not see, disturbs if there is a generator, and scales."""
        if self.shown != "image":
            image_hu = hide_image(image_hu, inside, self.shown)
        elif generator is not None:
            image_hu = self.disturbance.disturb(image_hu, inside, generator)
        return self.intensity.scale(image_hu)


@dataclass(kw_only=True)
class LesionDataset:
    """Some lesions of a manifest, ready to be cut from.

    Attributes:
        lesions: In a fixed order; a row of a batch is a place in this order.
        cases: Cached cases by scan id.
        tasks: What is learned; decides which windows are loaded and which targets are given.
        windows: By name.
        view: What the voxels go through.
        spacing_mm: Of the working grid.
        training: Whether windows shall move and turn; decides how much is kept in memory.
    """

    manifest: Manifest
    lesions: Sequence[Lesion]
    cases: Mapping[str, CachedCase]
    tasks: Sequence[LesionTask]
    windows: Mapping[str, WindowShape]
    view: InputView
    spacing_mm: tuple[float, float, float]
    training: bool
    _samplers: dict[str, WindowSampler] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.lesions)

    def batch(
        self, rows: Int[Tensor, " batch"], window: str, placement: Placement | None = None
    ) -> Batch:
        """Cuts windows for evaluation: exactly placed, undisturbed."""
        return self._cut(rows, window, placement or exact_placement(len(rows)), None)

    def training_batch(
        self, rows: Int[Tensor, " batch"], window: str, generator: Generator
    ) -> Batch:
        """Cuts windows for training: moved, turned and disturbed at random."""
        placement = self.windows[window].augmentation.draw(len(rows), generator)
        return self._cut(rows, window, placement, generator)

    def targets(self, task: ClassificationTask) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """The class of every lesion, and whether it is known."""
        known = [lesion.labels.get(task.label) for lesion in self.lesions]
        classes = [NOT_OBSERVED if value is None else value for value in known]
        observed = [value is not None for value in known]
        return torch.tensor(classes, dtype=torch.long), torch.tensor(observed, dtype=torch.bool)

    def outlined(self) -> Bool[Tensor, " n"]:
        """Which lesions have a mask."""
        return torch.tensor([each.mask is not None for each in self.lesions], dtype=torch.bool)

    def _cut(
        self,
        rows: Int[Tensor, " batch"],
        window: str,
        placement: Placement,
        generator: Generator | None,
    ) -> Batch:
        cut = self._sampler(window).cut(rows, placement)
        targets, observed = {}, {}
        for task in self.tasks:
            if task.window != window:
                continue
            if isinstance(task, ClassificationTask):
                classes, known = self.targets(task)
                targets[task.name], observed[task.name] = classes[rows], known[rows]
            else:
                targets[task.name], observed[task.name] = cut.mask, self.outlined()[rows]
        return Batch(
            image=self.view.apply(cut.image_hu, cut.inside, generator),
            inside=cut.inside,
            targets=targets,
            observed=observed,
        )

    def _sampler(self, window: str) -> WindowSampler:
        if window not in self._samplers:
            shape = self.windows[window]
            size_mm = tuple(n * mm for n, mm in zip(shape.size, self.spacing_mm, strict=True))
            still = max(size_mm[1:]) / 2  # quarter turns swap height and width
            reach = (
                shape.augmentation.reach_mm((size_mm[0], size_mm[1], size_mm[2]))
                if self.training
                else (size_mm[0] / 2, still, still)
            )
            self._samplers[window] = WindowSampler(
                sites=[self._site(lesion) for lesion in self.lesions],
                size=shape.size,
                spacing_mm=self.spacing_mm,
                reach_mm=reach,
                with_masks=any(
                    task.window == window and not isinstance(task, ClassificationTask)
                    for task in self.tasks
                ),
            )
        return self._samplers[window]

    def _site(self, lesion: Lesion) -> Site:
        if lesion.position_mm is None:
            raise ManifestError(
                f"lesions.csv: row {lesion.row}: lesion {lesion.lesion_id} has no position; "
                "fill it in, or exclude the lesion in card.yaml with a reason"
            )
        neighbours = self.manifest.lesions_of(lesion.scan_id)
        return Site(
            case=self.cases[lesion.scan_id],
            position_mm=lesion.position_mm,
            mask_ids=tuple(other.lesion_id for other in neighbours if other.mask is not None),
        )
