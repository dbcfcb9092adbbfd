import errno
import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path

import blosc2
import numpy as np
import pytest

from medmtl.data.cache import GIGABYTE, CachedCase, CaseCache
from medmtl.data.transforms import Case
from medmtl.errors import RunError

SETTINGS = {"spacing_mm": [1.0, 1.0, 1.0]}
FACTS = {"content_hash": "abc", "spacing_mm": (1.0, 1.0, 2.0)}


class Maker:
    """Makes a case of noise and counts how often it was asked."""

    def __init__(self, seed: int = 0, shape: tuple[int, int, int] = (9, 70, 66)) -> None:
        self.calls = 0
        generator = np.random.default_rng(seed)
        self.case = Case(
            image=generator.integers(-1000, 1000, shape).astype(np.int16),
            masks={"lesion": generator.integers(0, 256, shape).astype(np.uint8)},
            affine=np.array(
                [[0, 0, 0.5, 1.25], [0, 0.1, 0, -7.0], [1 / 3, 0, 0, 0.1], [0, 0, 0, 1.0]]
            ),
        )

    def __call__(self) -> tuple[Case, dict]:
        self.calls += 1
        return self.case, FACTS


@pytest.fixture
def cache(tmp_path: Path) -> CaseCache:
    return CaseCache(folder=tmp_path / "cache", max_gb=1.0)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    found = {"image": tmp_path / "image.nii", "mask lesion": tmp_path / "mask.nii"}
    for role, path in found.items():
        path.write_bytes(role.encode() * 50)
    return found


def whole(case: CachedCase) -> tuple[slice, slice, slice]:
    depth, height, width = case.shape
    return slice(0, depth), slice(0, height), slice(0, width)


def parts_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def case_folders(cache: CaseCache) -> list[Path]:
    return [path for path in cache.folder.glob("cases/*/*") if path.is_dir()]


def filled(cache: CaseCache, folder: Path, count: int) -> list[CachedCase]:
    cases = []
    for number in range(count):
        source = folder / f"{number}.nii"
        source.write_bytes(bytes([number]))
        case = cache.get({"image": source}, SETTINGS, Maker(number))
        os.utime(case.folder, (1000 + number, 1000 + number))
        cases.append(case)
    return cases


def test_a_case_comes_back_as_it_was_made(cache: CaseCache, sources: dict) -> None:
    make = Maker()
    case = cache.get(sources, SETTINGS, make)
    assert np.array_equal(case.read_image(whole(case)), make.case.image)
    assert np.array_equal(case.read_mask("lesion", whole(case)), make.case.masks["lesion"])
    assert np.array_equal(case.affine, make.case.affine)
    assert case.affine.dtype == np.float64
    assert (case.content_hash, case.spacing_mm) == ("abc", (1.0, 1.0, 2.0))


def test_the_same_files_and_settings_are_made_once(cache: CaseCache, sources: dict) -> None:
    make = Maker()
    first = cache.get(sources, SETTINGS, make)
    again = CaseCache(folder=cache.folder, max_gb=1.0).get(
        dict(reversed(sources.items())), SETTINGS, make
    )
    assert make.calls == 1
    assert again.folder == first.folder


def test_a_copy_under_another_name_is_the_same_case(
    cache: CaseCache, sources: dict, tmp_path: Path
) -> None:
    make = Maker()
    cache.get(sources, SETTINGS, make)
    copy = tmp_path / "elsewhere" / "copy.nii"
    copy.parent.mkdir()
    shutil.copy(sources["image"], copy)
    cache.get({**sources, "image": copy}, SETTINGS, make)
    assert make.calls == 1


@pytest.mark.parametrize("role", ["image", "mask lesion"])
def test_another_byte_makes_another_case(cache: CaseCache, sources: dict, role: str) -> None:
    make = Maker()
    first = cache.get(sources, SETTINGS, make)
    content = bytearray(sources[role].read_bytes())
    content[3] ^= 1
    sources[role].write_bytes(content)
    assert cache.get(sources, SETTINGS, make).folder != first.folder
    assert make.calls == 2


