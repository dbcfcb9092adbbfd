from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medmtl.data.adapters.openkbp import import_openkbp
from medmtl.data.adapters.openkbp_contours import STRUCTURES
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError

# Stored as the collection is: posterior, left, inferior.
AFFINE = np.array([[0, -5, 0, -20], [-5, 0, 0, 30], [0, 0, -4, 0], [0, 0, 0, 1]], dtype=float)
SHAPE = (20, 30, 24)
VOXEL_ML = 0.1
ALL = "Brainstem;SpinalCord;RightParotid;LeftParotid;Esophagus;Larynx;Mandible"
# Voxels of each organ: 20 to 60 ml.
BOXES: Mapping[int, tuple[slice, slice, slice]] = {
    1: np.s_[10:15, 12:17, 0:10],
    2: np.s_[10:15, 12:17, 10:18],
    3: np.s_[5:10, 0:5, 5:15],
    4: np.s_[5:10, 25:30, 5:15],
    5: np.s_[6:9, 12:17, 14:24],
    6: np.s_[1:5, 12:17, 10:20],
    7: np.s_[0:2, 5:25, 0:10],
}


def write_case(folder: Path, patient: str, values: Sequence[int]) -> None:
    folder.mkdir(exist_ok=True)
    organs = np.zeros(SHAPE, np.uint8)
    for value in values:
        organs[BOXES[value]] = value
    image = np.random.default_rng(0).integers(-1024, 300, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(image, AFFINE), folder / f"{patient}_ct.nii.gz")
    nib.save(nib.Nifti1Image(organs, AFFINE), folder / f"{patient}_organs.nii.gz")


def write_table(folder: Path, contoured: Mapping[str, str]) -> None:
    rows = [
        {
            "patient_id": patient,
            "ct": f"{patient}_ct.nii.gz",
            "organs": f"{patient}_organs.nii.gz",
            "contoured": organs,
        }
        for patient, organs in contoured.items()
    ]
    pd.DataFrame(rows).to_csv(folder / "cases.csv", index=False)


def change(folder: Path, row: int, **cells: str) -> None:
    table = pd.read_csv(folder / "cases.csv", dtype=str, keep_default_na=False)
    for column, value in cells.items():
        table.loc[row, column] = value
    table.to_csv(folder / "cases.csv", index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kbp"
    write_case(folder, "KBP-2", [1, 2])
    write_case(folder, "KBP-1", range(1, 8))
    write_table(folder, {"KBP-2": "SpinalCord;Brainstem", "KBP-1": ALL})
    return folder


def test_an_imported_folder_is_sound_and_read_back_the_same(folder: Path, tmp_path: Path) -> None:
    manifest = import_openkbp(folder, tmp_path / "out" / "kbp")
    assert check_manifest(manifest) == []
    assert read_manifest(tmp_path / "out" / "kbp") == manifest
    assert manifest.card.data_root == "../../kbp"
    assert [scan.scan_id for scan in manifest.scans] == ["KBP-1", "KBP-2"]
    assert manifest.lesions == ()
    assert "Left out" not in manifest.card.description


def test_an_organ_that_is_not_listed_was_not_drawn(folder: Path, tmp_path: Path) -> None:
    manifest = import_openkbp(folder, tmp_path / "out")
    assert manifest.scan("KBP-1").annotated == frozenset(STRUCTURES)
    assert manifest.scan("KBP-2").annotated == {"brainstem", "spinal_cord"}


def test_each_structure_has_the_value_and_the_side_of_its_voxels(
    folder: Path, tmp_path: Path
) -> None:
    manifest = import_openkbp(folder, tmp_path / "out")
    scan = manifest.scan("KBP-1")
    assert scan.organ_mask is not None
    image = nib.load(manifest.resolve(scan.organ_mask))
    voxels = np.asarray(image.dataobj)
    centre_mm = {
        name: nib.affines.apply_affine(image.affine, np.argwhere(voxels == value)).mean(0)
        for name, value in manifest.card.structures.items()
    }
    ((left, right),) = manifest.card.left_right_pairs
    assert (left, right) == ("left_parotid", "right_parotid")
    assert centre_mm[left][0] < centre_mm["spinal_cord"][0] < centre_mm[right][0]  # RAS
    assert centre_mm["brainstem"][2] > centre_mm["spinal_cord"][2]
    assert centre_mm["mandible"][1] > centre_mm["brainstem"][1]


@pytest.mark.parametrize(
    ("voxels", "is_kept"), [(0, False), (19, False), (21, True), (999, True), (1001, False)]
)
def test_a_contour_of_an_impossible_size_counts_as_not_drawn_and_is_named(
    folder: Path, tmp_path: Path, voxels: int, is_kept: bool
) -> None:
    organs = np.zeros(SHAPE, np.uint8)
    organs.reshape(-1)[:voxels] = 2  # a cord of usually 20 ml, or 200 voxels
    organs[BOXES[4]] = 4
    nib.save(nib.Nifti1Image(organs, AFFINE), folder / "KBP-2_organs.nii.gz")
    change(folder, 0, contoured="SpinalCord;LeftParotid")
    manifest = import_openkbp(folder, tmp_path / "out")
    assert ("spinal_cord" in manifest.scan("KBP-2").annotated) == is_kept
    assert "left_parotid" in manifest.scan("KBP-2").annotated
    named = f"KBP-2 spinal_cord ({voxels * VOXEL_ML:.2f} ml)"
    assert (named in manifest.card.description) != is_kept
    assert check_manifest(manifest) == []


@pytest.mark.parametrize(("bare_faces", "is_kept"), [(1, True), (3, False), (6, False)])
def test_a_contour_that_the_stored_voxels_draw_counts_as_not_drawn(
    folder: Path, tmp_path: Path, bare_faces: int, is_kept: bool
) -> None:
    image = np.zeros(SHAPE, np.int16)
    image[0, 0, 0] = 100
    box = np.s_[8:14, 10:16, 8:14]
    faces = [(7, box[1], box[2]), (14, box[1], box[2]), (box[0], 9, box[2])]
    faces += [(box[0], 16, box[2]), (box[0], box[1], 7), (box[0], box[1], 14)]
    for face in faces[:bare_faces]:
        image[face] = -1024
    organs = np.zeros(SHAPE, np.uint8)
    organs[box] = 2
    nib.save(nib.Nifti1Image(image, AFFINE), folder / "KBP-2_ct.nii.gz")
    nib.save(nib.Nifti1Image(organs, AFFINE), folder / "KBP-2_organs.nii.gz")
    change(folder, 0, contoured="SpinalCord")
    manifest = import_openkbp(folder, tmp_path / "out")
    assert ("spinal_cord" in manifest.scan("KBP-2").annotated) == is_kept
    share = f"KBP-2 spinal_cord ({100 * bare_faces / 6:.0f} % around it not stored)"
    assert (share in manifest.card.description) != is_kept


def test_a_label_map_on_another_grid_is_refused(folder: Path, tmp_path: Path) -> None:
    organs = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), AFFINE)
    nib.save(organs, folder / "KBP-2_organs.nii.gz")
    with pytest.raises(ManifestError, match=r"KBP-2_organs\.nii\.gz: the mask has \(4, 4, 4\)"):
        import_openkbp(folder, tmp_path / "out")


