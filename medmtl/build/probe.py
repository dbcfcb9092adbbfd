"""What looks at an encoder, now and then, while it learns without labels."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medmtl.build.data import voxels_of
from medmtl.config_pretraining import Pretraining, Probe
from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import InputView, LesionDataset, WindowShape
from medmtl.data.intensity import IntensityAugmentation, IntensityWindow
from medmtl.data.manifest import Lesion, Scan
from medmtl.data.manifest_check import require_positions
from medmtl.data.manifest_files import read_manifest
from medmtl.data.placement import SpatialAugmentation
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import ConfigError, RunError
from medmtl.evaluation.probe import probe_scores, require_enough
from medmtl.models.encoder import Encoder
from medmtl.models.heads import pool_mean_and_maximum

WINDOW, ROWS, TRIES = "probe", 64, 3
UNMOVED = SpatialAugmentation(
    rotation_degrees=0.0,
    tilt_degrees=0.0,
    scaling=0.0,
    flips=(False, False, False),
    shift_mm=(0.0, 0.0, 0.0),
)


def build_probe(
    config: Pretraining, probe: Probe, keep: Callable[[Scan], bool] = lambda scan: True
) -> Callable[[Encoder], Mapping[str, float]]:
    """Checks the labelled lesions, and gives what scores an encoder on them; opens no scan.

    Args:
        config: Of the pretraining.
        probe: Its own part.
        keep: Which scans may be seen: of those tested, not even a probe sees a label.

    Raises:
        ManifestError: The manifest cannot be read, or a lesion has no position.
        ConfigError: It does not have the label, or that has not two classes.
        EvaluationError: Too few patients of a class.
    """
    manifest = read_manifest(probe.manifest).included()
    require_positions(manifest)
    labels = manifest.card.labels
    if probe.label not in labels or len(labels[probe.label].classes) != 2:
        known = [name for name, label in labels.items() if len(label.classes) == 2]
        raise ConfigError(
            f"probe.label: {probe.label!r} is not a label of two classes of {manifest.card.name}; "
            f"allowed: {', '.join(known) or 'none'}"
        )
    lesions = [
        each
        for each in manifest.lesions
        if each.labels.get(probe.label) is not None and keep(manifest.scan(each.scan_id))
    ]
    classes = np.array([each.labels[probe.label] for each in lesions], dtype=np.int64)
    patients = [manifest.scan(each.scan_id).patient_id for each in lesions]
    require_enough(classes, patients)
    cache = CaseCache(folder=config.cache.folder, max_gb=config.cache.max_gb)
    loader = CaseLoader(manifest=manifest, cache=cache, spacing_mm=config.spacing_mm)
    task = ClassificationTask(
        name=WINDOW, label=probe.label, classes=tuple(labels[probe.label].classes), window=WINDOW
    )

    @torch.no_grad()
    def look(encoder: Encoder) -> Mapping[str, float]:
        parts = []
        for first in range(0, len(lesions), ROWS):
            image = _images(config, loader, lesions[first : first + ROWS], task)
            parts.append([pool_mean_and_maximum(level) for level in encoder(image)])
        levels = [torch.cat(level).float().numpy() for level in zip(*parts, strict=True)]
        return probe_scores(levels, classes, patients)

    return look


def _images(
    config: Pretraining, loader: CaseLoader, lesions: Sequence[Lesion], task: ClassificationTask
) -> Float[Tensor, "lesions 1 depth height width"]:
    """Windows around lesions, as a head would see them."""
    for _ in range(TRIES):
        try:
            data = _dataset(config, loader, lesions, task)
            return data.batch(torch.arange(len(data)), WINDOW).image
        except FileNotFoundError:
            # The cache holds less than pool and probe: the pool made room.
            continue
    raise RunError(
        "the probe's cached scans are removed faster than they are looked at; set a larger "
        "cache.max_gb"
    )


def _dataset(
    config: Pretraining, loader: CaseLoader, lesions: Sequence[Lesion], task: ClassificationTask
) -> LesionDataset:
    manifest, size_mm = loader.manifest, config.views.size_mm
    scans = dict.fromkeys(each.scan_id for each in lesions)
    window = WindowShape(
        size=voxels_of("views", size_mm, config.spacing_mm, config.encoder), augmentation=UNMOVED
    )
    intensity = IntensityWindow(low_hu=config.intensity.low_hu, high_hu=config.intensity.high_hu)
    return LesionDataset(
        manifest=manifest,
        lesions=lesions,
        cases={scan_id: loader.open(manifest.scan(scan_id)) for scan_id in scans},
        tasks=[task],
        windows={WINDOW: window},
        view=InputView(
            intensity=intensity,
            disturbance=IntensityAugmentation(noise_hu=0.0, offset_hu=0.0),
            shown="image",
        ),
        spacing_mm=config.spacing_mm,
        training=False,
    )
