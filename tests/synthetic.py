"""Small synthetic cohorts on disk: noise lungs with nodules whose class can be seen.

Malignant nodules are solid (50 HU), benign ones are not (-450 HU); spiculated nodules have
three spikes. Size says little about the class. Grids, spacings and storage orientations
differ between scans. The same seed makes the same files, voxel for voxel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from medmtl.data.geometry import voxel_to_world
from medmtl.data.manifest import DataCard, Label, Lesion, Manifest, Scan
from medmtl.data.manifest_files import write_manifest

ORIENTATIONS = ("LPS", "RAS", "LPS", "PIR")
STRUCTURES = {"right_side": 1, "left_side": 2}
AIR_HU, SOLID_HU, GROUND_GLASS_HU = -850, 50, -450


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """One synthetic crop around one nodule, voxels in RAS order."""

    patient_id: str
    number: int
    series: int
    image: nib.Nifti1Image
    mask: nib.Nifti1Image
    organs: nib.Nifti1Image
    position_mm: tuple[float, float, float]
    diameter_mm: float
    malignant: int
    spiculated: int

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return f"{self.patient_id}_{self.number:02d}"


def nodules(*, patients: int, seed: int = 0, side: int = 20) -> Iterator[Nodule]:
    """Makes the nodules of a cohort; every third patient has two, of both classes.

    Args:
        patients: How many patients.
        seed: The same seed gives the same voxels.
        side: About how many voxels a scan is wide.
    """
    generator = np.random.default_rng(seed)
    orientations = cycle(ORIENTATIONS)
    for patient in range(patients):
        for number in range(1, 3 if patient % 3 == 0 else 2):
            yield _nodule(
                generator,
                patient_id=f"SYN-{patient + 1:04d}",
                number=number,
                malignant=(patient + number) % 2,
                spiculated=(patient // 2 + number) % 2,
                side=side,
                orientation=next(orientations),
            )


def _nodule(
    generator: np.random.Generator,
    *,
    patient_id: str,
    number: int,
    malignant: int,
    spiculated: int,
    side: int,
    orientation: str,
) -> Nodule:
    sides = generator.integers(side - 2, side + 3, size=3)
    shape = (int(sides[0]), int(sides[1]), int(sides[2]))
    spacing_mm = np.array([*[generator.uniform(0.7, 1.1)] * 2, generator.uniform(0.8, 1.6)])
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = generator.uniform(-120, 120, size=3)
    centre = (np.array(shape) - 1) / 2 + generator.uniform(-1.5, 1.5, size=3)
    diameter_mm = float(generator.uniform(6, 9) + malignant)
    offset_mm = (np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing_mm
    ball = np.linalg.norm(offset_mm, axis=-1) <= diameter_mm / 2
    away_mm = np.sort(np.abs(offset_mm), axis=-1)
    spikes = (away_mm[..., 1] <= 0.8) & (away_mm[..., 2] <= 0.9 * diameter_mm)
    x_mm, y_mm, z_mm = voxel_to_world(affine, centre).tolist()
    mask = ball | (spikes & bool(spiculated))
    voxels = generator.normal(AIR_HU, 30, size=shape)
    voxels[mask] += (SOLID_HU if malignant else GROUND_GLASS_HU) - AIR_HU
    organs = np.where(np.indices(shape)[0] < shape[0] // 2, 2, 1)  # RAS: x grows to the right
    return Nodule(
        patient_id=patient_id,
        number=number,
        series=1,
        image=_stored(voxels.round().astype(np.int16), affine, orientation),
        mask=_stored(mask.astype(np.uint8), affine, orientation),
        organs=_stored(organs.astype(np.uint8), affine, orientation),
        position_mm=(x_mm, y_mm, z_mm),
        diameter_mm=diameter_mm,
        malignant=malignant,
        spiculated=spiculated,
    )


def _stored(voxels: np.ndarray, affine: np.ndarray, orientation: str) -> nib.Nifti1Image:
    """The same image stored in another orientation."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    axes = nib.orientations.axcodes2ornt(tuple(orientation))
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), axes))


def write_lidc_nodules(
    folder: Path,
    *,
    patients: int,
    seed: int = 0,
    side: int = 20,
    labelled: bool = True,
) -> pd.DataFrame:
    """Writes a cohort in the lidc-nodules layout: images/, masks/ and nodules.csv (LPS mm).

    Args:
        folder: Where; it is made.
        patients: How many patients; every third one has two nodules.
        seed: The same seed gives the same files.
        side: About how many voxels a scan is wide.
        labelled: False leaves out masks, diameters and every reader's column.

    Returns:
        The table as written.
    """
    cohort = nodules(patients=patients, seed=seed, side=side)
    table = pd.DataFrame([_write_nodule(folder, nodule, labelled=labelled) for nodule in cohort])
    table.to_csv(folder / "nodules.csv", index=False)
    return table


