from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.data.adapters.lidc_idri import import_lidc_idri
from medmtl.data.adapters.public_ids import series_label
from medmtl.data.geometry import voxel_to_world
from medmtl.data.manifest import Lesion, Manifest
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from tests.data.adapters.lidc_archive import (
    NODULE_A,
    ONE,
    RATINGS,
    SHAPE,
    SPACING_MM,
    TWO,
    UIDS,
    Drawn,
    Roi,
    around_disc,
    phantom_of,
    series_folder,
    square,
    write_archive,
    write_scan,
    write_xml,
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "LIDC-IDRI")


def voxels_of(manifest: Manifest, lesion: Lesion) -> NDArray[np.bool_]:
    assert lesion.mask is not None
    image = nib.load(manifest.resolve(lesion.mask))
    np.testing.assert_allclose(image.affine, phantom_of("1").affine, atol=1e-4)
    return np.asarray(image.dataobj) != 0


def one_nodule(root: Path, tmp_path: Path, *drawn: Drawn) -> tuple[Manifest, Lesion]:
    """Imports a scan with a reading a reader that all are of one nodule."""
    write_scan(root, TWO, "2")
    write_xml(series_folder(root, TWO, "2"), "2", [[each] for each in drawn])
    manifest = import_lidc_idri(root / TWO, tmp_path / "two")
    (lesion,) = manifest.lesions
    return manifest, lesion


def test_an_archive_becomes_a_sound_manifest(archive: Path, tmp_path: Path) -> None:
    manifest = import_lidc_idri(archive, tmp_path / "manifests" / "lidc")
    assert check_manifest(manifest) == []
    assert read_manifest(tmp_path / "manifests" / "lidc") == manifest
    assert manifest.data_root == tmp_path.resolve()
    (scan,) = manifest.scans
    assert scan.patient_id == ONE
    assert scan.scan_id == f"{ONE}_{series_label(f'{UIDS}.1')}"
    assert scan.image == f"LIDC-IDRI/{ONE}/{UIDS}.9/{UIDS}.1"
    assert scan.annotated == {"nodule"}
    assert len(manifest.lesions) == 2
    assert manifest.lesions[0].mask == f"manifests/lidc/masks/{scan.scan_id}_n01.nii.gz"


def test_outlines_lie_outside_of_the_nodule(archive: Path, tmp_path: Path) -> None:
    manifest = import_lidc_idri(archive, tmp_path / "out")
    expected = np.zeros(SHAPE, bool)
    expected[3:6, 3:6, 4:6] = True  # of outlines from 2 to 6
    np.testing.assert_array_equal(voxels_of(manifest, manifest.lesions[0]), expected)


def test_half_of_the_readings_of_a_nodule_suffice(archive: Path, tmp_path: Path) -> None:
    manifest = import_lidc_idri(archive, tmp_path / "out")
    expected = np.zeros(SHAPE, bool)
    expected[21:28, 21:28, 8] = expected[22:29, 22:29, 8] = True  # two readings: either of them
    np.testing.assert_array_equal(voxels_of(manifest, manifest.lesions[1]), expected)


@pytest.mark.parametrize(("large", "side"), [(1, 3), (2, 9), (3, 9)])
def test_fewer_than_half_do_not(tmp_path: Path, large: int, side: int) -> None:
    drawn = [Drawn(rois=[square(2, 12, 4)])] * large + [Drawn(rois=[square(2, 6, 4)])] * (4 - large)
    manifest, lesion = one_nodule(tmp_path / "LIDC-IDRI", tmp_path, *drawn)
    assert voxels_of(manifest, lesion).sum() == side**2


def test_ratings_are_medians_over_the_readers_who_rated(archive: Path, tmp_path: Path) -> None:
    first, second = import_lidc_idri(archive, tmp_path / "out").lesions
    assert first.measurements["malignancy"] == 4
    assert first.labels == {"malignant": 1}
    assert first.measurements["n_readings"] == 4
    assert second.measurements["malignancy"] == 2  # the other reader left it out
    assert second.measurements["texture"] == 5  # 0 is not rated
    assert second.labels == {"malignant": 0}
    assert second.measurements["n_readings"] == 2


