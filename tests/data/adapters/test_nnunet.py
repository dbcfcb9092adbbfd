from pathlib import Path

import pytest

from medmtl.data.adapters.nnunet import import_nnunet
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError
from tests.data.adapters.labelled_folders import change_json, write_json, write_labels, write_scan


def write_dataset(folder: Path, ending: str = ".nii.gz") -> Path:
    for number in (1, 2):
        write_scan(folder / "imagesTr" / f"case_{number:03d}_0000{ending}", number)
        write_labels(folder / "labelsTr" / f"case_{number:03d}{ending}")
    write_scan(folder / "imagesTs" / f"case_100_0000{ending}", 3)
    write_json(
        folder,
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "Kidney left": 1, "Kidney right": 2},
            "numTraining": 2,
            "file_ending": ending,
        },
    )
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "Dataset123_Kidneys")


def refused(dataset: Path, tmp_path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        import_nnunet(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert str(tmp_path) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_dataset_becomes_a_sound_manifest(tmp_path: Path, ending: str) -> None:
    dataset = write_dataset(tmp_path / "Dataset123_Kidneys", ending)
    manifest = import_nnunet(dataset, tmp_path / "out")
    assert check_manifest(manifest) == []
    assert read_manifest(tmp_path / "out") == manifest
    assert manifest.card.name == "Dataset123_Kidneys"
    assert manifest.card.structures == {"kidney_left": 1, "kidney_right": 2}
    assert manifest.card.left_right_pairs == [("kidney_left", "kidney_right")]
    first, _, test = manifest.scans
    assert (first.scan_id, first.image) == ("case_001", f"imagesTr/case_001_0000{ending}")
    assert first.organ_mask == f"labelsTr/case_001{ending}"
    assert first.annotated == {"kidney_left", "kidney_right"}
    assert (test.scan_id, test.organ_mask, test.annotated) == ("case_100", None, frozenset())


def test_the_card_counts_what_numtraining_says(dataset: Path, tmp_path: Path) -> None:
    card = import_nnunet(dataset, tmp_path / "a").card
    assert "Complete: yes, 2 training scans. Test scans without labels: 1." in card.description
    assert card.licence == "not stated"
    change_json(dataset, numTraining=30, licence="CC0", reference="a paper", description="Ours.")
    card = import_nnunet(dataset, tmp_path / "b").card
    assert card.description.startswith("Ours. Complete: no, got 2 of 30 training scans.")
    assert (card.licence, card.provenance) == ("CC0", "a paper")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channel_names": {"0": "CT", "1": "PET"}}, "got CT, PET; this tool reads one channel"),
        ({"channel_names": {"0": "MRI"}}, "got MRI"),
        ({"channel_names": None}, "got None"),
        ({"channel_names": None, "modality": {"0": "CT"}}, "medmtl import decathlon"),
        ({"file_ending": ".nrrd"}, "got '.nrrd'; allowed: .nii.gz, .nii"),
        ({"file_ending": None}, "got None"),
        ({"numTraining": "many"}, "numTraining: got 'many'"),
        ({"dataset": {"a": {"images": ["x"], "label": "y"}}}, "lists files elsewhere"),
        ({"labels": {"background": 0, "tumour": [1, 2], "core": 2}}, "'tumour' is a region"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, "nobody looked at"),
        ({"labels": {"background": 0, "liver": "1"}}, "'liver': got '1'"),
        ({"labels": {"background": 1, "liver": 0}}, "only the background is 0"),
        ({"labels": {"background": 0, "liver": 1, "lung": 1}}, "no name or value of its own"),
        ({"labels": []}, "must give the value"),
    ],
)
def test_what_a_manifest_cannot_hold_is_refused(
    dataset: Path, tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    change_json(dataset, **keys)
    assert message in refused(dataset, tmp_path)


def test_everything_wrong_is_told_at_once(dataset: Path, tmp_path: Path) -> None:
    (dataset / "labelsTr" / "case_001.nii.gz").unlink()
    (dataset / "imagesTr" / "case_002_0000.nii.gz").unlink()
    write_scan(dataset / "imagesTr" / "case_003_0001.nii.gz")
    write_scan(dataset / "imagesTs" / "case 4_0000.nii.gz")
    message = refused(dataset, tmp_path)
    for text in (
        "Dataset123_Kidneys: 4 faults",
        "imagesTr/case_001_0000.nii.gz: has no counterpart in labelsTr",
        "labelsTr/case_002.nii.gz: has no counterpart in imagesTr",
        "imagesTr/case_003_0001.nii.gz: is not named CASE_0000.nii.gz",
        "imagesTs/case 4_0000.nii.gz: its name is not safe as an id",
    ):
        assert text in message


def test_a_test_scan_named_as_a_training_scan_is_refused(dataset: Path, tmp_path: Path) -> None:
    write_scan(dataset / "imagesTs" / "case_001_0000.nii.gz")
    assert "imagesTr/case_001_0000.nii.gz has the same name" in refused(dataset, tmp_path)


def test_a_label_map_with_a_value_that_is_not_named_is_found(dataset: Path, tmp_path: Path) -> None:
    write_labels(dataset / "labelsTr" / "case_001.nii.gz", (1, 7))
    (fault,) = check_manifest(import_nnunet(dataset, tmp_path / "out"))
    assert "holds the values 7" in str(fault)


def test_swapped_sides_are_found(dataset: Path, tmp_path: Path) -> None:
    write_labels(dataset / "labelsTr" / "case_001.nii.gz", (2, 1))
    (fault,) = check_manifest(import_nnunet(dataset, tmp_path / "out"))
    assert "were the labels swapped" in str(fault)


def test_a_dataset_without_scans_is_refused(dataset: Path, tmp_path: Path) -> None:
    for file in dataset.glob("*/*"):
        file.unlink()
    assert "holds no scan" in refused(dataset, tmp_path)
