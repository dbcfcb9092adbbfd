from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medmtl.data.adapters.lidc_idri import import_lidc_idri
from medmtl.data.adapters.luna16 import import_luna16
from medmtl.data.adapters.public_ids import series_id_of, series_label
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.data.reading import read_volume
from medmtl.errors import ManifestError
from tests.data.adapters.lidc_archive import UIDS, write_scan

A, B, C = f"{UIDS}.101", f"{UIDS}.202", f"{UIDS}.303"
SHAPE = (10, 9, 8)
ORIGIN, SPACING_MM = (-20.5, 10.25, -300.0), (0.75, 0.75, 2.0)


def write_mhd(folder: Path, uid: str, *, flipped: bool = False) -> sitk.Image:
    """A scan as LUNA16 has it; some of its scans lie the other way round."""
    folder.mkdir(parents=True, exist_ok=True)
    hu = np.random.default_rng(int(uid[-3:])).integers(-1000, 400, SHAPE[::-1])
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(ORIGIN)
    if flipped:
        image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(folder / f"{uid}.mhd"))
    return image


def write_table(folder: Path, rows: list[tuple[str, tuple[float, ...], float]]) -> None:
    table = pd.DataFrame(
        [(uid, *place, diameter) for uid, place, diameter in rows],
        columns=["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"],
    )
    table.to_csv(folder / "annotations.csv", index=False)


@pytest.fixture
def luna(tmp_path: Path) -> Path:
    folder = tmp_path / "LUNA16"
    first = write_mhd(folder / "subset0", A)
    second = write_mhd(folder / "subset9", B, flipped=True)
    write_table(
        folder,
        [
            (A, first.TransformIndexToPhysicalPoint((2, 3, 4)), 5.65),
            (A, first.TransformIndexToPhysicalPoint((7, 1, 6)), 4.2),
            (B, second.TransformIndexToPhysicalPoint((1, 8, 0)), 20.0),
            (C, (0, 0, 0), 6.0),
        ],
    )
    (folder / "candidates.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n")
    return folder