@pytest.mark.parametrize(
    ("ratings", "median", "label"),
    [([1, 4], 2.5, 0), ([3, 4], 3.5, 1), ([3], 3, None), ([2, 4], 3, None), ([0], None, None)],
)
def test_the_class_is_on_either_side_of_three(
    tmp_path: Path, ratings: list[int], median: float | None, label: int | None
) -> None:
    drawn = [Drawn(rois=[square(2, 6, 4)], ratings={**RATINGS, "malignancy": m}) for m in ratings]
    _, lesion = one_nodule(tmp_path / "LIDC-IDRI", tmp_path, *drawn)
    assert lesion.measurements["malignancy"] == median
    assert lesion.labels["malignant"] == label


def test_a_median_of_three_is_excluded_if_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "LIDC-IDRI"
    drawn = [Drawn(rois=[square(2, 6, 4)], ratings={**RATINGS, "malignancy": m}) for m in (2, 4)]
    manifest, lesion = one_nodule(root, tmp_path, *drawn)
    assert manifest.card.exclusions == []
    manifest = import_lidc_idri(root, tmp_path / "two", exclude_indeterminate=True)
    (exclusion,) = manifest.card.exclusions
    assert exclusion.id == lesion.lesion_id
    assert "neither benign nor malignant" in exclusion.reason
    assert manifest.included().lesions == ()
    assert import_lidc_idri(root, tmp_path / "two").card.exclusions == []


def test_what_was_excluded_by_hand_stays_excluded(archive: Path, tmp_path: Path) -> None:
    scan_id = import_lidc_idri(archive, tmp_path / "out").scans[0].scan_id
    card = tmp_path / "out" / "card.yaml"
    by_hand = f"exclusions:\n- id: {scan_id}\n  reason: metal\n"
    card.write_text(card.read_text().replace("exclusions: []\n", by_hand))
    (exclusion,) = import_lidc_idri(archive, tmp_path / "out").card.exclusions
    assert exclusion.reason == "metal"


def test_a_hole_is_no_nodule(tmp_path: Path) -> None:
    hole = square(8, 12, 4, inclusion="FALSE")
    drawn = Drawn(rois=[hole, square(2, 20, 4)])
    manifest, lesion = one_nodule(tmp_path / "LIDC-IDRI", tmp_path, drawn)
    voxels = voxels_of(manifest, lesion)
    assert voxels[7, 10, 4] and not voxels[8:13, 8:13, 4].any()
    assert voxels.sum() == 17**2 - 5**2


def test_a_ball_has_its_volume_its_place_and_its_diameter(tmp_path: Path) -> None:
    radius_mm, centre = 9.0, (18, 17, 6)
    rois = []
    for k in range(SHAPE[2]):
        height_mm = (k - centre[2]) * SPACING_MM[2]
        if abs(height_mm) < radius_mm - 1:
            radius = np.sqrt(radius_mm**2 - height_mm**2) / SPACING_MM[0]
            rois.append(around_disc(centre[:2], radius, k))
    _, lesion = one_nodule(tmp_path / "LIDC-IDRI", tmp_path, Drawn(rois=rois))
    assert lesion.diameter_mm == pytest.approx(2 * radius_mm, rel=0.03)
    world_mm = voxel_to_world(phantom_of("2").affine, centre)
    np.testing.assert_allclose(lesion.position_mm, world_mm, atol=0.05)


def test_nodules_below_3_mm_are_counted_and_no_lesions(archive: Path, tmp_path: Path) -> None:
    description = import_lidc_idri(archive, tmp_path / "out").card.description
    assert "2 nodules of 6 readings" in description
    assert "1 nodules below 3 mm" in description


def test_the_card_says_licence_citation_and_what_is_missing(archive: Path, tmp_path: Path) -> None:
    card = import_lidc_idri(archive, tmp_path / "out").card
    assert card.licence == "CC BY 3.0"
    assert "Armato" in card.provenance
    assert "Complete: no, got 1 of 1018 scans, got 1 of 1010 patients." in card.description
    assert "not pathology" in card.labels["malignant"].reference_standard


def test_neighbours_are_told_apart_by_a_smaller_tolerance(tmp_path: Path) -> None:
    """Two nodules 1.4 mm apart, drawn by all four readers: within a slice thickness of 2 mm."""
    root = tmp_path / "LIDC-IDRI"
    write_scan(root, TWO, "2")
    reader = [Drawn(rois=[square(2, 6, 4)]), Drawn(rois=[square(2, 6, 4, at=6)])]
    write_xml(series_folder(root, TWO, "2"), "2", [reader] * 4)
    manifest = import_lidc_idri(root, tmp_path / "out")
    assert [lesion.measurements["n_readings"] for lesion in manifest.lesions] == [4, 4]
    write_xml(series_folder(root, TWO, "2"), "2", [reader] * 2)
    (both,) = import_lidc_idri(root, tmp_path / "out").lesions
    assert both.measurements["n_readings"] == 4


