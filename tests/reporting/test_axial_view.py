"""Slices hang the right way round, however the scan is stored."""

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.reading import Volume
from medmtl.reporting.axial_view import AxialView, axial_view
from medmtl.reporting.case_pictures import draw_case

SPACING_MM = (0.7, 0.9, 2.5)  # right-left, anterior-posterior, superior-inferior
STORED = ["RAS", "LPS", "LAS", "RPI", "PIR", "SAL", "ILP"]


def patient() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scan in RAS order: a bright spot on the patient's right and front, a lesion there too."""
    voxels = np.zeros((20, 16, 8), dtype=np.int16)
    voxels[17, 13, 5] = 900
    lesion = np.zeros_like(voxels)
    lesion[16:19, 12:15, 5] = 1
    lesion[17, 13, 4] = 1
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (-60.0, 25.0, 110.0)
    return voxels, lesion, affine


def stored(array: np.ndarray, affine: np.ndarray, orientation: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, affine)
    axes = nib.orientations.axcodes2ornt(tuple(orientation))
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), axes))


def view_of(orientation: str, *, with_reference: bool = True) -> AxialView:
    voxels, lesion, affine = patient()
    image, mask = (stored(array, affine, orientation) for array in (voxels, lesion))
    volume = Volume(
        voxels=np.asarray(image.dataobj), affine=np.asarray(image.affine, dtype=np.float64)
    )
    reference = np.asarray(mask.dataobj) > 0 if with_reference else None
    x, y, z = (affine @ [17, 13, 5, 1])[:3]
    return axial_view(volume, position_mm=(x, y, z), reference=reference, prediction=None)


@pytest.mark.parametrize("orientation", STORED)
def test_the_patients_right_is_at_the_left_and_the_front_is_above(orientation: str) -> None:
    view = view_of(orientation)
    row, column = np.unravel_index(view.hu.argmax(), view.hu.shape)
    assert view.hu.shape == (16, 20)
    assert (row, column) == (2, 2)
    assert view.side_marks == ("R", "L")
    assert (view.row_mm, view.column_mm) == pytest.approx((0.9, 0.7))


@pytest.mark.parametrize("orientation", STORED)
def test_outline_and_centre_turn_with_the_image(orientation: str) -> None:
    view = view_of(orientation)
    assert view.reference is not None and view.reference.sum() == 9
    assert view.reference[2, 2] and view.centre == pytest.approx((2, 2))
    assert view.why == "largest area of the reference"


def test_a_voxel_is_on_the_side_that_the_affine_says() -> None:
    """With another sign in the affine the same voxels are the patient's other side."""
    voxels, _, affine = patient()
    mirrored = affine * [[-1], [1], [1], [1]]
    columns = []
    for each in (affine, mirrored):
        x, y, z = (each @ [17, 13, 5, 1])[:3]
        view = axial_view(
            Volume(voxels=voxels, affine=each),
            position_mm=(x, y, z),
            reference=None,
            prediction=None,
        )
        assert view.side_marks == ("R", "L")
        columns.append(int(np.unravel_index(view.hu.argmax(), view.hu.shape)[1]))
    assert columns == [2, 17]


def test_without_outlines_the_slice_is_at_the_position() -> None:
    view = view_of("LPS", with_reference=False)
    assert view.why == "position of the lesion"
    assert view.centre == pytest.approx((2, 2), abs=1e-6)
    assert view.hu.max() == 900


def test_a_prediction_chooses_the_slice_where_there_is_no_reference() -> None:
    voxels, lesion, affine = patient()
    view = axial_view(
        Volume(voxels=voxels, affine=affine),
        position_mm=None,
        reference=None,
        prediction=lesion > 0,
    )
    assert view.why == "largest area of the prediction"
    assert view.prediction is not None and view.prediction.sum() == 9


def test_a_position_beyond_the_file_is_shown_on_its_last_slice() -> None:
    voxels, _, affine = patient()
    view = axial_view(
        Volume(voxels=voxels, affine=affine),
        position_mm=(-50.0, 30.0, 500.0),
        reference=None,
        prediction=np.zeros(voxels.shape, dtype=bool),
    )
    assert view.hu.shape == (16, 20)


def test_a_picture_is_the_same_bytes_every_time() -> None:
    first, second = (draw_case(view_of("LPS")) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG") and b"matplotlib" not in first
