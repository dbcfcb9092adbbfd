"""Whole patients, held against anatomy. World coordinates are RAS mm."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medmtl.data.geometry import voxel_to_world, world_to_voxel
from medmtl.data.phantom.patient import PhantomScan, make_patient
from medmtl.data.phantom.tissue import STRUCTURES

SEED, PATIENTS = 21, (1, 2)
MIDDLE_HU = {
    "left_lung": (-900, -700),
    "right_lung": (-900, -700),
    "heart": (35, 260),
    "liver": (40, 120),
    "spine": (80, 600),
    "trachea": (-1010, -850),
    "aorta": (30, 260),
}
VOLUMES_ML = {
    "left_lung": (1000, 3600),
    "right_lung": (1200, 4200),
    "heart": (350, 1000),
    "liver": (700, 2800),
    "spine": (250, 1100),
    "trachea": (20, 90),
    "aorta": (90, 400),
}


@dataclass(frozen=True)
class Seen:
    """A scan with its voxels as a reader of NIfTI sees them: axes i, j, k."""

    scan: PhantomScan

    @property
    def hu(self) -> NDArray:
        return self.scan.voxels.T

    def of(self, structure: str) -> NDArray:
        return STRUCTURES[structure] == self.scan.organs.T

    def middle_mm(self, structure: str) -> NDArray:
        return voxel_to_world(self.scan.affine, np.argwhere(self.of(structure))).mean(axis=0)

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.scan.affine[:3, :3])) / 1000)


@cache
def painted(number: int) -> PhantomScan:
    return make_patient(SEED, number)


@pytest.fixture(params=PATIENTS)
def seen(request: pytest.FixtureRequest) -> Seen:
    return Seen(painted(request.param))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_organs_are_of_plausible_size_and_density(seen: Seen, structure: str) -> None:
    inside = seen.of(structure)
    low, high = VOLUMES_ML[structure]
    assert low < inside.sum() * seen.voxel_ml < high
    low, high = MIDDLE_HU[structure]
    assert low < np.median(seen.hu[inside]) < high


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_organ_is_one_piece(seen: Seen, structure: str) -> None:
    pieces, _ = ndimage.label(seen.of(structure))
    sizes = np.bincount(pieces.ravel())[1:]
    assert sizes.max() > 0.98 * sizes.sum()


def test_left_is_the_patients_left(seen: Seen) -> None:
    x = {name: seen.middle_mm(name)[0] for name in STRUCTURES}
    assert x["right_lung"] > x["spine"] + 40 > x["left_lung"] + 80
    assert x["liver"] > x["spine"] > x["heart"] > x["left_lung"]
    assert x["aorta"] < x["spine"]


def test_above_and_in_front_are_where_they_belong(seen: Seen) -> None:
    at = {name: seen.middle_mm(name) for name in STRUCTURES}
    assert at["trachea"][2] > at["heart"][2] > at["liver"][2]
    assert at["heart"][1] > at["trachea"][1] > at["spine"][1]
    assert at["heart"][1] > at["aorta"][1] > at["spine"][1]


def test_the_right_lung_is_the_larger_one(seen: Seen) -> None:
    assert seen.of("right_lung").sum() > seen.of("left_lung").sum()


def test_the_patient_lies_in_air(seen: Seen) -> None:
    sides = [seen.hu[index] for index in ((0, 0), (-1, 0), (0, -1), (-1, -1))]
    assert np.median(np.concatenate(sides)) == pytest.approx(-1000, abs=15)


def test_there_is_fat_and_bone(seen: Seen) -> None:
    body = seen.hu[seen.hu > -300]
    assert 0.10 < ((body > -140) & (body < -60)).mean() < 0.6
    assert 0.01 < (body > 300).mean() < 0.15


def test_nodules_lie_in_a_lung_and_are_drawn_around_their_position(seen: Seen) -> None:
    for nodule in seen.scan.nodules:
        assert nodule.body.sum() > 30
        lung = np.isin(seen.scan.organs[nodule.box], (1, 2))
        assert (nodule.body & ~lung).sum() == 0
        corner = np.array([part.start for part in nodule.box])
        places = voxel_to_world(seen.scan.affine, (np.argwhere(nodule.body) + corner)[:, ::-1])
        away = np.linalg.norm(places.mean(axis=0) - nodule.position_mm)
        assert away < 0.3 * nodule.nodule.diameter_mm + 1.0


def test_the_window_around_a_nodule_lies_within_the_file(seen: Seen) -> None:
    for nodule in seen.scan.nodules:
        corners = np.array(nodule.position_mm) + 20 * (
            2 * np.indices((2, 2, 2)).reshape(3, -1).T - 1
        )
        places = world_to_voxel(seen.scan.affine, corners)
        assert (places > -0.5).all()
        assert (places < np.array(seen.hu.shape) - 0.5).all()


def test_nodules_keep_apart(seen: Seen) -> None:
    places = np.array([nodule.position_mm for nodule in seen.scan.nodules])
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert (away + 100 * np.eye(len(places)) > 24 * np.sqrt(3) / 2).all()


def test_the_same_seed_makes_the_same_patient_and_others_differ() -> None:
    one, again = painted(1), make_patient(SEED, 1)
    np.testing.assert_array_equal(one.voxels, again.voxels)
    np.testing.assert_array_equal(one.organs, again.organs)
    np.testing.assert_array_equal(one.affine, again.affine)
    assert [each.position_mm for each in one.nodules] == [e.position_mm for e in again.nodules]
    assert one.affine.tolist() != painted(2).affine.tolist()
