"""Checkpoints: everything that a training needs to go on as if it had never stopped."""

import io
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from medmtl.errors import RunError
from medmtl.run_folder import write_whole


@dataclass(frozen=True)
class RandomState:
    """The state of both random streams: our own, and torch's (dropout)."""

    own: torch.Tensor
    torch_global: torch.Tensor

    @classmethod
    def capture(cls, generator: Generator) -> "RandomState":
        """Reads the state."""
        return cls(generator.get_state(), torch.get_rng_state())

    def restore(self, generator: Generator) -> None:
        """Sets the state."""
        generator.set_state(self.own)
        torch.set_rng_state(self.torch_global)


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Saves tensors and plain values whole or not at all.

    The bytes are made in memory first: a disk that fills up is then an ordinary write error.

    Raises:
        RunError: The file cannot be written; an older one stays as it was.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, lambda aside: aside.write_bytes(buffer.getbuffer()))


def load_tensors(path: Path) -> dict[str, Any]:
    """Loads what `save_tensors` saved; executes nothing that the file may hold.

    Raises:
        RunError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    damaged = RunError(
        f"{path.parent.name}/{path.name} is damaged or not one of ours; delete it, and run its "
        "cell again"
    )
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not verify the checksums
            if archive.testzip() is not None:
                raise damaged
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path.parent.name}/{path.name} is missing; run its cell again") from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, NotImplementedError,
            pickle.UnpicklingError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise damaged from error
    if not isinstance(content, dict):
        raise damaged
    return content
