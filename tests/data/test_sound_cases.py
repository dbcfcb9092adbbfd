"""A case that was found sound is opened again only when something of it has changed."""

import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import file_check
from medmtl.data.cache import CaseCache
from medmtl.data.manifest_check import check_manifest
from medmtl.data.sound_cases import SoundCases
from tests.synthetic import write_cohort


@pytest.fixture
def manifest(tmp_path):
    return write_cohort(tmp_path / "cohort", patients=3, side=10, organs=True)


@pytest.fixture
def known(tmp_path):
    return SoundCases(cache=CaseCache(folder=tmp_path / "cache", max_gb=1.0))


def opened(manifest, known):
    """The images that a check opens, and what it finds."""
    with patch.object(file_check, "read_volume", wraps=file_check.read_volume) as read:
        faults = [str(fault) for fault in check_manifest(manifest, known=known)]
    return sorted(call.kwargs["name"] for call in read.call_args_list), faults


def test_sound_cases_are_opened_once(manifest, known):
    images = sorted(scan.image for scan in manifest.scans)

    assert opened(manifest, known) == (images, [])
    assert opened(manifest, known) == ([], [])
    assert opened(manifest, None) == (images, [])


@pytest.mark.parametrize("part", ["image", "organ_mask"])
def test_a_changed_file_is_opened_again(manifest, known, part):
    opened(manifest, known)
    path = manifest.resolve(getattr(manifest.scans[1], part))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:-1], None, image.header), path)

    images, faults = opened(manifest, known)

    assert images == [manifest.scans[1].image]
    assert faults  # on another grid than the other file
    assert opened(manifest, known) == (images, faults)  # what is not sound is never remembered


def test_a_changed_row_is_looked_at_again(manifest, known):
    opened(manifest, known)
    x_mm, y_mm, z_mm = manifest.lesions[0].position_mm
    moved = replace(manifest.lesions[0], position_mm=(x_mm + 5000.0, y_mm, z_mm))
    changed = replace(manifest, lesions=(moved, *manifest.lesions[1:]))

    images, faults = opened(changed, known)

    assert images == [manifest.scan(moved.scan_id).image]
    assert "outside its file" in faults[0]


def test_other_structures_in_the_card_are_a_reason_to_look_again(manifest, known):
    opened(manifest, known)
    card = manifest.card.model_copy(update={"structures": {"left_side": 1}})

    images, _ = opened(replace(manifest, card=card), known)

    assert len(images) == len(manifest.scans)


def test_a_row_elsewhere_in_the_table_is_the_same_case(manifest, known):
    opened(manifest, known)
    rows = [replace(scan, row=scan.row + 7) for scan in reversed(manifest.scans)]

    assert opened(replace(manifest, scans=tuple(rows)), known) == ([], [])


def test_another_process_knows_the_same_cases(manifest, known):
    opened(manifest, known)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from medmtl.data.cache import CaseCache\n"
        "from medmtl.data.manifest_files import read_manifest\n"
        "from medmtl.data.sound_cases import SoundCases\n"
        "known = SoundCases(cache=CaseCache(folder=Path(sys.argv[2]), max_gb=1.0))\n"
        "manifest = read_manifest(Path(sys.argv[1]))\n"
        "marks = [known.mark_of(manifest, s, manifest.lesions_of(s.scan_id))"
        " for s in manifest.scans]\n"
        "print(all(mark.is_file() for mark in marks))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, manifest.folder, known.cache.folder],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.strip() == "True"