def test_readings_without_a_common_voxel_are_a_nodule_without_a_mask(tmp_path: Path) -> None:
    places = [square(4, 8, 4, at=at) for at in (0, 5, 10)]
    drawn = [Drawn(rois=[place]) for place in places]
    manifest, lesion = one_nodule(tmp_path / "LIDC-IDRI", tmp_path, *drawn)
    assert (lesion.mask, lesion.diameter_mm) == (None, None)
    assert lesion.position_mm is not None
    assert "1 nodules without a voxel" in manifest.card.description
    assert check_manifest(manifest) == []


def test_an_outline_is_placed_by_height_if_its_image_is_not_named(tmp_path: Path) -> None:
    low = square(2, 6, 4)
    drawn = Drawn(rois=[Roi(k=4, points=low.points, sop_uid="1.2.3")])
    manifest, lesion = one_nodule(tmp_path / "LIDC-IDRI", tmp_path, drawn)
    assert voxels_of(manifest, lesion)[3:6, 3:6, 4].all()


def test_x_rays_and_what_has_no_counterpart_are_counted(archive: Path, tmp_path: Path) -> None:
    write_scan(archive, ONE, "7", modality="DX")
    (series_folder(archive, ONE, "7") / "070.xml").write_text(
        '<IdriReadMessage xmlns="http://www.nih.gov"><CXRreadingSession/></IdriReadMessage>'
    )
    write_scan(archive, ONE, "5")
    xml = write_xml(archive / "tcia-lidc-xml" / "157", "404", [[NODULE_A[0]]])
    (xml.parent / "copy.xml").write_bytes(xml.read_bytes())
    manifest = import_lidc_idri(archive, tmp_path / "out")
    assert {scan.patient_id for scan in manifest.scans} == {ONE}
    assert sorted(map(sorted, (scan.annotated for scan in manifest.scans))) == [[], ["nodule"]]
    for text in (
        "got 2 of 1018 scans, got 1 of 1010 patients", "1 XML files without their scan",
        "1 scans without an XML file", "1 other XML files",
    ):  # fmt: skip
        assert text in manifest.card.description
    assert check_manifest(manifest) == []


def test_a_scan_with_a_missing_slice_is_excluded_with_the_reason(
    archive: Path, tmp_path: Path
) -> None:
    write_scan(archive, TWO, "2", skip=(5,))
    write_xml(series_folder(archive, TWO, "2"), "2", [[NODULE_A[0]]])
    manifest = import_lidc_idri(archive, tmp_path / "out")
    (exclusion,) = manifest.card.exclusions
    assert exclusion.id.startswith(TWO)
    assert "slice" in exclusion.reason
    assert UIDS not in exclusion.reason
    assert {lesion.scan_id.split("_")[0] for lesion in manifest.lesions} == {ONE}
    assert check_manifest(manifest) == []
    write_scan(archive, TWO, "2")
    assert import_lidc_idri(archive, tmp_path / "out").card.exclusions == []


def test_masks_are_made_again_only_if_their_outlines_changed(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    masks = [out.parent / str(each.mask) for each in import_lidc_idri(archive, out).lesions]
    before = [path.stat().st_mtime_ns for path in masks]
    written = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    import_lidc_idri(archive, out)
    assert [path.stat().st_mtime_ns for path in masks] == before
    assert written == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    masks[0].write_bytes(masks[0].read_bytes()[:-9])  # spoiled since
    manifest = import_lidc_idri(archive, out)
    assert masks[0].stat().st_mtime_ns > before[0]
    assert masks[1].stat().st_mtime_ns == before[1]
    assert check_manifest(manifest) == []


def test_an_interrupted_import_leaves_no_half_mask(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("medmtl.data.adapters.lidc_idri.write_mask", stop)
        with pytest.raises(KeyboardInterrupt):
            import_lidc_idri(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("*.nii.gz"))
    assert check_manifest(import_lidc_idri(archive, tmp_path / "out")) == []
