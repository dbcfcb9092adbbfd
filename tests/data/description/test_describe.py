from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import spearmanr

from medmtl.data.description.balance import count_tasks, warnings_of, weigh_tasks
from medmtl.data.description.describe import (
    ManifestDescription,
    describe_manifest,
    describe_manifests,
)
from medmtl.data.description.pairs import TaskPair, describe_pairs
from medmtl.data.description.tasks import DescribedTask
from medmtl.data.manifest import Exclusion, Manifest
from medmtl.errors import ManifestError, ScanError
from tests.synthetic import STRUCTURES, write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=10, side=14, organs=True)


@pytest.fixture(scope="module")
def description(cohort: Manifest) -> ManifestDescription:
    return describe_manifest(cohort, workers=1)


def task(name: str, values: Sequence[float | None], *, patients: int = 1000) -> DescribedTask:
    known = {f"s{place}": value for place, value in enumerate(values) if value is not None}
    patient_of = {scan: f"p{int(scan[1:]) % patients}" for scan in known}
    return DescribedTask(
        name=name, kind="organ", cases=len(known), patient_of=patient_of,
        values={scan: float(value) for scan, value in known.items()},
    )  # fmt: skip


def pair(first: Sequence[float | None], second: Sequence[float | None]) -> TaskPair:
    (found,) = describe_pairs([task("a", first), task("b", second)])
    return found


def test_each_label_outline_and_organ_is_a_task_with_its_own_count(
    cohort: Manifest, description: ManifestDescription
) -> None:
    tasks = {each.name: each for each in description.tasks}
    assert list(tasks) == ["malignant", "spiculated", "nodule outline", *STRUCTURES]
    lesions = len(cohort.lesions)
    assert tasks["malignant"].cases == tasks["nodule outline"].cases == lesions
    unknown = sum(lesion.labels["spiculated"] is None for lesion in cohort.lesions)
    assert 0 < unknown == tasks["spiculated"].unknown == lesions - tasks["spiculated"].cases
    drawn = {scan.patient_id for scan in cohort.scans if "left_side" in scan.annotated}
    assert tasks["left_side"].patients == drawn
    assert tasks["left_side"].unit == "scan"
    for name in ("malignant", "spiculated"):
        assert sum(tasks[name].classes.values()) == tasks[name].cases
    malignant = sum(lesion.labels["malignant"] == 1 for lesion in cohort.lesions)
    assert tasks["malignant"].classes["malignant"] == malignant


def test_volumes_and_spacing_are_those_of_the_files(
    cohort: Manifest, description: ManifestDescription
) -> None:
    values = {each.name: each.values for each in description.tasks}
    quantities = {each.name: each.values for each in description.quantities}
    for place, lesion in enumerate(cohort.lesions):
        assert lesion.mask is not None
        mask = nib.as_closest_canonical(nib.load(cohort.resolve(lesion.mask)))
        zooms_mm = np.array(mask.header.get_zooms(), dtype=float)
        volume_ml = np.count_nonzero(mask.dataobj) * zooms_mm.prod() / 1000
        assert values["nodule outline"][lesion.scan_id] == pytest.approx(volume_ml, rel=1e-5)
        assert quantities["spacing between slices"][place] == pytest.approx(zooms_mm[2], rel=1e-5)
        assert quantities["slices"][place] == mask.shape[2]
        width_mm = (zooms_mm * mask.shape)[:2].max()
        assert quantities["field of view in plane"][place] == pytest.approx(width_mm, rel=1e-5)


def test_voxels_that_were_not_stored_do_not_count_as_intensities(
    cohort: Manifest, tmp_path: Path
) -> None:
    (scan, *_) = cohort.scans
    image = nib.load(cohort.resolve(scan.image))
    voxels = np.full(image.shape, -1024, np.int16)
    voxels[:4] = np.arange(4)[:, None, None]
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "x.nii.gz")
    card = cohort.card.model_copy(update={"data_root": "."})
    only = replace(scan, image="x.nii.gz", organ_mask=None)
    described = describe_manifest(Manifest(tmp_path, card, (only,), ()))
    ranges = {each.name: each.range for each in described.quantities}
    assert ranges["intensity, median"] == (1.5, 1.5, 1.5)


def test_every_scan_has_one_pattern_of_labels(
    cohort: Manifest, description: ManifestDescription
) -> None:
    assert sum(pattern.scans for pattern in description.patterns) == len(cohort.scans)
    assert len({pattern.tasks for pattern in description.patterns}) == len(description.patterns)
    for each in description.tasks:
        with_label = sum(one.scans for one in description.patterns if each.name in one.tasks)
        assert with_label == len(each.values)
    sizes = [pattern.scans for pattern in description.patterns]
    assert sizes == sorted(sizes, reverse=True)


def test_excluded_scans_and_lesions_are_not_described(cohort: Manifest) -> None:
    out = [
        Exclusion(id=cohort.scans[0].scan_id, reason="metal"),
        Exclusion(id="twice-drawn", reason="twice"),
    ]
    twice = replace(cohort.lesions[5], lesion_id="twice-drawn")
    lesions = (*cohort.lesions[:5], twice, *cohort.lesions[6:])
    card = cohort.card.model_copy(update={"exclusions": out})
    described = describe_manifest(replace(cohort, card=card, lesions=lesions), workers=1)
    assert described.excluded == 2
    assert described.scans == len(cohort.scans) - 1
    assert described.tasks[0].cases == len(cohort.lesions) - 2


