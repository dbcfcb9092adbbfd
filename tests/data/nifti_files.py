"""NIfTI files byte by byte, so that no library mends what a test wants broken."""

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import header_dtype as NIFTI_1
from nibabel.nifti2 import header_dtype as NIFTI_2
from numpy.typing import NDArray

from tests.data.phantoms import linear_hu, stored_affine, voxel_places_mm

SIZES = {1: 348, 2: 540}
CODES = {
    "uint8": 2, "int16": 4, "int32": 8, "float32": 16, "complex64": 32, "float64": 64,
    "int8": 256, "uint16": 512, "uint32": 768, "int64": 1024, "uint64": 1280, "longdouble": 1536,
}  # fmt: skip
SHAPE = (6, 7, 5)
SPACING_MM = (0.7, 0.8, 2.5)
AFFINE = stored_affine(SHAPE, SPACING_MM, "LPS")
HU = np.rint(linear_hu(voxel_places_mm(SHAPE, AFFINE))).astype(np.int16)


@dataclass(kw_only=True)
class NiftiFile:
    """A file to be written; the defaults are a sound one.

    Attributes:
        form: Which placements are set: `qform`, `sform`, `both` or `neither`.
        fields: Header fields set at the end, whatever else they would be. A dictionary sets
            some elements of an array, by their index.
        before: Between header and voxels: the flag of the extensions, and those.
    """

    voxels: NDArray[Any] = field(default_factory=lambda: HU)
    affine: NDArray[np.float64] = field(default_factory=lambda: AFFINE)
    form: str = "both"
    order: str = "<"
    version: int = 1
    fields: dict[str, Any] = field(default_factory=dict)
    before: bytes = bytes(4)
    after: bytes = b""

    def header(self) -> NDArray[Any]:
        """The header, one record."""
        header = np.zeros((), dtype=NIFTI_1 if self.version == 1 else NIFTI_2)
        upright = nib.Nifti1Header()
        upright.set_qform(self.affine, code=1)
        for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            header[name] = upright[name]
        header["pixdim"] = 1
        header["pixdim"][:4] = upright["pixdim"][:4]
        header["srow_x"], header["srow_y"], header["srow_z"] = self.affine[:3]
        header["qform_code"] = self.form in ("qform", "both")
        header["sform_code"] = self.form in ("sform", "both")
        header["sizeof_hdr"] = SIZES[self.version]
        header["magic"] = b"n+1" if self.version == 1 else b"n+2"
        if self.version == 2:
            header["eol_check"] = [13, 10, 26, 10]
        header["dim"] = 1
        header["dim"][: self.voxels.ndim + 1] = [self.voxels.ndim, *self.voxels.shape]
        header["datatype"] = CODES.get(self.voxels.dtype.name, 1536)
        header["bitpix"] = self.voxels.dtype.itemsize * 8
        header["vox_offset"] = SIZES[self.version] + len(self.before)
        header["xyzt_units"] = 2
        header["scl_slope"] = 1
        for name, value in self.fields.items():
            if isinstance(value, dict):
                for index, element in value.items():
                    header[name][index] = element
            else:
                header[name] = value
        return header

    def content(self) -> bytes:
        """The bytes of the file, not compressed."""
        header = self.header()
        header = header.astype(header.dtype.newbyteorder(self.order))
        voxels = self.voxels.astype(self.voxels.dtype.newbyteorder(self.order))
        return header.tobytes() + self.before + voxels.tobytes(order="F") + self.after

    def save(self, path: Path) -> Path:
        """Writes the file, compressed if its name ends in .gz."""
        content = self.content()
        path.write_bytes(gzip.compress(content, 2) if path.name.endswith(".gz") else content)
        return path
