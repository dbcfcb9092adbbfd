"""Copies a NIfTI image with a new header: numbers of its grid, and none of its texts.

Source:
    NIfTI-1.1, nifti1.h: the header's 348 bytes, its extensions, and the voxels after them.
"""

import filecmp
import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from medmtl.data.dicom.files import MAX_FILE_BYTES
from medmtl.data.privacy.refusal import DAMAGED_NIFTI, RefusedError
from medmtl.run_folder import write_whole

NIFTI_SUFFIXES = (".nii", ".nii.gz")
HEADER_BYTES, VOXELS_AT, MOST_BEFORE_VOXELS = 348, 352, 2**26
MAGIC = b"n+1\0"
PIECE = 2**20
BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64,
        1280: 64}  # fmt: skip
MAX_MM, MAX_VALUE = 1e5, 1e6
INTENTS = {0, 1002, 1005, 1006, 1007}  # none, labels, a symmetric matrix, displacements, vectors
# dim_info, dim, intent code, type, bits, pixdim, offset, scaling, units, range, codes, transforms.
FIELDS = {
    "dim_info": (39, "B"), "dim": (40, "8h"), "intent_code": (68, "h"), "datatype": (70, "h"),
    "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"), "scl": (112, "2f"),
    "units": (123, "B"), "cal": (124, "2f"), "codes": (252, "2h"), "quaternion": (256, "3f"),
    "offsets": (268, "3f"), "srow": (280, "12f"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NiftiPlan:
    """How a clean image is made of a file.

    Attributes:
        header: The new one, and the four bytes that say that no extension follows.
        voxels_at: Where the voxels begin in the source.
        voxel_bytes: How many bytes they are.
    """

    header: bytes
    voxels_at: int
    voxel_bytes: int


def read_plan(path: Path) -> NiftiPlan:
    """Reads the header of an image.

    Raises:
        RefusedError: It is no NIfTI-1 image in one file, or not plausible.
    """
    with suppress(OSError, EOFError, zlib.error), _opened(path) as file:
        return _plan(file.read(HEADER_BYTES))
    raise RefusedError(DAMAGED_NIFTI)


def write_clean_nifti(path: Path, target: Path) -> bool:
    """Writes an image with a new header, its voxels byte for byte, and nothing else.

    Args:
        path: Of the source.
        target: Ends in .nii, or .nii.gz, which then holds no name and no time.

    Returns:
        Whether the same file was there already.

    Raises:
        RefusedError: The source is damaged.
        RunError: The disk is full or not writable.
    """
    plan = read_plan(path)
    unchanged = False

    def write(aside: Path) -> None:
        nonlocal unchanged
        with aside.open("wb") as raw:
            if target.name.endswith(".gz"):
                with gzip.GzipFile("", "wb", compresslevel=2, fileobj=raw, mtime=0) as packed:
                    _copy(path, plan, packed)
            else:
                _copy(path, plan, raw)
        unchanged = target.is_file() and filecmp.cmp(aside, target, shallow=False)

    write_whole(target, write, durable=False)
    return unchanged


def _copy(path: Path, plan: NiftiPlan, to: BufferedIOBase) -> None:
    to.write(plan.header)
    for piece in _voxels(path, plan):
        to.write(piece)


def _voxels(path: Path, plan: NiftiPlan) -> Iterator[bytes]:
    left = plan.voxel_bytes
    try:
        with _opened(path) as file:
            file.seek(plan.voxels_at)
            while left:
                piece = file.read(min(PIECE, left))
                if not piece:
                    raise RefusedError(DAMAGED_NIFTI)
                left -= len(piece)
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise RefusedError(DAMAGED_NIFTI) from None


def _opened(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _plan(header: bytes) -> NiftiPlan:
    if len(header) < HEADER_BYTES or header[344:] != MAGIC:
        raise RefusedError(DAMAGED_NIFTI)
    order = "<" if struct.unpack_from("<i", header)[0] == HEADER_BYTES else ">"
    if struct.unpack_from(f"{order}i", header)[0] != HEADER_BYTES:
        raise RefusedError(DAMAGED_NIFTI)
    read = {name: struct.unpack_from(order + code, header, at)
            for name, (at, code) in FIELDS.items()}  # fmt: skip
    voxel_bytes = _voxel_bytes(read)
    made = bytearray(HEADER_BYTES + 4)
    struct.pack_into(f"{order}i", made, 0, HEADER_BYTES)
    for name, values in _plausible(read).items():
        at, code = FIELDS[name]
        struct.pack_into(order + code, made, at, *values)
    made[344:348] = MAGIC
    return NiftiPlan(
        header=bytes(made), voxels_at=int(read["vox_offset"][0]), voxel_bytes=voxel_bytes
    )


def _voxel_bytes(read: dict[str, tuple[float | int, ...]]) -> int:
    dim, datatype = [int(each) for each in read["dim"]], int(read["datatype"][0])
    axes, at = dim[1 : 1 + dim[0]], read["vox_offset"][0]
    fits = 1 <= dim[0] <= 7 and min(axes, default=0) >= 1 and datatype in BITS
    if not fits or BITS.get(datatype) != read["bitpix"][0]:
        raise RefusedError(DAMAGED_NIFTI)
    if not (VOXELS_AT <= at <= MOST_BEFORE_VOXELS and at == int(at)):
        raise RefusedError(DAMAGED_NIFTI)
    count = math.prod(axes) * BITS[datatype] // 8
    if count > MAX_FILE_BYTES:
        raise RefusedError(DAMAGED_NIFTI)
    return count


def _plausible(read: dict[str, tuple[float | int, ...]]) -> dict[str, tuple[float | int, ...]]:
    """The fields that are copied, if they can mean what they say; others are 0."""
    used = int(read["dim"][0]) + 1
    places = (*read["pixdim"][:used], *read["offsets"], *read["srow"], *read["quaternion"])
    if not all(math.isfinite(each) and abs(each) <= MAX_MM for each in places):
        raise RefusedError(DAMAGED_NIFTI)
    if any(math.isfinite(each) and abs(each) > MAX_VALUE for each in read["scl"]):
        raise RefusedError(DAMAGED_NIFTI)
    kept = {name: read[name] for name in ("datatype", "bitpix", "offsets", "srow", "quaternion")}
    codes = tuple(each if 0 <= each <= 5 else 0 for each in read["codes"])
    return kept | {
        "dim_info": (int(read["dim_info"][0]) & 0x3F,),
        "dim": (*read["dim"][:used], *[1] * (8 - used)),
        "intent_code": (read["intent_code"][0] if read["intent_code"][0] in INTENTS else 0,),
        "pixdim": (*read["pixdim"][:used], *[0.0] * (8 - used)),
        "vox_offset": (float(VOXELS_AT),),
        # Not a number means that there is no scaling, as 0 does.
        "scl": tuple(_bounded(each) for each in read["scl"]),
        "units": (int(read["units"][0]) & 0x3F,),
        "cal": tuple(_bounded(each) for each in read["cal"]),
        "codes": codes,
    }


def _bounded(value: float | int) -> float | int:
    return value if math.isfinite(value) and abs(value) <= MAX_VALUE else 0.0