def refused(luna: Path, tmp_path: Path, lidc: Path | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        import_luna16(luna, tmp_path / "out", lidc=lidc)
    assert not (tmp_path / "out" / "card.yaml").exists()
    assert str(tmp_path) not in str(caught.value)
    return str(caught.value)


def test_a_download_becomes_a_sound_manifest(luna: Path, tmp_path: Path) -> None:
    manifest = import_luna16(luna, tmp_path / "out")
    assert check_manifest(manifest) == []
    assert read_manifest(tmp_path / "out") == manifest
    assert manifest.data_root == (tmp_path / "out").resolve()
    assert {scan.scan_id for scan in manifest.scans} == {
        f"LUNA16_{series_label(uid)}" for uid in (A, B)
    }
    written = "".join(path.read_text() for path in (tmp_path / "out").glob("*.*"))
    assert UIDS not in written


@pytest.mark.parametrize("uid", [A, B])
def test_scans_are_converted_as_simpleitk_reads_them(luna: Path, tmp_path: Path, uid: str) -> None:
    manifest = import_luna16(luna, tmp_path / "out")
    scan = manifest.scan(f"LUNA16_{series_label(uid)}")
    volume = read_volume(manifest.resolve(scan.image), name=scan.image)
    image = sitk.ReadImage(str(next(luna.rglob(f"{uid}.mhd"))))
    np.testing.assert_array_equal(volume.voxels, sitk.GetArrayFromImage(image).T)
    nifti = sitk.ReadImage(str(manifest.resolve(scan.image)))
    np.testing.assert_allclose(nifti.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(nifti.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(nifti.GetSpacing(), image.GetSpacing(), atol=1e-6)


def test_nodules_lie_at_their_voxels(luna: Path, tmp_path: Path) -> None:
    manifest = import_luna16(luna, tmp_path / "out")
    places = {}
    for lesion in manifest.lesions:
        scan = manifest.scan(lesion.scan_id)
        affine = read_volume(manifest.resolve(scan.image), name="scan").affine
        ijk = np.linalg.solve(affine, [*lesion.position_mm, 1])[:3]  # type: ignore[misc]
        places[lesion.lesion_id] = (tuple(np.rint(ijk).astype(int)), lesion.diameter_mm)
    assert places == {
        f"LUNA16_{series_label(A)}_n01": ((2, 3, 4), 5.65),
        f"LUNA16_{series_label(A)}_n02": ((7, 1, 6), 4.2),
        f"LUNA16_{series_label(B)}_n01": ((1, 8, 0), 20.0),
    }


def test_the_card_says_what_is_missing_and_what_is_not_known(luna: Path, tmp_path: Path) -> None:
    card = import_luna16(luna, tmp_path / "out").card
    for text in (
        "Complete: no, got 2 of 888 scans, got 3 of 1186 nodules.",
        "1 annotations of scans that are not there",
        "two scans of one patient would be taken for two patients",
    ):
        assert text in card.description
    assert card.licence.startswith("CC BY 4.0")
    assert "Setio" in card.provenance


@pytest.mark.parametrize("columns", [("Series UID", "Subject ID"), ("seriesuid", "patient_id")])
def test_a_table_says_whose_scans_they_are(
    luna: Path, tmp_path: Path, columns: tuple[str, str]
) -> None:
    rows = [(A, "LIDC-IDRI-0332"), (B, "LIDC-IDRI-0332"), (C, "LIDC-IDRI-0001")]
    pd.DataFrame(rows, columns=list(columns)).to_csv(tmp_path / "metadata.csv", index=False)
    manifest = import_luna16(luna, tmp_path / "out", lidc=tmp_path / "metadata.csv")
    assert {scan.patient_id for scan in manifest.scans} == {"LIDC-IDRI-0332"}
    assert "would be taken for two patients" not in manifest.card.description
    assert check_manifest(manifest) == []


def test_the_manifest_of_lidc_idri_says_whose_scans_they_are(luna: Path, tmp_path: Path) -> None:
    for series in ("101", "202"):
        write_scan(tmp_path / "LIDC-IDRI", "LIDC-IDRI-0332", series)
    import_lidc_idri(tmp_path / "LIDC-IDRI", tmp_path / "lidc")
    manifest = import_luna16(luna, tmp_path / "out", lidc=tmp_path / "lidc")
    assert {scan.patient_id for scan in manifest.scans} == {"LIDC-IDRI-0332"}
    assert {scan.series_id for scan in manifest.scans} == {series_id_of(A), series_id_of(B)}


def test_a_scan_that_the_table_does_not_know_is_a_fault(luna: Path, tmp_path: Path) -> None:
    pd.DataFrame({"seriesuid": [A], "patient_id": ["LIDC-IDRI-0332"]}).to_csv(
        tmp_path / "map.csv", index=False
    )
    assert f"{B}.mhd: map.csv does not know whose it is" in refused(
        luna, tmp_path, lidc=tmp_path / "map.csv"
    )
    pd.DataFrame({"uid": [A]}).to_csv(tmp_path / "map.csv", index=False)
    with pytest.raises(ManifestError, match="has not the columns 'Series UID' and 'Subject ID'"):
        import_luna16(luna, tmp_path / "out", lidc=tmp_path / "map.csv")


def test_a_nodule_outside_of_its_scan_is_excluded(luna: Path, tmp_path: Path) -> None:
    write_table(luna, [(A, (900, 0, 0), 5.0)])
    manifest = import_luna16(luna, tmp_path / "out")
    (exclusion,) = manifest.card.exclusions
    assert exclusion.id == manifest.lesions[0].lesion_id
    assert "mm outside its scan" in exclusion.reason
    assert check_manifest(manifest) == []


def test_scans_are_converted_again_only_if_they_changed(luna: Path, tmp_path: Path) -> None:
    images = [tmp_path / "out" / scan.image for scan in import_luna16(luna, tmp_path / "out").scans]
    before = {path: path.stat().st_mtime_ns for path in images}
    import_luna16(luna, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in images} == before
    write_mhd(luna / "subset0", A, flipped=True)
    manifest = import_luna16(luna, tmp_path / "out")
    changed = {path.name for path in images if path.stat().st_mtime_ns != before[path]}
    assert changed == {f"LUNA16_{series_label(A)}.nii.gz"}
    assert check_manifest(manifest) == []


def test_everything_wrong_is_told_at_once(luna: Path, tmp_path: Path) -> None:
    (luna / "subset0" / f"{A}.raw").write_bytes(b"short")
    write_mhd(luna / "subset1", B)
    (luna / "subset2").mkdir()
    (luna / "subset2" / "notes.mhd").write_text("ObjectType = Image\n")
    write_table(luna, [(A, (0, 0, np.nan), 5.0), ("", (0, 0, 0), 5.0)])
    message = refused(luna, tmp_path)
    for text in (
        "LUNA16: 5 faults", "the voxels take 5 bytes, not 1440",
        f"the same series as subset1/{B}.mhd", "subset2/notes.mhd: its name is no Series",
        "row 2: a nodule needs all of", "row 3: the cell 'seriesuid' is empty",
    ):  # fmt: skip
        assert text in message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_none_is_refused(luna: Path, tmp_path: Path) -> None:
    for file in luna.glob("subset*/*"):
        file.unlink()
    assert "no scan; give the folder that holds subset0" in refused(luna, tmp_path)
    (luna / "annotations.csv").unlink()
    with pytest.raises(ManifestError, match=r"annotations\.csv"):
        import_luna16(luna, tmp_path / "out")