def test_the_highest_of_a_scans_lesions_stands_for_the_scan(cohort: Manifest) -> None:
    (first, second, *_) = cohort.lesions
    lesions = tuple(
        replace(one, scan_id=first.scan_id, mask=None, labels={"malignant": value})
        for one, value in ((first, 1), (second, 0))
    )
    described = describe_manifest(replace(cohort, lesions=lesions), workers=1)
    malignant, spiculated, outline = described.tasks[:3]
    assert malignant.values == {first.scan_id: 1.0}
    assert (malignant.cases, len(malignant.patients)) == (2, 1)
    assert (spiculated.cases, outline.cases) == (0, 0)


def test_a_collection_without_lesions_or_of_one_scan_is_described(cohort: Manifest) -> None:
    alone = replace(cohort, scans=cohort.scans[:1], lesions=())
    described = describe_manifest(alone, workers=1)
    assert [each.cases for each in described.tasks] == [0, 0, 1, 1]
    assert {each.verdict for each in described.pairs} == {"too few"}
    assert {each.rho for each in described.pairs} == {None}
    assert described.pairs[0].share is None


def test_nothing_to_describe_and_damaged_files_are_refused(
    cohort: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match="no scan to describe"):
        describe_manifest(replace(cohort, scans=(), lesions=()))
    with pytest.raises(ManifestError, match="two collections are called 'synthetic nodules'"):
        describe_manifests([cohort, cohort])
    (tmp_path / "x.nii.gz").write_bytes(b"")
    card = cohort.card.model_copy(update={"data_root": "."})
    broken = Manifest(tmp_path, card, (replace(cohort.scans[0], image="x.nii.gz"),), ())
    with pytest.raises(ScanError, match=r"x\.nii\.gz"):
        describe_manifest(broken)


@pytest.mark.parametrize("seed", range(5))
def test_rho_is_scipys_on_the_scans_that_carry_both_labels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 3, 60).astype(float)
    second = first + generator.normal(0, 2, 60)
    first_known, second_known = generator.random((2, 60)) < 0.7
    both = first_known & second_known
    found = pair(
        [v if known else None for v, known in zip(first, first_known, strict=True)],
        [v if known else None for v, known in zip(second, second_known, strict=True)],
    )
    expected = spearmanr(first[both], second[both]).statistic
    assert found.rho == pytest.approx(expected)
    assert found.scans == both.sum()
    assert found.share == pytest.approx(both.sum() / min(first_known.sum(), second_known.sum()))
    assert found.verdict == ("passes" if abs(expected) >= 0.3 else "below")


def test_nine_scans_are_not_judged_and_ten_are() -> None:
    assert pair(range(9), range(9)).verdict == "too few"
    assert pair(range(9), range(9)).rho is None
    assert pair(range(10), range(10)).rho == pytest.approx(1)
    falling = pair(range(10), list(range(10))[::-1])
    assert falling.rho == pytest.approx(-1)
    assert falling.verdict == "passes"


def test_a_constant_label_has_no_correlation() -> None:
    found = pair([1.0] * 20, range(20))
    assert (found.rho, found.verdict) == (None, "not defined")


def test_tasks_that_never_meet_have_no_share_in_common() -> None:
    found = pair([1.0, 2.0, None, None], [None, None, 1.0, 2.0])
    assert (found.scans, found.patients, found.share) == (0, 0, 0.0)


@pytest.mark.parametrize(("largest", "warned"), [(50, False), (51, True)])
def test_a_warning_comes_past_five_and_not_at_five(largest: int, warned: bool) -> None:
    counts = count_tasks([task("large", range(largest)), task("small", range(10))])
    (by_cases, by_patients) = weigh_tasks(counts)
    assert by_cases.ratio == by_patients.ratio == largest / 10
    assert bool(warnings_of(counts)) == warned


def test_few_patients_are_warned_of_even_where_cases_are_many() -> None:
    counts = count_tasks([task("large", range(60)), task("small", range(60), patients=10)])
    (by_cases, by_patients) = weigh_tasks(counts)
    assert (by_cases.is_uneven, by_patients.is_uneven) == (False, True)
    (warning,) = warnings_of(counts)
    assert "6.0 times as many labelled patients as small" in warning


def test_a_task_of_two_collections_is_counted_once() -> None:
    counts = count_tasks([task("a", range(10)), task("b", range(4)), task("a", range(15))])
    assert [(count.name, count.cases, count.patients) for count in counts] == [
        ("a", 25, 15), ("b", 4, 4),
    ]  # fmt: skip


def test_a_task_without_labels_is_told_and_left_out_of_the_ratio() -> None:
    counts = count_tasks([task("a", range(10)), task("b", range(10)), task("none", [])])
    assert weigh_tasks(counts)[0].ratio == 1
    assert warnings_of(counts) == ["none has no labelled case: leave this task out, or label some"]
    assert weigh_tasks(counts[2:]) == ()
