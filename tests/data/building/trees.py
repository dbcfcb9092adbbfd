"""Writes folders of scans as archives have them, and looks at what is built of them."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from pydicom.dataset import Dataset

from medmtl.data.building.build import Built, Options, build_from_folder
from medmtl.data.building.owners import Ownership
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from tests.data.dicom.writers import Phantom, write_series

SLICES = 4
NAMES = ("SECRET", "NAME", "MRN4711", "1.2.3", "19501231")  # of patients, in headers below


def add_series(
    folder: Path,
    uid: str,
    *,
    patient: str = "MRN4711",
    thick_mm: float = 2.5,
    skip: tuple[int, ...] = (),
    only: range = range(SLICES),
    **values: Any,
) -> Path:
    """Writes one small series; `thick_mm` decides what it shows."""

    def edit(k: int, image: Dataset) -> None:
        image.PatientID, image.SOPInstanceUID = patient, f"{uid}.{k}"
        image.PatientBirthDate = "19501231"
        for keyword, value in values.items():
            setattr(image, keyword, value)

    left = {*range(SLICES)} - {*only} | {*skip}
    phantom = Phantom(shape=(6, 5, SLICES), series_uid=uid, spacing_mm=(0.9, 1.1, thick_mm))
    return write_series(folder, phantom, edit, sorted(left))


def add_nifti(path: Path, *, seed: int, is_mask: bool = False) -> Path:
    """Writes a small image of noise, or a mask of the values 0 to 2."""
    generator = np.random.default_rng(seed)
    low, high = (0, 3) if is_mask else (-1000, 1000)
    voxels = generator.integers(low, high, (8, 7, 6)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


def build(folder: Path, out: Path, *, workers: int = 1, **options: Any) -> Built:
    """Builds a manifest, and holds what is always true of one."""
    whose = {name: options.pop(name) for name in Ownership.__annotations__ if name in options}
    built = build_from_folder(
        folder, out, Options(ownership=Ownership(**whose), workers=workers, **options)
    )
    assert check_manifest(read_manifest(out)) == []
    contents = pd.read_csv(out / "contents.csv")
    assert list(contents["scan_id"]) == [scan.scan_id for scan in built.manifest.scans]
    assert sorted(each.name for each in out.iterdir()) == [
        "card.yaml", "contents.csv", "left_out.csv", "lesions.csv", "scans.csv",
    ]  # fmt: skip
    return built


def images(built: Built) -> list[str]:
    """The column `image`, sorted."""
    return sorted(scan.image for scan in built.manifest.scans)


def reasons(built: Built) -> dict[str, str]:
    """Why each path is left out."""
    return {each.path: each.reason for each in built.left_out}


def content_of(out: Path) -> dict[str, bytes]:
    """The bytes of every file of a manifest."""
    return {each.name: each.read_bytes() for each in sorted(out.iterdir())}
