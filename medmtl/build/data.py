"""Manifests, cases and datasets of a configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medmtl.config import Config
from medmtl.config_encoder import Encoder, LeanResidual, MonaiSegResNet, NnunetResEnc
from medmtl.config_knobs import Augmentation, Patch, SizeMm, Window
from medmtl.data.cache import CachedCase, CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import InputView, LesionDataset, WindowShape
from medmtl.data.intensity import IntensityAugmentation, IntensityWindow
from medmtl.data.joined import join_manifests
from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.data.manifest_files import read_manifest
from medmtl.data.patches import PatchShape, ScanDataset
from medmtl.data.placement import SpatialAugmentation
from medmtl.data.tasks import Task, lesion_tasks, organ_tasks
from medmtl.errors import ConfigError
from medmtl.models.encoder import STEM, cubic_strides, level_strides


def build_manifest(config: Config) -> Manifest:
    """Reads the manifest, excluded cases and all; several are joined.

    Raises:
        ManifestError: One cannot be read, or they do not go together.
    """
    return join_manifests([read_manifest(path) for path in config.manifest])


def build_loader(config: Config, manifest: Manifest, patch: str | None = None) -> CaseLoader:
    """Opens cases for windows around lesions, or for a patch of whole scans."""
    cache = CaseCache(folder=config.cache.folder, max_gb=config.cache.max_gb)
    if patch is None:
        return CaseLoader(manifest=manifest, cache=cache, spacing_mm=config.spacing_mm)
    spacing_mm = config.patches[patch].spacing_mm
    return CaseLoader(manifest=manifest, cache=cache, spacing_mm=spacing_mm, annotations="organs")


def build_windows(config: Config) -> dict[str, WindowShape]:
    """The windows on the working grid.

    Raises:
        ConfigError: A window is too small for the network, or not a whole number of voxels.
    """
    return {name: _window(config, name, window) for name, window in config.windows.items()}


def build_patches(config: Config) -> dict[str, PatchShape]:
    """The patches, each on its own grid.

    Raises:
        ConfigError: A patch is too small for the network, or not a whole number of voxels.
    """
    return {name: _patch(config, name, patch) for name, patch in config.patches.items()}


def _window(config: Config, name: str, window: Window) -> WindowShape:
    jitter = [config.augmentation.shift_mm + extra for extra in window.jitter_mm]
    return WindowShape(
        size=voxels_of(f"windows.{name}", window.size_mm, config.spacing_mm, config.encoder),
        augmentation=_spatial(config.augmentation, (jitter[0], jitter[1], jitter[2])),
    )


def _patch(config: Config, name: str, patch: Patch) -> PatchShape:
    shift_mm = patch.augmentation.shift_mm
    return PatchShape(
        size=voxels_of(f"patches.{name}", patch.size_mm, patch.spacing_mm, config.encoder),
        spacing_mm=patch.spacing_mm,
        augmentation=_spatial(patch.augmentation, (shift_mm, shift_mm, shift_mm)),
        batch_size=patch.batch_size,
        organ_share=patch.organ_share,
    )


def voxels_of(
    where: str, size_mm: SizeMm, spacing_mm: SizeMm, encoder: Encoder
) -> tuple[int, int, int]:
    """A size in voxels, which the encoder can take.

    Raises:
        ConfigError: It is too small for the network, or not a whole number of voxels.
    """
    ratios = [mm / spacing for mm, spacing in zip(size_mm, spacing_mm, strict=True)]
    depth, height, width = (max(1, round(ratio)) for ratio in ratios)
    if any(abs(ratio - round(ratio)) > 0.01 for ratio in ratios):
        raise ConfigError(
            f"{where}.size_mm: {list(size_mm)} mm is {[round(r, 2) for r in ratios]} "
            f"voxels of spacing_mm {list(spacing_mm)}; choose whole numbers of voxels"
        )
    _require_taken(where, (depth, height, width), encoder)
    return depth, height, width


def _require_taken(where: str, size: tuple[int, int, int], encoder: Encoder) -> None:
    """Raises ConfigError where an encoder cannot take a size; most take all."""
    depth, height, width = size
    smallest = STEM**2
    if isinstance(encoder, LeanResidual) and (height % smallest or width % smallest):
        raise ConfigError(
            f"{where}.size_mm: {height} x {width} voxels in plane; the network needs "
            f"multiples of {smallest}"
        )
    if isinstance(encoder, MonaiSegResNet) and encoder.norm == "instance":
        coarsest = level_strides(len(encoder.blocks_down), (1, 1, 1))[-1]
        way_out = "choose norm: group, or"
    elif isinstance(encoder, NnunetResEnc):
        coarsest = cubic_strides(len(encoder.widths), 1)[-1]
        way_out = "choose fewer stages, another kind of encoder, or"
    else:
        return
    if all(side <= stride for side, stride in zip(size, coarsest, strict=True)):
        raise ConfigError(
            f"{where}.size_mm: {depth} x {height} x {width} voxels come down to a single one, "
            f"which the encoder's instance norm would make zero; {way_out} a window of more than "
            f"{' x '.join(map(str, coarsest))}"
        )


def _spatial(knobs: Augmentation, shift_mm: tuple[float, float, float]) -> SpatialAugmentation:
    return SpatialAugmentation(
        rotation_degrees=knobs.rotation_degrees,
        tilt_degrees=knobs.tilt_degrees,
        scaling=knobs.scaling,
        flips=(knobs.flip_depth, knobs.flip_height, knobs.flip_width),
        shift_mm=shift_mm,
    )


def build_intensity(config: Config, patch: str | None = None) -> IntensityWindow:
    """Which HU the network sees, in windows or in a patch."""
    own = None if patch is None else config.patches[patch].intensity
    knobs = own or config.intensity
    return IntensityWindow(low_hu=knobs.low_hu, high_hu=knobs.high_hu)


def build_dataset(
    config: Config,
    *,
    manifest: Manifest,
    lesions: Sequence[Lesion],
    cases: Mapping[str, CachedCase],
    tasks: Sequence[Task],
    training: bool,
) -> LesionDataset:
    """Some lesions, ready to be cut from; `config` is that of one arm."""
    return LesionDataset(
        manifest=manifest,
        lesions=lesions,
        cases=cases,
        tasks=lesion_tasks(tasks),
        windows=build_windows(config),
        view=_view(config, config.augmentation, build_intensity(config)),
        spacing_mm=config.spacing_mm,
        training=training,
    )


def build_scan_dataset(
    config: Config,
    *,
    manifest: Manifest,
    scans: Sequence[Scan],
    cases: Mapping[str, CachedCase],
    tasks: Sequence[Task],
    patch: str,
) -> ScanDataset:
    """Some scans, ready to be cut from; `config` is that of one arm."""
    return ScanDataset(
        manifest=manifest,
        scans=scans,
        cases=cases,
        tasks=[task for task in organ_tasks(tasks) if task.window == patch],
        patch=build_patches(config)[patch],
        view=_view(config, config.patches[patch].augmentation, build_intensity(config, patch)),
    )


def _view(config: Config, augmentation: Augmentation, intensity: IntensityWindow) -> InputView:
    (arm,) = config.arms.values()
    return InputView(
        intensity=intensity,
        disturbance=IntensityAugmentation(
            noise_hu=augmentation.noise_hu, offset_hu=augmentation.offset_hu
        ),
        shown=arm.input,
    )


def run_path(config: Config) -> Path:
    """Where the run of a configuration lies."""
    return config.output / config.name
