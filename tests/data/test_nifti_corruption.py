"""Whatever the bytes: the right volume or a `ScanError`, soon, in little memory."""

import gzip
import os
import resource
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import nibabel.testing
import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.data.geometry import voxel_to_world
from medmtl.data.reading import read_grid, read_mask, read_volume
from medmtl.errors import ScanError
from tests.data.nifti_files import AFFINE, HU, SHAPE, NiftiFile

SOON_S = 10.0
SHIPPED = Path(nibabel.testing.data_path)
REPOSITORY = Path(__file__).parents[2]
CORNERS = np.indices((2, 2, 2)).reshape(3, -1).T * np.array(SHAPE) - 0.5
PLACES_MM = voxel_to_world(AFFINE, CORNERS)


def answer(path: Path) -> str:
    """How a file is answered: `read`, or the refusal. Warnings are failures."""
    start = time.monotonic()
    told = "read"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ask in (read_mask, read_grid, read_volume):
            try:
                ask(path, name="garbage")
                told = "read"
            except ScanError as error:
                told = str(error)
                assert told.startswith("garbage: ") and len(told) < 400, told
                assert str(path.parent) not in told and told.isprintable(), told
    assert time.monotonic() - start < SOON_S
    return told


# What ships with nibabel


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="this nibabel was packed without its test data")
def test_every_file_that_ships_with_nibabel_is_read_or_refused() -> None:
    files = [path for path in sorted(SHIPPED.rglob("*")) if path.is_file()]
    told = {path.name: answer(path) for path in files}
    images = {name: said for name, said in told.items() if name.endswith((".nii", ".nii.gz"))}
    assert len(told) > 60 and len(images) >= 6
    for name in ("anatomical.nii", "reoriented_anat_moved.nii"):
        assert images[name] == "read" or "not Hounsfield" in images[name]
        grid = read_grid(SHIPPED / name, name=name)
        theirs = nib.load(SHIPPED / name)
        assert grid.shape == theirs.shape
        np.testing.assert_allclose(grid.affine, theirs.affine, atol=1e-3)
        if images[name] == "read":
            volume = read_volume(SHIPPED / name, name=name)
            np.testing.assert_array_equal(volume.voxels, np.asanyarray(theirs.dataobj))
    for name in ("functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"):
        assert "not one 3D volume" in images[name]
    for name in ("nifti1.hdr", "analyze.hdr"):
        assert "write one .nii file" in told[name]


# gzip


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cut", [*range(1, 30), 100, 300])
def test_a_missing_end_of_gzip_is_noticed(tmp_path: Path, cut: int, version: int) -> None:
    path = NiftiFile(version=version).save(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-cut])
    assert "truncated" in answer(path)


@pytest.mark.parametrize("byte", range(-8, 0))
def test_a_wrong_checksum_or_length_is_noticed(tmp_path: Path, byte: int) -> None:
    path = NiftiFile().save(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    assert "damaged" in answer(path)


def test_gzip_in_several_members_is_one_file(tmp_path: Path) -> None:
    content = NiftiFile().content()
    path = tmp_path / "a.nii.gz"
    for at in (0, 100, 352, 400, len(content)):
        path.write_bytes(gzip.compress(content[:at]) + gzip.compress(content[at:]))
        np.testing.assert_array_equal(read_volume(path, name="a").voxels, HU)


def test_a_missing_member_is_noticed(tmp_path: Path) -> None:
    content = NiftiFile().content()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content[:400]))
    assert "truncated" in answer(path)


@pytest.mark.parametrize("after", [b"\1", b"garbage" * 40, gzip.compress(b"another file")])
def test_what_follows_gzip_is_refused(tmp_path: Path, after: bytes) -> None:
    path = NiftiFile().save(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes() + after)
    assert "damaged" in answer(path)


def test_zeros_after_gzip_do_no_harm(tmp_path: Path) -> None:
    path = NiftiFile().save(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes() + bytes(512))
    np.testing.assert_array_equal(read_volume(path, name="a").voxels, HU)


def test_a_name_that_does_not_say_how_the_file_is_packed_is_refused(tmp_path: Path) -> None:
    for order in "<>":
        plain = NiftiFile(order=order).content()
        (tmp_path / "a.nii.gz").write_bytes(plain)
        assert "is not compressed; name it .nii" in answer(tmp_path / "a.nii.gz")
        (tmp_path / "a.nii").write_bytes(gzip.compress(plain))
        assert "name it .nii.gz" in answer(tmp_path / "a.nii")
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress(gzip.compress(plain)))
        assert "does not begin as a NIfTI file" in answer(tmp_path / "b.nii.gz")
        (tmp_path / "c.nii.gz").write_bytes(zlib.compress(plain))
        assert "not gzip" in answer(tmp_path / "c.nii.gz")


def test_gzip_that_swells_is_not_unpacked(tmp_path: Path) -> None:
    """Half a GB of zeros behind a small image, in half a MB."""
    path = tmp_path / "a.nii.gz"
    tail = gzip.compress(bytes(2**24)) * 32
    path.write_bytes(gzip.compress(NiftiFile().content()) + tail)
    tracemalloc.start()
    assert "more bytes follow" in answer(path)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


# Files that are no files


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii")
    assert "not a file but" in answer(tmp_path / "a.nii")


