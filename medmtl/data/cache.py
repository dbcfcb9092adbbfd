"""Preprocessed cases on disk: made once, shared by all cells, runs and processes.

A case is a folder named by a key of what it was made from: the bytes of image and masks, and
the transform's settings. Change one and another case is made. A folder appears whole, by one
rename, so that any number of processes may fill one cache; whoever comes second throws its
copy away. When the cache outgrows its bound, the least recently used cases go first.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.choice import split_choice
from medmtl.data.geometry import Box, Grid
from medmtl.data.transforms import Case
from medmtl.errors import RunError

blosc2.set_nthreads(1)
CHUNK_VOXELS, BLOCK_VOXELS = (64, 64, 64), (16, 16, 32)
LEVEL = 6  # of packing, 1 to 9; a case packed at another is read alike
FORMAT = 8  # of a cached case; raise it when it is computed or packed otherwise
MOST_OPEN = 512  # arrays; each takes a tenth of a megabyte while it is open
GIGABYTE = 10**9
ABANDONED_S = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class CachedCase:
    """A case on disk, of which any block can be read without reading the rest.

    Attributes:
        shape: Voxels along depth, height, width.
        affine: Maps (depth, height, width) indices to RAS mm.
        content_hash: See `medmtl.data.audit.content_hash`.
        spacing_mm: Of the file the case was made from: depth, height, width.
    """

    folder: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    content_hash: str
    spacing_mm: tuple[float, float, float]

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(shape=self.shape, affine=self.affine)

    def read_image(self, block: Box) -> NDArray[np.int16]:
        """Reads a block of HU."""
        return _open(self.folder / "image.b2nd")[block]

    def read_mask(self, lesion_id: str, block: Box) -> NDArray[np.uint8]:
        """Reads a block of how much of each voxel a lesion covers (255: all)."""
        return _open(self.folder / _mask_file(lesion_id))[block]

    def read_organs(self, block: Box) -> NDArray[np.uint8]:
        """Reads a block of the label map; its values are those of the scan's data card."""
        return _open(self.folder / "organs.b2nd")[block]


