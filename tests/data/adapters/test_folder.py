from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from medmtl.data.adapters.folder import import_folder
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError
from tests.synthetic import STRUCTURES, write_cohort

CARD = {
    "name": "ours",
    "lesion_structure": "nodule",
    "labels": {"malignant": {"classes": ["benign", "malignant"], "reference_standard": "biopsy"}},
    "measurements": {"subtlety": "1 to 5"},
    "structures": STRUCTURES,
}


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    manifest = write_cohort(tmp_path, patients=3, side=10, organs=True)
    rows = []
    for scan, lesion in zip(manifest.scans, manifest.lesions, strict=True):
        x, y, z = lesion.position_mm or (0.0, 0.0, 0.0)
        rows.append(
            {
                "patient_id": scan.patient_id, "image": scan.image,
                "organ_mask": scan.organ_mask, "annotated": "right_side; left_side",
                "x_mm": x, "y_mm": y, "z_mm": z, "diameter_mm": lesion.diameter_mm,
                "mask": lesion.mask, "malignant": lesion.labels["malignant"], "subtlety": 2.5,
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype(object)


def write(tmp_path: Path, table: pd.DataFrame, card: object = CARD) -> tuple[Path, Path]:
    path = tmp_path / "data" / "ours.csv"
    table.to_csv(path, index=False)
    card_path = tmp_path / "card.yaml"
    card_path.write_text(yaml.safe_dump(card))
    return path, card_path


def refused(tmp_path: Path, table: pd.DataFrame, card: object = CARD) -> str:
    path, card_path = write(tmp_path, table, card)
    with pytest.raises(ManifestError) as caught:
        import_folder(path, tmp_path / "out", card=card_path)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_a_users_table_becomes_a_sound_manifest(tmp_path: Path, table: pd.DataFrame) -> None:
    path, card = write(tmp_path, table)
    manifest = import_folder(path, tmp_path / "out", card=card)
    assert check_manifest(manifest) == []
    assert read_manifest(tmp_path / "out") == manifest
    assert manifest.data_root == (tmp_path / "data").resolve()
    assert manifest.scans[0].scan_id == manifest.lesions[0].lesion_id == "SYN-0001_01"
    assert manifest.scans[0].annotated == {"nodule", "right_side", "left_side"}


def test_only_patient_and_image_are_needed(tmp_path: Path, table: pd.DataFrame) -> None:
    path, card = write(tmp_path, table[["patient_id", "image"]], {"name": "ours"})
    manifest = import_folder(path, tmp_path / "out", card=card)
    assert check_manifest(manifest) == []
    assert len(manifest.scans) == 4
    assert manifest.lesions == ()


def test_positions_in_lps_are_turned(tmp_path: Path, table: pd.DataFrame) -> None:
    path, card = write(tmp_path, table)
    ras = import_folder(path, tmp_path / "out", card=card)
    table[["x_mm", "y_mm"]] = -table[["x_mm", "y_mm"]]
    names = {"x_mm": "x_lps_mm", "y_mm": "y_lps_mm", "z_mm": "z_lps_mm"}
    path, card = write(tmp_path, table.rename(columns=names))
    lps = import_folder(path, tmp_path / "out", card=card)
    for one, other in zip(ras.lesions, lps.lesions, strict=True):
        assert one.position_mm is not None
        assert other.position_mm is not None
        np.testing.assert_allclose(one.position_mm, other.position_mm)


def test_rows_of_one_image_are_one_scan_with_several_lesions(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    path, card = write(tmp_path, pd.concat([table.iloc[[0, 0]], table.iloc[1:]]))
    manifest = import_folder(path, tmp_path / "out", card=card)
    assert len(manifest.scans) == 4
    names = [lesion.lesion_id for lesion in manifest.lesions]
    assert names[:3] == ["SYN-0001_01_01", "SYN-0001_01_02", "SYN-0001_02"]
    assert check_manifest(manifest) == []


def test_classes_may_be_given_by_name_or_number(tmp_path: Path, table: pd.DataFrame) -> None:
    table["malignant"] = ["malignant", "0", "1.0", ""]
    path, card = write(tmp_path, table)
    manifest = import_folder(path, tmp_path / "out", card=card)
    assert [lesion.labels["malignant"] for lesion in manifest.lesions] == [1, 0, 1, None]


def test_classes_named_by_numbers_are_read_as_names(tmp_path: Path, table: pd.DataFrame) -> None:
    label = {"classes": ["1", "2", "3"], "reference_standard": "two readers"}
    table["malignant"] = ["1", "2", "3", "2"]
    path, card = write(tmp_path, table, {**CARD, "labels": {"malignant": label}})
    manifest = import_folder(path, tmp_path / "out", card=card)
    assert [lesion.labels["malignant"] for lesion in manifest.lesions] == [0, 1, 2, 1]


def test_a_number_is_no_class_where_classes_are_named_by_numbers(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    label = {"classes": ["1", "2", "3"], "reference_standard": "two readers"}
    table["malignant"] = ["0", "1", "2", "3"]
    message = refused(tmp_path, table, {**CARD, "labels": {"malignant": label}})
    assert "row 2: malignant: got '0'" in message


def test_without_a_card_a_template_is_written_and_the_import_refused(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    table["site"] = "here"
    path, _ = write(tmp_path, table)
    with pytest.raises(ManifestError, match="reference standards"):
        import_folder(path, tmp_path / "out")
    template = path.with_name("ours.card.yaml")
    content = yaml.safe_load(template.read_text())
    assert content["labels"]["malignant"]["reference_standard"] == ""
    assert content["measurements"] == {"subtlety": ""}
    assert content["ignore"] == ["site"]
    with pytest.raises(ManifestError, match="reference_standard"):
        import_folder(path, tmp_path / "out", card=template)
    content["labels"]["malignant"]["reference_standard"] = "biopsy"
    content["structures"] = STRUCTURES
    template.write_text(yaml.safe_dump(content))
    manifest = import_folder(path, tmp_path / "out", card=template)
    assert check_manifest(manifest) == []
    assert "here" not in (tmp_path / "out" / "lesions.csv").read_text()


def test_a_template_never_overwrites_a_card(tmp_path: Path, table: pd.DataFrame) -> None:
    path, _ = write(tmp_path, table)
    mine = path.with_name("ours.card.yaml")
    mine.write_text("name: mine\n")
    with pytest.raises(ManifestError):
        import_folder(path, tmp_path / "out")
    assert mine.read_text() == "name: mine\n"


def test_a_label_whose_standard_is_blank_is_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    label = {"classes": ["a", "b"], "reference_standard": "  "}
    message = refused(tmp_path, table, {**CARD, "labels": {"malignant": label}})
    assert "reference_standard" in message


def test_mistakes_are_told_together_with_their_rows(tmp_path: Path, table: pd.DataFrame) -> None:
    table.loc[0, "malignant"] = "perhaps"
    table.loc[1, "y_mm"] = ""
    table.loc[2, "image"] = "images/none.nii.gz"
    table.loc[3, "diameter_mm"] = "nan cm"
    table.loc[3, "mask"] = "../out.nii.gz"
    table.loc[3, "patient_id"] = ""
    message = refused(tmp_path, table)
    for text in (
        "6 faults", "row 2: malignant: got 'perhaps'", "row 3: a position needs",
        "row 4: image: the file", "row 5: diameter_mm", "row 5: mask", "'patient_id' is empty",
    ):  # fmt: skip
        assert text in message


def test_columns_that_disagree_with_the_card_are_told(tmp_path: Path, table: pd.DataFrame) -> None:
    renamed = table.rename(columns={"subtlety": "subtelty", "annotated": "anotated"})
    message = refused(tmp_path, renamed.drop(columns=["z_mm"]))
    for text in ("'subtelty' is not known", "'subtlety', but", "lacks z_mm", "not annotated"):
        assert text in message


def test_ras_and_lps_together_are_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    for column in "xyz":
        table[f"{column}_lps_mm"] = 0.0
    assert "keep one" in refused(tmp_path, table)


def test_rows_of_one_image_must_agree(tmp_path: Path, table: pd.DataFrame) -> None:
    doubled = pd.concat([table, table.iloc[[0]]], ignore_index=True)
    doubled.loc[4, "patient_id"] = "SYN-0009"
    assert "row 6: patient_id differs from row 2" in refused(tmp_path, doubled)


def test_two_images_of_one_name_need_a_scan_id(tmp_path: Path, table: pd.DataFrame) -> None:
    other = tmp_path / "data" / "other" / "SYN-0001_01.nii.gz"
    other.parent.mkdir()
    other.write_bytes((tmp_path / "data" / table.loc[1, "image"]).read_bytes())
    table.loc[1, "image"] = "other/SYN-0001_01.nii.gz"
    assert "row 3: its scan_id is that of row 2" in refused(tmp_path, table)


@pytest.mark.parametrize("card", [None, [], {"name": "x", "data_root": "."}, {"nam": "x"}])
def test_a_card_that_is_none_is_refused(tmp_path: Path, table: pd.DataFrame, card: object) -> None:
    assert refused(tmp_path, table, card).startswith("card.yaml: ")
