from dataclasses import replace
from pathlib import Path

import pytest

from medmtl.data.manifest import Manifest
from medmtl.inference.scope import SLACK, Scope, joined_scope, trained_scope
from tests.synthetic import write_cohort
from tests.training.tiny import MALIGNANCY, ORGANS, OUTLINE, SPICULATION, make_data, make_scans

CHEST = Scope(body_regions=("chest",), slice_mm=(1.0, 3.0), in_plane_mm=(0.6, 0.9))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, patients=6, side=10, organs=True)


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.6, 0.9), (3.0, 0.9, 0.6), (2.0, 0.7, 0.7)])
@pytest.mark.parametrize("region", ["chest", "Chest", " CHEST ", "chest_"])
def test_what_was_trained_on_may_be_asked_about(region: str, spacing_mm) -> None:
    assert CHEST.refusal(region, spacing_mm) == ""


@pytest.mark.parametrize(("region", "told"), [("abdomen", "abdomen"), ("", "card.yaml")])
def test_another_region_is_refused_by_name(region: str, told: str) -> None:
    reason = CHEST.refusal(region, (2.0, 0.7, 0.7))
    assert told in reason and "trained on chest" in reason


def test_words_of_a_region_may_be_joined_in_any_way() -> None:
    head = replace(CHEST, body_regions=("head and neck",))
    for region in ("head and neck", "Head_and_Neck", "head  and neck"):
        assert head.refusal(region, (2.0, 0.7, 0.7)) == ""
    assert head.refusal("head", (2.0, 0.7, 0.7))


@pytest.mark.parametrize(
    ("spacing_mm", "told"),
    [
        ((0.9, 0.7, 0.7), "slices 0.90 mm apart; trained on 1.00 to 3.00 mm"),
        ((5.0, 0.7, 0.7), "slices 5.00 mm apart"),
        ((2.0, 0.5, 0.7), "voxels 0.50 mm apart; trained on 0.60 to 0.90 mm"),
        ((2.0, 0.7, 1.2), "voxels 1.20 mm apart"),
    ],
)
def test_another_spacing_is_refused_with_both_numbers(spacing_mm, told: str) -> None:
    assert told in CHEST.refusal("chest", spacing_mm)


@pytest.mark.parametrize("within", [True, False])
def test_a_twentieth_beyond_is_a_scanner_s_rounding(within: bool) -> None:
    slack = SLACK * (0.999 if within else 1.001)
    for spacing_mm in ((3.0 * slack, 0.7, 0.7), (1 / slack, 0.7, 0.7),
                       (2.0, 0.9 * slack, 0.7), (2.0, 0.7, 0.6 / slack)):  # fmt: skip
        assert (CHEST.refusal("chest", spacing_mm) == "") is within


def test_a_scope_comes_back_from_a_checkpoint_as_it_was() -> None:
    both = replace(CHEST, body_regions=("chest", "neck"))
    plain = both.to_dict()
    assert Scope.from_dict(plain) == both
    assert all(isinstance(value, list) for value in plain.values())


def test_models_of_one_scope_have_it_together_in_any_order() -> None:
    other = Scope(body_regions=("chest", "neck"), slice_mm=(2.0, 5.0), in_plane_mm=(0.5, 0.8))
    assert joined_scope([CHEST, CHEST]) == CHEST
    assert joined_scope([CHEST]) == CHEST
    joined = joined_scope([CHEST, other])
    assert joined == joined_scope([other, CHEST])
    for spacing_mm in ((1.0, 0.6, 0.9), (5.0, 0.5, 0.8), (2.5, 0.7, 0.7)):
        asked_of_one = not CHEST.refusal("chest", spacing_mm) or not other.refusal(
            "chest", spacing_mm
        )
        assert asked_of_one and joined.refusal("chest", spacing_mm) == ""
    assert joined.refusal("chest", (6.0, 0.7, 0.7))
    assert joined.refusal("pelvis", (2.5, 0.7, 0.7))


def test_the_scope_of_a_head_is_that_of_the_scans_with_its_labels(manifest: Manifest) -> None:
    tasks = (MALIGNANCY, SPICULATION, OUTLINE, ORGANS)
    data, scans = make_data(manifest, tasks=tasks), {"chest": make_scans(manifest)}
    for task in tasks:
        seen = [
            data.cases[lesion.scan_id].spacing_mm
            for lesion in manifest.lesions
            if task is not SPICULATION or lesion.labels["spiculated"] is not None
        ]
        scope = trained_scope(task, data, scans)
        assert scope.body_regions == ("chest",)
        assert scope.slice_mm == (min(s[0] for s in seen), max(s[0] for s in seen))
        plane_mm = [mm for spacing in seen for mm in spacing[1:]]
        assert scope.in_plane_mm == (min(plane_mm), max(plane_mm))


def test_scans_without_the_label_widen_no_scope(manifest: Manifest) -> None:
    first, *others = manifest.lesions
    data = make_data(replace(manifest, lesions=(
        first, *(replace(e, labels=dict.fromkeys(e.labels), mask=None) for e in others),
    )))  # fmt: skip
    own = data.cases[first.scan_id].spacing_mm
    for task in (MALIGNANCY, OUTLINE):
        scope = trained_scope(task, data, {})
        assert scope.slice_mm == (own[0], own[0])
    drawn, *bare = manifest.scans
    one = replace(manifest, scans=(drawn, *(replace(s, annotated=frozenset()) for s in bare)))
    scope = trained_scope(ORGANS, data, {"chest": make_scans(one)})
    depth_mm = make_scans(one).cases[drawn.scan_id].spacing_mm[0]
    assert scope.slice_mm == (depth_mm, depth_mm)


def test_each_scan_s_region_is_that_of_its_own_collection(
    manifest: Manifest, tmp_path: Path
) -> None:
    neck = manifest.card.model_copy(update={"name": "b", "body_region": "Head_and_Neck"})
    scans = tuple(
        replace(scan, collection="b" if n % 2 else "a") for n, scan in enumerate(manifest.scans)
    )
    joined = replace(manifest, scans=scans, cards={"a": manifest.card, "b": neck})
    scope = trained_scope(ORGANS, make_data(joined, tasks=()), {"chest": make_scans(joined)})
    assert scope.body_regions == ("chest", "head and neck")
