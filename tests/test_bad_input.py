"""Bad input ends with one message that a user can act on, before anything is written."""

import errno
import gzip
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medmtl.data.manifest import Manifest
from medmtl.data.manifest_files import read_manifest, write_manifest
from tests.small_experiment import (
    CONFIG,
    Answer,
    Medmtl,
    SmallRun,
    assert_refused,
    environment,
    write_config,
    write_experiment,
)

IMAGE = "SYN-0002_01"  # an image, as the first of its patient's


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound experiment to copy."""
    home = tmp_path_factory.mktemp("sound")
    write_experiment(home)
    return home


@pytest.fixture
def home(sound: Path, tmp_path: Path, no_training: None) -> Path:
    """An experiment to spoil."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path


def cross_validate(medmtl: Medmtl, home: Path, *arguments: str) -> Answer:
    """Asks for the experiment, and makes sure that nothing but the report was printed."""
    answer = medmtl("cross-validate", home / "config.yaml", *arguments)
    assert not (home / "runs").exists()
    assert not (home / "cache").exists()
    return answer


def image_path(home: Path) -> Path:
    return home / "cohort" / "data" / "images" / f"{IMAGE}.nii.gz"


def mask_path(home: Path) -> Path:
    return home / "cohort" / "data" / "masks" / f"{IMAGE}.nii.gz"


def edit_manifest(home: Path, change: Callable[[Manifest], Manifest]) -> None:
    write_manifest(change(read_manifest(home / "cohort" / "manifest")))


def edit_table(home: Path, name: str, change: Callable[[pd.DataFrame], Any]) -> None:
    path = home / "cohort" / "manifest" / name
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table)
    table.to_csv(path, index=False)


def with_voxels(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    voxels = change(np.asanyarray(image.dataobj))
    changed = nib.Nifti1Image(voxels, image.affine)
    changed.set_qform(image.affine, 1)
    changed.set_sform(image.affine, 1)
    nib.save(changed, path)


def with_nan(voxels: np.ndarray) -> np.ndarray:
    spoilt = voxels.astype(np.float32)
    spoilt[0, 0, 0] = np.nan
    return spoilt


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILT_FILES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "zero bytes": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "checksum cut off": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "not gzip": lambda path: path.write_bytes(b"PK\x03\x04 a zip archive, perhaps" * 40),
    "gzip of no image": lambda path: path.write_bytes(gzip.compress(b"text " * 200)),
    "short gzip": lambda path: path.write_bytes(gzip.compress(b"text")),
    "half its voxels": lambda path: path.write_bytes(
        gzip.compress(gzip.decompress(path.read_bytes())[:5000])
    ),
    "folder": become_folder,
    "NaN": lambda path: with_voxels(path, with_nan),
    "constant": lambda path: with_voxels(path, lambda voxels: np.full_like(voxels, -1000)),
    "zeros": lambda path: with_voxels(path, np.zeros_like),
    "4D": lambda path: with_voxels(path, lambda voxels: np.stack([voxels, voxels], -1)),
    "2D": lambda path: with_voxels(path, lambda voxels: voxels[:, :, 0]),
    "not HU": lambda path: with_voxels(path, lambda voxels: voxels.astype(np.int32) * 1000),
    "complex": lambda path: with_voxels(path, lambda voxels: voxels.astype(np.complex64)),
}


@pytest.mark.parametrize("fault", SPOILT_FILES)
def test_spoilt_image_is_named(medmtl: Medmtl, home: Path, fault: str) -> None:
    SPOILT_FILES[fault](image_path(home))
    assert_refused(cross_validate(medmtl, home), "scans.csv: row", f"{IMAGE}.nii.gz")


@pytest.mark.parametrize("fault", ["missing", "zero bytes", "truncated", "NaN", "zeros", "4D"])
def test_spoilt_mask_is_named(medmtl: Medmtl, home: Path, fault: str) -> None:
    SPOILT_FILES[fault](mask_path(home))
    assert_refused(cross_validate(medmtl, home), "lesions.csv: row", f"masks/{IMAGE}.nii.gz")


