import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Spacing
from numpy.typing import NDArray

from medmtl.data.geometry import Grid
from medmtl.data.reading import Volume
from medmtl.data.resampling import reach, resample, respaced
from medmtl.data.transforms import depth_first, prepare_case
from tests.data.phantoms import linear_hu, stored, voxel_places_mm

torch.set_num_threads(1)
FAR_MM = 500.0  # of the origin: MONAI loses the sign of one within a voxel of 0
lengths = st.integers(1, 9)
spacings = st.floats(0.7, 3.0)
shapes = st.tuples(lengths, lengths, lengths)
spacings_mm = st.tuples(spacings, spacings, spacings)
angles = st.tuples(*[st.floats(-40, 40)] * 3)
orientations = st.permutations(["RL", "AP", "SI"]).flatmap(
    lambda axes: st.tuples(*[st.sampled_from(axis) for axis in axes])
)


def turned(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        one, other = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def affine_of(
    orientation: tuple[str, ...],
    spacing_mm: tuple[float, ...],
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    origin_mm: tuple[float, ...] = (FAR_MM, -FAR_MM, FAR_MM),
) -> NDArray[np.float64]:
    """An affine whose axes point along `orientation`, then turned."""
    axes = nib.orientations.axcodes2ornt(orientation)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, ((axis, sign), mm) in enumerate(zip(axes, spacing_mm, strict=True)):
        affine[int(axis), column] = sign * mm
    affine[:3, :3] = turned(degrees) @ affine[:3, :3]
    affine[:3, 3] = origin_mm
    return affine


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)


def by_monai(volume: Volume, spacing_mm: tuple[float, ...]) -> tuple[NDArray, NDArray]:
    """The reference: MONAI's voxels and affine on the same working grid."""
    depth_mm, height_mm, width_mm = spacing_mm
    to_grid = Compose(
        [
            Orientation(axcodes="RAS", labels=None),
            Spacing(
                pixdim=(width_mm, height_mm, depth_mm),
                mode="bilinear",
                padding_mode="border",
                scale_extent=True,
            ),
        ]
    )
    voxels = torch.as_tensor(volume.voxels.astype(np.float32))[None]
    found = to_grid(MetaTensor(voxels, affine=torch.as_tensor(volume.affine)))
    return found[0].numpy().transpose(2, 1, 0), found.affine.numpy()[:, [2, 1, 0, 3]]


@given(
    shape=shapes,
    own_mm=spacings_mm,
    working_mm=spacings_mm,
    orientation=orientations,
    degrees=angles,
)
@settings(max_examples=30, deadline=None)
def test_it_is_monai_s_spacing(shape, own_mm, working_mm, orientation, degrees) -> None:
    volume = Volume(voxels=noise(shape), affine=affine_of(orientation, own_mm, degrees))
    voxels, own = depth_first(volume)
    counts = own.shape * np.linalg.norm(own.affine[:3, :3], axis=0) / working_mm
    # Half a voxel may be rounded either way, and MONAI knows no grid of less than half a voxel.
    assume((counts > 0.51).all() and (np.abs(counts % 1 - 0.5) > 1e-3).all())
    expected, affine = by_monai(volume, working_mm)
    working = respaced(own, working_mm)
    found = resample(torch.as_tensor(voxels.astype(np.float32)), own, working).numpy()
    assert working.shape == expected.shape
    assert working.affine == pytest.approx(affine, abs=1e-3)
    # MONAI computes places in fp32: of voxels that differ by 2500 HU, some hundredths.
    assert np.abs(found - expected).max() < 0.5
    image = prepare_case(volume, {}, spacing_mm=working_mm, name="noise").image
    assert np.abs(image - expected).max() <= 1.0


def test_it_is_as_exact_as_fp32_where_monai_is() -> None:
    volume = Volume(voxels=noise((9, 8, 7)), affine=affine_of(tuple("LPS"), (1.0, 1.5, 2.0)))
    expected, affine = by_monai(volume, (1.0, 0.75, 0.5))
    voxels, own = depth_first(volume)
    working = respaced(own, (1.0, 0.75, 0.5))
    found = resample(torch.as_tensor(voxels.astype(np.float32)), own, working).numpy()
    assert found == pytest.approx(expected, abs=1e-2)
    assert working.affine == pytest.approx(affine, abs=1e-9)


@given(
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    own_mm=spacings_mm,
    working_mm=spacings_mm,
    orientation=orientations,
    degrees=angles,
    origin_mm=st.tuples(*[st.floats(-3, 3)] * 3),
)
@settings(max_examples=80, deadline=None)
def test_a_ramp_keeps_its_place_in_the_patient_wherever_the_origin_is(
    shape, own_mm, working_mm, orientation, degrees, origin_mm
) -> None:
    affine = affine_of(orientation, own_mm, degrees, origin_mm)
    volume = Volume(
        voxels=linear_hu(voxel_places_mm(shape, affine)).astype(np.float32), affine=affine
    )
    voxels, own = depth_first(volume)
    working = respaced(own, working_mm)
    found = resample(torch.as_tensor(voxels), own, working).numpy()
    places = voxel_places_mm(working.shape, working.affine)
    ijk = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    between = ((ijk >= 0) & (ijk <= np.array(shape) - 1)).all(-1)
    assert np.abs(found - linear_hu(places))[between] == pytest.approx(0, abs=1e-2)


