import numpy as np
import pandas as pd
import pytest
from MLstatkit import Delong_test
from scipy.stats import false_discovery_control, wilcoxon
from sklearn.metrics import roc_auc_score

from medmtl.errors import EvaluationError
from medmtl.evaluation.intervals import Resampling
from medmtl.evaluation.run_comparison import compare_arms
from medmtl.run_folder import SEGMENTATION_COLUMNS

from .cohorts import lesion_table, predictions

NO_MASKS = pd.DataFrame(columns=SEGMENTATION_COLUMNS)
QUICK = Resampling(samples=300, seed=1)


def classes(*, patients=80, most_lesions=3, noise=(0.3, 1.5)):
    lesions = lesion_table(patients=patients, most_lesions=most_lesions)
    rows = predictions(lesions, noise={"first": noise[0], "second": noise[1]})
    return rows[rows["arm"] == "first"], rows[rows["arm"] == "second"]


def masks(*, gain, patients=30, structures=("heart", "liver"), seed=0):
    """Scores of organs, two scans a patient, one arm better by `gain` on average."""
    generator = np.random.default_rng(seed)
    arms = []
    base = generator.uniform(0.5, 0.9, size=(patients, 2, len(structures)))
    for arm, shift in (("first", gain), ("second", 0.0)):
        noise = generator.normal(0, 0.02, size=base.shape)
        arms.append(
            pd.DataFrame(
                [
                    {
                        "arm": arm, "cell": arm, "patient_id": f"P{p}", "scan_id": f"P{p}-{s}",
                        "lesion_id": "", "task": "organs", "structure": name, "fold": p % 5,
                        "dice": base[p, s, n] + shift + noise[p, s, n], "nsd": 0.5,
                        "hd95_mm": 10 * (1 - base[p, s, n]) - 10 * shift + noise[p, s, n],
                        "volume_ml": 1.0, "reference_volume_ml": 1.0, "slices_beyond": 0.0,
                    }
                    for p in range(patients)
                    for s in range(2)
                    for n, name in enumerate(structures)
                ]
            )
        )  # fmt: skip
    return arms


def empty_classes():
    return classes()[0].iloc[:0]


def compare_masks(first, second):
    none = empty_classes()
    return compare_arms((none, first), (none, second), QUICK)


def test_auc_difference_is_that_of_scikit_learn_fold_by_fold():
    first, second = classes()
    (found,) = compare_arms((first, NO_MASKS), (second, NO_MASKS), QUICK).classes
    by_fold = [
        roc_auc_score(a["target"], a["prediction"]) - roc_auc_score(b["target"], b["prediction"])
        for (_, a), (_, b) in zip(first.groupby("fold"), second.groupby("fold"), strict=True)
    ]
    assert found.main.estimate == pytest.approx(np.mean(by_fold))
    assert found.pooled.estimate == pytest.approx(
        roc_auc_score(first["target"], first["prediction"])
        - roc_auc_score(second["target"], second["prediction"])
    )
    assert found.verdict.word == "helped"
    assert found.fold_test["p_value"] is not None
    assert found.delong["p_value"] is None  # several lesions a patient


def test_delong_is_added_where_each_patient_has_one_lesion():
    first, second = classes(most_lesions=1)
    (found,) = compare_arms((first, NO_MASKS), (second, NO_MASKS), QUICK).classes
    _, expected = Delong_test(first["target"], first["prediction"], second["prediction"])[:2]
    assert found.delong["p_value"] == pytest.approx(expected, rel=1e-6)


def test_swapping_the_arms_turns_the_verdict():
    first, second = classes()
    (found,) = compare_arms((second, NO_MASKS), (first, NO_MASKS), QUICK).classes
    assert found.verdict.word == "hurt"
    assert found.main.estimate < 0


def test_masks_are_paired_by_patient_and_tested_as_scipy_does():
    first, second = masks(gain=0.01)
    found = {(each.structure, each.value): each for each in compare_masks(first, second).masks}
    both = first.merge(second, on=["patient_id", "scan_id", "structure"])
    liver = both[both["structure"] == "liver"]
    by_patient = (liver["dice_x"] - liver["dice_y"]).groupby(liver["patient_id"]).mean()
    dice = found["liver", "dice"]
    assert dice.difference.estimate == pytest.approx(by_patient.mean())
    assert dice.difference.n == 30
    assert dice.compared == 60
    assert dice.p_value == pytest.approx(wilcoxon(by_patient).pvalue)
    assert dice.verdict.word == "helped"
    assert found["liver", "hd95_mm"].difference.estimate < 0
    assert found["liver", "hd95_mm"].verdict is None


def test_p_values_of_masks_are_adjusted_over_all_structures_and_both_measures():
    found = compare_masks(*masks(gain=0.004, structures=("a", "b", "c"))).masks
    asked = np.array([each.p_value for each in found])
    order = np.argsort(asked)
    expected = np.empty(len(asked))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1, asked[place] * (len(asked) - rank)))
        expected[place] = highest
    assert [each.p_value_holm for each in found] == pytest.approx(expected)
    assert (expected >= false_discovery_control(asked, method="bh") - 1e-12).all()


def test_a_patient_counts_once_however_many_scans_there_are():
    first, second = masks(gain=0.0, patients=10, structures=("a",))
    again = [
        pd.concat([arm, arm[arm["patient_id"] == "P0"].assign(scan_id=["P0-2", "P0-3"])])
        for arm in (first, second)
    ]
    alone = compare_masks(first, second).masks[0].difference
    more = compare_masks(*again).masks[0].difference
    assert more.estimate == pytest.approx(alone.estimate)
    assert (alone.n, more.n) == (10, 10)


def test_a_structure_that_was_missed_has_a_dice_but_no_surface_distance():
    first, second = masks(gain=0.02, structures=("a",))
    first.loc[first.index[:3], ["dice", "hd95_mm"]] = [0.0, np.nan]
    dice, hd95 = compare_masks(first, second).masks
    assert (dice.compared, dice.not_compared) == (60, 0)
    assert (hd95.compared, hd95.not_compared) == (57, 3)


def test_the_mean_of_organs_weighs_each_the_same():
    (found,) = compare_masks(*masks(gain=0.03)).organs
    assert found.structures == 2
    assert found.difference.estimate == pytest.approx(0.03, abs=0.01)
    assert found.verdict.word == "helped"


def test_too_few_patients_have_no_p_value():
    found = compare_masks(*masks(gain=0.01, patients=4)).masks[0]
    assert found.p_value is None
    assert found.p_value_holm is None


def test_other_lesions_and_no_common_task_are_refused():
    first, second = classes()
    with pytest.raises(EvaluationError, match="in one arm only"):
        compare_arms((first.iloc[3:], NO_MASKS), (second, NO_MASKS), QUICK)
    with pytest.raises(EvaluationError, match="no task in common"):
        compare_arms((first, NO_MASKS), (second.assign(task="density"), NO_MASKS), QUICK)
