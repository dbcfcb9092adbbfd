"""Two small collections, one of lesions and one of organs, trained on together."""

from dataclasses import replace
from pathlib import Path

from medmtl.data.manifest import Manifest
from medmtl.data.manifest_files import write_manifest
from tests.synthetic import write_cohort

NAME = "joined"
CONFIG = """\
name: joined
manifest: [nodules/manifest, organs/manifest]
output: runs
spacing_mm: [1.5, 1.0, 1.0]
windows:
  slab: {size_mm: [3.0, 8.0, 8.0]}
  box: {size_mm: [6.0, 12.0, 12.0]}
patches:
  chest: {size_mm: [9.0, 12.0, 12.0], spacing_mm: [1.5, 1.5, 1.5], batch_size: 2}
encoder: {kind: lean_residual, widths: [8, 16]}
heads:
  malignancy: {kind: classification, label: malignant, window: slab}
  nodule: {kind: segmentation, structure: nodule, window: box}
  sides: {kind: organs, patch: chest}
arms:
  together: {heads: [malignancy, nodule, sides]}
  lesions: {heads: [malignancy, nodule]}
  organs: {heads: [sides]}
training: {epochs: 1, batch_size: 4, evaluate_every: 1}
folds: {count: 2, inner_fraction: 0.4}
inference: {region_mm: [15.0, 16.0, 16.0], average_views: false, overlap: 0.25}
evaluation: {bootstrap_samples: 100}
engine: {workers: 2}
cache: {folder: cache}
tracking: {enabled: false}
"""


def write_collections(home: Path) -> tuple[Manifest, Manifest]:
    """Writes `home/nodules`, lesions without organs, and `home/organs`, organs without lesions.

    Some organ scans lack one of their two organs.
    """
    nodules = write_cohort(home / "nodules", patients=8, side=12)
    return nodules, write_organs(home / "organs", seed=5)


def write_organs(folder: Path, *, seed: int, patients: int = 8) -> Manifest:
    """Writes a collection of organs; its patients are others than those of any nodules."""
    cohort = write_cohort(folder, patients=patients, seed=seed, side=12, organs=True)
    scans = tuple(
        replace(
            scan,
            scan_id=f"organs-{scan.scan_id}",
            patient_id=f"organs-{scan.patient_id}",
            series_id=f"organs-{scan.series_id}",
            annotated=scan.annotated - {"nodule"},
        )
        for scan in cohort.scans
    )
    changes = {
        "name": "synthetic organs",
        "labels": {},
        "measurements": {},
        "left_right_pairs": [("left_side", "right_side")],
    }
    organs = replace(cohort, card=cohort.card.model_copy(update=changes), scans=scans, lesions=())
    write_manifest(organs)
    return organs


def write_joined_experiment(home: Path, text: str = CONFIG) -> Path:
    """Writes both collections and the configuration."""
    write_collections(home)
    (home / "config.yaml").write_text(text, encoding="utf-8")
    return home / "config.yaml"
