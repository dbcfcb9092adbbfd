"""Writes one synthetic scan, and remembers that it is whole."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Shaped

from medmtl.data.phantom.dicom_series import write_series
from medmtl.data.phantom.missing import CLASSES, EVERYTHING, MASKS, ORGANS
from medmtl.data.phantom.patient import PhantomScan, make_patient
from medmtl.data.phantom.tissue import STRUCTURES
from medmtl.run_folder import write_json, write_whole

LESION_STRUCTURE = "nodule"


@dataclass(frozen=True, kw_only=True)
class ScanJob:
    """One scan to be made.

    Attributes:
        out: The cohort's folder.
        seed: Of the cohort.
        number: Of the patient, from 1.
        lacking: What the scan comes without.
        dicom: Whether it is written as a DICOM series,
        nifti: and whether as NIfTI.
    """

    out: Path
    seed: int
    number: int
    lacking: frozenset[str]
    dicom: bool
    nifti: bool

    @property
    def scan_id(self) -> str:
        """The pseudonym of patient and scan."""
        return f"PHANTOM-{self.number:04d}"

    @property
    def image(self) -> str:
        """What the manifest names."""
        return f"images/{self.scan_id}.nii.gz" if self.nifti else f"dicom/{self.scan_id}"

    @property
    def record(self) -> Path:
        """Written last: what the tables say of the scan."""
        return self.out / "made" / f"{self.scan_id}.json"

    @property
    def annotated(self) -> list[str]:
        """The structures that are drawn."""
        if EVERYTHING in self.lacking:
            return []
        organs = [] if ORGANS in self.lacking else [*STRUCTURES]
        drawn = [name for name in organs if name not in self.lacking]
        return drawn if MASKS in self.lacking else [*drawn, LESION_STRUCTURE]


def make_scan(job: ScanJob) -> str:
    """Makes a scan and writes its files, the record last.

    Returns:
        The scan's id.

    Raises:
        RunError: A file cannot be written.
    """
    scan = make_patient(job.seed, job.number)
    files, organ_mask = [job.image], None
    if job.nifti:
        _write_nifti(job.out / job.image, scan.voxels, scan.affine)
    drawn = [name for name in job.annotated if name in STRUCTURES]
    if drawn:
        organ_mask = f"organs/{job.scan_id}.nii.gz"
        files.append(organ_mask)
        kept = np.zeros(256, dtype=np.uint8)
        for name in drawn:
            kept[STRUCTURES[name]] = STRUCTURES[name]
        _write_nifti(job.out / organ_mask, kept[scan.organs], scan.affine)
    lesions = [] if EVERYTHING in job.lacking else _write_lesions(job, scan)
    files += [lesion["mask"] for lesion in lesions if lesion["mask"]]
    if job.dicom:
        files.append(f"dicom/{job.scan_id}")
        write_series(job.out / files[-1], scan, patient_id=job.scan_id, seed=job.seed)
    content = {"files": files, "organ_mask": organ_mask, "lesions": lesions}
    write_json(job.record, content)
    return job.scan_id


def read_record(job: ScanJob) -> dict[str, Any] | None:
    """Reads what the tables say of a scan; None if it is not yet whole on the disk."""
    try:
        record = json.loads(job.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    whole = all((job.out / file).exists() for file in record["files"])
    return record if whole else None


def _write_lesions(job: ScanJob, scan: PhantomScan) -> list[dict[str, Any]]:
    """Writes the masks; returns the rows of the table."""
    rows = []
    for count, each in enumerate(scan.nodules, start=1):
        lesion_id = f"{job.scan_id}-{count}"
        mask = None
        if MASKS not in job.lacking:
            mask = f"masks/{lesion_id}.nii.gz"
            voxels = np.zeros(scan.voxels.shape, dtype=np.uint8)
            voxels[each.box] = each.body
            _write_nifti(job.out / mask, voxels, scan.affine)
        label = None if CLASSES in job.lacking else each.nodule.malignant
        rows.append(
            {
                "lesion_id": lesion_id,
                "position_mm": [round(place, 2) for place in each.position_mm],
                "diameter_mm": round(each.nodule.diameter_mm, 2),
                "mask": mask,
                "labels": {"malignant": label},
                "measurements": {
                    name: round(value, 3) for name, value in each.nodule.measurements.items()
                },
            }
        )
    return rows


def _write_nifti(
    path: Path, voxels: Shaped[np.ndarray, "k j i"], affine: Float64[np.ndarray, "4 4"]
) -> None:
    """Writes voxels with the same bytes each time, packed fast rather than small."""
    header = nib.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape[::-1])
    header.set_xyzt_units("mm")
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.set_slope_inter(1, 0)
    # i runs fastest in a NIfTI file, as the last axis does in memory.
    content = header.binaryblock + bytes(4) + np.ascontiguousarray(voxels).tobytes()
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)  # 31: gzip, which so has no time of day
    packed = packer.compress(content) + packer.flush()
    write_whole(path, lambda aside: aside.write_bytes(packed))
