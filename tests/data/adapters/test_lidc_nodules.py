from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmtl.data.adapters.lidc_nodules import import_lidc_nodules
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError
from tests.synthetic import nodules, write_lidc_nodules

PATIENTS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lidc_nodules(tmp_path / "lidc", patients=PATIENTS, side=10)
    return tmp_path / "lidc"


def change(folder: Path, row: int, **cells: object) -> None:
    table = pd.read_csv(folder / "nodules.csv", dtype=str, keep_default_na=False)
    for column, value in cells.items():
        table.loc[row, column] = str(value)
    table.to_csv(folder / "nodules.csv", index=False)


def test_an_imported_folder_is_sound_and_read_back_the_same(folder: Path, tmp_path: Path) -> None:
    manifest = import_lidc_nodules(folder, tmp_path / "out" / "lidc")
    assert check_manifest(manifest) == []
    again = read_manifest(tmp_path / "out" / "lidc")
    assert again == manifest
    assert again.card.data_root == "../../lidc"


def test_positions_come_to_lie_in_the_patient(folder: Path, tmp_path: Path) -> None:
    manifest = import_lidc_nodules(folder, tmp_path / "out")
    made = {nodule.name: nodule for nodule in nodules(patients=PATIENTS, side=10)}
    assert {lesion.lesion_id for lesion in manifest.lesions} == made.keys()
    for lesion in manifest.lesions:
        assert lesion.position_mm is not None
        np.testing.assert_allclose(lesion.position_mm, made[lesion.lesion_id].position_mm)
        assert lesion.labels["malignant"] == made[lesion.lesion_id].malignant
        assert lesion.measurements["internalstructure"] == 1


def test_the_label_says_that_it_is_opinion(folder: Path, tmp_path: Path) -> None:
    label = import_lidc_nodules(folder, tmp_path / "out").card.labels["malignant"]
    assert label.classes == ["benign", "malignant"]
    assert "not pathology" in label.reference_standard


def test_series_uids_are_not_kept_whatever_the_order_of_the_rows(
    folder: Path, tmp_path: Path
) -> None:
    change(folder, 0, seriesuid="1.2.840.9")
    series = {s.scan_id: s.series_id for s in import_lidc_nodules(folder, tmp_path / "a").scans}
    assert series["SYN-0001_01"] == "SYN-0001_series-1"
    assert series["SYN-0001_02"] == "SYN-0001_series-2"
    assert series["SYN-0002_01"] == "SYN-0002_series-1"
    written = "".join(file.read_text() for file in (tmp_path / "a").iterdir())
    assert "1.2.840.9" not in written
    table = pd.read_csv(folder / "nodules.csv", dtype=str)
    table[::-1].to_csv(folder / "nodules.csv", index=False)
    import_lidc_nodules(folder, tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_held_back_set_without_labels_is_imported(tmp_path: Path) -> None:
    write_lidc_nodules(tmp_path / "lidc", patients=2, side=10, labelled=False)
    table = pd.read_csv(tmp_path / "lidc" / "nodules.csv").drop(columns=["seriesuid", "nodule_id"])
    table.to_csv(tmp_path / "lidc" / "nodules.csv", index=False)
    manifest = import_lidc_nodules(tmp_path / "lidc", tmp_path / "out")
    assert read_manifest(tmp_path / "out") == manifest
    assert check_manifest(manifest) == []
    assert all(scan.annotated == frozenset() and not scan.series_id for scan in manifest.scans)
    assert all(lesion.labels == {"malignant": None} for lesion in manifest.lesions)


def test_a_mask_may_be_missing_from_a_row(folder: Path, tmp_path: Path) -> None:
    change(folder, 0, mask="", malignant="", diameter_mm="")
    manifest = import_lidc_nodules(folder, tmp_path / "out")
    assert manifest.lesions[0].mask is None
    assert manifest.lesions[0].labels["malignant"] is None
    assert manifest.scans[0].annotated == frozenset()
    assert manifest.scans[1].annotated == frozenset({"nodule"})


def test_a_position_outside_its_file_is_excluded_with_a_reason(
    folder: Path, tmp_path: Path
) -> None:
    change(folder, 1, coordZ=5000)
    manifest = import_lidc_nodules(folder, tmp_path / "out")
    (exclusion,) = manifest.card.exclusions
    assert exclusion.id == "SYN-0001_02"
    assert "mm outside its file" in exclusion.reason
    assert check_manifest(manifest) == []


def test_everything_wrong_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    change(folder, 0, malignant=2)
    change(folder, 1, coordX="")
    change(folder, 2, image="images/none.nii.gz")
    change(folder, 3, diameter_mm="large", mask="../masks/x.nii.gz")
    (folder / "images" / "SYN-0004_01.nii.gz").write_bytes(b"")
    with pytest.raises(ManifestError) as caught:
        import_lidc_nodules(folder, tmp_path / "out")
    for text in (
        "row 2: malignant: got 2", "row 3: a nodule needs", "row 4: image: the file",
        "row 5: diameter_mm: 'large'", "row 5: mask: the file must lie", "(0 bytes)",
    ):  # fmt: skip
        assert text in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_one_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nodules\.csv"):
        import_lidc_nodules(tmp_path, tmp_path / "out")
    table = pd.read_csv(folder / "nodules.csv").drop(columns=["coordY"])
    table.to_csv(folder / "nodules.csv", index=False)
    with pytest.raises(ManifestError, match="lacks the columns coordY"):
        import_lidc_nodules(folder, tmp_path / "out")
