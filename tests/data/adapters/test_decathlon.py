from pathlib import Path

import pytest

from medmtl.data.adapters.decathlon import import_decathlon
from medmtl.data.adapters.public_counts import DECATHLON, TEST, TRAINING
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError
from tests.data.adapters.labelled_folders import change_json, write_json, write_labels, write_scan


def write_task(folder: Path, training: int = 2, test: int = 1) -> Path:
    """Task03_Liver as published: './' paths, labels by value, '._' files of a Mac."""
    names = [f"liver_{number}.nii.gz" for number in range(training)]
    tests = [f"liver_{number}.nii.gz" for number in range(training, training + test)]
    for number, name in enumerate(names):
        write_scan(folder / "imagesTr" / name, number)
        write_labels(folder / "labelsTr" / name)
        (folder / "imagesTr" / f"._{name}").write_bytes(b"\x00\x05\x16\x07")
    for name in tests:
        write_scan(folder / "imagesTs" / name, 9)
    write_json(
        folder,
        {
            "name": "LITS", "description": "Liver and cancer", "reference": "IRCAD Hospitals",
            "licence": "CC-BY-SA 4.0", "release": "1.0 06/08/2018", "tensorImageSize": "3D",
            "modality": {"0": "CT"},
            "labels": {"0": "background", "1": "liver", "2": "cancer"},
            "numTraining": training, "numTest": test,
            "training": [
                {"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names
            ],
            "test": [f"./imagesTs/{name}" for name in tests],
        },
    )  # fmt: skip
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "Task03_Liver")


