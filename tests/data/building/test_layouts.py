"""How series lie in folders, and by which path the manifest names each."""

from pathlib import Path

import pytest

from medmtl.data.building.places import label_of
from medmtl.errors import ManifestError
from tests.data.building.trees import add_nifti, add_series, build, images, reasons

ONE, TWO, THREE = (label_of(uid) for uid in ("1.2.3.1", "1.2.3.2", "1.2.3.3"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "manifest"


def test_a_folder_of_one_series_is_its_image(root: Path, out: Path) -> None:
    add_series(root / "a" / "s1", "1.2.3.1")
    add_series(root / "b", "1.2.3.2", thick_mm=3)
    built = build(root, out)
    assert images(built) == ["a/s1", "b"] and not built.left_out and not built.twins


def test_series_of_one_folder_are_chosen_by_their_labels(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "a", "1.2.3.2", thick_mm=3)
    assert images(build(root, out)) == sorted([f"a#{ONE}", f"a#{TWO}"])


def test_a_series_may_lie_in_the_folder_itself(root: Path, out: Path) -> None:
    add_series(root, "1.2.3.1")
    assert images(build(root, out)) == ["."]
    add_series(root, "1.2.3.2", thick_mm=3)
    assert images(build(root, out)) == sorted([f".#{ONE}", f".#{TWO}"])


def test_a_folder_within_a_series_folder_is_told_from_it(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "a" / "thin", "1.2.3.2", thick_mm=3)
    assert images(build(root, out)) == [f"a#{ONE}", "a/thin"]


def test_a_series_spread_over_folders_is_one_scan(root: Path, out: Path) -> None:
    add_series(root / "a" / "IM1", "1.2.3.1", only=range(2))
    add_series(root / "a" / "IM2", "1.2.3.1", only=range(2, 4))
    add_series(root / "b" / "IM1", "1.2.3.2", thick_mm=3, only=range(2))
    add_series(root / "b" / "IM2", "1.2.3.2", thick_mm=3, only=range(2, 4))
    add_series(root / "b" / "IM2", "1.2.3.3", thick_mm=4)
    built = build(root, out)
    assert images(built) == ["a", f"b#{TWO}", "b/IM2#" + THREE] and not built.left_out


def test_a_copy_of_a_series_is_left_out(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "copy", "1.2.3.1")
    add_series(root / "part", "1.2.3.1", only=range(2))
    built = build(root, out)
    assert images(built) == ["a"]
    assert set(reasons(built)) == {f"copy#{ONE}", f"part#{ONE}"}
    assert all("lie in another folder" in each for each in reasons(built).values())


def test_files_without_ending_and_other_files_do_not_matter(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    for number, file in enumerate(sorted((root / "a").iterdir())):
        file.rename(file.with_name(f"IM{number:05d}"))
    for junk in ("report.pdf", "notes.txt", "DICOMDIR", ".DS_Store", "Thumbs.db"):
        (root / "a" / junk).write_bytes(b"junk")
    assert images(build(root, out)) == ["a"]


def test_what_is_no_ct_volume_is_left_out_with_its_reason(root: Path, out: Path) -> None:
    add_series(root / "good", "1.2.3.1")
    add_series(root / "scout", "1.2.3.2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    add_series(root / "report", "1.2.3.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    add_series(root / "mr", "1.2.3.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR")
    add_series(root / "gap", "1.2.3.5", skip=(2,))
    add_series(root / "screen", "1.2.3.6", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    built = build(root, out)
    assert images(built) == ["good"]
    told = {path.partition("#")[0]: reason for path, reason in reasons(built).items()}
    assert set(told) == {"scout", "report", "mr", "gap", "screen"}
    assert "localizer" in told["scout"] and "Comprehensive SR" in told["report"]
    assert "MR Image" in told["mr"] and "1 of 4 slices are missing" in told["gap"]
    assert "secondary capture" in told["screen"]
    assert {each.files for each in built.left_out} == {3, 4}


def test_a_report_beside_a_series_needs_no_label(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "a", "1.2.3.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    assert images(build(root, out)) == ["a"]


def test_a_damaged_file_may_be_a_slice_so_its_folder_is_left_out(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "b", "1.2.3.2", thick_mm=3)
    (root / "b" / "IM7").write_bytes(b"damaged")
    built = build(root, out)
    assert images(built) == ["a"]
    assert "number 5 of 5 by name" in reasons(built)[f"b#{TWO}"]
    assert "is not a DICOM file" in reasons(built)["b"]


def test_pixels_that_are_cut_off_are_found(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "b", "1.2.3.2", thick_mm=3)
    first = min((root / "b").iterdir())
    first.write_bytes(first.read_bytes()[:-9])
    built = build(root, out)
    assert images(built) == ["a"] and "file 1 of 4" in reasons(built)["b"]


def test_links_that_leave_the_folder_are_not_followed(
    root: Path, out: Path, tmp_path: Path
) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "c", "1.2.3.3", thick_mm=4, only=range(3))
    away = add_series(tmp_path / "away", "1.2.3.2", thick_mm=3)
    scan = add_nifti(tmp_path / "away.nii.gz", seed=1)
    (root / "b").symlink_to(away)
    (root / "c" / "slice.dcm").symlink_to(next(away.iterdir()))
    (root / "x.nii.gz").symlink_to(scan)
    built = build(root, out)
    assert images(built) == ["a"]
    assert set(reasons(built)) == {"b", "c", f"c#{THREE}", "x.nii.gz"}


def test_an_empty_folder_has_one_clear_message(root: Path, out: Path) -> None:
    root.mkdir()
    with pytest.raises(ManifestError, match="archive: holds neither a CT series"):
        build(root, out)
    with pytest.raises(ManifestError, match="nowhere: there is no such folder"):
        build(root / "nowhere", out)
    assert not out.exists()


def test_a_folder_of_refused_scans_says_why(root: Path, out: Path) -> None:
    add_series(root / "gap", "1.2.3.5", skip=(2,))
    with pytest.raises(ManifestError, match="no scan can be used, for\n  3 files: 1 of 4 slices"):
        build(root, out)
    assert "gap," in (out / "left_out.csv").read_text()


def test_nifti_files_are_scans_and_masks_are_not(root: Path, out: Path) -> None:
    add_nifti(root / "p1" / "ct.nii.gz", seed=1)
    add_nifti(root / "p2" / "ct.nii", seed=2)
    add_nifti(root / "p2" / "seg.nii.gz", seed=3, is_mask=True)
    (root / "p2" / "broken.nii.gz").write_bytes(b"nothing")
    built = build(root, out, already=True)
    assert images(built) == ["p1/ct.nii.gz", "p2/ct.nii"]
    assert [scan.patient_id for scan in built.manifest.scans] == ["p1", "p2"]
    assert "so it is a mask" in reasons(built)["p2/seg.nii.gz"]
    assert "damaged, or not gzip" in reasons(built)["p2/broken.nii.gz"]


@pytest.mark.parametrize(
    ("mask", "pattern"),
    [
        ("p1/ct_seg.nii.gz", "{stem}_seg.nii.gz"),
        ("p1/seg.nii.gz", "{stem}ct.nii.gz={stem}seg.nii.gz"),
        ("labels/ct.nii.gz", "../labels/{stem}.nii.gz"),
    ],
)
def test_masks_are_found_beside_their_images(
    root: Path, out: Path, mask: str, pattern: str
) -> None:
    add_nifti(root / "p1" / "ct.nii.gz", seed=1)
    add_nifti(root / mask, seed=3, is_mask=True)
    options = {"masks": pattern, "structures": {"heart": 1, "aorta": 2, "liver": 7}}
    (scan,) = build(root, out, already=True, by="folder", **options).manifest.scans
    assert (scan.organ_mask, scan.annotated) == (mask, {"heart", "aorta"})
    (scan,) = build(root, out, already=True, by="folder", **options).manifest.scans
    assert scan.annotated == {"heart", "aorta"}


def test_a_mask_that_does_not_fit_is_left_out_but_its_image_is_not(root: Path, out: Path) -> None:
    add_nifti(root / "a.nii.gz", seed=1)
    add_nifti(root / "a_seg.nii.gz", seed=3, is_mask=True)
    options = {"masks": "{stem}_seg.nii.gz", "structures": {"heart": 1}}
    built = build(root, out, already=True, by="file", **options)
    assert built.manifest.scans[0].organ_mask is None
    assert reasons(built) == {
        "a_seg.nii.gz": "holds the values 2, which --structures does not name"
    }


@pytest.mark.parametrize("pattern", ["_seg.nii.gz", "{stem}{stem}.nii", "a={stem}.nii", "{stem}.x"])
def test_a_pattern_without_masks_is_refused(root: Path, out: Path, pattern: str) -> None:
    add_nifti(root / "a.nii.gz", seed=1)
    with pytest.raises(ManifestError, match="--masks"):
        build(root, out, already=True, by="file", masks=pattern, structures={"heart": 1})


def test_images_that_are_not_wanted_are_left_out(root: Path, out: Path) -> None:
    add_nifti(root / "a" / "ct.nii.gz", seed=1)
    add_nifti(root / "pet" / "pet.nii.gz", seed=2)
    built = build(root, out, already=True, by="folder", leave_out=["pet/*"])
    assert images(built) == ["a/ct.nii.gz"] and "--leave-out" in reasons(built)["pet/pet.nii.gz"]
