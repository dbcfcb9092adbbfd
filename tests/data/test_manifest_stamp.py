"""A manifest that this process found sound is opened again only when something has changed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import file_check
from medmtl.data.manifest import Exclusion, Manifest
from medmtl.data.manifest_check import require_sound
from medmtl.errors import ManifestError
from tests.data.dicom.writers import Phantom, write_series
from tests.synthetic import write_cohort


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_cohort(tmp_path / "cohort", patients=3, side=10, organs=True)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The images that were opened so far."""
    names: list[str] = []

    def note(path: Path, *, name: str) -> object:
        names.append(name)
        return read(path, name=name)

    read = file_check.read_volume
    with patch.object(file_check, "read_volume", note):
        yield names


def touch(path: Path) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


def test_the_second_time_nothing_is_opened(manifest: Manifest, opened: list[str]) -> None:
    require_sound(manifest)
    assert sorted(opened) == sorted(scan.image for scan in manifest.scans)

    require_sound(manifest)
    assert len(opened) == len(manifest.scans)


@pytest.mark.parametrize("part", ["image", "organ_mask"])
def test_a_changed_file_is_found(manifest: Manifest, part: str) -> None:
    require_sound(manifest)
    path = manifest.resolve(getattr(manifest.scans[1], part))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:-1], None, image.header), path)

    for _ in range(2):  # what is not sound is never remembered
        with pytest.raises(ManifestError):
            require_sound(manifest)


@pytest.mark.parametrize("part", ["image", "organ_mask", "lesion"])
def test_a_file_that_was_only_written_again_is_opened(
    manifest: Manifest, opened: list[str], part: str
) -> None:
    require_sound(manifest)
    file = manifest.lesions[0].mask if part == "lesion" else getattr(manifest.scans[0], part)
    touch(manifest.resolve(file))

    require_sound(manifest)

    assert len(opened) == 2 * len(manifest.scans)


def test_a_file_that_is_gone_is_told(manifest: Manifest) -> None:
    require_sound(manifest)
    manifest.resolve(manifest.scans[2].image).unlink()

    with pytest.raises(ManifestError):
        require_sound(manifest)


def test_a_slice_of_a_series_is_a_file_of_it(tmp_path: Path, opened: list[str]) -> None:
    manifest = write_cohort(tmp_path / "cohort", patients=3, side=10)
    series = manifest.data_root / "series"
    write_series(series, Phantom())
    first = replace(manifest.scans[0], image="series", organ_mask=None)
    of_first = [lesion for lesion in manifest.lesions if lesion.scan_id == first.scan_id]
    others = [lesion for lesion in manifest.lesions if lesion not in of_first]
    with_series = replace(manifest, scans=(first, *manifest.scans[1:]), lesions=tuple(others))
    require_sound(with_series)
    require_sound(with_series)
    assert opened.count("series") == 1

    touch(sorted(path for path in series.rglob("*") if path.is_file())[1])
    require_sound(with_series)

    assert opened.count("series") == 2


def test_a_changed_row_is_found(manifest: Manifest) -> None:
    require_sound(manifest)
    x_mm, y_mm, z_mm = manifest.lesions[0].position_mm or (0.0, 0.0, 0.0)
    moved = replace(manifest.lesions[0], position_mm=(x_mm + 5000.0, y_mm, z_mm))

    with pytest.raises(ManifestError, match="outside its file"):
        require_sound(replace(manifest, lesions=(moved, *manifest.lesions[1:])))


def test_a_changed_card_is_found(manifest: Manifest) -> None:
    require_sound(manifest)
    card = manifest.card.model_copy(update={"structures": {"left_side": 1}})

    with pytest.raises(ManifestError, match="structures of"):
        require_sound(replace(manifest, card=card))


def test_a_fault_of_an_excluded_row_is_told_though_its_files_are_not_opened(
    manifest: Manifest,
) -> None:
    require_sound(manifest)
    twice = replace(manifest.scans[0], row=99)
    out = [Exclusion(id=twice.scan_id, reason="moved")]
    excluded = replace(manifest, card=manifest.card.model_copy(update={"exclusions": out}))
    require_sound(excluded)

    with pytest.raises(ManifestError, match="2 rows"):
        require_sound(replace(excluded, scans=(*manifest.scans, twice)))
