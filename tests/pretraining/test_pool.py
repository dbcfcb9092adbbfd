"""A pool gives places of scans without looking at more of them than it needs."""

import numpy as np
import pytest

from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.geometry import voxel_to_world
from medmtl.errors import TrainingError
from medmtl.pretraining import pool as pool_module
from medmtl.pretraining.feed import Feed
from medmtl.pretraining.pool import Pool, Source
from medmtl.pretraining.views import ViewMaker
from tests.synthetic import write_cohort

SIZE = (4, 8, 8)


@pytest.fixture
def manifest(tmp_path):
    return write_cohort(tmp_path / "cohort", patients=9)


def make_pool(manifest, tmp_path, *, aim="anywhere", visits=2, seed=0, scans=None):
    loader = CaseLoader(
        manifest=manifest,
        cache=CaseCache(folder=tmp_path / "cache", max_gb=1.0),
        spacing_mm=(1.5, 1.0, 1.0),
    )
    source = Source(loader=loader, scans=scans or manifest.scans, aim=aim, visits=visits)
    return Pool(sources=[source], size=SIZE, seed=seed)


def test_places_follow_from_the_seed_wherever_one_begins(manifest, tmp_path):
    first, later = make_pool(manifest, tmp_path), make_pool(manifest, tmp_path)

    everything = [first.place(number) for number in range(2 * first.epoch_length)]

    number = first.epoch_length + 3
    again = later.place(number)
    assert again.centre == everything[number].centre
    assert again.seed == everything[number].seed
    assert again.case.folder == everything[number].case.folder


def test_views_lie_in_the_file_where_it_is_large_enough(manifest, tmp_path):
    pool = make_pool(manifest, tmp_path, visits=5)

    for number in range(pool.epoch_length):
        place = pool.place(number)
        for middle, length, size in zip(place.centre, place.case.shape, SIZE, strict=True):
            if length >= size:
                assert size / 2 - 0.5 <= middle <= length - 0.5 - size / 2


