"""Who is in which part, where lesions and organs come from different patients."""

from dataclasses import replace
from pathlib import Path

import pytest

from medmtl.build.data import build_manifest
from medmtl.build.experiment import build_cross_validation, build_folds
from medmtl.build.learning import build_tasks
from medmtl.build.splits import drawn_scans, lesion_strata, lesions_of, split_patients
from medmtl.config import Config
from medmtl.config_file import load_config, resolve_arm
from medmtl.data.manifest import Manifest
from medmtl.data.manifest_files import read_manifest, write_manifest
from medmtl.data.tasks import organ_tasks
from medmtl.errors import ConfigError, TrainingError
from medmtl.experiment.plan import make_plan
from tests.joined_experiment import write_joined_experiment


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both collections. Nobody may change them."""
    folder = tmp_path_factory.mktemp("home")
    write_joined_experiment(folder)
    return folder


@pytest.fixture
def config(home: Path) -> Config:
    return load_config(home / "config.yaml")


def spoilt(tmp_path: Path, change) -> Config:
    """Collections of one's own, the organs changed."""
    path = write_joined_experiment(tmp_path)
    write_manifest(change(read_manifest(tmp_path / "organs" / "manifest")))
    return load_config(path)


def test_patients_without_lesions_are_in_the_folds(config: Config) -> None:
    manifest = build_manifest(config).included()
    folds = build_folds(config, manifest)
    assert sorted(folds["patient_id"]) == sorted({s.patient_id for s in manifest.scans})
    of_organs = folds[folds["patient_id"].str.startswith("organs")]
    assert of_organs.groupby("fold").size().tolist() == [4, 4]
    others = folds[~folds["patient_id"].str.startswith("organs")]
    assert others.groupby("fold").size().tolist() == [4, 4]


def test_a_row_for_each_lesion_and_each_patient_without(config: Config) -> None:
    manifest = build_manifest(config).included()
    strata = lesion_strata(manifest, config)
    with_lesions = strata[strata["lesion_id"] != ""]
    assert list(with_lesions["lesion_id"]) == [e.lesion_id for e in manifest.lesions]
    assert list(with_lesions["stratum"]) == [e.labels["malignant"] for e in manifest.lesions]
    others = strata[strata["lesion_id"] == ""]
    assert len(others) == others["patient_id"].nunique() == 8
    assert others["stratum"].isna().all()


def test_lesions_without_heads_that_look_at_them_ask_for_no_fold(config: Config) -> None:
    manifest = build_manifest(config).included()
    strata = lesion_strata(manifest, resolve_arm(config, "organs"))
    assert set(strata["lesion_id"]) == {""}
    assert strata["patient_id"].str.startswith("organs").all()
    alone = lesion_strata(manifest, resolve_arm(config, "lesions"))
    assert not alone["patient_id"].str.startswith("organs").any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_patient_is_on_two_sides(home: Path, seed: int) -> None:
    config = load_config(home / "config.yaml", [f"seed={seed}"])
    manifest = build_manifest(config).included()
    folds = build_folds(config, manifest)
    tested = []
    for cell in make_plan(["together"], 1, 2, seed):
        parts = split_patients(manifest, folds, cell, config, label_fraction=1.0)
        assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 16
        for part in parts.values():
            scans = drawn_scans(manifest, organ_tasks(build_tasks(config, manifest.card)))
            assert lesions_of(manifest, part)
            assert any(scan.patient_id in part for scan in scans)
        tested += sorted(parts["test"])
    assert len(tested) == len(set(tested)) == 16


def test_a_patient_of_both_collections_is_one_patient(tmp_path: Path) -> None:
    def same_people(organs: Manifest) -> Manifest:
        return replace(organs, scans=tuple(
            replace(s, patient_id=s.patient_id.removeprefix("organs-")) for s in organs.scans
        ))  # fmt: skip

    config = spoilt(tmp_path, same_people)
    manifest = build_manifest(config).included()
    folds = build_folds(config, manifest)
    assert len(folds) == 8
    strata = lesion_strata(manifest, config)
    assert (strata["lesion_id"] != "").all()


def test_arms_share_the_split_whatever_their_heads(config: Config) -> None:
    manifest = build_manifest(config).included()
    folds = build_folds(config, manifest)
    cells = [cell for cell in make_plan(list(config.arms), 1, 2, 0) if cell.fold == 1]
    parts = [split_patients(manifest, folds, cell, config, label_fraction=1.0) for cell in cells]
    assert parts[0] == parts[1] == parts[2]