def test_another_role_mask_or_setting_makes_another_case(cache: CaseCache, sources: dict) -> None:
    make = Maker()
    image, mask = sources["image"], sources["mask lesion"]
    asked = [
        (sources, SETTINGS),
        ({"image": image}, SETTINGS),
        ({"image": image, "mask other": mask}, SETTINGS),
        ({"image": mask, "mask lesion": image}, SETTINGS),
        (sources, {"spacing_mm": [1.0, 1.0, 1.0000001]}),
        (sources, {}),
    ]
    folders = [cache.get(files, settings, make).folder for files, settings in asked]
    assert len(set(folders)) == make.calls == len(asked)


def test_blocks_equal_the_same_part_of_the_whole(cache: CaseCache, sources: dict) -> None:
    make = Maker()
    case = cache.get(sources, SETTINGS, make)
    generator = np.random.default_rng(1)
    for _ in range(30):
        ends = [np.sort(generator.integers(0, n + 1, 2)) for n in case.shape]
        block = tuple(slice(int(a), int(max(b, a + 1))) for a, b in ends)
        assert np.array_equal(case.read_image(block), make.case.image[block])
        assert np.array_equal(case.read_mask("lesion", block), make.case.masks["lesion"][block])


def fill(folder: Path, sources: dict, gate, results) -> None:
    make = Maker()

    def together():
        gate.wait()  # all have seen that the case is not there
        return make()

    case = CaseCache(folder=folder, max_gb=1.0).get(sources, SETTINGS, together)
    same = np.array_equal(case.read_image(whole(case)), make.case.image)
    results.put((str(case.folder), make.calls, same))


def test_processes_filling_at_once_end_with_one_good_copy(cache: CaseCache, sources: dict) -> None:
    fork = multiprocessing.get_context("fork")
    gate, results = fork.Barrier(3, timeout=20), fork.Queue()
    workers = [
        fork.Process(target=fill, args=(cache.folder, sources, gate, results)) for _ in "123"
    ]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(timeout=30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert {name for name, _, _ in told} == {str(path) for path in case_folders(cache)}
    assert [(calls, same) for _, calls, same in told] == [(1, True)] * 3
    assert len(case_folders(cache)) == 1
    assert parts_below(cache.folder) == []


def test_a_half_written_case_is_never_read(cache: CaseCache, sources: dict, tmp_path: Path) -> None:

    make = Maker()
    first = cache.get(sources, SETTINGS, make)
    left = first.folder.with_name(f".{first.folder.name}.0123.part")
    first.folder.rename(left)  # as a process killed just before its rename leaves it
    (left / "image.b2nd").write_bytes(b"half")
    again = cache.get(sources, SETTINGS, make)
    assert make.calls == 2
    assert again.folder == first.folder
    assert np.array_equal(again.read_image(whole(again)), make.case.image)


@pytest.mark.parametrize("gone_first", ["image.b2nd", "case.json"])
def test_a_removal_that_was_killed_half_way_leaves_no_broken_case(
    cache: CaseCache, sources: dict, monkeypatch: pytest.MonkeyPatch, gone_first: str
) -> None:
    make = Maker()
    cache.get(sources, SETTINGS, make)

    def killed_half_way(path, *args, **kwargs) -> None:
        (Path(path) / gone_first).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_half_way)
        CaseCache(folder=cache.folder, max_gb=1e-9).trim(frozenset())
    case = cache.get(sources, SETTINGS, make)
    assert np.array_equal(case.read_image(whole(case)), make.case.image)


