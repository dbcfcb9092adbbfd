"""Folds: no patient is split, strata are spread evenly, the table's order is irrelevant."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.errors import ConfigError, LeakageError, TrainingError
from medmtl.experiment.folds import (
    assign_folds,
    inner_split,
    label_subset,
    read_folds,
    require_both_classes,
)


def cohort(patients: int, seed: int = 0, most_lesions: int = 4) -> pd.DataFrame:
    """A third of the lesions are of class 1, a tenth have no class."""
    generator = np.random.default_rng(seed)
    rows = [
        {"patient_id": f"p{patient:03d}", "lesion_id": f"p{patient:03d}-{lesion}"}
        for patient in range(patients)
        for lesion in range(generator.integers(1, most_lesions + 1))
    ]
    strata = generator.choice([0, 1, None], size=len(rows), p=[0.6, 0.3, 0.1])
    return pd.DataFrame(rows).assign(stratum=pd.array(strata, dtype="Int64"))


def write(path, text):
    path.write_text(text)
    return path


@settings(max_examples=25, deadline=None)
@given(
    patients=st.integers(20, 60),
    count=st.integers(2, 5),
    repeat=st.integers(0, 3),
    seed=st.integers(0, 2**31 - 10),
)
def test_every_patient_is_in_exactly_one_fold(patients, count, repeat, seed):
    lesions = cohort(patients, seed=seed % 1000)
    folds = assign_folds(lesions, count=count, repeat=repeat, seed=seed)
    assert list(folds["patient_id"]) == sorted(set(lesions["patient_id"]))
    assert set(folds["fold"]) == set(range(count))
    assert set(folds["repeat"]) == {repeat}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_row_order_and_index_do_not_matter(seed):
    lesions = cohort(40)
    mixed = lesions.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(
        assign_folds(lesions, count=4, repeat=0, seed=7),
        assign_folds(mixed, count=4, repeat=0, seed=7),
    )
    assert inner_split(lesions, fraction=0.2, seed=7) == inner_split(mixed, fraction=0.2, seed=7)


def test_every_stratum_is_spread_evenly():
    lesions = cohort(200)
    folds = assign_folds(lesions, count=5, repeat=0, seed=3)
    rows = lesions.merge(folds, on="patient_id")
    strata = rows["stratum"].astype("object").where(rows["stratum"].notna(), "missing")
    counts = pd.crosstab(strata, rows["fold"])
    assert len(counts) == 3
    # A patient has 4 lesions at most, so no fold can be blamed for being that far off.
    assert counts.sub(counts.mean(axis=1), axis=0).abs().to_numpy().max() <= 4


def test_seeds_and_repeats_give_other_folds():
    lesions = cohort(60)
    first = assign_folds(lesions, count=5, repeat=0, seed=0)
    assert not first["fold"].equals(assign_folds(lesions, count=5, repeat=1, seed=0)["fold"])
    assert not first["fold"].equals(assign_folds(lesions, count=5, repeat=0, seed=9)["fold"])


def test_too_few_patients_are_refused():
    with pytest.raises(TrainingError, match="2 patients cannot fill 5 folds"):
        assign_folds(cohort(2), count=5, repeat=0, seed=0)


def test_one_patient_with_everything_leaves_no_fold_silently_empty():
    lesions = pd.DataFrame(
        {"patient_id": ["a", "b", "c", "d"], "lesion_id": list("1234"), "stratum": [0, 1, 2, 3]}
    )
    with pytest.raises(TrainingError, match="3 folds need 3 lesions of a class"):
        assign_folds(lesions, count=3, repeat=0, seed=0)


def test_own_folds_are_taken_as_they_are(tmp_path):
    path = write(tmp_path / "own.csv", "patient_id,fold\nb,1\na,0\nnot_mine,1\nb,1\n")
    folds = read_folds(path, ["a", "b"])
    assert folds.to_dict("list") == {"repeat": [0, 0], "patient_id": ["a", "b"], "fold": [0, 1]}


def test_own_folds_may_have_repeats(tmp_path):
    path = write(tmp_path / "own.csv", "repeat,patient_id,fold\n0,a,0\n0,b,1\n1,a,1\n1,b,0\n")
    assert list(read_folds(path, ["a", "b"])["fold"]) == [0, 1, 1, 0]


def test_all_faults_of_own_folds_are_in_one_message(tmp_path):
    path = write(tmp_path / "own.csv", "patient_id,fold\na,0\na,3\nb,one\nc,1\n")
    with pytest.raises(LeakageError) as caught:
        read_folds(path, ["a", "b", "c", "d"])
    message = str(caught.value)
    assert "a in folds 0 and 3" in message
    assert "'one' (of b)" in message
    assert "nobody in fold 2" in message
    assert "lacks 2 patients: b, d" in message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("patient_id,fold\na,0\nb,0\n", "one fold only"),
        ("patient_id,fold\na,0\nb,-1\n", "'-1'"),
        ("patient_id,fold\nx,0\ny,1\n", "none of the cohort"),
        ("patient,fold\na,0\n", "lacks the column patient_id"),
        ("repeat,patient_id,fold\n0,a,0\n0,b,1\n2,a,0\n2,b,1\n", "nobody is in repeat 1"),
        ("", "not a table"),
    ],
)
def test_unusable_own_folds_are_refused(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_folds(write(tmp_path / "own.csv", text), ["a", "b"])


@settings(max_examples=30, deadline=None)
@given(
    patients=st.integers(10, 80),
    fraction=st.floats(0.1, 0.5),
    seed=st.integers(0, 2**31 - 1),
)
def test_inner_split_leaves_every_class_on_both_sides(patients, fraction, seed):
    lesions = cohort(patients, seed=seed % 1000, most_lesions=1)
    inner = inner_split(lesions, fraction=fraction, seed=seed)
    everyone = set(lesions["patient_id"])
    assert inner and inner < everyone
    assert abs(len(inner) - fraction * len(everyone)) <= 3
    for _, group in lesions.groupby("stratum", dropna=False):
        members = set(group["patient_id"])
        if len(members) > 1:
            assert members & inner and members - inner


def test_inner_split_is_deterministic_and_seeded():
    lesions = cohort(60)
    assert inner_split(lesions, fraction=0.2, seed=1) == inner_split(lesions, fraction=0.2, seed=1)
    assert inner_split(lesions, fraction=0.2, seed=1) != inner_split(lesions, fraction=0.2, seed=2)


def test_inner_split_of_patients_all_unlike_each_other_is_refused():
    lesions = pd.DataFrame({"patient_id": ["a", "b"], "lesion_id": ["1", "2"], "stratum": [0, 1]})
    with pytest.raises(TrainingError, match="no class has two"):
        inner_split(lesions, fraction=0.2, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    patients=st.integers(4, 80),
    fractions=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 2**31 - 1),
)
def test_label_subsets_are_nested_and_stratified(patients, fractions, seed):
    lesions = cohort(patients, seed=seed % 1000, most_lesions=1)
    less, more = (label_subset(lesions, fraction=each, seed=seed) for each in fractions)
    assert less <= more <= set(lesions["patient_id"])
    for _, group in lesions.groupby("stratum", dropna=False):
        members = set(group["patient_id"])
        wanted = max(min(2, len(members)), fractions[0] * len(members))
        assert abs(len(less & members) - wanted) <= 1
    assert label_subset(lesions, fraction=1.0, seed=seed) == set(lesions["patient_id"])


def test_a_label_subset_does_not_depend_on_the_order_of_rows_but_on_the_seed():
    lesions = cohort(60)
    mixed = lesions.sample(frac=1, random_state=1)
    kept = label_subset(lesions, fraction=0.3, seed=1)
    assert kept == label_subset(mixed, fraction=0.3, seed=1)
    assert kept != label_subset(lesions, fraction=0.3, seed=2)


def test_a_class_that_a_share_of_the_labels_lacks_is_named_with_the_share():
    lesions = pd.DataFrame(
        {"lesion_id": list("abcdef"), "patient_id": list("abcdef"), "malignancy": [0, 1] * 3}
    )
    folds = pd.DataFrame({"repeat": 0, "patient_id": list("abcdef"), "fold": [0, 0, 1, 1, 1, 1]})
    with pytest.raises(TrainingError) as caught:
        require_both_classes(
            lesions,
            folds,
            labels={"malignancy": ["benign", "malignant"]},
            inner={(0, 0): {"c"}, (0, 1): set("ab")},
            unlabelled={(0, 0): {"d", "f"}, (0, 1): set()},
            label_fraction=0.5,
        )
    message = str(caught.value)
    assert "training.label_fraction 0.5" in message
    assert "fold 0, train: 1 benign, 0 malignant" in message
    assert "set a larger training.label_fraction" in message


def test_a_part_without_a_class_is_named_with_its_counts():
    lesions = pd.DataFrame(
        {
            "lesion_id": list("123456"),
            "patient_id": list("abcdef"),
            "malignancy": pd.array([0, 1, 0, 0, 1, None], dtype="Int64"),
        }
    )
    folds = pd.DataFrame({"repeat": 0, "patient_id": list("abcdef"), "fold": [0, 0, 1, 1, 0, 1]})
    with pytest.raises(TrainingError) as caught:
        require_both_classes(lesions, folds, labels={"malignancy": ["benign", "malignant"]})
    message = str(caught.value)
    assert "malignancy: repeat 0 fold 1, test: 2 benign, 0 malignant" in message
    assert "malignancy: repeat 0 fold 0, train: 2 benign, 0 malignant" in message
    assert "fold 0, test" not in message
    assert "fewer folds" in message

    balanced = folds.assign(fold=[0, 0, 1, 1, 1, 1])
    labels = {"malignancy": ["benign", "malignant"]}
    require_both_classes(lesions, balanced, labels=labels)
    with pytest.raises(TrainingError, match="fold 0, inner: 1 benign, 0 malignant"):
        require_both_classes(
            lesions, balanced, labels=labels, inner={(0, 0): {"c"}, (0, 1): {"a", "b"}}
        )