@pytest.mark.parametrize("what", ["shifted", "other spacing", "cropped", "rotated"])
def test_mask_of_other_geometry_is_refused(medmtl: Medmtl, home: Path, what: str) -> None:
    mask = nib.load(mask_path(home))
    voxels, affine = np.asanyarray(mask.dataobj), mask.affine.copy()
    if what == "shifted":
        affine[2, 3] += 0.5
    elif what == "other spacing":
        affine[:3, :3] *= 1.01
    elif what == "cropped":
        voxels = voxels[:-1]
    else:
        affine[:3, :3] = affine[:3, :3] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    nib.save(nib.Nifti1Image(voxels, affine), mask_path(home))
    assert_refused(cross_validate(medmtl, home), "lesions.csv: row", f"masks/{IMAGE}.nii.gz")


@pytest.mark.parametrize(
    "path",
    ["../outside.nii.gz", "/etc/passwd", "images/../../outside.nii.gz", "images/link.nii.gz"],
)
def test_path_that_leaves_the_data_root_is_refused(medmtl: Medmtl, home: Path, path: str) -> None:
    outside = home / "cohort" / "outside.nii.gz"
    shutil.copy(image_path(home), outside)
    (image_path(home).parent / "link.nii.gz").symlink_to(outside)

    def change(table: pd.DataFrame) -> None:
        table.loc[2, "image"] = path

    edit_table(home, "scans.csv", change)
    assert_refused(cross_validate(medmtl, home), "leaves the data root", "scans.csv: row 4")


def test_data_root_that_is_gone_is_told(medmtl: Medmtl, home: Path) -> None:
    (home / "cohort" / "data").rename(home / "elsewhere")
    assert_refused(cross_validate(medmtl, home), "data_root")


@pytest.mark.parametrize("name", ["card.yaml", "scans.csv", "lesions.csv"])
@pytest.mark.parametrize("how", ["missing", "empty", "binary", "folder"])
def test_spoilt_manifest_file_is_named(medmtl: Medmtl, home: Path, name: str, how: str) -> None:
    path = home / "cohort" / "manifest" / name
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "binary":
        path.write_bytes(bytes(range(256)))
    elif how == "folder":
        path.mkdir()
    assert_refused(cross_validate(medmtl, home), name)


def test_missing_manifest_is_told(medmtl: Medmtl, home: Path) -> None:
    answer = cross_validate(medmtl, home, "--set", "manifest=nowhere")
    assert_refused(answer, "nowhere", "not a manifest")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("x_mm", ""),
        ("x_mm", "left"),
        ("x_mm", "inf"),
        ("x_mm", "5000"),
        ("diameter_mm", "-3"),
        ("diameter_mm", "8 mm"),
        ("malignant", "2"),
        ("malignant", "0.5"),
        ("malignant", "yes"),
        ("scan_id", "nobody"),
        ("lesion_id", "../x"),
        ("lesion_id", "SYN-0001_01"),
    ],
)
def test_wrong_cell_of_the_table_is_told_by_row(
    medmtl: Medmtl, home: Path, column: str, value: str
) -> None:
    def change(table: pd.DataFrame) -> None:
        table.loc[3, column] = value

    edit_table(home, "lesions.csv", change)
    assert_refused(cross_validate(medmtl, home), "lesions.csv: row 5")


def test_lesion_without_a_position_is_told_before_training(medmtl: Medmtl, home: Path) -> None:
    def change(table: pd.DataFrame) -> None:
        table.loc[3, ["x_mm", "y_mm", "z_mm"]] = ""

    edit_table(home, "lesions.csv", change)
    assert_refused(cross_validate(medmtl, home), "lesions.csv: row 5", "position")


