"""Opens a NIfTI file, compressed or not, and says in plain words why it cannot be opened."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from medmtl.errors import ScanError

GZIP_MAGIC = b"\x1f\x8b"
# Deflate's best is 1032 to 1; a header that claims more than that was not compressed into the file.
MOST_EXPANSION = 1100
# Zeros up to here after the voxels are the padding of a disk or tape block, and do no harm.
MOST_PADDING_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Content:
    """An open file, as it is after decompression.

    Attributes:
        stream: Positioned at the start.
        stored_bytes: The size of the file on disk.
        compressed: Whether the file is gzip.
    """

    stream: BufferedIOBase
    stored_bytes: int
    compressed: bool

    def require_length(self, wanted_bytes: int) -> None:
        """Refuses a file that cannot hold what its header claims, before anything is read.

        Raises:
            ScanError: It is too short.
        """
        most = self.stored_bytes * (MOST_EXPANSION if self.compressed else 1)
        if most < wanted_bytes:
            what = "bytes compressed" if self.compressed else "bytes"
            raise ScanError(
                f"the file is truncated, or its header is damaged: {self.stored_bytes} {what}, "
                f"where the header speaks of {wanted_bytes}; copy it again"
            )

    def read_into(self, target: memoryview) -> None:
        """Fills a buffer with the bytes that come next.

        Raises:
            ScanError: There are fewer.
        """
        filled = 0
        while filled < len(target):
            count = self.stream.readinto(target[filled:])
            if not count:
                raise ScanError("the file is truncated; copy it again")
            filled += count

    def require_end(self, *, less_than_bytes: int) -> None:
        """Reads on to the end, where gzip keeps its checksum, and refuses what else is there.

        Args:
            less_than_bytes: A slice. As much or more, and it is the header that is wrong.

        Raises:
            ScanError: More than a little padding follows.
        """
        rest = self.stream.read(MOST_PADDING_BYTES + 1)
        if len(rest) > MOST_PADDING_BYTES or len(rest) >= less_than_bytes or rest.strip(b"\0"):
            raise ScanError(
                "more bytes follow the voxels that the header describes, so the header or the "
                "file is damaged; copy it again, or convert it again from DICOM"
            )


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Opens a file for reading; what goes wrong meanwhile becomes a `ScanError`.

    Args:
        path: A .nii or .nii.gz file.

    Raises:
        ScanError: The file is missing, of another kind, damaged or truncated.
    """
    _require_nifti_name(path)
    try:
        with path.open("rb") as file:
            yield _content(file, compressed=path.name.lower().endswith(".gz"))
    except EOFError:
        raise ScanError("the file is truncated; copy it again") from None
    except zlib.error as error:
        raise ScanError(f"damaged: {error}; copy it again") from None
    except gzip.BadGzipFile as error:
        raise ScanError(f"damaged, or not gzip: {error}; copy it again") from None
    except OSError as error:
        raise ScanError(f"cannot be opened: {error.strerror or type(error).__name__}") from None


def _content(file: BufferedReader, *, compressed: bool) -> Content:
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise ScanError("the file is empty (0 bytes); copy it again")
    start = file.read(4)
    file.seek(0)
    is_gzip = start.startswith(GZIP_MAGIC)
    if is_gzip and not compressed:
        raise ScanError("the file is compressed (gzip) but named .nii; name it .nii.gz")
    if compressed and not is_gzip and _begins_as_nifti(start):
        raise ScanError("the file is named .gz but is not compressed; name it .nii")
    stream = gzip.GzipFile(fileobj=file) if compressed else file
    return Content(stream=stream, stored_bytes=size, compressed=compressed)


def _begins_as_nifti(start: bytes) -> bool:
    return any(int.from_bytes(start, order) in (348, 540) for order in ("little", "big"))


def _require_nifti_name(path: Path) -> None:
    name = path.name.lower()
    if name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        raise ScanError(
            "not a NIfTI file (.nii or .nii.gz) but one of a pair (.hdr, .img); write one .nii file"
        )
    if not name.endswith((".nii", ".nii.gz")):
        raise ScanError("not a NIfTI file (.nii or .nii.gz)")
    try:
        if not path.exists():
            raise ScanError("the file is missing")
        # A pipe would wait for its other end for ever.
        if not path.is_file() and not path.is_dir():
            raise ScanError("not a file but a device or a pipe")
    except OSError as error:
        raise ScanError(f"cannot be opened: {error.strerror}") from None
