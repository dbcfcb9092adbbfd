"""Which files of a folder are looked at, and how their bytes are reached."""

import os
import re
import zlib
from io import SEEK_END, SEEK_SET, BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian

from medmtl.errors import ScanError

MAX_FILES = 100_000
MAX_FILE_BYTES = 4 * 2**30
MAX_INFLATED_BYTES = 2**30
MAGIC, MAGIC_AT = b"DICM", 128
META_BYTES = 1024  # the transfer syntax stands in these
META_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"  # the first element: how long the others are
# Group 8 (or 2) of the first element, little or big endian, of a file without a preamble.
BARE_STARTS = (b"\x08\x00", b"\x02\x00", b"\x00\x08")
DICOM_SUFFIXES = {".dcm", ".dicom", ".dic", ".dc3", ".ima"}
# Lie beside exported images, and are none.
COMPANIONS = {"DICOMDIR", "LICENSE", "README", "VERSION", "LOCKFILE"}


class WholeFile:
    """A file from which no more can be asked for than it holds.

    A damaged length of 4 GB makes pydicom ask for as much, and Python allocate it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, SEEK_END)
        file.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        """Reads so many bytes, or what is left."""
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Goes to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()


def find_files(path: Path, *, name: str) -> list[Path]:
    """Finds the files that may belong to a series, in the order of their names.

    Hidden files, and files whose names end as other kinds' do (.txt, .nii), are passed over.

    Args:
        path: A folder, searched with its subfolders, or one file.
        name: What messages call it.

    Raises:
        ScanError: Nothing is there, or far too much.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ScanError(f"{name}: the file or folder is missing")
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise ScanError(f"{name}: a folder in it cannot be opened: {error.strerror}")

    for folder, subfolders, files in os.walk(path, onerror=refuse):
        subfolders[:] = [each for each in subfolders if not each.startswith(".")]
        found += [Path(folder) / file for file in files if not is_companion(file)]
        if len(found) > MAX_FILES:
            raise ScanError(f"{name}: more than {MAX_FILES} files; give the folder of one study")
    # A pipe or a device would be waited for without end.
    return sorted(each for each in found if each.is_file())


def may_be_dicom(start: bytes) -> bool:
    """Says whether a file begins as DICOM does, with its preamble or without.

    Args:
        start: Its first 132 bytes or more.
    """
    return start[MAGIC_AT : MAGIC_AT + 4] == MAGIC or start[:2] in BARE_STARTS


def require_bounded(file: WholeFile, *, where: str) -> None:
    """Refuses a file that would fill the memory, deflated ones too.

    Args:
        file: Any DICOM file; left at its beginning.
        where: How messages call the file.

    Raises:
        ScanError: It holds, or inflates to, more than is read.
    """
    size = file.seek(0, SEEK_END)
    if size > MAX_FILE_BYTES:
        raise ScanError(f"{where}: has {size} bytes; at most {MAX_FILE_BYTES} are read")
    file.seek(0)
    start = file.read(META_BYTES)
    if DeflatedExplicitVRLittleEndian.encode() in start:
        at = start.find(META_LENGTH)
        if at not in (0, MAGIC_AT + 4):
            raise ScanError(f"{where}: does not say where its deflated part begins; copy it again")
        file.seek(at + 12 + int.from_bytes(start[at + 8 : at + 12], "little"))
        _require_inflated_bounded(BytesIO(file.read()), where)
    file.seek(0)


def _require_inflated_bounded(deflated: BytesIO, where: str) -> None:
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while piece := inflater.unconsumed_tail or deflated.read(2**16):
        inflated += len(inflater.decompress(piece, 2**20))
        if inflated > MAX_INFLATED_BYTES:
            raise ScanError(f"{where}: inflates to more than {MAX_INFLATED_BYTES} bytes")
        if inflater.eof:
            return


def is_companion(file: str) -> bool:
    """Says whether a file is what systems lay beside DICOM: an index, a picture, a note."""
    if file.startswith(".") or file.upper() in COMPANIONS:
        return True
    suffix = Path(file).suffix.lower()
    # What ends in digits is a UID or a number, as exported images are named.
    return re.fullmatch(r"\.[a-z][a-z0-9]*", suffix) is not None and suffix not in DICOM_SUFFIXES
