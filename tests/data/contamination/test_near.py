from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medmtl.data.contamination.keypoints import DESCRIPTOR_LENGTH
from medmtl.data.contamination.near import (
    Fingerprint,
    fingerprint,
    near_duplicates,
    near_duplicates_between,
)
from medmtl.data.contamination.near_search import THRESHOLD, similarity
from medmtl.data.reading import Volume
from medmtl.errors import ScanError

SPACING_MM = (0.7, 0.7, 1.25)


def crop(seed: int, shape: tuple[int, int, int] = (44, 44, 8)) -> Volume:
    """A made-up lung: blobs of some millimetres in air."""
    noise = np.random.default_rng(seed).normal(size=shape)
    texture = ndimage.gaussian_filter(noise, (2.0, 2.0, 1.0))
    hu = np.clip(-700 + 300 * texture / max(texture.std(), 1e-9), -1000, 400)
    return Volume(voxels=hu.astype(np.int16), affine=np.diag([*SPACING_MM, 1.0]))


def respace(volume: Volume, factor: float) -> Volume:
    steps = [np.arange(round(n / factor)) * factor + (factor - 1) / 2 for n in volume.voxels.shape]
    places = np.meshgrid(*steps, indexing="ij")
    hu = ndimage.map_coordinates(volume.voxels.astype(float), places, order=1, mode="nearest")
    affine = volume.affine @ np.diag([factor, factor, factor, 1])
    return Volume(voxels=np.rint(hu).astype(np.int16), affine=affine)


def changed(volume: Volume, how: str) -> Volume:
    voxels, affine = volume.voxels, volume.affine
    if how == "cut":
        return Volume(voxels=voxels[3:34, 8:39, 2:8].copy(), affine=affine)
    if how.startswith("spacing"):
        return respace(volume, float(how.split()[1]))
    if how.startswith("flip"):
        return Volume(voxels=np.flip(voxels, int(how.split()[1])).copy(), affine=affine)
    noise = np.random.default_rng(1).normal(0, 20, voxels.shape)
    return Volume(voxels=np.rint(voxels + noise).astype(np.int16), affine=affine)


WAYS = ["cut", "spacing 0.8", "spacing 1.2", "flip 0", "flip 1", "flip 2", "noise"]
CROPS = [crop(seed) for seed in range(12)]
PRINTS = [fingerprint(each) for each in CROPS]


@pytest.mark.parametrize("ways", [*([way] for way in WAYS), ["spacing 0.8", "flip 1", "noise"]])
def test_a_changed_copy_is_found_and_no_other_scan(ways: list[str]) -> None:
    copy = CROPS[4]
    for way in ways:
        copy = changed(copy, way)
    pairs = near_duplicates([*PRINTS, fingerprint(copy)])
    assert [(i, j) for i, j, _ in pairs] == [(4, 12)]
    assert all(score >= THRESHOLD for *_, score in pairs)


def test_scans_of_other_anatomy_are_not_alike() -> None:
    assert near_duplicates(PRINTS) == []
    assert near_duplicates_between(PRINTS[:6], PRINTS[6:]) == []


def test_neighbours_that_share_little_are_not_copies_and_those_that_share_much_are() -> None:
    long = crop(50, (44, 44, 24))

    def slab(first: int, last: int) -> Fingerprint:
        return fingerprint(Volume(voxels=long.voxels[:, :, first:last].copy(), affine=long.affine))

    assert similarity(slab(0, 8), slab(8, 16)) < THRESHOLD
    assert similarity(slab(0, 8), slab(6, 14)) < THRESHOLD
    assert similarity(slab(0, 8), slab(1, 9)) >= THRESHOLD


def test_between_two_collections_the_first_index_is_of_the_known() -> None:
    new = [fingerprint(crop(99)), fingerprint(changed(CROPS[7], "noise"))]
    ((known_index, new_index, _),) = near_duplicates_between(PRINTS, new)
    assert (known_index, new_index) == (7, 1)