def test_lesion_id_that_would_overwrite_the_image_in_the_cache_is_refused(
    medmtl: Medmtl, home: Path
) -> None:
    # The cache keeps a case's image as image.b2nd and each mask as <lesion_id>.b2nd.
    from medmtl.build.data import build_loader
    from medmtl.build.experiment import build_cross_validation
    from medmtl.config_file import load_config
    from medmtl.errors import MedmtlError

    def change(table: pd.DataFrame) -> None:
        table.loc[3, "lesion_id"] = "image"

    edit_table(home, "lesions.csv", change)
    config = load_config(home / "config.yaml")
    try:
        experiment = build_cross_validation(config)
    except MedmtlError:
        return
    scan = experiment.manifest.scans[3]
    case = build_loader(config, experiment.manifest).open(scan)
    voxels = case.read_image((slice(None), slice(None), slice(None)))
    assert voxels.min() < -700  # HU of air, and not the mask


def test_manifest_without_lesions_is_refused(medmtl: Medmtl, home: Path) -> None:
    edit_manifest(home, lambda manifest: replace(manifest, lesions=()))
    assert_refused(cross_validate(medmtl, home), "has a label of any head")


def test_outline_without_any_mask_is_refused_before_training(medmtl: Medmtl, home: Path) -> None:
    edit_manifest(
        home,
        lambda manifest: replace(
            manifest, lesions=tuple(replace(lesion, mask=None) for lesion in manifest.lesions)
        ),
    )
    assert_refused(cross_validate(medmtl, home), "none of", "has a mask")


