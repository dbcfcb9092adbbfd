from dataclasses import replace
from itertools import permutations, product
from time import perf_counter

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.audit import AuditEntry, content_hash, require_no_leak
from medmtl.data.reading import Volume
from medmtl.errors import LeakageError, ScanError

AFFINE = np.diag([0.7, 0.8, 2.0, 1.0])
VOXELS = np.random.default_rng(0).integers(-1000, 500, size=(6, 7, 5)).astype(np.int16)


def entry(patient: str, scan: str, fold: object, *, series: str = "", content: str = ""):
    return AuditEntry(
        patient_id=patient,
        scan_id=scan,
        series_id=series or f"series of {scan}",
        content_hash=content or f"hash of {scan}",
        fold=fold,
    )


def test_a_hash_does_not_depend_on_storage_order_or_data_type() -> None:
    image = nib.Nifti1Image(VOXELS, AFFINE)
    hashes = set()
    for axes, signs in product(permutations(range(3)), product([1, -1], repeat=3)):
        stored = image.as_reoriented(np.array(list(zip(axes, signs, strict=True))))
        voxels = np.asanyarray(stored.dataobj)
        hashes.add(content_hash(Volume(voxels=voxels, affine=stored.affine)))
        hashes.add(content_hash(Volume(voxels=voxels + np.float32(0.2), affine=stored.affine)))
    assert len(hashes) == 1
    assert len(hashes.pop()) == 32


def test_a_copy_with_another_origin_or_a_lost_sign_hashes_alike() -> None:
    moved = AFFINE.copy()
    moved[:3, 3] = 50
    mirrored = AFFINE @ np.diag([-1.0, -1, 1, 1])
    hashes = {content_hash(Volume(voxels=VOXELS, affine=a)) for a in (AFFINE, moved, mirrored)}
    assert len(hashes) == 1


def test_a_copy_whose_header_has_lost_the_order_of_its_axes_hashes_alike() -> None:
    cubic = np.random.default_rng(1).integers(-1000, 500, size=(6, 6, 6)).astype(np.int16)
    for voxels in (VOXELS, cubic):
        copies = [voxels.transpose(order) for order in permutations(range(3))]
        copies += [np.rot90(voxels), voxels.astype(np.float32)]
        hashes = {content_hash(Volume(voxels=each, affine=np.eye(4))) for each in copies}
        assert len(hashes) == 1
    for other in (-VOXELS, VOXELS + np.int16(7)):
        assert content_hash(Volume(voxels=other, affine=AFFINE)) not in hashes


def test_mirrored_copies_of_a_nearly_symmetric_image_hash_alike() -> None:
    voxels = np.zeros((4, 4, 4), dtype=np.int16)
    voxels[0, 1, 2] = voxels[3, 2, 1] = 1  # every profile of sums is a palindrome
    hashes = {
        content_hash(Volume(voxels=voxels[::a, ::b, ::c], affine=AFFINE))
        for a, b, c in product([1, -1], repeat=3)
    }
    assert len(hashes) == 1


def test_one_changed_voxel_or_another_shape_changes_the_hash() -> None:
    changed = VOXELS.copy()
    changed[1, 2, 3] += 1
    volumes = [VOXELS, changed, VOXELS.reshape(7, 6, 5), VOXELS[:-1]]
    assert len({content_hash(Volume(voxels=v, affine=AFFINE)) for v in volumes}) == 4


def test_values_that_are_no_hu_are_not_wrapped_into_a_hash() -> None:
    with pytest.raises(ScanError):
        content_hash(Volume(voxels=VOXELS.astype(np.int32) + 65536, affine=AFFINE))


def test_a_split_by_patient_is_accepted() -> None:
    require_no_leak(
        [
            entry("P1", "a", 0, series="s1"),
            entry("P1", "b", 0, series="s1"),
            entry("P2", "c", 1, content="same"),
            entry("P2", "d", 1, content="same"),
        ]
    )
    require_no_leak([])


def test_unknown_series_are_not_one_series() -> None:
    require_no_leak(
        [replace(entry("P1", "a", 0), series_id=""), replace(entry("P2", "b", 1), series_id="")]
    )


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        (entry("P1", "a", 0), entry("P1", "b", 1), "same patient"),
        (
            entry("P1", "a", "train", content="x"),
            entry("P2", "b", "test", content="x"),
            "same image content",
        ),
        (entry("P1", "a", 0, series="s"), entry("P2", "b", 1, series="s"), "same series"),
    ],
)
def test_a_crossing_is_named_by_pseudonyms(a: AuditEntry, b: AuditEntry, what: str) -> None:
    with pytest.raises(LeakageError, match=what) as caught:
        require_no_leak([entry("P9", "z", 0), a, b])
    for pseudonym in ("scan a", "scan b", f"fold {a.fold}", f"fold {b.fold}", "1 pairs"):
        assert pseudonym in str(caught.value)
    assert "P9" not in str(caught.value)


def test_many_leaks_are_counted_and_twenty_named_quickly() -> None:
    entries = [entry("P1", f"s{n}", n % 5) for n in range(50_000)]
    start = perf_counter()
    with pytest.raises(LeakageError) as caught:
        require_no_leak(entries)
    assert perf_counter() - start < 10  # all pairs one by one would take minutes
    total = (50_000**2 - 5 * 10_000**2) // 2
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{total} pairs")
    assert len(lines) == 22
    assert lines[-1] == f"... and {total - 20} more"
