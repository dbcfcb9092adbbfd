"""Every scan gets its visits, in an order that follows from the seed alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.pretraining.schedule import Schedule, seed_of


@given(
    visits=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    shelf=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_an_epoch_visits_each_scan_as_often_as_asked(visits, shelf, epoch):
    schedule = Schedule(visits=visits, shelf=shelf, seed=3)
    length = schedule.epoch_length

    seen = [schedule.visit(epoch * length + place).scan for place in range(length)]

    assert Counter(seen) == Counter(dict(enumerate(visits)))


def test_only_the_scans_of_one_shelf_are_visited_until_it_is_done():
    schedule = Schedule(visits=[3] * 10, shelf=4, seed=0)

    visits = [schedule.visit(number) for number in range(30)]

    shelves = [visit.shelf for visit in visits]
    assert shelves == sorted(shelves)
    for visit in visits:
        assert visit.scan in schedule.scans_of(visit.shelf)
    assert [len(schedule.scans_of((0, number))) for number in range(3)] == [4, 3, 3]


def test_behind_the_last_shelf_of_an_epoch_comes_the_first_of_the_next():
    schedule = Schedule(visits=[1] * 5, shelf=2, seed=0)

    assert schedule.scans_of((0, 3)) == schedule.scans_of((1, 0))


def test_epochs_and_seeds_are_ordered_differently():
    def order(seed, epoch):
        schedule = Schedule(visits=[1] * 50, shelf=8, seed=seed)
        return [schedule.visit(50 * epoch + place).scan for place in range(50)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_seeds_of_places_are_all_different_and_fit(seed):
    seeds = {seed_of(seed, number) for number in range(10_000)}

    assert len(seeds) == 10_000
    assert all(0 <= each < 2**62 for each in seeds)
    assert seeds.isdisjoint({seed_of(seed + 1, number) for number in range(10_000)})
