"""Cohorts on disk. Scans are tiny but in the last test, so that only the writing is tested."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.audit import content_hash
from medmtl.data.manifest import Manifest
from medmtl.data.manifest_check import check_manifest
from medmtl.data.phantom import files
from medmtl.data.phantom.cohort import Images, make_cohort
from medmtl.data.phantom.description import describe_cohort
from medmtl.data.phantom.files import ScanJob, make_scan
from medmtl.data.phantom.patient import PhantomScan, nodules_of
from medmtl.data.phantom.tissue import STRUCTURES
from medmtl.data.reading import read_volume
from medmtl.errors import ConfigError
from tests.data.phantom.tiny_scan import make_tiny_patient

SEED = 6


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes scans tiny; the numbers of those that were made."""
    numbers: list[int] = []

    def make(seed: int, number: int) -> PhantomScan:
        numbers.append(number)
        return make_tiny_patient(seed, number)

    monkeypatch.setattr(files, "make_patient", make)
    return numbers


def make(
    out: Path,
    *,
    patients: int = 10,
    seed: int = SEED,
    missing: Mapping[str, float] | None = None,
    images: Images = "nifti",
) -> Manifest:
    return make_cohort(
        out, patients=patients, seed=seed, missing=missing or {}, images=images, workers=1
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_cohort_is_a_sound_manifest_with_everything_drawn(tmp_path: Path, made: list) -> None:
    manifest = make(tmp_path / "cohort", images="both")
    assert check_manifest(manifest) == []
    assert len(manifest.scans) == 10 and len(list((tmp_path / "cohort/dicom").iterdir())) == 10
    for number, scan in enumerate(manifest.scans, start=1):
        assert scan.annotated == {*STRUCTURES, "nodule"}
        drawn = nodules_of(SEED, number)
        lesions = manifest.lesions_of(scan.scan_id)
        assert [each.labels["malignant"] for each in lesions] == [n.malignant for n in drawn]
        for lesion, nodule in zip(lesions, drawn, strict=True):
            assert lesion.diameter_mm == pytest.approx(nodule.diameter_mm, abs=0.01)
            assert lesion.measurements == pytest.approx(nodule.measurements, abs=0.001)


def test_scans_read_from_dicom_are_the_same_scans(tmp_path: Path, made: list) -> None:
    plain, half = (make(tmp_path / name, patients=4, images=name) for name in ("nifti", "half"))
    assert check_manifest(half) == []
    assert [scan.image.split("/")[0] for scan in half.scans] == ["images", "dicom"] * 2
    assert len(list((tmp_path / "half" / "images").iterdir())) == 2
    for one, other in zip(plain.scans, half.scans, strict=True):
        volumes = [
            read_volume(m.resolve(s.image), name="") for m, s in ((plain, one), (half, other))
        ]
        assert content_hash(volumes[0]) == content_hash(volumes[1])


def test_a_mask_lies_around_its_lesion(tmp_path: Path, made: list) -> None:
    manifest = make(tmp_path / "cohort", patients=3)
    for lesion in manifest.lesions:
        assert lesion.mask is not None
        mask = nib.load(manifest.resolve(lesion.mask))
        voxels = np.argwhere(np.asarray(mask.dataobj))
        middle = nib.affines.apply_affine(mask.affine, voxels).mean(axis=0)
        np.testing.assert_allclose(middle, lesion.position_mm, atol=0.02)


def test_what_shall_be_missing_is_missing_and_nothing_else(tmp_path: Path, made: list) -> None:
    missing = {"classes": 0.3, "masks": 0.5, "liver": 0.4, "organs": 0.2, "everything": 0.1}
    manifest = make(tmp_path / "cohort", missing=missing)
    assert check_manifest(manifest) == []
    bare = [scan for scan in manifest.scans if not manifest.lesions_of(scan.scan_id)]
    assert len(bare) == 1 and not bare[0].annotated and bare[0].organ_mask is None
    unlabelled, unmasked = set(), set()
    for lesion in manifest.lesions:
        if lesion.labels["malignant"] is None:
            unlabelled.add(lesion.scan_id)
        if lesion.mask is None:
            unmasked.add(lesion.scan_id)
        assert ("nodule" in manifest.scan(lesion.scan_id).annotated) == (lesion.mask is not None)
    # The bare scan may be one of those that lack something else too.
    assert len(unlabelled) in (2, 3) and len(unmasked) in (4, 5)
    masks = {path.name.split(".")[0] for path in (tmp_path / "cohort/masks").iterdir()}
    assert masks == {each.lesion_id for each in manifest.lesions if each.mask}
    assert sum(scan.organ_mask is None for scan in manifest.scans) in (2, 3)


def test_an_organ_left_out_is_neither_drawn_nor_listed(tmp_path: Path, made: list) -> None:
    manifest = make(tmp_path / "cohort", missing={"liver": 0.4, "aorta": 0.6})
    lacking = {"liver": 0, "aorta": 0}
    for scan in manifest.scans:
        assert scan.organ_mask is not None
        values = set(np.unique(nib.load(manifest.resolve(scan.organ_mask)).dataobj).tolist())
        assert values == {0, *(STRUCTURES[name] for name in scan.annotated - {"nodule"})}
        for name in lacking:
            lacking[name] += name not in scan.annotated
    assert lacking == {"liver": 4, "aorta": 6}


def test_a_patient_is_the_same_in_a_cohort_of_any_size(tmp_path: Path, made: list) -> None:
    make(tmp_path / "few", patients=3)
    make(tmp_path / "many", patients=7)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    for name in few:
        if name.startswith(("images", "organs", "masks")):
            assert few[name] == many[name]


def test_the_description_counts_what_is_lacking(tmp_path: Path, made: list) -> None:
    told = describe_cohort(make(tmp_path / "cohort", missing={"liver": 0.4, "masks": 0.2}))
    assert "10 scans" in told
    assert "without liver: 4 of 10 scans" in told
    assert "without lesion masks: 2 of 10 scans" in told
    assert "class labels" not in told and "heart" not in told
    assert str(tmp_path / "cohort" / "card.yaml") in told


def test_an_interrupted_cohort_goes_on_and_ends_the_same(
    tmp_path: Path, made: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "whole", patients=5, images="both")
    write_series = files.write_series

    def killed(folder: Path, scan: PhantomScan, *, patient_id: str, seed: int) -> None:
        if patient_id == "PHANTOM-0004":
            raise KeyboardInterrupt
        write_series(folder, scan, patient_id=patient_id, seed=seed)

    monkeypatch.setattr(files, "write_series", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "halted", patients=5, images="both")
    assert not (tmp_path / "halted/scans.csv").exists()
    monkeypatch.setattr(files, "write_series", write_series)
    made.clear()
    make(tmp_path / "halted", patients=5, images="both")
    assert made == [4, 5]
    assert contents(tmp_path / "halted") == contents(tmp_path / "whole")


def test_a_finished_cohort_is_not_made_again_but_what_was_lost_is(
    tmp_path: Path, made: list
) -> None:
    make(tmp_path / "cohort")
    before = contents(tmp_path / "cohort")
    made.clear()
    make(tmp_path / "cohort")
    assert made == []
    (tmp_path / "cohort/images/PHANTOM-0003.nii.gz").unlink()
    (tmp_path / "cohort/made/PHANTOM-0005.json").write_text("{")
    (tmp_path / "cohort/images/.PHANTOM-0003.nii.gz.77.part").write_bytes(b"half")
    make(tmp_path / "cohort")
    assert made == [3, 5]
    assert contents(tmp_path / "cohort") == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 7}, "seed was 6, now 7"),
        ({"patients": 11}, "patients was 10, now 11"),
        ({"missing": {"liver": 0.5}}, "missing was"),
        ({"images": "both"}, "images was nifti, now both"),
    ],
)
def test_a_cohort_of_other_settings_is_not_written_over(
    tmp_path: Path, made: list, change: dict, told: str
) -> None:
    make(tmp_path / "cohort")
    before = contents(tmp_path / "cohort")
    with pytest.raises(ConfigError, match=told):
        make(tmp_path / "cohort", **change)
    assert contents(tmp_path / "cohort") == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, made: list) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty"):
        make(tmp_path / "mine")
    with pytest.raises(ConfigError, match="is a file"):
        make(tmp_path / "mine/thesis.txt")
    assert contents(tmp_path / "mine") == {"thesis.txt": b"years of work"}


def test_exclusions_made_by_hand_are_kept(tmp_path: Path, made: list) -> None:
    manifest = make(tmp_path / "cohort")
    card = tmp_path / "cohort/card.yaml"
    text = card.read_text().replace(
        "exclusions: []", "exclusions:\n- id: PHANTOM-0002\n  reason: too pretty"
    )
    card.write_text(text)
    again = make(tmp_path / "cohort")
    assert len(again.included().scans) == len(manifest.scans) - 1


@pytest.mark.parametrize("change", [{"patients": 0}, {"seed": -1}, {"missing": {"kidney": 0.5}}])
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, change: dict) -> None:
    with pytest.raises(ConfigError):
        make(tmp_path / "cohort", **change)
    assert not (tmp_path / "cohort").exists()


def test_worker_processes_write_what_one_alone_writes(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    make_cohort(out, patients=2, seed=SEED, missing={}, workers=2)
    make_scan(
        ScanJob(
            out=tmp_path / "alone",
            seed=SEED,
            number=2,
            lacking=frozenset(),
            dicom=False,
            nifti=True,
        )
    )
    together, alone = contents(out), contents(tmp_path / "alone")
    assert {name for name in alone if name.startswith("images")}
    assert all(together[name] == alone[name] for name in alone)
