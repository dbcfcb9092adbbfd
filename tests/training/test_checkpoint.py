import errno
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from medmtl.errors import RunError
from medmtl.training.checkpoint import RandomState, load_tensors, save_tensors

CONTENT = {
    "model": {"weight": torch.arange(2000.0).reshape(40, 50), "steps": torch.tensor(7)},
    "random": [torch.get_rng_state()],
    "history": [{"epoch": 1, "loss": 0.1 + 0.2}],
    "fingerprint": "abc",
    "best": None,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "joint_r0_f1" / "checkpoint.pt"
    save_tensors(path, CONTENT)
    return path


class Trap:
    """A pickled object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_was_saved_is_loaded_bit_by_bit(path: Path) -> None:
    loaded = load_tensors(path)
    assert torch.equal(loaded["model"]["weight"], CONTENT["model"]["weight"])
    assert torch.equal(loaded["random"][0], CONTENT["random"][0])
    assert {k: loaded[k] for k in ("history", "fingerprint", "best")} == {
        k: CONTENT[k] for k in ("history", "fingerprint", "best")
    }
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cell/checkpoint.pt is missing"):
        load_tensors(tmp_path / "cell" / "checkpoint.pt")


def test_a_file_cut_off_anywhere_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in [*range(0, 70, 3), *np.linspace(70, len(content) - 1, 60).astype(int)]:
        path.write_bytes(content[: int(length)])
        with pytest.raises(RunError, match=r"joint_r0_f1/checkpoint.pt"):
            load_tensors(path)


def test_damaged_tensor_bytes_are_refused_or_harmless(path: Path) -> None:
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(content), 150):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = load_tensors(path)
        except RunError:
            continue
        assert torch.equal(loaded["model"]["weight"], CONTENT["model"]["weight"])
        assert loaded["history"] == CONTENT["history"]


def test_any_rubbish_is_a_run_error(path: Path) -> None:
    generator = np.random.default_rng(1)
    for number in range(150):
        start = [b"", b"\x80\x02", b"PK\x03\x04", b"\x80\x04}"][number % 4]
        path.write_bytes(start + generator.bytes(int(generator.integers(0, 300))))
        with pytest.raises(RunError, match=r"joint_r0_f1/checkpoint.pt"):
            load_tensors(path)


def test_a_text_a_zip_and_a_folder_are_run_errors(path: Path) -> None:
    path.write_text("epoch: 3\n")
    with pytest.raises(RunError):
        load_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"hello")
        archive.writestr("archive/version", b"3")
    with pytest.raises(RunError):
        load_tensors(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError):
        load_tensors(path)


@pytest.mark.parametrize("way", ["torch", "legacy", "pickle"])
def test_an_object_in_the_file_is_refused_and_not_executed(
    path: Path, tmp_path: Path, way: str
) -> None:
    trap = {"model": Trap(tmp_path / "executed")}
    if way == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(RunError, match="damaged or not one of ours"):
        load_tensors(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), 5, "text"])
def test_a_file_that_holds_no_named_values_is_refused(path: Path, content: object) -> None:
    torch.save(content, path)
    with pytest.raises(RunError, match="damaged or not one of ours"):
        load_tensors(path)


@pytest.mark.parametrize("where", ["write", "sync"])
def test_on_a_full_disk_the_old_file_still_loads(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(Path, "write_bytes", full)
        else:
            patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="disk is full"):
            save_tensors(path, {"fingerprint": "new"})
    assert load_tensors(path)["fingerprint"] == "abc"
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_random_streams_go_on_where_they_were() -> None:
    generator = Generator().manual_seed(3)
    torch.manual_seed(4)
    torch.rand(5, generator=generator), torch.rand(3)
    state = RandomState.capture(generator)
    one = torch.rand(9, generator=generator), torch.rand(9)
    state.restore(generator)
    two = torch.rand(9, generator=generator), torch.rand(9)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
