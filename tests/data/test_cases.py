from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from medmtl.data import cases as cases_module
from medmtl.data.audit import content_hash
from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader, Preparation, prepare_cases
from medmtl.data.dicom.reader import read_series
from medmtl.data.manifest import Manifest, Scan
from medmtl.data.reading import Volume
from medmtl.errors import ManifestError, ScanError
from tests.data.dicom.writers import Phantom, write_series
from tests.data.phantoms import save_nifti
from tests.synthetic import write_cohort

SPACING_MM = (1.2, 0.9, 0.9)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_cohort(tmp_path, patients=3, side=12)


def loader(manifest: Manifest, folder: Path, max_gb: float = 1.0) -> CaseLoader:
    cache = CaseCache(folder=folder / "cache", max_gb=max_gb)
    return CaseLoader(manifest=manifest, cache=cache, spacing_mm=SPACING_MM)


def whole(case) -> tuple:
    return tuple(slice(0, n) for n in case.shape)


def renamed_lesion(manifest: Manifest, lesion_id: str) -> Manifest:
    first, *others = manifest.lesions
    return replace(manifest, lesions=(replace(first, lesion_id=lesion_id), *others))


def test_a_case_is_read_once_and_holds_its_scan(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, real = [], cases_module.read_volume

    def counted(path, *, name):
        read.append(name)
        return real(path, name=name)

    monkeypatch.setattr(cases_module, "read_volume", counted)
    scan = manifest.scans[0]
    case = loader(manifest, tmp_path).open(scan)
    assert loader(manifest, tmp_path).open(scan).folder == case.folder
    assert len(read) == 1
    volume = loader(manifest, tmp_path).read_volume(scan)
    assert case.content_hash == content_hash(volume)
    superior, anterior, right = (
        next(n for n, code in enumerate(nib.aff2axcodes(volume.affine)) if code in axis)
        for axis in ("SI", "AP", "LR")
    )
    own_mm = volume.grid.spacing_mm
    assert case.spacing_mm == pytest.approx((own_mm[superior], own_mm[anterior], own_mm[right]))


def test_the_nodule_is_bright_where_its_mask_is(manifest: Manifest, tmp_path: Path) -> None:
    for scan, lesion in zip(manifest.scans, manifest.lesions, strict=True):
        case = loader(manifest, tmp_path).open(scan)
        image = case.read_image(whole(case))
        share = case.read_mask(lesion.lesion_id, whole(case))
        assert image[share == 255].mean() > image[share == 0].mean() + 200


def test_without_annotations_the_image_is_the_same(manifest: Manifest, tmp_path: Path) -> None:
    bare = manifest.without_annotations()
    for scan in manifest.scans:
        one = loader(manifest, tmp_path).open(scan)
        other = loader(bare, tmp_path).open(bare.scan(scan.scan_id))
        assert other.folder != one.folder
        assert np.array_equal(one.read_image(whole(one)), other.read_image(whole(other)))
        assert np.array_equal(one.affine, other.affine)
        assert one.content_hash == other.content_hash


def test_two_spacings_lie_beside_each_other(manifest: Manifest, tmp_path: Path) -> None:
    fine = replace(loader(manifest, tmp_path), spacing_mm=(0.6, 0.6, 0.6)).open(manifest.scans[0])
    coarse = loader(manifest, tmp_path).open(manifest.scans[0])
    assert np.prod(fine.shape) > 2 * np.prod(coarse.shape)


@pytest.mark.parametrize("lesion_id", ["image", "case", "IMAGE", "case.json", "image.b2nd"])
def test_any_safe_lesion_id_leaves_the_image_alone(
    manifest: Manifest, tmp_path: Path, lesion_id: str
) -> None:
    scan = manifest.scans[0]
    usual = loader(manifest, tmp_path).open(scan)
    case = loader(renamed_lesion(manifest, lesion_id), tmp_path).open(scan)
    assert np.array_equal(case.read_image(whole(case)), usual.read_image(whole(usual)))
    share = usual.read_mask(manifest.lesions[0].lesion_id, whole(usual))
    assert np.array_equal(case.read_mask(lesion_id, whole(case)), share)


def test_a_mask_stored_in_another_order_is_the_same_mask(
    manifest: Manifest, tmp_path: Path
) -> None:
    scan, lesion = manifest.scans[0], manifest.lesions[0]
    usual = loader(manifest, tmp_path).open(scan)
    volume = loader(manifest, tmp_path).read_lesion_mask(scan, lesion)
    assert volume is not None
    flipped = volume.affine @ np.array(
        [[-1, 0, 0, volume.voxels.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    assert lesion.mask is not None
    save_nifti(
        manifest.resolve(lesion.mask),
        type(volume)(voxels=volume.voxels[::-1].copy(), affine=flipped),
    )
    case = loader(manifest, tmp_path).open(scan)
    assert case.folder != usual.folder
    read = [each.read_mask(lesion.lesion_id, whole(each)) for each in (case, usual)]
    assert np.array_equal(*read)


def test_a_mask_of_another_grid_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    scan, lesion = manifest.scans[0], manifest.lesions[0]
    mask = loader(manifest, tmp_path).read_lesion_mask(scan, lesion)
    assert mask is not None and lesion.mask is not None
    moved = mask.affine.copy()
    moved[0, 3] += 0.5
    save_nifti(manifest.resolve(lesion.mask), type(mask)(voxels=mask.voxels, affine=moved))
    with pytest.raises(ScanError, match=lesion.lesion_id):
        loader(manifest, tmp_path).open(scan)
    assert list((tmp_path / "cache").rglob("case.json")) == []


def test_a_missing_image_is_named(manifest: Manifest, tmp_path: Path) -> None:
    manifest.resolve(manifest.scans[0].image).unlink()
    with pytest.raises(ScanError, match=f"{manifest.scans[0].image}.*missing"):
        loader(manifest, tmp_path).open(manifest.scans[0])


def test_a_missing_mask_is_named_as_a_mask_file(manifest: Manifest, tmp_path: Path) -> None:
    mask = manifest.lesions[0].mask
    assert mask is not None
    manifest.resolve(mask).unlink()
    with pytest.raises(ScanError, match=f"{mask}.*missing"):
        loader(manifest, tmp_path).open(manifest.scans[0])


def test_a_folder_in_place_of_an_image_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.resolve(manifest.scans[0].image)
    path.unlink()
    path.mkdir()
    with pytest.raises(ScanError, match=manifest.scans[0].image):
        loader(manifest, tmp_path).open(manifest.scans[0])


def test_a_path_that_leaves_the_data_root_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    scan = replace(manifest.scans[0], image="../secret.nii.gz")
    with pytest.raises(ManifestError, match="leaves the data root"):
        loader(manifest, tmp_path).open(scan)


def test_preparing_keeps_what_is_in_use_and_trims_the_rest(
    manifest: Manifest, tmp_path: Path
) -> None:
    old = loader(manifest, tmp_path).open(manifest.scans[0])
    seen: list[int] = []
    small = loader(manifest, tmp_path, max_gb=1e-9)
    wanted = Preparation(loader=small, scans=manifest.scans[1:])
    hashes = prepare_cases([wanted], on_each=lambda: seen.append(1))
    assert list(hashes) == [scan.scan_id for scan in manifest.scans[1:]]
    assert len(seen) == len(hashes)
    assert not old.folder.exists()
    assert all((small.open(scan).folder / "case.json").is_file() for scan in manifest.scans[1:])


def test_a_scan_that_two_grids_need_is_read_and_hashed_once(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = CaseLoader.read_volume

    def count(self: CaseLoader, scan: Scan) -> Volume:
        read.append(scan.scan_id)
        return plain(self, scan)

    monkeypatch.setattr(CaseLoader, "read_volume", count)
    fine = loader(manifest, tmp_path)
    coarse = replace(fine, spacing_mm=(4.0, 4.0, 4.0), annotations="organs")
    both = [
        Preparation(loader=fine, scans=manifest.scans),
        Preparation(loader=coarse, scans=manifest.scans[:2]),
    ]
    facts = prepare_cases(both, workers=2)
    assert sorted(read) == sorted(scan.scan_id for scan in manifest.scans)
    for each in both:
        for scan in each.scans:
            case = each.loader.open(scan)
            expected = content_hash(plain(fine, scan))
            assert case.content_hash == facts[scan.scan_id].content_hash == expected
    assert sorted(read) == sorted(facts)


def test_a_mask_that_was_not_drawn_is_none(manifest: Manifest, tmp_path: Path) -> None:
    lesion = replace(manifest.lesions[0], mask=None)
    assert loader(manifest, tmp_path).read_lesion_mask(manifest.scans[0], lesion) is None


def test_a_scan_may_be_a_folder_of_dicom_and_a_changed_file_is_noticed(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path, patients=1, side=12)
    series = write_series(manifest.data_root / "series", Phantom(shape=(8, 7, 6)))
    scan = replace(manifest.scans[0], image="series", organ_mask=None)
    manifest = replace(manifest, scans=(scan,), lesions=())
    first = loader(manifest, tmp_path).open(scan)
    assert loader(manifest, tmp_path).open(scan).folder == first.folder
    expected = read_series(series, name="series")
    assert first.content_hash == content_hash(expected)
    one = sorted(series.iterdir())[0]
    image = dcmread(one)
    image.RescaleIntercept = float(image.RescaleIntercept) + 1
    image.save_as(one)
    changed = loader(manifest, tmp_path).open(scan)
    assert changed.folder != first.folder and changed.content_hash != first.content_hash