def test_copy_of_an_image_under_another_patient_is_refused(
    medmtl: Medmtl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medmtl.experiment import cross_validation

    write_experiment(tmp_path)
    folds = tmp_path / "folds.csv"
    manifest = read_manifest(tmp_path / "cohort" / "manifest")
    patients = dict.fromkeys(scan.patient_id for scan in manifest.scans)
    rows = [f"{patient},{n % 2}" for n, patient in enumerate(patients)]
    folds.write_text("\n".join(["patient_id,fold", *rows]), encoding="utf-8")
    images = tmp_path / "cohort" / "data" / "images"
    one, other = images / f"{IMAGE}.nii.gz", images / "SYN-0003_01.nii.gz"
    shutil.copy(one, other)
    first, second = manifest.lesions[2], manifest.lesions[3]
    assert (first.scan_id, second.scan_id) == (IMAGE, "SYN-0003_01")
    shutil.copy(mask_path(tmp_path), mask_path(tmp_path).with_name("SYN-0003_01.nii.gz"))
    lesions = list(manifest.lesions)
    lesions[3] = replace(second, position_mm=first.position_mm)
    write_manifest(replace(manifest, lesions=tuple(lesions)))
    monkeypatch.setattr(cross_validation, "run_cells", lambda *_, **__: pytest.fail("trained"))
    answer = medmtl("cross-validate", tmp_path / "config.yaml", "--set", f"folds.table={folds}")
    assert_refused(answer, "the same image content", IMAGE, "SYN-0003_01")


# Names that only the manifest knows


@pytest.mark.parametrize(
    ("override", "wrong", "allowed"),
    [
        ("heads.malignancy.label=malignent", "malignent", "malignant"),
        ("heads.nodule.structure=nodul", "nodul", "nodule"),
        ("baselines.diameter.column=diameter", "'diameter'", "diameter_mm"),
        ("baselines.diameter={kind: logistic, task: malignancy, columns: [subtle]}", "subtle",
         "subtlety"),
        ("folds.stratify_by=malignancy", "malignancy", "malignant"),
        ("evaluation.subgroups.large.column=diametr", "diametr", "diameter_mm"),
        ("evaluation.subgroups.large.column=patient_id", "patient_id", "diameter_mm"),
    ],
)  # fmt: skip
def test_name_that_the_manifest_does_not_have_is_told(
    medmtl: Medmtl, home: Path, override: str, wrong: str, allowed: str
) -> None:
    assert_refused(cross_validate(medmtl, home, "--set", override), wrong, allowed)


@pytest.mark.parametrize(
    "override",
    [
        "baselines.others={kind: table, task: malignancy, path: nowhere.csv}",
        "windows.slab.size_mm=[4.5, 12.5, 12.0]",
        "windows.slab.size_mm=[4.5, 14.0, 14.0]",
        "arms.joint.set.training.epoch=3",
    ],
)
def test_fault_is_found_before_training_and_not_after(
    medmtl: Medmtl, home: Path, override: str
) -> None:
    assert_refused(cross_validate(medmtl, home, "--set", override), override.split("=")[0][:11])


def test_subgroup_that_nothing_can_be_in_is_refused(medmtl: Medmtl, home: Path) -> None:
    answer = cross_validate(medmtl, home, "--set", "evaluation.subgroups.large.at_most=3")
    assert_refused(answer, "subgroup", "diameter_mm")


# Folds


def fold_table(home: Path, rows: list[str], header: str = "patient_id,fold") -> str:
    (home / "folds.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return f"folds.table={home / 'folds.csv'}"


def patients_of(home: Path) -> list[str]:
    manifest = read_manifest(home / "cohort" / "manifest")
    return list(dict.fromkeys(scan.patient_id for scan in manifest.scans))


def test_patient_in_two_folds_is_refused(medmtl: Medmtl, home: Path) -> None:
    patients = patients_of(home)
    rows = [f"{patient},{n % 2}" for n, patient in enumerate(patients)] + [f"{patients[0]},1"]
    answer = cross_validate(medmtl, home, "--set", fold_table(home, rows))
    assert_refused(answer, "folds.csv", f"{patients[0]} in folds 0 and 1")


def test_table_that_lacks_a_patient_is_refused(medmtl: Medmtl, home: Path) -> None:
    patients = patients_of(home)
    rows = [f"{patient},{n % 2}" for n, patient in enumerate(patients[:-1])]
    assert_refused(cross_validate(medmtl, home, "--set", fold_table(home, rows)), patients[-1])


def test_table_of_two_repeats_is_run_whole_or_refused(home: Path) -> None:
    from medmtl.build.experiment import build_cross_validation
    from medmtl.config_file import load_config
    from medmtl.errors import MedmtlError

    patients = patients_of(home)
    rows = [f"{r},{p},{(n // (r + 1)) % 2}" for r in (0, 1) for n, p in enumerate(patients)]
    table = fold_table(home, rows, "repeat,patient_id,fold")
    try:
        experiment = build_cross_validation(load_config(home / "config.yaml", [table]))
    except MedmtlError as error:
        assert "repeat" in str(error)
        return
    assert {cell.repeat for cell in experiment.plan} == {0, 1}


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"patient,fold\n", b"patient_id,fold\n"])
def test_fold_table_that_is_none_is_refused(medmtl: Medmtl, home: Path, content: bytes) -> None:
    (home / "folds.csv").write_bytes(content)
    answer = cross_validate(medmtl, home, "--set", f"folds.table={home / 'folds.csv'}")
    assert_refused(answer, "folds.csv")


def test_fold_table_that_is_missing_is_refused(medmtl: Medmtl, home: Path) -> None:
    assert_refused(cross_validate(medmtl, home, "--set", "folds.table=no.csv"), "no.csv")


def test_fold_with_one_class_only_is_refused_with_counts(medmtl: Medmtl, home: Path) -> None:
    malignant: dict[str, list[int | None]] = {}
    manifest = read_manifest(home / "cohort" / "manifest")
    for lesion in manifest.lesions:
        patient = manifest.scan(lesion.scan_id).patient_id
        malignant.setdefault(patient, []).append(lesion.labels["malignant"])
    rows = [f"{patient},{int(classes == [1])}" for patient, classes in malignant.items()]
    answer = cross_validate(medmtl, home, "--set", fold_table(home, rows))
    assert_refused(answer, "fold 1, test: 0 benign", "malignant")


def test_more_folds_than_patients_are_refused(medmtl: Medmtl, home: Path) -> None:
    assert_refused(
        cross_validate(medmtl, home, "--set", "folds.count=13"), "12 patients", "13 folds"
    )


