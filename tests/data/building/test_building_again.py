"""A build that was stopped goes on; any number of workers and any detour give the same bytes."""

from pathlib import Path

import numpy as np
import pytest

from medmtl.data.audit import content_hash
from medmtl.data.building import contents
from medmtl.data.building.hashing import Hashed, HashJob, hash_scan
from medmtl.data.dicom.reader import read_series
from medmtl.data.manifest import DataCard, Exclusion, Lesion, Manifest
from medmtl.data.manifest_files import read_manifest, write_manifest
from medmtl.data.writing import write_image
from medmtl.errors import ManifestError
from tests.data.building.trees import add_nifti, add_series, build, content_of, images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        uid, thick_mm = f"1.2.3.{number}", 2 + number / 4
        add_series(tmp_path / "archive" / f"s{number // 2}", uid, thick_mm=thick_mm)
    add_series(tmp_path / "archive" / "gap", "1.2.3.9", skip=(2,))
    return tmp_path / "archive"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[HashJob]:
    """The scans whose pixels are read."""
    jobs: list[HashJob] = []

    def count(job: HashJob) -> Hashed:
        jobs.append(job)
        return hash_scan(job)

    monkeypatch.setattr(contents, "hash_scan", count)
    return jobs


def test_two_workers_write_what_one_writes(root: Path, tmp_path: Path) -> None:
    build(root, tmp_path / "one", workers=1)
    build(root, tmp_path / "two", workers=2)
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")


def test_a_build_that_was_stopped_goes_on(
    root: Path, tmp_path: Path, read: list[HashJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(root, tmp_path / "whole")
    read.clear()
    going = contents.hash_scan

    def stop(job: HashJob) -> Hashed:
        if len(read) == 2:
            raise KeyboardInterrupt
        return going(job)

    monkeypatch.setattr(contents, "hash_scan", stop)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        build(root, out)
    assert [each.name for each in out.iterdir()] == [contents.JOURNAL]
    with (out / contents.JOURNAL).open("a") as file:
        file.write('{"key": "torn')  # the computer went down
    monkeypatch.setattr(contents, "hash_scan", going)
    build(root, out)
    assert len(read) == 4 and len({job.key for job in read}) == 4
    assert content_of(out) == content_of(tmp_path / "whole")


def test_only_what_is_new_is_read_when_an_archive_has_grown(
    root: Path, tmp_path: Path, read: list[HashJob]
) -> None:
    first = build(root, tmp_path / "out")
    read.clear()
    add_series(root / "new", "1.2.3.7", thick_mm=4)
    grown = build(root, tmp_path / "out")
    assert {job.files[0].partition("/")[0] for job in read} == {"new", "gap"}  # refused: again
    before = {scan.scan_id: scan.image for scan in first.manifest.scans}
    after = {scan.scan_id: scan.image for scan in grown.manifest.scans}
    assert before.items() < after.items()


def test_a_changed_file_is_read_again(root: Path, tmp_path: Path, read: list[HashJob]) -> None:
    build(root, tmp_path / "out")
    read.clear()
    add_series(root / "s1", "1.2.3.2", thick_mm=9)
    build(root, tmp_path / "out")
    assert {job.files[0].partition("/")[0] for job in read} == {"s1", "gap"}


def test_what_people_filled_in_stays(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans = build(root, out).manifest.scans
    manifest = read_manifest(out)
    exclusion = Exclusion(id=scans[0].scan_id, reason="metal")
    filled = {"licence": "ours", "exclusions": [exclusion]}
    write_manifest(Manifest(out, manifest.card.model_copy(update=filled), manifest.scans, ()))
    card = build(root, out).manifest.card
    assert card.licence == "ours" and card.exclusions == [exclusion]


def test_lesions_that_were_added_are_not_lost(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scan = build(root, out).manifest.scans[0]
    manifest = read_manifest(out)
    lesion = Lesion(lesion_id="l", scan_id=scan.scan_id, position_mm=None)
    write_manifest(Manifest(out, manifest.card, manifest.scans, (lesion,)))
    with pytest.raises(ManifestError, match="would be lost"):
        build(root, out)
    assert read_manifest(out).lesions


def test_the_manifest_of_something_else_is_not_touched(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_manifest(Manifest(out, DataCard(name="other", data_root="."), (), ()))
    before = content_of(out)
    with pytest.raises(ManifestError, match="was not built from archive"):
        build(root, out)
    assert content_of(out) == before


def test_a_series_and_its_conversion_are_the_same_content(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    series = add_series(root / "a", "1.2.3.1")
    volume = read_series(series, name="s")
    write_image(root / "b" / "ct.nii.gz", volume)
    add_nifti(root / "c" / "ct.nii.gz", seed=1)
    built = build(root, tmp_path / "out", already=True, by="folder")
    (twins,) = built.twins
    assert len(twins.scan_ids) == 2 and twins.patients == 2
    rows = (tmp_path / "out" / "contents.csv").read_text().splitlines()
    assert sum(content_hash(volume) in row for row in rows) == 2
    assert images(built) == ["a", "b/ct.nii.gz", "c/ct.nii.gz"]


def test_copies_of_one_patient_and_of_two_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    add_series(root / "a", "1.2.3.1", patient="P1000")
    add_series(root / "b", "1.2.3.2", patient="P1000")
    add_series(root / "c", "1.2.3.3", patient="P2000", thick_mm=3)
    add_series(root / "d", "1.2.3.3", patient="P3000", thick_mm=3)
    built = build(root, tmp_path / "out")
    assert [twins.patients for twins in built.twins] == [2, 1]
    assert len(np.unique([scan.scan_id for scan in built.manifest.scans])) == 4