def test_every_grid_and_annotation_is_prepared_once_with_the_scans_it_needs(
    config: Config,
) -> None:
    experiment = build_cross_validation(config)
    prepared = {each.loader.annotations: each for each in experiment.preparations}
    assert len(experiment.preparations) == 2
    lesions, organs = prepared["lesions"], prepared["organs"]
    assert (lesions.loader.spacing_mm, organs.loader.spacing_mm) == (
        (1.5, 1.0, 1.0), (1.5, 1.5, 1.5),
    )  # fmt: skip
    assert {s.collection for s in lesions.scans} == {"synthetic nodules"}
    assert {s.collection for s in organs.scans} == {"synthetic organs"}
    assert len(organs.scans) == sum(s.collection == "synthetic organs"
                                    for s in experiment.manifest.scans)  # fmt: skip


def test_an_organ_that_a_part_lacks_is_refused_with_one_message(tmp_path: Path) -> None:
    def left_on_one_scan_only(organs: Manifest) -> Manifest:
        first, *others = organs.scans
        return replace(organs, scans=(
            first, *(replace(s, annotated=s.annotated - {"left_side"}) for s in others),
        ))  # fmt: skip

    config = spoilt(tmp_path, left_on_one_scan_only)
    with pytest.raises(
        TrainingError, match=r"fold \d, (train|inner|test): left_side not drawn.*\(sides\)"
    ):
        build_cross_validation(config)


def test_a_patient_without_anything_to_learn_is_in_no_fold(tmp_path: Path) -> None:
    def bare(organs: Manifest) -> Manifest:
        first, *others = organs.scans
        return replace(organs, scans=(
            replace(first, annotated=frozenset(), organ_mask=None, patient_id="lonely"), *others,
        ))  # fmt: skip

    config = spoilt(tmp_path, bare)
    folds = build_folds(config, build_manifest(config).included())
    assert "lonely" not in set(folds["patient_id"]) and len(folds) == 16


@pytest.mark.parametrize(
    ("structures", "told"),
    [
        ("[left_side]", "left-right pair.*take both, or neither"),
        ("[left_side, spleen, right_side]", "'spleen' of .*allowed: .*right_side, left_side"),
        ("[left_side, right_side, left_side]", "named twice"),
    ],
)
def test_structures_that_cannot_be_learned_are_refused(
    home: Path, structures: str, told: str
) -> None:
    config = load_config(home / "config.yaml", [f"heads.sides.structures={structures}"])
    with pytest.raises(ConfigError, match=rf"heads.sides.structures: .*{told}"):
        build_tasks(config, build_manifest(config).card)


def test_a_collection_without_organs_has_none_to_learn(home: Path) -> None:
    config = load_config(home / "config.yaml", ["manifest=nodules/manifest"])
    card = read_manifest(home / "nodules" / "manifest").card
    with pytest.raises(ConfigError, match="declares no structure"):
        build_tasks(config, card)


def test_without_a_choice_all_structures_are_learned(config: Config) -> None:
    (task,) = organ_tasks(build_tasks(config, build_manifest(config).card))
    assert task.structures == ("right_side", "left_side")
    assert task.mirrored == [1, 0]
    assert task.window == "chest"


@pytest.mark.parametrize(
    ("size_mm", "told"),
    [("[9.0, 12.5, 12.0]", "whole numbers"), ("[9.0, 9.0, 12.0]", "multiples of 4")],
)
def test_a_patch_that_does_not_fit_the_network_is_refused(
    home: Path, size_mm: str, told: str
) -> None:
    config = load_config(home / "config.yaml", [f"patches.chest.size_mm={size_mm}"])
    with pytest.raises(ConfigError, match=rf"patches.chest.size_mm.*{told}"):
        build_cross_validation(config)


def test_strata_tell_who_has_organs_drawn_from_who_has_not(tmp_path: Path) -> None:
    """An inner split takes of every stratum, so it is not left without any drawn organ."""

    def half_drawn(organs: Manifest) -> Manifest:
        return replace(organs, scans=tuple(
            replace(
                scan,
                patient_id=scan.patient_id.removeprefix("organs-"),
                organ_mask=scan.organ_mask if int(scan.patient_id[-1]) % 2 else None,
            )
            for scan in organs.scans
        ))  # fmt: skip

    config = spoilt(tmp_path, half_drawn)
    manifest = build_manifest(config).included()
    drawn = {
        scan.patient_id
        for scan in drawn_scans(manifest, organ_tasks(build_tasks(config, manifest.card)))
    }
    assert len(drawn) == 4
    strata = lesion_strata(manifest, config)
    of_drawn = strata["patient_id"].isin(drawn)
    assert not set(strata.loc[of_drawn, "stratum"]) & set(strata.loc[~of_drawn, "stratum"])
    folds = build_folds(config, manifest).set_index("patient_id")["fold"]
    assert folds[sorted(drawn)].value_counts().tolist() == [2, 2]
