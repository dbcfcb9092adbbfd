"""What a NIfTI header says of its voxels: how many, of which kind, where in the file, scaled how.

Source:
    nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel.nifti1 import header_dtype as NIFTI_1
from nibabel.nifti2 import header_dtype as NIFTI_2

from medmtl.data.nifti.content import Content
from medmtl.errors import ScanError

# As many as of a DICOM series.
MOST_VOXELS = 2**31
FORMATS = {348: NIFTI_1, 540: NIFTI_2}
SINGLE_FILE = {348: b"n+1", 540: b"n+2"}
PAIR = {348: b"ni1", 540: b"ni2"}
# NIfTI's code and how numpy names it.
NUMBERS = {
    2: "u1", 256: "i1", 512: "u2", 4: "i2", 768: "u4", 8: "i4", 1280: "u8", 1024: "i8",
    16: "f4", 64: "f8",
}  # fmt: skip
NOT_NUMBERS = {
    0: "of no kind (datatype 0)", 1: "single bits", 32: "complex numbers", 128: "RGB colours",
    1536: "128-bit floats", 1792: "complex numbers", 2048: "complex numbers",
    2304: "RGBA colours",
}  # fmt: skip
EXTENSION_FLAG_BYTES = 4

ByteOrder = Literal["<", ">"]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is needed to read the voxels, and the fields that place them.

    Attributes:
        shape: Voxels along i, j, k.
        kind: As stored, byte order included.
        first_byte: Of the voxels, in the decompressed file.
        slope, intercept: value = slope * stored + intercept. Both None if nothing is scaled.
        fields: All fields of the header, by NIfTI's names.
    """

    shape: tuple[int, int, int]
    kind: np.dtype[Any]
    first_byte: int
    slope: float | None
    intercept: float | None
    fields: Any

    @property
    def count(self) -> int:
        """How many voxels there are."""
        i, j, k = self.shape
        return i * j * k

    @property
    def end_byte(self) -> int:
        """The first one after the voxels."""
        return self.first_byte + self.count * self.kind.itemsize

    @property
    def slice_bytes(self) -> int:
        """Of one slice of voxels."""
        return self.shape[0] * self.shape[1] * self.kind.itemsize


def read_header(content: Content) -> Header:
    """Reads a header and refuses one that cannot be of a single 3D volume.

    Raises:
        ScanError: It is no NIfTI header, contradicts itself, or describes something else.
    """
    size, fields = _read_fields(content)
    _require_single_file(size, fields)
    shape = _shape_3d(fields)
    kind = _kind(fields)
    slope, intercept = _scaling(fields)
    header = Header(
        shape=shape,
        kind=kind,
        first_byte=_first_byte(size, fields),
        slope=slope,
        intercept=intercept,
        fields=fields,
    )
    content.require_length(header.end_byte)
    return header


def _read_fields(content: Content) -> tuple[int, Any]:
    start = content.stream.read(4)
    orders: tuple[tuple[ByteOrder, Literal["little", "big"]], ...] = (("<", "little"), (">", "big"))
    for order, order_name in orders:
        size = int.from_bytes(start, order_name)
        if len(start) == 4 and size in FORMATS:
            whole = start + content.stream.read(size - 4)
            if len(whole) < size:
                raise ScanError("the file is truncated within its header; copy it again")
            return size, np.frombuffer(whole, FORMATS[size].newbyteorder(order))[0]
    raise ScanError("not an image: it does not begin as a NIfTI file does")


def _require_single_file(size: int, fields: Any) -> None:
    magic = bytes(fields["magic"])
    if magic == SINGLE_FILE[size]:
        return
    if magic == PAIR[size]:
        raise ScanError("the voxels lie in a second file (.img); write one .nii file")
    raise ScanError(
        f"its header is not NIfTI's (magic {magic!r}): Analyze 7.5, which does not say which side "
        "is left, or damaged; convert it again from DICOM"
    )


def _shape_3d(fields: Any) -> tuple[int, int, int]:
    axes, *counts = (int(number) for number in fields["dim"])
    if not 1 <= axes <= 7:
        raise ScanError(f"its header is damaged: it claims {axes} axes (dim[0]); copy it again")
    shape = tuple(counts[:axes])
    if len(shape) < 3 or min(shape) < 1 or max(shape[3:], default=1) > 1:
        raise ScanError(
            f"not one 3D volume: the file holds {shape} voxels; write the one volume to be used "
            "as a file of its own"
        )
    if counts[0] * counts[1] * counts[2] > MOST_VOXELS:
        raise ScanError(
            f"claims {shape} voxels, at most {MOST_VOXELS} are read; the header is damaged, or "
            "the image must be cropped"
        )
    return counts[0], counts[1], counts[2]


def _kind(fields: Any) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code not in NUMBERS:
        what = NOT_NUMBERS.get(code, f"of an unknown kind (datatype {code})")
        raise ScanError(
            f"voxels are {what}, not single numbers that can be read; write int16 or float32"
        )
    kind = np.dtype(NUMBERS[code]).newbyteorder(fields.dtype["dim"].base.byteorder)
    # Some write no bitpix at all; the length of the file is checked anyway.
    if bits not in (0, kind.itemsize * 8):
        raise ScanError(
            f"its header is damaged: voxels of kind {kind.name} (datatype) and of {bits} bits "
            "(bitpix); copy it again"
        )
    return kind


def _first_byte(size: int, fields: Any) -> int:
    offset = float(fields["vox_offset"])
    if not (offset >= size + EXTENSION_FLAG_BYTES and offset.is_integer()):
        raise ScanError(
            f"its header is damaged: the voxels would begin at byte {offset:g} (vox_offset), "
            f"within the header of {size + EXTENSION_FLAG_BYTES} bytes or nowhere; copy it again"
        )
    return int(offset)


def _scaling(fields: Any) -> tuple[float | None, float | None]:
    """NaN is how nibabel writes 'none'; a slope of 0 is how the standard does."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or np.isnan(slope):
        if intercept == 0 or np.isnan(intercept):
            return None, None
        raise ScanError(
            f"whether its voxels are scaled is not known: scl_slope is {slope:g}, yet scl_inter "
            f"is {intercept:g}; set scl_slope to 1, or scl_inter to 0"
        )
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise ScanError(
            f"its voxels cannot be scaled by scl_slope {slope:g} and scl_inter {intercept:g}; "
            "convert it again from DICOM"
        )
    return (None, None) if (slope, intercept) == (1, 0) else (slope, intercept)