@given(shape=shapes, own_mm=spacings_mm, working_mm=spacings_mm, degrees=angles)
@settings(max_examples=60, deadline=None)
def test_the_new_grid_has_the_same_axes_and_extent(shape, own_mm, working_mm, degrees) -> None:
    own = Grid(shape=shape, affine=affine_of(tuple("SAR"), own_mm, degrees))
    new = respaced(own, working_mm)
    assert np.linalg.norm(new.affine[:3, :3], axis=0) == pytest.approx(working_mm)
    directions = [g.affine[:3, :3] / np.linalg.norm(g.affine[:3, :3], axis=0) for g in (own, new)]
    assert directions[0] == pytest.approx(directions[1], abs=1e-12)
    to_own = np.linalg.inv(own.affine) @ new.affine
    ends = np.array([[-0.5] * 3, np.array(new.shape) - 0.5])  # the outer faces, in own voxels
    faces_mm = (ends @ to_own[:3, :3].T + to_own[:3, 3] + 0.5) * own_mm
    own_faces_mm = np.array([[0.0] * 3, np.array(shape) * own_mm])
    assert (np.abs(faces_mm - own_faces_mm) <= np.array(working_mm) * 0.75 + 1e-9).all()


@given(shape=shapes, own_mm=spacings_mm, degrees=angles)
@settings(max_examples=30, deadline=None)
def test_a_scan_on_its_own_grid_is_given_back_bit_for_bit(shape, own_mm, degrees) -> None:
    own = Grid(shape=shape, affine=affine_of(tuple("SAR"), own_mm, degrees))
    voxels = torch.as_tensor(noise(shape).astype(np.float32))
    again = respaced(own, np.linalg.norm(own.affine[:3, :3], axis=0).tolist())
    assert again.shape == own.shape
    assert again.affine == pytest.approx(own.affine, abs=1e-9)
    assert torch.equal(resample(voxels, own, own), voxels)
    assert torch.equal(resample(voxels, own, again), voxels)


@given(shape=shapes, own_mm=spacings_mm, working_mm=spacings_mm)
@settings(max_examples=40, deadline=None)
def test_nothing_is_brighter_or_darker_than_the_scan_was(shape, own_mm, working_mm) -> None:
    own = Grid(shape=shape, affine=affine_of(tuple("SAR"), own_mm))
    voxels = torch.as_tensor(noise(shape).astype(np.float32))
    found = resample(voxels, own, respaced(own, working_mm))
    assert voxels.min() <= found.min() and found.max() <= voxels.max()
    even = torch.full(shape, 37.0)
    assert torch.equal(
        resample(even, own, respaced(own, working_mm)).unique(), torch.tensor([37.0])
    )


@given(
    shape=shapes,
    own_mm=spacings_mm,
    working_mm=spacings_mm,
    back=st.booleans(),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_all_that_comes_from_chosen_voxels_lies_in_their_reach(
    shape, own_mm, working_mm, back, share, seed
) -> None:
    own = Grid(shape=shape, affine=affine_of(tuple("SAR"), own_mm))
    source, target = own, respaced(own, working_mm)
    if back:
        source, target = target, source
    chosen = np.random.default_rng(seed).random(source.shape) < share**3
    voxels = torch.as_tensor(chosen.astype(np.float32))
    whole = resample(voxels, source, target)
    box = reach(chosen, source, target)
    if box is None:
        assert not whole.any()
        return
    assert torch.equal(resample(voxels, source, target, box), whole[box])
    whole[box] = 0
    assert not whole.any()


def test_beyond_the_outermost_centres_the_outermost_voxels_are_repeated() -> None:
    own = Grid(shape=(2, 1, 1), affine=np.diag([5.0, 1.0, 1.0, 1.0]))
    found = resample(
        torch.tensor([10.0, 20.0]).reshape(2, 1, 1), own, respaced(own, (1.0, 1.0, 1.0))
    )
    assert found.flatten().tolist() == pytest.approx(
        [10, 10, 10, 12, 14, 16, 18, 20, 20, 20], abs=1e-4
    )


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_back_to_the_scan_s_own_grid_smooth_images_come_back(orientation: str) -> None:
    shape = (14, 13, 12)
    affine = affine_of(tuple(orientation), (1.0, 1.0, 1.0))
    waves = np.sin(voxel_places_mm((14, 13, 12), np.eye(4)) / 4).sum(-1).astype(np.float32)
    volume = Volume(voxels=stored(waves, "RAS").reshape(shape), affine=affine)
    voxels, own = depth_first(volume)
    finer = respaced(own, (0.5, 0.5, 0.5))
    there = resample(torch.as_tensor(voxels), own, finer)
    back = resample(there, finer, own).numpy()
    assert np.abs(back - voxels)[1:-1, 1:-1, 1:-1].max() < 0.05