def test_scans_are_seen_when_they_are_visited_and_not_before(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SHELF_SCANS", 2)
    pool = make_pool(manifest, tmp_path)

    pool.place(0)
    assert len(pool.seen) == 1
    for number in range(pool.epoch_length):
        pool.place(number)
    assert {entry.scan_id for entry in pool.seen.values()} == {s.scan_id for s in manifest.scans}
    assert all(len(entry.content_hash) == 32 for entry in pool.seen.values())


def test_no_more_than_two_shelves_are_ever_open(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SHELF_SCANS", 2)
    pool = make_pool(manifest, tmp_path)

    for number in range(2 * pool.epoch_length):
        pool.place(number)
        assert len(pool._open) <= 4


def test_aimed_views_show_what_they_aim_at(manifest, tmp_path):
    # The synthetic lungs are air-like all over but for their nodules.
    def shown(aim):
        pool = make_pool(manifest, tmp_path, aim=aim, visits=8)
        shares = []
        for number in range(pool.epoch_length):
            place = pool.place(number)
            hu = place.case.read_image(pool._middle(place.case, place.centre))
            shares.append(float((hu > -500).mean()))
        return np.mean(shares)

    assert shown("body") > 1.3 * shown("anywhere")


def test_an_unreadable_scan_is_left_out_and_told(manifest, tmp_path):
    broken = manifest.scans[4]
    manifest.resolve(broken.image).write_bytes(b"nothing")
    pool, again = make_pool(manifest, tmp_path), make_pool(manifest, tmp_path)

    places = [pool.place(number) for number in range(pool.epoch_length)]

    assert len(pool.unreadable) == 1
    assert broken.scan_id not in {entry.scan_id for entry in pool.seen.values()}
    assert broken.image in next(iter(pool.unreadable.values()))
    assert [again.place(n).centre for n in range(len(places))] == [p.centre for p in places]


def test_many_unreadable_scans_are_refused(manifest, tmp_path):
    for scan in manifest.scans[:6]:
        manifest.resolve(scan.image).write_bytes(b"nothing")
    pool = make_pool(manifest, tmp_path)

    with pytest.raises(TrainingError, match=r"cannot be read.*manifest check"):
        for number in range(pool.epoch_length):
            pool.place(number)


def test_a_pool_larger_than_the_cache_keeps_it_within_its_bound(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SHELF_SCANS", 2)
    loader = CaseLoader(
        manifest=manifest,
        cache=CaseCache(folder=tmp_path / "cache", max_gb=1e-5),
        spacing_mm=(1.5, 1.0, 1.0),
    )
    source = Source(loader=loader, scans=manifest.scans, aim="anywhere", visits=2)
    pool = Pool(sources=[source], size=SIZE, seed=0, trim_every_s=0.0)

    for number in range(3 * pool.epoch_length):
        pool.place(number).case.read_image((slice(0, 1), slice(0, 1), slice(0, 1)))
    pool.close()
    # Two shelves of two, and what was opened after the last look.
    assert len(list(loader.cache.cases())) <= 6 < len(manifest.scans)


def test_views_aimed_at_lesions_lie_at_their_positions(manifest, tmp_path):
    positions_mm = {}
    for lesion in manifest.lesions:
        positions_mm.setdefault(lesion.scan_id, []).append(lesion.position_mm)
    loader = CaseLoader(
        manifest=manifest,
        cache=CaseCache(folder=tmp_path / "cache", max_gb=1.0),
        spacing_mm=(1.5, 1.0, 1.0),
    )
    source = Source(
        loader=loader, scans=manifest.scans, aim="lesions", visits=2, positions_mm=positions_mm
    )
    pool = Pool(sources=[source], size=SIZE, seed=0)
    everywhere = [position for each in positions_mm.values() for position in each]

    for number in range(pool.epoch_length):
        place = pool.place(number)
        world = voxel_to_world(place.case.affine, place.centre)
        assert np.abs(np.array(everywhere) - world).sum(1).min() < 1e-3


def test_one_bad_scan_that_stands_alone_on_a_shelf_ends_nothing(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SHELF_SCANS", 1)
    manifest.resolve(manifest.scans[4].image).write_bytes(b"nothing")
    pool = make_pool(manifest, tmp_path)

    for number in range(2 * pool.epoch_length):
        pool.place(number)
    assert len(pool.unreadable) == 1


def test_an_image_that_the_system_will_not_read_is_left_out_without_its_path(
    manifest, tmp_path, monkeypatch
):
    pool = make_pool(manifest, tmp_path)
    broken, opened = manifest.scans[2], CaseLoader.open

    def open_or_fail(self, scan, image=None):
        if scan.scan_id == broken.scan_id:
            raise PermissionError(13, "Permission denied", str(tmp_path / "somebody" / "image"))
        return opened(self, scan, image)

    monkeypatch.setattr(CaseLoader, "open", open_or_fail)
    for number in range(pool.epoch_length):
        pool.place(number)
    assert list(pool.unreadable.values()) == [f"{broken.scan_id}: Permission denied"]


def test_positions_beyond_their_scans_are_refused_rather_than_looked_at(manifest, tmp_path):
    loader = make_pool(manifest, tmp_path).sources[0].loader
    far = {scan.scan_id: [(5000.0, 5000.0, 5000.0)] for scan in manifest.scans}
    source = Source(loader=loader, scans=manifest.scans, aim="lesions", visits=1, positions_mm=far)

    with pytest.raises(TrainingError, match="outside the scan"):
        Pool(sources=[source], size=SIZE, seed=0).place(0)


def test_batches_are_made_although_others_make_room_in_the_cache(manifest, tmp_path):
    pool = make_pool(manifest, tmp_path)
    maker = ViewMaker(
        size=SIZE, spacing_mm=(1.5, 1.0, 1.0), low_hu=-1000.0, high_hu=400.0,
        rotation_degrees=0.0, scaling=0.0, flips=(False, False, False),
        shift_mm=(0.0, 0.0, 0.0), window_hu=0.0, noise_hu=0.0, kernel=0.0,
    )  # fmt: skip
    feed = Feed(
        pool=pool, maker=maker, plain=True, pairs=False, batches=iter([[0, 1], [2, 3], [4, 5]])
    )
    before = feed.next()
    cache = pool.sources[0].loader.cache
    for case in cache.cases():
        cache.remove(case)

    after = feed.next()

    feed.close()
    assert before.plain.shape == after.plain.shape