# Runs


@pytest.mark.parametrize("override", ["seed=1", "training.epochs=3", "folds.count=3"])
def test_run_folder_of_another_plan_is_refused_and_kept(
    medmtl: Medmtl, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.chdir(small_run.home)
    frozen = [small_run.run / name for name in ("config.yaml", "plan.csv", "folds.csv")]
    before = [path.read_bytes() for path in frozen]
    answer = medmtl("cross-validate", "config.yaml", "--set", override)
    assert_refused(answer, "belongs to another plan")
    assert [path.read_bytes() for path in frozen] == before


def copied_run(small_run: SmallRun, tmp_path: Path) -> Path:
    for name in ("cohort", "runs"):
        shutil.copytree(small_run.home / name, tmp_path / name)
    write_config(tmp_path)
    (tmp_path / "cache").symlink_to(small_run.home / "cache")
    return tmp_path / "runs" / "small"


def test_run_whose_images_have_changed_is_not_gone_on_with(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Old cells and new ones would be of different data, under one summary.
    from medmtl.experiment import cross_validation

    run = copied_run(small_run, tmp_path)
    before = (run / "contents.csv").read_bytes()
    with_voxels(image_path(tmp_path), lambda voxels: voxels[::-1] + np.int16(7))
    monkeypatch.setattr(cross_validation, "run_cells", lambda *_, **__: None)
    assert_refused(medmtl("cross-validate", tmp_path / "config.yaml"), "small")
    assert (run / "contents.csv").read_bytes() == before


def test_run_whose_labels_have_changed_is_not_gone_on_with(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cells' targets are the old ones, the baselines' would be the new ones.
    from medmtl.experiment import cross_validation

    copied_run(small_run, tmp_path)

    def change(table: pd.DataFrame) -> None:
        table.loc[[2, 3], "malignant"] = table.loc[[3, 2], "malignant"].to_numpy()
        table.loc[4, "diameter_mm"] = "9.5"

    edit_table(tmp_path, "lesions.csv", change)
    monkeypatch.setattr(cross_validation, "run_cells", lambda *_, **__: None)
    assert_refused(medmtl("cross-validate", tmp_path / "config.yaml"), "lesions")


@pytest.mark.parametrize("how", ["missing", "empty folder", "file", "config only"])
@pytest.mark.parametrize("command", ["report", "predict", "cell"])
def test_folder_that_is_no_run_is_refused(
    medmtl: Medmtl, home: Path, command: str, how: str
) -> None:
    tmp_path, run = home, home / "run"
    if how == "file":
        run.write_text("text", encoding="utf-8")
    elif how != "missing":
        run.mkdir()
    if how == "config only":
        shutil.copy(write_config(tmp_path, CONFIG.replace(": cohort", ": ../cohort")), run)
    more: dict[str, list[str | Path]] = {
        "report": [],
        "cell": ["joint_r0_f0"],
        "predict": ["--manifest", tmp_path / "cohort" / "manifest", "--out", tmp_path / "out"],
    }
    assert_refused(medmtl(command, run, *more[command]), "run")
    assert not (tmp_path / "out").exists()
    assert how in ("file", "missing") or len(list(run.iterdir())) == (how == "config only")


@pytest.mark.parametrize("cell", ["joint_r0_f9", "", "..", "../small", "joint_r0_f0/"])
def test_unknown_cell_is_told_with_those_that_there_are(
    medmtl: Medmtl, small_run: SmallRun, cell: str
) -> None:
    cells = sorted((small_run.run / "cells").iterdir())
    assert_refused(medmtl("cell", small_run.run, cell), "joint_r0_f0, class-only_r0_f0")
    assert sorted((small_run.run / "cells").iterdir()) == cells


@pytest.mark.parametrize("command", ["report", "predict"])
def test_unfinished_run_is_told_with_what_is_lacking(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path, command: str
) -> None:
    run = copied_run(small_run, tmp_path)
    (run / "cells" / "joint_r0_f1" / "done.json").unlink()
    manifest = tmp_path / "cohort" / "manifest"
    more = ["--manifest", manifest, "--out", tmp_path / "out"] if command == "predict" else []
    assert_refused(medmtl(command, run, *more), "joint_r0_f1")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["cells/joint_r0_f0/out_of_fold.csv", "cells/joint_r0_f0/done.json", "plan.csv", "config.yaml"],
)
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"a,b\n1,2\n"])
def test_damaged_file_of_a_run_is_named(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path, name: str, content: bytes
) -> None:
    run = copied_run(small_run, tmp_path)
    (run / name).write_bytes(content)
    assert_refused(medmtl("report", run), Path(name).name)