def test_trim_removes_the_least_recently_used_only(cache: CaseCache, tmp_path: Path) -> None:
    cases = filled(cache, tmp_path, 4)
    cache.get({"image": tmp_path / "0.nii"}, SETTINGS, Maker(0))  # used again
    size = sum(file.stat().st_size for file in cases[1].folder.iterdir())
    bound = CaseCache(folder=cache.folder, max_gb=2.5 * size / GIGABYTE)
    assert bound.trim(frozenset()) == 0
    assert [case.folder.is_dir() for case in cases] == [True, False, False, True]


def test_trim_never_removes_what_is_in_use(cache: CaseCache, tmp_path: Path) -> None:
    cases = filled(cache, tmp_path, 3)
    keep = frozenset({cases[0].folder, cases[1].folder})
    above = CaseCache(folder=cache.folder, max_gb=1e-9).trim(keep)
    assert [case.folder.is_dir() for case in cases] == [True, True, False]
    in_use = sum(file.stat().st_size for path in keep for file in path.iterdir())
    assert above == in_use - 1


def test_trim_within_the_bound_removes_nothing(cache: CaseCache, tmp_path: Path) -> None:
    cases = filled(cache, tmp_path, 2)
    assert cache.trim(frozenset()) == 0
    assert all(case.folder.is_dir() for case in cases)


def test_trim_of_a_cache_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert CaseCache(folder=tmp_path / "none", max_gb=1.0).trim(frozenset()) == 0


def trim_away(folder: Path, gate) -> None:
    gate.wait()
    CaseCache(folder=folder, max_gb=1e-9).trim(frozenset())


def test_processes_trimming_at_once_do_not_trip_over_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for number in range(400):
        case = folder / "cases" / f"{number % 100:02d}" / f"{number:032d}"
        case.mkdir(parents=True)
        for name in ("image.b2nd", "lesion.b2nd", "case.json"):
            (case / name).write_bytes(b"x" * 100)
    fork = multiprocessing.get_context("fork")
    gate = fork.Barrier(4, timeout=20)
    workers = [fork.Process(target=trim_away, args=(folder, gate)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert [worker.exitcode for worker in workers] == [0] * 4


def test_a_full_disk_is_a_run_error_and_leaves_nothing(
    cache: CaseCache, sources: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = blosc2.asarray, []

    def full(*args, **kwargs):
        calls.append(kwargs["urlpath"])
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    make = Maker()
    with monkeypatch.context() as patch:
        patch.setattr(blosc2, "asarray", full)
        with pytest.raises(RunError, match=r"cache cannot be written.*No space left.*cache.folder"):
            cache.get(sources, SETTINGS, make)
    assert parts_below(cache.folder) == []
    assert case_folders(cache) == []
    case = cache.get(sources, SETTINGS, make)
    assert np.array_equal(case.read_image(whole(case)), make.case.image)


def write_on_a_small_disk(folder: Path, sources: dict, results) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        CaseCache(folder=folder, max_gb=1.0).get(sources, SETTINGS, Maker())
        results.put("no error")
    except Exception as error:
        results.put(type(error).__name__)


def test_a_write_that_the_system_refuses_is_a_run_error(cache: CaseCache, sources: dict) -> None:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    worker = fork.Process(target=write_on_a_small_disk, args=(cache.folder, sources, results))
    worker.start()
    told = results.get(timeout=30)
    worker.join(timeout=30)
    assert told == "RunError"
    assert case_folders(cache) == []
    assert parts_below(cache.folder) == []


def test_a_process_forked_from_one_that_has_read_can_read_too(tmp_path: Path) -> None:
    """With threads of blosc2 it would wait for ever: they do not come along."""
    from medmtl.data import cache

    path = tmp_path / "image.b2nd"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (140, 140, 140)).astype(np.int16)
    cache._write_array(path, voxels)
    block = (slice(3, 120),) * 3
    expected = int(cache._open(path)[block].sum())
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    child = fork.Process(target=lambda: results.put(int(cache._open(path)[block].sum())))
    child.start()
    try:
        assert results.get(timeout=30) == expected == int(voxels[block].sum())
    finally:
        child.kill()
        child.join()