@dataclass(frozen=True, kw_only=True)
class CaseCache:
    """A folder of cached cases.

    Attributes:
        folder: Where they lie.
        max_gb: The bound, in 10^9 bytes.
    """

    folder: Path
    max_gb: float

    def get(
        self,
        sources: Mapping[str, Path],
        settings: Mapping[str, Any],
        make: Callable[[], tuple[Case, Mapping[str, Any]]],
    ) -> CachedCase:
        """Opens the case made from these files with these settings; makes it if need be.

        Args:
            sources: Files and folders by role; their bytes are part of the key.
            settings: Of the transform; part of the key.
            make: Computes the case, with what else is stored beside it
                (`content_hash`, `spacing_mm`).

        Raises:
            RunError: The cache cannot be written.
        """
        folder = self._folder_of(sources, settings)
        if not (folder / "case.json").is_file():
            case, extra = make()
            self._store(folder, case, extra)
        os.utime(folder)  # most recently used
        facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        return CachedCase(
            folder=folder,
            shape=tuple(facts["shape"]),
            affine=np.array(facts["affine"], dtype=np.float64),
            content_hash=facts["content_hash"],
            spacing_mm=tuple(facts["spacing_mm"]),
        )

    def trim(self, keep: frozenset[Path]) -> int:
        """Removes the least recently used cases until the bound is kept.

        Args:
            keep: Folders that are in use and stay.

        Returns:
            How many bytes are still above the bound because they are in use.
        """
        self._remove_abandoned()
        used, sizes = {}, {}
        for path in self.cases():
            with suppress(OSError):  # another process may trim, too
                sizes[path] = sum(file.stat().st_size for file in path.iterdir())
                used[path] = path.stat().st_mtime
        excess = sum(sizes.values()) - int(self.max_gb * GIGABYTE)
        for path in sorted(used, key=lambda path: used[path]):
            if excess <= 0:
                break
            if path not in keep:
                self.remove(path)
                excess -= sizes[path]
        return max(0, excess)

    def remove(self, case: Path) -> None:
        """Renames a case away before its files go, so that a half-removed one is never read."""
        aside = case.with_name(f".{case.name}.{uuid.uuid4().hex}.part")
        try:
            case.rename(aside)
        except OSError:
            return  # another process was first
        shutil.rmtree(aside, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        """Removes what killed processes left half-written; nobody writes one case for a day."""
        for path in self.folder.glob("*/*/.*.part"):
            with suppress(OSError):  # another process may remove it too
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def cases(self) -> list[Path]:
        """The folders of all cached cases."""
        found = self.folder.glob("cases/*/*/case.json")
        return [path.parent for path in found if not path.parent.name.startswith(".")]

    def _folder_of(self, sources: Mapping[str, Path], settings: Mapping[str, Any]) -> Path:
        parts = {role: self.digest(path) for role, path in sorted(sources.items())}
        text = json.dumps([FORMAT, parts, dict(settings)], sort_keys=True)
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return self.folder / "cases" / key[:2] / key

    def remember(self, kind: str, digest: str, make: Callable[[], str]) -> str:
        """A text that follows from a file's bytes; made once, by whoever asks first.

        Args:
            kind: What is remembered; it has a number that is raised when it is made otherwise.
            digest: Of the file or folder, see `digest`.
            make: Computes it.
        """
        file = self.folder / kind / digest[:2] / digest
        if file.is_file() and (text := file.read_text(encoding="utf-8")):
            return text
        made = make()
        _write_aside(file, lambda aside: aside.write_text(made, encoding="utf-8"))
        return made

    def remembered(self, kind: str) -> list[Path]:
        """The files of all that is remembered of a kind."""
        return list((self.folder / kind).glob("*/*"))

    def digest(self, path: Path) -> str:
        """Hashes a file's bytes; of a folder, those of its files, by whatever names.

        Where one series of a folder is chosen (`folder#label`), it is part of the hash.
        """
        path, label = split_choice(path)
        if path.is_dir():
            every = sorted(self._digest_file(each) for each in path.rglob("*") if each.is_file())
            every += [label] if label else []
            return hashlib.blake2b(" ".join(every).encode(), digest_size=16).hexdigest()
        return self._digest_file(path)

    def _digest_file(self, path: Path) -> str:
        """Hashes a file's bytes; remembers it by path, size and time of change."""
        facts = path.stat()
        memo = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
        name = hashlib.blake2b(memo.encode(), digest_size=16).hexdigest()
        remembered = self.folder / "digests" / name[:2] / name
        if remembered.is_file() and (digest := remembered.read_text(encoding="ascii")):
            return digest
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
        _write_aside(remembered, lambda aside: aside.write_text(digest, encoding="ascii"))
        return digest

    def _store(self, folder: Path, case: Case, extra: Mapping[str, Any]) -> None:
        def write(aside: Path) -> None:
            aside.mkdir()
            _write_array(aside / "image.b2nd", case.image)
            for lesion_id, mask in case.masks.items():
                _write_array(aside / _mask_file(lesion_id), mask)
            if case.organs is not None:
                _write_array(aside / "organs.b2nd", case.organs)
            facts = {"shape": case.image.shape, "affine": case.affine.tolist(), **extra}
            (aside / "case.json").write_text(json.dumps(facts), encoding="utf-8")

        _write_aside(folder, write)


@lru_cache(maxsize=MOST_OPEN)
def _open(path: Path) -> blosc2.NDArray:
    """Opens an array once: what lies under a cached case's name never changes.

    Kept open and mapped into memory, a patch is read in three quarters of the time.
    """
    # One thread: a process that was forked from one with blosc2's threads hangs when it reads.
    return blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})


def _mask_file(lesion_id: str) -> str:
    return f"mask-{lesion_id}.b2nd"


def _write_array(path: Path, voxels: NDArray[Any]) -> None:
    """Packs voxels in blocks so small that a patch unpacks little beside itself.

    LZ4HC is slow to pack and fast to unpack, as fits what is written once: a patch of image and
    labels takes 1.4 ms; 2.0 packed by LZ4, and 6.7 by zstd in larger blocks, which took 12 % less
    space. HU gain by having their bytes shuffled; masks, bytes of long runs, lose. The highest
    level, 9, takes 1 % less space, twice the time to pack and as long to unpack.
    """
    chunks = [min(most, length) for most, length in zip(CHUNK_VOXELS, voxels.shape, strict=True)]
    blocks = [min(most, length) for most, length in zip(BLOCK_VOXELS, chunks, strict=True)]
    shuffle = blosc2.Filter.SHUFFLE if voxels.itemsize > 1 else blosc2.Filter.NOFILTER
    blosc2.asarray(
        np.ascontiguousarray(voxels),
        urlpath=str(path),
        mode="w",
        chunks=chunks,
        blocks=blocks,
        cparams={"codec": blosc2.Codec.LZ4HC, "clevel": LEVEL, "filters": [shuffle], "nthreads": 1},
    )


def _write_aside(target: Path, write: Callable[[Path], Any]) -> None:
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():  # else another process was first: its copy is as good
                raise
    except (OSError, RuntimeError) as error:  # blosc2 tells of a full disk by a RuntimeError
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"the cache cannot be written ({reason}); free some disk, or name another folder with "
            "--set cache.folder=..."
        ) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with suppress(OSError):  # the folder itself may be what is wrong
                aside.unlink(missing_ok=True)