def test_a_held_back_set_without_contours_is_imported(folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "cases.csv").drop(columns=["organs", "contoured"])
    table.to_csv(folder / "cases.csv", index=False)
    manifest = import_openkbp(folder, tmp_path / "out")
    assert check_manifest(manifest) == []
    assert all(not scan.annotated and scan.organ_mask is None for scan in manifest.scans)


def test_what_was_excluded_by_hand_stays_excluded(folder: Path, tmp_path: Path) -> None:
    import_openkbp(folder, tmp_path / "out")
    card = tmp_path / "out" / "card.yaml"
    excluded = "exclusions:\n- id: KBP-2\n  reason: metal\n"
    card.write_text(card.read_text().replace("exclusions: []\n", excluded))
    (exclusion,) = import_openkbp(folder, tmp_path / "out").card.exclusions
    assert (exclusion.id, exclusion.reason) == ("KBP-2", "metal")


def test_everything_wrong_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    change(folder, 0, contoured="SpinalCord;Spleen")
    change(folder, 1, ct="none.nii.gz")
    with pytest.raises(ManifestError) as caught:
        import_openkbp(folder, tmp_path / "out")
    for text in (
        "row 2: contoured: Spleen; allowed: Brainstem",
        "row 2: organs: the file holds 25.00 ml of brainstem, which 'contoured' does not list",
        "row 3: ct: the file 'none.nii.gz' is missing",
    ):
        assert text in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_row_that_contradicts_itself_is_refused(folder: Path, tmp_path: Path) -> None:
    change(folder, 0, organs="")
    with pytest.raises(ManifestError, match="row 2: contoured: lists organs, but"):
        import_openkbp(folder, tmp_path / "out")
    change(folder, 0, organs="KBP-2_organs.nii.gz", patient_id="KBP-1")
    with pytest.raises(ManifestError, match="patient_id: KBP-1 is also in row"):
        import_openkbp(folder, tmp_path / "out")
    change(folder, 0, patient_id="KBP-2")
    (folder / "KBP-2_organs.nii.gz").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"KBP-2_organs\.nii\.gz: the file is empty"):
        import_openkbp(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("ct", "lacks the columns ct"),
        ("patient_id", "lacks the columns patient_id"),
        ("contoured", "need each other"),
        ("organs", "need each other"),
    ],
)
def test_a_table_that_lacks_columns_is_refused(
    folder: Path, tmp_path: Path, column: str, message: str
) -> None:
    table = pd.read_csv(folder / "cases.csv").drop(columns=[column])
    table.to_csv(folder / "cases.csv", index=False)
    with pytest.raises(ManifestError, match=message):
        import_openkbp(folder, tmp_path / "out")


def test_a_folder_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cases\.csv"):
        import_openkbp(tmp_path, tmp_path / "out")
