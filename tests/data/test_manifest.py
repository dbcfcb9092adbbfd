import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from medmtl.data.manifest import Exclusion, Manifest
from medmtl.data.manifest_files import parse_card, read_manifest, write_manifest
from medmtl.errors import ManifestError
from tests.synthetic import write_cohort


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_cohort(tmp_path, patients=4, side=8, organs=True)


def rewrite(manifest: Manifest, name: str, old: str, new: str, count: int = -1) -> None:
    path = manifest.folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def set_cell(manifest: Manifest, name: str, row: int, column: str, value: str) -> None:
    path = manifest.folder / name
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    read = read_manifest(manifest.folder)
    assert read == manifest
    assert [lesion.position_mm for lesion in read.lesions] == [
        lesion.position_mm for lesion in manifest.lesions
    ]


@pytest.mark.parametrize("name", ["card.yaml", "scans.csv", "lesions.csv"])
def test_any_file_of_a_manifest_leads_to_it(manifest: Manifest, name: str) -> None:
    assert read_manifest(manifest.folder / name) == manifest


def test_writing_again_gives_the_same_bytes(manifest: Manifest) -> None:
    before = {path.name: path.read_bytes() for path in manifest.folder.iterdir()}
    write_manifest(read_manifest(manifest.folder))
    assert {path.name: path.read_bytes() for path in manifest.folder.iterdir()} == before


def test_a_scan_without_lesions_and_lesions_without_anything_survive(manifest: Manifest) -> None:
    bare = [
        replace(each, diameter_mm=None, mask=None, position_mm=None,
                labels=dict.fromkeys(each.labels), measurements=dict.fromkeys(each.measurements))
        for each in manifest.lesions[:-1]
    ]  # fmt: skip
    poorer = replace(manifest, lesions=tuple(bare))
    write_manifest(poorer)
    assert read_manifest(poorer.folder) == poorer
    assert read_manifest(poorer.folder).lesions_of(manifest.lesions[-1].scan_id) == []


def test_no_lesion_at_all_can_be_written_and_read(manifest: Manifest) -> None:
    empty = replace(manifest, lesions=())
    write_manifest(empty)
    assert read_manifest(empty.folder) == empty


@pytest.mark.parametrize("name", ["card.yaml", "scans.csv", "lesions.csv"])
def test_a_missing_file_is_named(manifest: Manifest, name: str) -> None:
    (manifest.folder / name).unlink()
    with pytest.raises(ManifestError, match=f"{name} is missing"):
        read_manifest(manifest.folder)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a manifest"):
        read_manifest(tmp_path / "nothing" / "here")


@pytest.mark.parametrize(
    ("name", "column"),
    [("scans.csv", "patient_id"), ("lesions.csv", "y_mm"), ("lesions.csv", "mask")],
)
def test_a_missing_column_is_named(manifest: Manifest, name: str, column: str) -> None:
    table = pd.read_csv(manifest.folder / name, dtype=str).drop(columns=column)
    table.to_csv(manifest.folder / name, index=False)
    with pytest.raises(ManifestError, match=rf"{name}.*{column}"):
        read_manifest(manifest.folder)


@pytest.mark.parametrize("column", ["malignant", "spiculated", "subtlety"])
def test_a_declared_label_or_measurement_without_a_column_is_refused(
    manifest: Manifest, column: str
) -> None:
    rewrite(manifest, "lesions.csv", column, f"{column}_misspelt", 1)
    with pytest.raises(ManifestError, match=rf"lesions.csv.*\b{column}\b"):
        read_manifest(manifest.folder)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("x_mm", "twelve", "not a number"),
        ("x_mm", "1,5", "not a number"),
        ("y_mm", "nan", "not a finite number"),
        ("z_mm", "inf", "not a finite number"),
        ("z_mm", "1e999", "not a finite number"),
        ("z_mm", "", "x_mm, y_mm, z_mm"),
        ("diameter_mm", "8 mm", "not a number"),
        ("malignant", "0.5", "not the number of a class"),
        ("malignant", "yes", "not a number"),
        ("subtlety", "high", "not a number"),
        ("x_mm", "1_0", "not a number"),
    ],
)
def test_a_cell_that_is_no_number_is_named_by_row(
    manifest: Manifest, column: str, value: str, said: str
) -> None:
    set_cell(manifest, "lesions.csv", 2, column, value)
    with pytest.raises(ManifestError, match=rf"lesions.csv: row 4.*{said}"):
        read_manifest(manifest.folder)


def test_a_class_written_as_a_float_is_a_class(manifest: Manifest) -> None:
    set_cell(manifest, "lesions.csv", 0, "malignant", "1.0")
    assert read_manifest(manifest.folder).lesions[0].labels["malignant"] == 1


def test_empty_cells_are_missing_labels(manifest: Manifest) -> None:
    for column in ("malignant", "subtlety", "diameter_mm", "mask", "x_mm", "y_mm", "z_mm"):
        set_cell(manifest, "lesions.csv", 1, column, "")
    lesion = read_manifest(manifest.folder).lesions[1]
    assert (lesion.labels["malignant"], lesion.measurements["subtlety"]) == (None, None)
    assert (lesion.diameter_mm, lesion.mask, lesion.position_mm) == (None, None, None)