def test_storage_order_and_oblique_axes_do_not_matter() -> None:
    volume = CROPS[0]
    turned = Volume(
        voxels=volume.voxels.transpose(2, 0, 1).copy(),
        affine=volume.affine[:, [2, 0, 1, 3]],
    )
    assert fingerprint(turned).to_text() == PRINTS[0].to_text()
    tilted = volume.affine.copy()
    tilted[:3, 2] = 1.25 * np.array([0, np.sin(0.3), np.cos(0.3)])
    oblique = fingerprint(Volume(voxels=volume.voxels, affine=tilted))
    assert similarity(oblique, PRINTS[0]) >= THRESHOLD


@pytest.mark.parametrize("shape", [(44, 44, 1), (1, 1, 1), (2, 40, 40), (3, 3, 2)])
def test_tiny_scans_match_nothing(shape: tuple[int, int, int]) -> None:
    tiny = fingerprint(crop(0, shape))
    assert near_duplicates([tiny, tiny]) == []
    assert similarity(tiny, PRINTS[0]) == 0


def test_a_scan_that_shows_nothing_matches_nothing() -> None:
    empty = fingerprint(Volume(voxels=np.zeros((20, 20, 5), np.int16), affine=np.eye(4)))
    assert len(empty.levels) == 0
    assert near_duplicates([empty, empty]) == []


def test_no_scans_have_no_near_duplicates() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates(PRINTS[:1]) == []
    assert near_duplicates_between([], PRINTS) == []


def test_a_whole_scan_and_its_copy_are_found_by_large_blobs() -> None:
    texture = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(64, 64, 40)), 1.5)
    hu = (300 * texture / texture.std()).astype(np.int16)
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    whole = fingerprint(Volume(voxels=hu, affine=affine))
    part = fingerprint(Volume(voxels=hu[10:60, ::-1, 5:37].copy(), affine=affine))
    assert set(whole.levels) == {1}
    assert [(i, j) for i, j, _ in near_duplicates([whole, *PRINTS, part])] == [(0, 13)]


@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_score_is_symmetric_and_the_text_says_all(index: int, seed: int) -> None:
    made_up = synthetic(np.random.default_rng(seed))
    read = Fingerprint.from_text(made_up.to_text())
    assert read.to_text() == made_up.to_text()
    assert similarity(read, PRINTS[index]) == similarity(PRINTS[index], made_up)
    assert similarity(made_up, read) > THRESHOLD


def test_the_text_of_a_scan_is_short_and_without_line_breaks_or_commas() -> None:
    for each in [*PRINTS, fingerprint(crop(0, (2, 2, 1)))]:
        text = each.to_text()
        assert len(text) < 3000
        assert not set(text) & set('\n,;"')
        assert Fingerprint.from_text(text).to_text() == text


@pytest.mark.parametrize("text", ["", "near0:AAAA", "near1:AAAA", "near1:AAAAAAAAA", "near1:,"])
def test_text_that_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ScanError, match="fingerprint"):
        Fingerprint.from_text(text)


def synthetic(generator: np.random.Generator, count: int = 50) -> Fingerprint:
    extent = np.array([300, 300, 100], dtype=np.int16)
    return Fingerprint(
        extent=extent,
        levels=np.zeros(count, dtype=np.uint8),
        places=(generator.uniform(0, 1, (count, 3)) * extent).astype(np.int16),
        descriptors=np.clip(generator.normal(100, 25, (count, DESCRIPTOR_LENGTH)), 0, 255).astype(
            np.uint8
        ),
    )


def test_two_thousand_scans_are_compared_quickly() -> None:
    generator = np.random.default_rng(0)
    many = [synthetic(generator) for _ in range(2000)]
    started = process_time()
    pairs = near_duplicates([*many, many[17]])
    assert process_time() - started < 10
    assert [(i, j) for i, j, _ in pairs] == [(17, 2000)]
