from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.manifest import Exclusion, Manifest
from medmtl.data.manifest_check import check_manifest, require_sound
from medmtl.errors import ManifestError
from tests.synthetic import write_cohort


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_cohort(tmp_path, patients=3, side=10, organs=True)


def with_scan(manifest: Manifest, place: int, **changes: Any) -> Manifest:
    scans = list(manifest.scans)
    scans[place] = replace(scans[place], **changes)
    return replace(manifest, scans=tuple(scans))


def with_lesion(manifest: Manifest, place: int, **changes: Any) -> Manifest:
    lesions = list(manifest.lesions)
    lesions[place] = replace(lesions[place], **changes)
    return replace(manifest, lesions=tuple(lesions))


def with_card(manifest: Manifest, **changes: Any) -> Manifest:
    return replace(manifest, card=manifest.card.model_copy(update=changes))


def told(manifest: Manifest) -> list[str]:
    return [str(fault) for fault in check_manifest(manifest)]


def rewrite(path: Path, change: Any) -> None:
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    change(voxels)
    nib.save(nib.Nifti1Image(voxels, None, image.header), path)


def test_a_sound_manifest_has_no_faults(manifest: Manifest) -> None:
    assert told(manifest) == []
    require_sound(manifest)


def test_left_and_right_are_told_apart_in_the_world(manifest: Manifest) -> None:
    for scan in manifest.scans:
        rewrite(manifest.resolve(scan.organ_mask), lambda voxels: voxels.fill(0))
    path = manifest.resolve(manifest.scans[0].organ_mask)
    image = nib.load(path)
    voxels = np.zeros(image.shape, dtype=np.uint8)
    first, last = nib.affines.apply_affine(image.affine, [[0, 0, 0], np.array(image.shape) - 1])
    values = [manifest.card.structures[name] for name in ("left_side", "right_side")]
    # RAS: the first coordinate grows to the patient's right.
    voxels[0, 0, 0], voxels[-1, -1, -1] = values if first[0] < last[0] else values[::-1]
    nib.save(nib.Nifti1Image(voxels, None, image.header), path)
    assert told(with_card(manifest, left_right_pairs=[("left_side", "right_side")])) == []
    (fault,) = told(with_card(manifest, left_right_pairs=[("right_side", "left_side")]))
    assert "right_side lies to the patient's right of left_side" in fault


def test_a_pair_must_name_structures_once(manifest: Manifest) -> None:
    left, right = list(manifest.card.structures)[:2]
    assert "'ear' must be one of" in told(with_card(manifest, left_right_pairs=[(left, "ear")]))[0]
    twice = with_card(manifest, left_right_pairs=[(left, right), (left, right)])
    assert "in one pair only" in told(twice)[0]


def test_a_position_outside_is_told_with_its_distance(manifest: Manifest) -> None:
    affine = nib.load(manifest.resolve(manifest.scans[1].image)).affine
    corner = nib.affines.apply_affine(affine, [-0.5, 0, 0])
    outward = -affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    away = with_lesion(manifest, 1, position_mm=tuple((corner + 9.4 * outward).tolist()))
    assert told(away)[0] == (
        f"lesions.csv: row 3: lesion {away.lesions[1].lesion_id}: "
        "position is 9.4 mm outside its file"
    )


def test_all_faults_are_told_at_once_in_the_order_of_the_tables(manifest: Manifest) -> None:
    manifest.resolve(manifest.scans[0].image).unlink()
    wrong = with_lesion(manifest, 3, diameter_mm=0.0, labels={"malignant": 2})
    wrong = with_lesion(wrong, 2, labels={"malignant": -1})
    wrong = with_scan(wrong, 2, annotated=frozenset({"nodule", "spleen"}))
    wrong = with_card(wrong, exclusions=[Exclusion(id="nobody", reason="never seen")])
    lines = told(wrong)
    assert [line.split(": ")[:2] for line in lines] == [
        ["card.yaml", "exclusions"],
        ["scans.csv", "row 2"],
        ["scans.csv", "row 4"],
        ["lesions.csv", "row 4"],
        ["lesions.csv", "row 5"],
        ["lesions.csv", "row 5"],
    ]
    assert "nobody" in lines[0]
    assert "missing" in lines[1]
    assert "'spleen'" in lines[2]
    assert "-1" in lines[3]


@pytest.mark.parametrize("path", ["../data/images/x.nii.gz", "/etc/passwd.nii"])
def test_a_path_outside_the_data_root_is_a_fault(manifest: Manifest, path: str) -> None:
    lines = told(with_scan(manifest, 0, image=path.replace("data", "elsewhere")))
    assert len(lines) == 1
    assert "leaves the data root" in lines[0]


def test_a_link_out_of_the_data_root_is_a_fault(manifest: Manifest, tmp_path: Path) -> None:
    image = manifest.resolve(manifest.scans[0].image)
    image.rename(tmp_path / "outside.nii.gz")
    image.symlink_to(tmp_path / "outside.nii.gz")
    assert "leaves the data root" in told(manifest)[0]