def test_damaged_model_is_named(medmtl: Medmtl, small_run: SmallRun, tmp_path: Path) -> None:
    run = copied_run(small_run, tmp_path)
    model = run / "cells" / "joint_r0_f0" / "model.pt"
    model.write_bytes(model.read_bytes()[:-100])
    manifest = tmp_path / "cohort" / "manifest"
    answer = medmtl("predict", run, "--manifest", manifest, "--out", tmp_path / "out")
    assert_refused(answer, "joint_r0_f0/model.pt")
    assert not (tmp_path / "out").exists()


# Disks


@pytest.mark.parametrize("override", ["output", "cache.folder"])
def test_folder_to_write_in_that_is_a_file_is_told(
    medmtl: Medmtl, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    from medmtl.experiment import cross_validation

    monkeypatch.setattr(cross_validation, "run_cells", lambda *_, **__: pytest.fail("trained"))
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "config.yaml"
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    answer = medmtl("cross-validate", config, "--set", f"{override}={tmp_path / 'taken'}")
    assert_refused(answer, "written")
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "a file"


def test_full_disk_while_saving_a_checkpoint_keeps_the_old_one(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied_run(small_run, tmp_path)
    cell = run / "cells" / "joint_r0_f0"
    shutil.rmtree(cell)
    write_bytes, old = Path.write_bytes, []

    def fill_up(path: Path, data: Any) -> int:
        if path.name.startswith(".checkpoint.pt") and (cell / "checkpoint.pt").is_file():
            old.append((cell / "checkpoint.pt").read_bytes())
            write_bytes(path, bytes(data)[: len(bytes(data)) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    monkeypatch.setattr("medmtl.experiment.cell.SAVE_EVERY_S", 0.0)
    assert_refused(medmtl("cell", run, "joint_r0_f0"), "the disk is full", "checkpoint.pt")
    assert (cell / "checkpoint.pt").read_bytes() == old[0]
    assert not list(cell.glob(".*")) and not (cell / "done.json").exists()
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert medmtl("cell", run, "joint_r0_f0").code == 0
    for name in ("out_of_fold.csv", "segmentation.csv", "epochs.csv", "done.json"):
        undisturbed = small_run.run / "cells" / "joint_r0_f0" / name
        assert (cell / name).read_bytes() == undisturbed.read_bytes(), name


CACHE_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from medmtl.build.data import build_loader, build_manifest
from medmtl.config_file import load_config
from medmtl.errors import RunError
config = load_config(Path("config.yaml"))
manifest = build_manifest(config)
loader = build_loader(config, manifest)
try:
    loader.open(manifest.scans[0])
except RunError as error:
    print(error)
    sys.exit(2)
"""


def test_full_disk_while_filling_the_cache_is_told(tmp_path: Path) -> None:
    write_experiment(tmp_path, patients=1)

    def no_file_above_1_kb() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    ended = subprocess.run(
        [sys.executable, "-c", CACHE_ON_A_FULL_DISK],
        cwd=tmp_path,
        env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=no_file_above_1_kb,
    )
    assert (ended.returncode, ended.stderr) == (2, ""), ended.stderr
    assert "the cache cannot be written" in ended.stdout
    assert not [path for path in (tmp_path / "cache").rglob("*.part*") if path.is_file()]