@pytest.mark.parametrize("text", ["NA", "null", "None", "007", "1e5", "true"])
def test_ids_are_texts_whatever_they_look_like(manifest: Manifest, text: str) -> None:
    set_cell(manifest, "scans.csv", 0, "patient_id", text)
    set_cell(manifest, "scans.csv", 0, "series_id", text)
    assert read_manifest(manifest.folder).scans[0].patient_id == text
    assert read_manifest(manifest.folder).scans[0].series_id == text


def test_a_row_that_breaks_off_is_refused(manifest: Manifest) -> None:
    path = manifest.folder / "lesions.csv"
    lines = path.read_text().splitlines()
    lines[2] = ",".join(lines[2].split(",")[:4])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ManifestError, match=r"lesions.csv"):
        read_manifest(manifest.folder)


def test_a_row_with_a_cell_too_many_is_refused(manifest: Manifest) -> None:
    path = manifest.folder / "scans.csv"
    lines = path.read_text().splitlines()
    lines[2] += ",more"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ManifestError, match=r"scans.csv"):
        read_manifest(manifest.folder)


def test_rows_with_trailing_commas_are_not_shifted(manifest: Manifest) -> None:
    path = manifest.folder / "scans.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{row}," for row in rows)]) + "\n")
    try:
        read = read_manifest(manifest.folder)
    except ManifestError as error:
        assert "scans.csv" in str(error)
    else:
        assert read == manifest


def test_a_blank_line_does_not_shift_the_row_numbers_of_messages(manifest: Manifest) -> None:
    path = manifest.folder / "lesions.csv"
    header, *rows = path.read_text().splitlines()
    rows[1] = rows[1].replace("SYN-", "SYN-", 1)
    cells = rows[1].split(",")
    cells[2] = "twelve"
    path.write_text("\n".join([header, rows[0], "", ",".join(cells), *rows[2:]]) + "\n")
    with pytest.raises(ManifestError, match="row 4"):
        read_manifest(manifest.folder)


def test_a_table_saved_by_excel_is_read(manifest: Manifest) -> None:
    for name in ("scans.csv", "lesions.csv"):
        path = manifest.folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_manifest(manifest.folder) == manifest


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'scan_id,"\n'])
def test_what_is_no_table_is_refused(manifest: Manifest, content: bytes) -> None:
    (manifest.folder / "scans.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=r"scans.csv"):
        read_manifest(manifest.folder)


@pytest.mark.parametrize("content", ["", "- a list", "a: [", "\x00", "a: !!python/name:os.system"])
def test_what_is_no_card_is_refused(manifest: Manifest, content: str) -> None:
    (manifest.folder / "card.yaml").write_text(content)
    with pytest.raises(ManifestError, match=r"card.yaml"):
        read_manifest(manifest.folder)


def test_every_wrong_key_of_a_card_is_named(manifest: Manifest) -> None:
    content = yaml.safe_load((manifest.folder / "card.yaml").read_text())
    content |= {"modality": "MR", "licens": "?", "labels": {"malignant": {"classes": ["one"]}}}
    with pytest.raises(ManifestError) as caught:
        parse_card(content, file="card.yaml")
    for key in ("modality", "licens", "labels.malignant.classes", "reference_standard"):
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "relative", ["../outside.nii", "images/../../outside.nii", "/etc/passwd", "link/outside.nii"]
)
def test_paths_stay_below_the_data_root(manifest: Manifest, relative: str) -> None:
    os.symlink(manifest.data_root.parent, manifest.data_root / "link")
    with pytest.raises(ManifestError, match="leaves the data root"):
        manifest.resolve(relative)


def test_an_absolute_path_below_the_data_root_is_refused_too(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="leaves the data root"):
        manifest.resolve(str(manifest.data_root / "images"))


def test_excluding_a_scan_or_a_lesion_leaves_no_trace_of_it(manifest: Manifest) -> None:
    *others, last = manifest.lesions
    lesion = replace(last, lesion_id="bad-lesion")
    manifest = replace(manifest, lesions=(*others, lesion))
    scan = manifest.scans[0]
    card = manifest.card.model_copy(
        update={"exclusions": [Exclusion(id=each, reason="r") for each in
                               (scan.scan_id, lesion.lesion_id)]}
    )  # fmt: skip
    kept = replace(manifest, card=card).included()
    assert scan not in kept.scans and len(kept.scans) == len(manifest.scans) - 1
    assert lesion not in kept.lesions
    assert not any(each.scan_id == scan.scan_id for each in kept.lesions)
    assert kept.lesions_of(scan.scan_id) == []
    assert kept.included() == kept


def test_without_annotations_only_positions_and_images_stay(manifest: Manifest) -> None:
    bare = manifest.without_annotations()
    for scan, before in zip(bare.scans, manifest.scans, strict=True):
        assert scan == replace(before, organ_mask=None, annotated=frozenset())
    for lesion, known in zip(bare.lesions, manifest.lesions, strict=True):
        assert lesion.position_mm == known.position_mm
        assert (lesion.diameter_mm, lesion.mask) == (None, None)
        assert not lesion.labels and not lesion.measurements


def test_lesions_of_one_scan_stand_in_the_order_of_the_table(manifest: Manifest) -> None:
    scan_id = manifest.scans[0].scan_id
    moved = tuple(replace(lesion, scan_id=scan_id) for lesion in manifest.lesions)
    assert replace(manifest, lesions=moved).lesions_of(scan_id) == list(moved)
    assert manifest.scan(scan_id) is manifest.scans[0]
