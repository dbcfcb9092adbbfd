"""Files that others published: read as they are, and without running what they may hold."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.build.published_file import read_published
from medmtl.errors import ConfigError


class Commands:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def saved(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_groups_within_groups_keep_their_names(tmp_path: Path, zipped: bool) -> None:
    content = {
        "state_dict": {"module.a": torch.ones(2), "deep": {"b": torch.zeros(3)}},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}},
        "best": np.float64(0.5),
        "epoch": np.int64(3),
    }
    file = read_published(saved(tmp_path / "a.pth", content, zipped=zipped))
    assert list(file.tensors) == ["state_dict.module.a", "state_dict.deep.b"]
    assert file.name == "a.pth" and not file.says_what_it_saw
    assert len(file.digest) == 64


@pytest.mark.parametrize("zipped", [True, False])
def test_commands_in_a_file_are_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    made = tmp_path / "made"
    content = {"state_dict": {"a": torch.ones(2)}, "callback": Commands(made)}
    path = saved(tmp_path / "evil.pt", content, zipped=zipped)
    with pytest.raises(ConfigError) as refusal:
        read_published(path)
    assert not made.exists()
    told = str(refusal.value)
    assert "posix.system" in told and "If you trust whoever made it" in told
    assert "python -c \"import torch; torch.save(torch.load('evil.pt'" in told
    torch.load(path, weights_only=False)
    assert made.exists()  # it would have


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"a": torch.ones(1), "path": Path("x")}, "pathlib"),
        ({"a": torch.ones(1), "array": np.zeros(3)}, "numpy"),
    ],
)
def test_a_refused_type_is_named(tmp_path: Path, content: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_published(saved(tmp_path / "a.pt", content))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": 1}, "no weights by name"),
        ([torch.ones(1)], "a list, not weights by name"),
        (torch.ones(1), "a Tensor, not weights by name"),
    ],
)
def test_a_file_without_weights_by_name_is_refused(
    tmp_path: Path, content: object, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        read_published(saved(tmp_path / "a.pt", content))


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.pt: is damaged, or not a file"):
        read_published(tmp_path / "a.pt")


def test_files_of_other_kinds_say_how_to_write_them_again(tmp_path: Path) -> None:
    program = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    program.save(tmp_path / "program.ts")
    with pytest.raises(ConfigError, match=r"TorchScript program.*only if you trust"):
        read_published(tmp_path / "program.ts")
    (tmp_path / "a.safetensors").write_bytes(b"\x00" * 16)
    with pytest.raises(ConfigError, match="safetensors are not read here"):
        read_published(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="there is no such file"):
        read_published(tmp_path / "none.pt")
