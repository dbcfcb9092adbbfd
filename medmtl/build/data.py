"""Manifests, cases and datasets of a configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medmtl.config import Config, Window
from medmtl.data.cache import CachedCase, CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import InputView, LesionDataset, WindowShape
from medmtl.data.intensity import IntensityAugmentation, IntensityWindow
from medmtl.data.manifest import Lesion, Manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.data.placement import SpatialAugmentation
from medmtl.data.tasks import Task
from medmtl.errors import ConfigError
from medmtl.models.encoder import STEM


def build_manifest(config: Config) -> Manifest:
    """Reads the manifest, excluded cases and all.

    Raises:
        ManifestError: It cannot be read.
    """
    return read_manifest(config.manifest)


def build_loader(config: Config, manifest: Manifest) -> CaseLoader:
    """Opens cases on the configuration's working grid."""
    cache = CaseCache(folder=config.cache.folder, max_gb=config.cache.max_gb)
    return CaseLoader(manifest=manifest, cache=cache, spacing_mm=config.spacing_mm)


def build_windows(config: Config) -> dict[str, WindowShape]:
    """The windows on the working grid.

    Raises:
        ConfigError: A window is too small for the network, or not a whole number of voxels.
    """
    return {name: _window(config, name, window) for name, window in config.windows.items()}


def _window(config: Config, name: str, window: Window) -> WindowShape:
    ratios = [mm / spacing for mm, spacing in zip(window.size_mm, config.spacing_mm, strict=True)]
    depth, height, width = (max(1, round(ratio)) for ratio in ratios)
    if any(abs(ratio - round(ratio)) > 0.01 for ratio in ratios):
        raise ConfigError(
            f"windows.{name}.size_mm: {list(window.size_mm)} mm is {[round(r, 2) for r in ratios]} "
            f"voxels of spacing_mm {list(config.spacing_mm)}; choose whole numbers of voxels"
        )
    smallest = STEM**2
    if height % smallest or width % smallest:
        raise ConfigError(
            f"windows.{name}.size_mm: {height} x {width} voxels in plane; the network needs "
            f"multiples of {smallest}"
        )
    knobs = config.augmentation
    jitter = [knobs.shift_mm + extra for extra in window.jitter_mm]
    return WindowShape(
        size=(depth, height, width),
        augmentation=SpatialAugmentation(
            rotation_degrees=knobs.rotation_degrees,
            tilt_degrees=knobs.tilt_degrees,
            scaling=knobs.scaling,
            flips=(knobs.flip_depth, knobs.flip_height, knobs.flip_width),
            shift_mm=(jitter[0], jitter[1], jitter[2]),
        ),
    )


def build_intensity(config: Config) -> IntensityWindow:
    """Which HU the network sees."""
    return IntensityWindow(low_hu=config.intensity.low_hu, high_hu=config.intensity.high_hu)


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
    (arm,) = config.arms.values()
    return LesionDataset(
        manifest=manifest,
        lesions=lesions,
        cases=cases,
        tasks=tasks,
        windows=build_windows(config),
        view=InputView(
            intensity=build_intensity(config),
            disturbance=IntensityAugmentation(
                noise_hu=config.augmentation.noise_hu, offset_hu=config.augmentation.offset_hu
            ),
            padding_only=arm.input == "padding_only",
        ),
        spacing_mm=config.spacing_mm,
        training=training,
    )


def run_path(config: Config) -> Path:
    """Where the run of a configuration lies."""
    return config.output / config.name