def _write_nodule(folder: Path, nodule: Nodule, *, labelled: bool) -> dict[str, object]:
    image, mask = f"images/{nodule.name}.nii.gz", f"masks/{nodule.name}.nii.gz"
    _save(nodule.image, folder / image)
    x, y, z = nodule.position_mm
    row: dict[str, object] = {
        "patient_id": nodule.patient_id,
        "nodule_id": nodule.number,
        "seriesuid": f"1.2.3.{nodule.patient_id[-4:]}.{nodule.series}",
        "coordX": -x,
        "coordY": -y,
        "coordZ": z,
        "image": image,
    }
    if not labelled:
        return row
    _save(nodule.mask, folder / mask)
    return row | {
        "diameter_mm": nodule.diameter_mm,
        "malignant": nodule.malignant,
        "malignancy": 5 if nodule.malignant else 2,
        "spiculation": 4 if nodule.spiculated else 1,
        "internalstructure": 1,
        "n_readers": 4,
        "mask": mask,
    }


def write_cohort(
    folder: Path,
    *,
    patients: int,
    seed: int = 0,
    side: int = 20,
    organs: bool = False,
) -> Manifest:
    """Writes a cohort with a manifest in `folder/manifest` and its files in `folder/data`.

    Labels: `malignant` (known everywhere) and `spiculated` (unknown for every fourth lesion);
    both are visible in the image. A measurement: `subtlety`.

    Args:
        folder: Where; it is made.
        patients: How many patients; every third one has two scans of one series.
        seed: The same seed gives the same files.
        side: About how many voxels a scan is wide.
        organs: Adds an organ label map of two structures; `left_side` was not drawn, so is
            not annotated, on every third scan.
    """
    scans, lesions = [], []
    for index, nodule in enumerate(nodules(patients=patients, seed=seed, side=side)):
        scan = _write_scan(folder / "data", nodule, organs=organs, partial=index % 3 == 2)
        scans.append(replace(scan, row=index + 2))
        lesions.append(_lesion(nodule, index))
    manifest = Manifest(
        folder=(folder / "manifest").resolve(),
        card=_card(organs=organs),
        scans=tuple(scans),
        lesions=tuple(lesions),
    )
    write_manifest(manifest)
    return manifest


def _lesion(nodule: Nodule, index: int) -> Lesion:
    return Lesion(
        lesion_id=nodule.name,
        scan_id=nodule.name,
        position_mm=nodule.position_mm,
        diameter_mm=nodule.diameter_mm,
        mask=f"masks/{nodule.name}.nii.gz",
        labels={
            "malignant": nodule.malignant,
            "spiculated": None if index % 4 == 3 else nodule.spiculated,
        },
        measurements={"subtlety": float(3 + nodule.malignant)},
        row=index + 2,
    )


def _write_scan(data: Path, nodule: Nodule, *, organs: bool, partial: bool) -> Scan:
    _save(nodule.image, data / "images" / f"{nodule.name}.nii.gz")
    _save(nodule.mask, data / "masks" / f"{nodule.name}.nii.gz")
    drawn = {"nodule"}
    organ_mask = None
    if organs:
        organ_mask = f"organs/{nodule.name}.nii.gz"
        voxels = np.asanyarray(nodule.organs.dataobj).copy()
        drawn |= set(STRUCTURES)
        if partial:
            voxels[voxels == STRUCTURES["left_side"]] = 0
            drawn -= {"left_side"}
        _save(nib.Nifti1Image(voxels, None, nodule.organs.header), data / organ_mask)
    return Scan(
        scan_id=nodule.name,
        patient_id=nodule.patient_id,
        series_id=f"{nodule.patient_id}_series-{nodule.series}",
        image=f"images/{nodule.name}.nii.gz",
        organ_mask=organ_mask,
        annotated=frozenset(drawn),
    )


def _card(*, organs: bool) -> DataCard:
    return DataCard(
        name="synthetic nodules",
        description="Noise with balls in it; no patient was ever seen.",
        body_region="chest",
        data_root="../data",
        licence="Apache-2.0",
        provenance="tests/synthetic.py",
        lesion_structure="nodule",
        lesion_mask_reference_standard="known by construction",
        structures=STRUCTURES if organs else {},
        organ_mask_reference_standard="known by construction" if organs else "",
        labels={
            "malignant": Label(
                classes=["benign", "malignant"], reference_standard="known by construction"
            ),
            "spiculated": Label(
                classes=["smooth", "spiculated"], reference_standard="known by construction"
            ),
        },
        measurements={"subtlety": "how plainly it is seen, 1 to 5"},
    )


def _save(image: nib.Nifti1Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
