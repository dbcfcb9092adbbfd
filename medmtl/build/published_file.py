"""A file of weights that others published, read without running anything it may hold."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medmtl.errors import ConfigError

# Trainings note scores and learning rates as numpy's numbers, under the name of old versions too.
_NUMBER = np._core.multiarray.scalar  # type: ignore[attr-defined]
SAFE = [
    _NUMBER, (_NUMBER, "numpy.core.multiarray.scalar"), np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
]  # fmt: skip
REFUSED = re.compile(r"GLOBAL (\S+)|but got <class '([\w.]+)'>|type (\S+) which")


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """The tensors of a file.

    Attributes:
        name: Of the file, without folders.
        digest: SHA-256 of the file.
        size_bytes: Of the file.
        keys: What it holds at its top.
        tensors: By name; those of groups within groups with the groups' names before.
        says_what_it_saw: Whether it has a list of this project's, of the scans it has seen.
    """

    name: str
    digest: str
    size_bytes: int
    keys: list[str]
    tensors: Mapping[str, Tensor]
    says_what_it_saw: bool


def read_published(path: Path) -> PublishedFile:
    """Reads weights as `torch.save` wrote them.

    Raises:
        ConfigError: The file is missing, is of another kind, holds more than tensors and plain
            values, or no tensor by name.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path.name}: holds {_kind(content)}, not weights by name")
    tensors = dict(_named_tensors(content, ""))
    if not tensors:
        raise ConfigError(f"{path.name}: holds no weights by name")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PublishedFile(
        name=path.name,
        digest=digest,
        size_bytes=path.stat().st_size,
        keys=[str(key) for key in content],
        tensors=tensors,
        says_what_it_saw=isinstance(content.get("exposure"), Mapping),
    )


def _named_tensors(group: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in group.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            yield before + name, value
        elif isinstance(name, str) and isinstance(value, Mapping):
            yield from _named_tensors(value, f"{before}{name}.")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"{path.name}: there is no such file")
    try:
        with torch.serialization.safe_globals(SAFE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is refused next
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
            NotImplementedError, pickle.UnpicklingError) as error:  # fmt: skip
        raise ConfigError(f"{path.name}: {_reason(path, str(error))}") from error


def _reason(path: Path, told: str) -> str:
    if path.suffix == ".safetensors":
        return (
            "safetensors are not read here; where that package is, write the weights again: python "
            f"-c \"import torch, safetensors.torch as s; torch.save(s.load_file('{path.name}'), "
            "'weights.pt')\""
        )
    if "TorchScript" in told:
        return (
            'is a TorchScript program, not weights; write its weights: python -c "import torch; '
            f"torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pt')\", which runs "
            "what the file holds, so only if you trust whoever made it"
        )
    refused = REFUSED.search(told)
    if refused is None:
        return "is damaged, or not a file that torch.save wrote"
    return (
        f"holds more than weights: {next(filter(None, refused.groups()))}, which could run "
        "commands of its own, was refused. If you trust whoever made it, write its weights alone, "
        'with the key that they have in it: python -c "import torch; torch.save(torch.load('
        f"'{path.name}', weights_only=False)['state_dict'], 'weights.pt')\""
    )


def _kind(content: object) -> str:
    return f"a {type(content).__name__}"