def refused(task: Path, tmp_path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        import_decathlon(task, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert str(tmp_path) not in str(caught.value)
    return str(caught.value)


def test_a_task_becomes_a_sound_manifest(task: Path, tmp_path: Path) -> None:
    manifest = import_decathlon(task, tmp_path / "manifests" / "liver")
    assert check_manifest(manifest) == []
    assert read_manifest(tmp_path / "manifests" / "liver") == manifest
    assert manifest.card.data_root == "../../Task03_Liver"
    assert manifest.card.structures == {"liver": 1, "cancer": 2}
    assert [scan.scan_id for scan in manifest.scans] == ["liver_0", "liver_1", "liver_2"]
    assert manifest.scans[0].image == "imagesTr/liver_0.nii.gz"
    assert manifest.scans[0].organ_mask == "labelsTr/liver_0.nii.gz"
    assert manifest.drawn(manifest.scans[0]) == {"liver", "cancer"}


def test_test_scans_were_not_annotated(task: Path, tmp_path: Path) -> None:
    scan = import_decathlon(task, tmp_path / "out").scan("liver_2")
    assert scan.organ_mask is None
    assert scan.annotated == frozenset()


def test_the_card_says_licence_citation_and_what_is_missing(task: Path, tmp_path: Path) -> None:
    card = import_decathlon(task, tmp_path / "out").card
    assert card.name == "Decathlon Task03_Liver"
    assert card.licence == "CC BY-SA 4.0"
    assert "Antonelli" in card.provenance
    assert "Complete: no, got 2 of 131 training scans, got 1 of 70 test scans." in card.description
    assert "each case is taken for a patient" in card.description


def test_a_complete_download_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECATHLON["Task09_Spleen"].counts, TRAINING, 1)  # type: ignore[call-overload]
    monkeypatch.setitem(DECATHLON["Task09_Spleen"].counts, TEST, 1)  # type: ignore[call-overload]
    task = write_task(tmp_path / "Task09_Spleen", training=1)
    card = import_decathlon(task, tmp_path / "out").card
    assert "Complete: yes, 1 training scans, 1 test scans." in card.description


def test_the_published_counts() -> None:
    counts = {name: tuple(task.counts.values()) for name, task in DECATHLON.items()}
    assert counts == {
        "Task03_Liver": (131, 70), "Task06_Lung": (63, 32), "Task07_Pancreas": (281, 139),
        "Task08_HepaticVessel": (303, 140), "Task09_Spleen": (41, 20), "Task10_Colon": (126, 64),
    }  # fmt: skip


def test_a_folder_of_another_name_is_held_against_its_own_list(tmp_path: Path) -> None:
    task = write_task(tmp_path / "liver-copy")
    card = import_decathlon(task, tmp_path / "out").card
    assert "Complete: yes, 2 training scans, 1 test scans." in card.description
    assert "No published task is named 'liver-copy'" in card.description
    assert card.provenance == "IRCAD Hospitals"


def test_names_of_labels_become_words(task: Path, tmp_path: Path) -> None:
    change_json(task, labels={"0": "background", "1": "Colon cancer  primaries", "2": "Tumour"})
    structures = import_decathlon(task, tmp_path / "out").card.structures
    assert structures == {"colon_cancer_primaries": 1, "tumour": 2}


def test_what_was_not_downloaded_is_counted(task: Path, tmp_path: Path) -> None:
    for part, name in [("imagesTr", "0"), ("labelsTr", "0"), ("imagesTs", "2")]:
        (task / part / f"liver_{name}.nii.gz").unlink()
    manifest = import_decathlon(task, tmp_path / "out")
    assert [scan.scan_id for scan in manifest.scans] == ["liver_1"]
    assert "got 1 of 131" in manifest.card.description
    assert check_manifest(manifest) == []


@pytest.mark.parametrize(
    "modality", [{"0": "MRI"}, {"0": "FLAIR", "1": "T1w"}, {"0": "CT", "1": "PET"}, None, "CT2"]
)
def test_what_is_not_ct_is_refused(task: Path, tmp_path: Path, modality: object) -> None:
    change_json(task, modality=modality)
    assert "reads CT only. The tasks on CT: Task03_Liver" in refused(task, tmp_path)


def test_everything_wrong_is_told_at_once(task: Path, tmp_path: Path) -> None:
    (task / "labelsTr" / "liver_0.nii.gz").unlink()
    (task / "imagesTr" / "liver_1.nii.gz").unlink()
    write_scan(task / "imagesTs" / "liver_77.nii.gz")
    message = refused(task, tmp_path)
    for text in (
        "Task03_Liver: 3 faults",
        "labelsTr/liver_0.nii.gz is missing, but imagesTr/liver_0.nii.gz is there",
        "imagesTr/liver_1.nii.gz is missing, but labelsTr/liver_1.nii.gz is there",
        "imagesTs/liver_77.nii.gz: is not listed in dataset.json",
    ):
        assert text in message


@pytest.mark.parametrize(
    "path",
    ["../imagesTr/x.nii.gz", "/imagesTr/x.nii.gz", "./imagesTr/../x.nii.gz", "imagesTr/x.mhd", 3,
     "./labelsTr/x.nii.gz", "./imagesTr/..", ""],
)  # fmt: skip
def test_a_listed_path_must_lie_in_its_part(task: Path, tmp_path: Path, path: object) -> None:
    change_json(task, training=[{"image": path, "label": "./labelsTr/liver_0.nii.gz"}])
    assert "training 1: image: got" in refused(task, tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "background", "1": "liver", "2": "Liver"}, "no name or value of its own"),
        ({"0": "background", "1": "liver", "2": "liver"}, "'liver' is the name of two values"),
        ({"0": "background"}, "names no structure"),
        ({"0": "liver", "1": "background"}, "only the background is 0"),
        ({"one": "liver"}, "must name each value"),
        (["liver"], "must name each value"),
    ],
)
def test_labels_that_mean_nothing_are_refused(
    task: Path, tmp_path: Path, labels: object, message: str
) -> None:
    change_json(task, labels=labels)
    assert message in refused(task, tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"modality": {"0": "CT"}}', "[" * 100_000])
def test_a_dataset_json_that_is_none_is_refused(task: Path, tmp_path: Path, content: str) -> None:
    (task / "dataset.json").write_text(content)
    assert "dataset.json" in refused(task, tmp_path)


def test_a_folder_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="give the folder of one dataset"):
        import_decathlon(tmp_path, tmp_path / "out")


def test_a_task_with_nothing_of_it_is_refused(task: Path, tmp_path: Path) -> None:
    for file in task.glob("*/*"):
        file.unlink()
    assert "lists 3 scans, and none of them is there" in refused(task, tmp_path)