def test_a_folder_is_no_mask(tmp_path: Path) -> None:
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(ScanError, match="a: cannot be opened: Is a directory"):
        read_mask(tmp_path / "a.nii", name="a")


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in answer(tmp_path / ("a" * 300 + ".nii"))
    assert "missing" in answer(tmp_path / "a\0b.nii")


# Single bits: every one of the header


# A flip here gives a header that is sound in itself: kinds of the same size, another scaling.
UNPROTECTED = ("scl_slope", "scl_inter", "datatype")


def offsets_of(name: str, version: int) -> range:
    field, start = NiftiFile(version=version).header().dtype.fields[name][:2]
    return range(start, start + field.itemsize)


@pytest.mark.parametrize(
    ("version", "order", "bits"),
    [
        (1, "<", (0, 3, 7)),
        pytest.param(1, "<", range(8), marks=pytest.mark.slow),
        pytest.param(1, ">", range(8), marks=pytest.mark.slow),
        pytest.param(2, "<", range(8), marks=pytest.mark.slow),
        pytest.param(2, ">", range(8), marks=pytest.mark.slow),
    ],
)
def test_no_flipped_bit_of_a_header_moves_the_scan_or_changes_its_hu(
    tmp_path: Path, version: int, order: str, bits: Sequence[int]
) -> None:
    path = tmp_path / "a.nii"
    content = NiftiFile(version=version, order=order).content()
    scaling = {byte for name in UNPROTECTED for byte in offsets_of(name, version)}
    told: Counter[str] = Counter()
    for byte in range(348 if version == 1 else 540):
        for bit in bits:
            spoilt = bytearray(content)
            spoilt[byte] ^= 1 << bit
            path.write_bytes(spoilt)
            try:
                volume = read_volume(path, name="a")
            except ScanError as error:
                told[str(error)[:30]] += 1
                continue
            told["read"] += 1
            assert volume.voxels.shape == SHAPE
            apart_mm = voxel_to_world(volume.affine, CORNERS) - PLACES_MM
            assert np.linalg.norm(apart_mm, axis=1).max() < 1.001, (byte, bit)
            if byte not in scaling:
                np.testing.assert_array_equal(volume.voxels, HU)
    assert len(told) > 12 and told["read"] > 60 * len(bits)


# Many bytes


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(0, len(content))]


def changed(content: bytes, random: np.random.Generator, reach: int) -> bytes:
    """Some of the first bytes, or pairs or quadruples of them, replaced by nasty ones."""
    spoilt: NDArray[np.uint8] = np.frombuffer(content, np.uint8).copy()
    for _ in range(random.integers(1, 6)):
        place, length = random.integers(0, reach), random.choice([1, 1, 2, 4, 8])
        run = spoilt[place : place + length]
        nasty = [0, 255, 127, 128, random.integers(0, 256)]
        run[:] = random.choice(nasty, size=len(run))
    return spoilt.tobytes()


def attack(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Reads files spoilt in many ways, and counts how they were answered."""
    random = np.random.default_rng(seed)
    told: Counter[str] = Counter()
    files = [
        NiftiFile(version=version, order=order, voxels=voxels, form=form)
        for version, order in ((1, "<"), (1, ">"), (2, "<"))
        for voxels in (HU, HU.astype(np.float32))
        for form in ("both", "qform", "sform")
    ]
    for index in range(count):
        content = files[index % len(files)].content()
        size = int(np.dtype(files[index % len(files)].header().dtype).itemsize)
        way = index // len(files) % 4
        if way == 0:
            path, spoilt = folder / "a.nii", cut(content, random)
        elif way == 1:
            path, spoilt = folder / "a.nii", changed(content, random, size)
        elif way == 2:
            path, spoilt = folder / "a.nii.gz", gzip.compress(changed(content, random, size), 1)
        else:
            path, packed = folder / "a.nii.gz", gzip.compress(content, 1)
            whole = random.random() < 0.5
            spoilt = changed(packed, random, len(packed)) if whole else cut(packed, random)
        path.write_bytes(spoilt)
        told[answer(path)[:60]] += 1
    return told


def attack_in_little_memory(folder: Path, count: int) -> None:
    """For a process of its own: there, what a header claims cannot be had."""
    attack(folder, 20)  # everything is imported
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 64 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    told = attack(folder, count, seed=1)
    assert told["read"] > count / 20 and len(told) > 20, told


def run_attack(folder: Path, count: int, seconds: float) -> None:
    """A crash, a hang or a hunger for memory ends the other process, and is told here."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.data.test_nifti_corruption import attack_in_little_memory\n"
        "attack_in_little_memory(Path(sys.argv[1]), int(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder, str(count)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr and not done.stdout  # nothing is printed by a library


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by Linux's means")
def test_2000_spoilt_files_are_read_or_refused_in_little_memory(tmp_path: Path) -> None:
    run_attack(tmp_path, 2000, seconds=120)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by Linux's means")
def test_20000_spoilt_files_are_read_or_refused_in_little_memory(tmp_path: Path) -> None:
    run_attack(tmp_path, 20_000, seconds=900)


@pytest.mark.parametrize("kept", range(0, 1000, 9))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kept: int) -> None:
    content = NiftiFile().content()
    path = tmp_path / "a.nii"
    path.write_bytes(content[: min(kept, len(content) - 1)])
    assert answer(path) != "read"
