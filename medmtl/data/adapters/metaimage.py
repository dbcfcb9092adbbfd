"""Reads MetaImage, as LUNA16 has it: a text header (.mhd) beside the voxels (.raw or .zraw).

What the header says of the voxels is taken exactly, or the file is refused.

Source:
    itk.org/Wiki/ITK/MetaIO/Documentation. World coordinates are LPS mm; each three numbers of
    TransformMatrix are the direction of one axis of the voxels, as SimpleITK writes and reads it.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Float64

from medmtl.data.dicom.pixel_format import require_voxels_bounded
from medmtl.data.geometry import Grid
from medmtl.data.reading import Volume
from medmtl.errors import ScanError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MAX_HEADER_BYTES = 2**16
RIGHT_ANGLE = 1e-3
KINDS = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Keys that other writers give other names.
ALIASES = {
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "Position": "Offset",
    "Origin": "Offset",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
# What is read in one way only: the value that it must have, where it is there.
ONLY = {
    "ObjectType": "image",
    "NDims": "3",
    "BinaryData": "true",
    "ElementNumberOfChannels": "1",
    "HeaderSize": "0",
    "ElementToIntensityFunctionSlope": "1",
    "ElementToIntensityFunctionOffset": "0",
}
NEEDED = ["NDims", "DimSize", "ElementSpacing", "Offset", "ElementType", "ElementDataFile"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaHeader:
    """What a header says.

    Attributes:
        grid: Where the voxels lie, RAS mm.
        kind: How a voxel is stored.
        is_compressed: Whether the voxels are deflated.
        data: The file of the voxels.
    """

    grid: Grid
    kind: np.dtype[np.generic]
    is_compressed: bool
    data: Path

    @property
    def length(self) -> int:
        """How many bytes the voxels take, inflated."""
        return prod(self.grid.shape) * self.kind.itemsize


def read_metaimage(path: Path, *, name: str) -> Volume:
    """Reads an image in HU.

    Args:
        path: The .mhd file.
        name: What messages call it.

    Raises:
        ScanError: Header and voxels cannot be read exactly, or are no HU.
    """
    header = read_metaheader(path, name=name)
    return decode_voxels(header, header.data.read_bytes(), name=name)


def read_metaheader(path: Path, *, name: str) -> MetaHeader:
    """Reads the header, and checks that the file of the voxels can hold what it says.

    Raises:
        ScanError: A key is missing, wrong, or means what this tool does not read; or the file
            of the voxels is missing, or of another length.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_HEADER_BYTES + 1).decode("ascii")
        if len(text) > MAX_HEADER_BYTES:
            raise ScanError("is too long for a header")
        header = _header(_keys(text), path.parent)
        require_voxels_bounded(prod(header.grid.shape))
        size = header.data.stat().st_size
        if not header.is_compressed and size != header.length:
            raise ScanError(f"the voxels take {size} bytes, not {header.length}; copy them again")
    except ScanError as error:
        raise ScanError(f"{name}: {error}") from None
    except UnicodeDecodeError:
        raise ScanError(f"{name}: is no text, so no MetaImage header") from None
    except OSError as error:
        what = "the file of its voxels" if path.is_file() else "the file"
        raise ScanError(f"{name}: {what} cannot be opened: {error.strerror}") from None
    return header


def decode_voxels(header: MetaHeader, content: bytes, *, name: str) -> Volume:
    """Makes a volume of the bytes of the voxels.

    Raises:
        ScanError: They are damaged, of another length, or no HU.
    """
    if header.is_compressed:
        content = _inflate(content, header.length, name)
    if len(content) != header.length:
        raise ScanError(f"{name}: {len(content)} bytes of voxels, not {header.length}")
    voxels = np.frombuffer(content, header.kind).reshape(header.grid.shape, order="F")
    if not np.isfinite(voxels).all():
        raise ScanError(f"{name}: holds voxels that are NaN or infinite")
    low, high = float(voxels.min()), float(voxels.max())
    limits = np.iinfo(np.int16)
    if low < limits.min or high > limits.max:
        raise ScanError(f"{name}: voxel values from {low:g} to {high:g} are not Hounsfield units")
    kept = np.float32 if header.kind.kind == "f" else np.int16
    return Volume(voxels=voxels.astype(kept), affine=header.grid.affine)


def _inflate(content: bytes, length: int, name: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(content, length + 1)
    except zlib.error as error:
        raise ScanError(f"{name}: the voxels are damaged: {error}; copy them again") from None
    if len(inflated) <= length and not inflater.eof:
        raise ScanError(f"{name}: the voxels are truncated; copy them again")
    return inflated


def _keys(text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        key = ALIASES.get(key, key)
        if not equals or key in keys:
            raise ScanError(f"line {number} is no 'key = value', or repeats a key")
        keys[key] = value
    missing = [key for key in NEEDED if not keys.get(key)]
    if missing:
        raise ScanError(f"lacks {', '.join(missing)}")
    for key, only in ONLY.items():
        if keys.get(key, only).lower() != only:
            raise ScanError(f"{key} is {keys[key]}; only {only} is read")
    return keys


def _header(keys: Mapping[str, str], folder: Path) -> MetaHeader:
    kind = KINDS.get(keys["ElementType"])
    if kind is None:
        raise ScanError(f"ElementType is {keys['ElementType']}; allowed: {', '.join(KINDS)}")
    file = keys["ElementDataFile"]
    if file.upper() in ("LOCAL", "LIST", "..") or PurePath(file).name != file or "\\" in file:
        raise ScanError("ElementDataFile must name one file in the same folder")
    shape = _numbers(keys, "DimSize", 3)
    if not all(each >= 1 and each == int(each) for each in shape):
        raise ScanError(f"DimSize is {keys['DimSize']}; it must be three numbers of voxels")
    order = ">" if _flag(keys, "BinaryDataByteOrderMSB") else "<"
    return MetaHeader(
        grid=Grid(shape=(int(shape[0]), int(shape[1]), int(shape[2])), affine=_affine(keys)),
        kind=np.dtype(order + kind),
        is_compressed=_flag(keys, "CompressedData"),
        data=folder / file,
    )


def _affine(keys: Mapping[str, str]) -> Float64[np.ndarray, "4 4"]:
    spacing_mm = _numbers(keys, "ElementSpacing", 3)
    if not all(each > 0 for each in spacing_mm):
        raise ScanError(f"ElementSpacing is {keys['ElementSpacing']}; it must be above 0")
    axes = np.eye(3)
    if "TransformMatrix" in keys:
        axes = np.array(_numbers(keys, "TransformMatrix", 9)).reshape(3, 3)
    if np.abs(axes @ axes.T - np.eye(3)).max() > RIGHT_ANGLE:
        raise ScanError("TransformMatrix is not three unit vectors at right angles")
    affine = np.eye(4)
    affine[:3, :3] = axes.T * spacing_mm
    affine[:3, 3] = _numbers(keys, "Offset", 3)
    return np.asarray(LPS_TO_RAS @ affine + 0.0)  # 0 stays 0, not -0


def _numbers(keys: Mapping[str, str], key: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(each) for each in keys[key].split())
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(isfinite(each) for each in numbers):
        raise ScanError(f"{key} is {keys[key][:40]!r}; it must be {count} numbers")
    return numbers


def _flag(keys: Mapping[str, str], key: str) -> bool:
    text = keys.get(key, "False").lower()
    if text not in ("true", "false"):
        raise ScanError(f"{key} is {keys[key][:40]!r}; allowed: True, False")
    return text == "true"
