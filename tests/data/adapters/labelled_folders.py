"""Writes small datasets in the layouts of the Decathlon and of nnU-Net."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (8, 7, 6)
AFFINE = np.array([[-2, 0, 0, 7], [0, 2, 0, -5], [0, 0, 3, 0], [0, 0, 0, 1]], dtype=float)


def write_scan(path: Path, seed: int = 0) -> None:
    """Noise in HU."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hu = np.random.default_rng(seed).integers(-1000, 400, SHAPE, dtype=np.int16)
    nib.save(nib.Nifti1Image(hu, AFFINE), path)


def write_labels(path: Path, values: tuple[int, ...] = (1, 2)) -> None:
    """A label map: a slab of each value, from the patient's left to the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SHAPE, np.float32)  # the Decathlon's are floats
    for place, value in enumerate(reversed(values)):
        labels[1 + 2 * place : 3 + 2 * place, 2:5, 2:4] = value
    nib.save(nib.Nifti1Image(labels, AFFINE), path)


def write_json(folder: Path, content: object) -> None:
    """Writes dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


def change_json(folder: Path, **keys: Any) -> None:
    """Changes keys of dataset.json; None takes one away."""
    content = {**json.loads((folder / "dataset.json").read_text()), **keys}
    write_json(folder, {key: value for key, value in content.items() if value is not None})
