"""From a hospital's files to a prediction: what was planted in them comes out nowhere."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pydicom import dcmread

from medmtl.data.manifest import Label, Lesion
from medmtl.data.manifest_files import read_manifest, write_manifest
from medmtl.data.phantom.dicom_series import write_series
from medmtl.data.phantom.patient import PhantomScan
from medmtl.data.privacy.secret import make_secret
from tests.data.phantom.tiny_scan import make_tiny_patient
from tests.data.privacy.planting import NEEDLE, found_in, plant
from tests.small_experiment import run_command

PATIENTS = 10
CONFIG = """\
name: private
manifest: manifest
output: runs
spacing_mm: [2.0, 1.3, 1.3]
windows: {slab: {size_mm: [4.0, 10.4, 10.4]}}
encoder: {kind: lean_residual, widths: [8, 16]}
heads: {malignancy: {kind: classification, label: malignant, window: slab}}
training: {epochs: 1, batch_size: 4, evaluate_every: 1}
folds: {count: 2, inner_fraction: 0.4}
evaluation: {bootstrap_samples: 100}
cache: {folder: cache}
"""


def write_hospital(folder: Path) -> dict[str, PhantomScan]:
    """A series a patient, with SECRET in every element, name and path; scans by PatientID."""
    scans = {}
    for number in range(PATIENTS):
        patient = f"SECRET-{number:03d}"
        scan = make_tiny_patient(4, number)
        series = folder / f"SECRET^{number}" / "SECRET 20200101"
        write_series(series, scan, patient_id="planted", seed=number)
        for place, path in enumerate(sorted(series.iterdir())):
            image = dcmread(path)
            plant(image, every=1 if place == 0 else 40)
            image.PatientID, image.PatientName = patient, f"SECRET^NAME {number}"
            image.IssuerOfPatientID = "SECRET hospital"
            image.StudyInstanceUID = f"1.2.{number}.SECRET.1"
            image.SeriesInstanceUID = f"1.2.{number}.SECRET.2"
            image.SOPInstanceUID = f"1.2.{number}.3.{place}"
            image.save_as(path.with_name(f"SECRET{place:03d}"))
            path.unlink()
        scans[patient] = scan
    return scans


def add_labels(folder: Path, scans: dict[str, PhantomScan], link: Path) -> None:
    """What a reader would add to the manifest that was built: a row a nodule."""
    manifest = read_manifest(folder)
    table = pd.read_csv(link, dtype=str)
    patient_of = dict(zip(table["pseudonym"], table["identifier"], strict=True))
    lesions = [
        Lesion(
            lesion_id=f"{scan.scan_id}-{count}",
            scan_id=scan.scan_id,
            position_mm=each.position_mm,
            labels={"malignant": (number + count) % 2},
        )
        for number, scan in enumerate(manifest.scans)
        for count, each in enumerate(scans[patient_of[scan.patient_id]].nodules)
    ]
    malignant = Label(classes=["no", "yes"], reference_standard="a coin")
    card = manifest.card.model_copy(update={"labels": {"malignant": malignant}})
    write_manifest(replace(manifest, card=card, lesions=tuple(lesions)))


@pytest.mark.slow
def test_nothing_that_identifies_comes_out_of_any_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "kept" / "secret"))
    for name in ("USER", "LOGNAME", "USERNAME", "HOSTNAME"):
        monkeypatch.setenv(name, "SECRETUSER")
    make_secret()
    scans = write_hospital(tmp_path / "SECRET hospital")
    home, link = tmp_path / "home", tmp_path / "kept" / "link.csv"
    home.mkdir()
    printed = []

    def run(*arguments: str | Path) -> None:
        done = run_command(*arguments, cwd=home)
        assert done.returncode == 0, done.stderr
        printed.extend([done.stdout, done.stderr])

    run("deidentify", tmp_path / "SECRET hospital", "clean", "--link", link)
    run("manifest", "build", "clean", "--out", "manifest", "--name", "mine")
    add_labels(home / "manifest", scans, link)
    (home / "config.yaml").write_text(CONFIG)
    run("manifest", "check", "manifest")
    run("audit", "manifest")
    run("cross-validate", "config.yaml")
    run("track", "runs/private")
    run("report", "runs/private")
    run("predict", "runs/private", "--manifest", "manifest", "--out", "predicted")
    assert (home / "predicted" / "predictions.csv").is_file()
    assert list(home.rglob("*.db")), "nothing was tracked"
    found = "\n".join(found_in(home))
    assert not found, found
    assert not NEEDLE.search("".join(printed).encode())


@pytest.mark.slow
def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    write_hospital(tmp_path)
    assert len(list(found_in(tmp_path))) > PATIENTS
