"""Slices of organs hang the right way round and show most of them, however the scan is stored."""

import numpy as np
import pytest

from medmtl.data.reading import Volume
from medmtl.reporting.organ_pictures import draw_organs, organ_colours
from medmtl.reporting.organ_view import OrganSlice, organ_slices

from .test_axial_view import STORED, stored

SPACING_MM = (0.7, 0.9, 2.5)  # right-left, anterior-posterior, superior-inferior


def organs_of(orientation: str) -> tuple[OrganSlice, OrganSlice]:
    """A scan in RAS order: organ 1 large and below, 1 and 2 together on slices 5 and 6."""
    voxels = np.zeros((20, 16, 9), dtype=np.int16)
    labels = np.zeros_like(voxels)
    labels[10:19, 2:14, 0:3] = 1
    labels[15:18, 10:14, 5:7] = 1
    labels[3:5, 11:13, 5] = 2
    labels[3:5, 11:14, 6] = 2
    voxels[16, 11:13, 6] = 900
    affine = np.diag([*SPACING_MM, 1.0])
    image, mask = (stored(array, affine, orientation) for array in (voxels, labels))
    drawn = np.asarray(mask.dataobj)
    return organ_slices(
        Volume(voxels=np.asarray(image.dataobj), affine=np.asarray(image.affine, dtype=float)),
        reference=drawn,
        prediction=np.where(drawn == 1, drawn, 0),
    )


@pytest.mark.parametrize("orientation", STORED)
def test_right_is_at_the_left_front_and_head_are_above(orientation: str) -> None:
    axial, coronal = organs_of(orientation)
    assert axial.hu.shape == (16, 20) and coronal.hu.shape == (9, 20)
    assert np.unravel_index(axial.hu.argmax(), axial.hu.shape) == (3, 3)
    assert np.unravel_index(coronal.hu.argmax(), coronal.hu.shape) == (2, 3)
    assert axial.side_marks == coronal.side_marks == ("R", "L")
    assert (axial.row_mm, axial.column_mm) == pytest.approx((0.9, 0.7))
    assert (coronal.row_mm, coronal.column_mm) == pytest.approx((2.5, 0.7))


@pytest.mark.parametrize("orientation", STORED)
def test_the_slice_cuts_most_organs_then_most_of_them(orientation: str) -> None:
    axial, coronal = organs_of(orientation)
    assert set(np.unique(axial.reference)) == set(np.unique(coronal.reference)) == {0, 1, 2}
    # Slice 6 has more of organ 2 than slice 5; organ 1 alone is larger below.
    assert (axial.reference == 2).sum() == 6
    assert set(np.unique(axial.prediction)) == {0, 1}
    # Organ 1 is at the patient's right, so in the columns at the left.
    assert (
        np.argwhere(axial.reference == 1)[:, 1].max()
        < np.argwhere(axial.reference == 2)[:, 1].min()
    )


def test_without_a_drawn_organ_the_prediction_chooses_else_the_middle() -> None:
    voxels = np.zeros((8, 8, 8), dtype=np.int16)
    volume = Volume(voxels=voxels, affine=np.eye(4))
    found = np.zeros_like(voxels)
    found[2, 2, 7] = 1
    axial, _ = organ_slices(volume, reference=np.zeros_like(voxels), prediction=found)
    assert axial.prediction.sum() == 1
    axial, coronal = organ_slices(volume, reference=voxels, prediction=voxels)
    assert axial.centre == coronal.centre == (3.5, 3.5)
    assert draw_organs([axial, coronal], organ_colours(1)).startswith(b"\x89PNG")


def test_every_organ_has_a_colour_of_its_own() -> None:
    for count in (1, 7, 24):
        assert len(set(organ_colours(count))) == count
    assert organ_colours(3) == organ_colours(24)[:3]


def test_a_picture_is_the_same_bytes_every_time() -> None:
    first, second = (draw_organs(organs_of("LPS"), organ_colours(2)) for _ in range(2))
    assert first == second
    assert b"matplotlib" not in first