def test_an_empty_image_cell_is_a_fault(manifest: Manifest) -> None:
    assert "'image' is empty" in told(with_scan(manifest, 0, image=""))[0]


def test_a_missing_data_root_is_one_fault(manifest: Manifest) -> None:
    lines = told(with_card(manifest, data_root="../nowhere"))
    assert len(lines) == 1
    assert lines[0].startswith("card.yaml: data_root")


@pytest.mark.parametrize("bad", ["", ".hidden", "a/b", "Doe^John", "a b", "Müller", "x" * 200])
def test_ids_that_are_no_file_names_are_faults_and_not_repeated(
    manifest: Manifest, bad: str
) -> None:
    lines = told(with_scan(manifest, 0, patient_id=bad))
    assert len(lines) == 1
    assert "patient_id is not safe" in lines[0]
    lines = told(with_lesion(manifest, 0, lesion_id=bad))
    assert len(lines) == 1
    assert "lesion_id is not safe" in lines[0]
    assert not bad or bad not in lines[0]


def test_repeated_ids_and_unknown_scans_are_faults(manifest: Manifest) -> None:
    twice = with_lesion(manifest, 1, lesion_id=manifest.lesions[0].lesion_id)
    assert [line.split(": ")[1] for line in told(twice)] == ["row 2", "row 3"]
    lost = with_lesion(manifest, 1, scan_id="SYN-9999_01")
    assert "'SYN-9999_01' is not in scans.csv" in "\n".join(told(lost))
    scans = with_scan(manifest, 1, scan_id=manifest.scans[0].scan_id)
    assert sum("scan_id stands in 2 rows" in line for line in told(scans)) == 2


def test_a_file_used_by_two_scans_is_a_fault(manifest: Manifest) -> None:
    organs = manifest.scans[0].organ_mask
    shared = with_scan(manifest, 1, image=manifest.scans[0].image, organ_mask=organs)
    assert sum("is also the file of row 2" in line for line in told(shared)) == 2


def test_a_mask_on_another_grid_is_a_fault(manifest: Manifest) -> None:
    wrong = with_lesion(manifest, 0, mask=manifest.lesions[1].mask)
    assert len(told(wrong)) == 1
    wrong = with_scan(manifest, 0, organ_mask=manifest.scans[1].organ_mask)
    assert any("voxels" in line for line in told(wrong))


def test_a_mask_far_from_its_position_is_suspicious(manifest: Manifest) -> None:
    x, y, z = manifest.lesions[0].position_mm or (0, 0, 0)
    moved = with_lesion(manifest, 0, position_mm=(x, y, z + 60.0), diameter_mm=6.0)
    lines = told(moved)
    assert len(lines) == 2
    assert "is it of another lesion?" in lines[1]
    assert told(with_lesion(manifest, 0, position_mm=None)) == []


def test_values_that_are_no_structure_are_faults(manifest: Manifest) -> None:
    def mark(voxels: np.ndarray) -> None:
        voxels[0, 0, 0] = 9

    rewrite(manifest.resolve(manifest.scans[0].organ_mask or ""), mark)
    assert "the values 9" in told(manifest)[0]


def test_an_empty_organ_mask_is_accepted_and_an_empty_lesion_mask_is_not(
    manifest: Manifest,
) -> None:
    def clear(voxels: np.ndarray) -> None:
        voxels[:] = 0

    rewrite(manifest.resolve(manifest.scans[0].organ_mask or ""), clear)
    assert told(manifest) == []
    rewrite(manifest.resolve(manifest.lesions[0].mask or ""), clear)
    assert "mask is empty" in told(manifest)[0]


def test_excluded_cases_are_not_opened_but_their_ids_are_checked(manifest: Manifest) -> None:
    manifest.resolve(manifest.scans[0].image).write_bytes(b"")
    excluded = with_card(
        manifest, exclusions=[Exclusion(id=manifest.scans[0].scan_id, reason="damaged")]
    )
    assert told(excluded) == []
    assert len(told(with_scan(excluded, 0, patient_id="a b"))) == 1


def test_structures_with_one_value_are_faults(manifest: Manifest) -> None:
    wrong = with_card(manifest, structures={"right_side": 1, "left_side": 2, "cord": 2})
    assert sum(line.startswith("card.yaml: structures") for line in told(wrong)) == 2


def test_twenty_faults_are_named_and_all_counted(manifest: Manifest) -> None:
    many = replace(
        manifest,
        lesions=tuple(
            replace(manifest.lesions[0], lesion_id=f"L{n}", diameter_mm=-1.0, row=n)
            for n in range(2, 32)
        ),
    )
    with pytest.raises(ManifestError) as caught:
        require_sound(many)
    lines = str(caught.value).splitlines()
    assert lines[0] == "synthetic nodules: 30 faults"
    assert len(lines) == 22
    assert lines[-1] == "... and 10 more"
