import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medmtl.errors import EvaluationError
from medmtl.evaluation.summary import Subgroup, summarize

from .cohorts import lesion_table

LESIONS = lesion_table(patients=50)
NAN = float("nan")


def masks() -> pd.DataFrame:
    """Two arms; in `shared` lesion 0 is missed, and lesion 1 found elsewhere."""
    generator = np.random.default_rng(0)
    volume_ml = generator.uniform(0.2, 5, len(LESIONS))
    arms = []
    for arm, offset in (("shared", 0.1), ("single", 0.0)):
        dice = np.clip(generator.normal(0.7 + offset, 0.1, len(LESIONS)), 0.05, 0.99)
        arms.append(
            LESIONS[["patient_id", "scan_id", "lesion_id"]].assign(
                arm=arm,
                cell=arm,
                task="segmentation",
                structure="nodule",
                fold=LESIONS["fold"],
                dice=dice,
                nsd=dice,
                hd95_mm=10 * (1 - dice),
                volume_ml=volume_ml * 1.1,
                reference_volume_ml=volume_ml,
                slices_beyond=generator.integers(0, 4, len(LESIONS)),
            )
        )
    rows = pd.concat(arms, ignore_index=True)
    scores = ["dice", "nsd", "hd95_mm", "volume_ml"]
    rows.loc[0, scores] = [0.0, 0.0, NAN, 0.0]
    rows.loc[1, scores] = [0.0, 0.0, 40.0, 1.0]
    return rows


def summarized(rows: pd.DataFrame, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "subgroups": {},
        "reference_arm": "single",
        "bootstrap_samples": 300,
        "seed": 5,
        "thresholds": None,
    }
    lesions = LESIONS[["lesion_id", "patient_id", "diameter_mm"]]
    return summarize(pd.DataFrame(), rows, lesions, **(arguments | changes))


def nodule(summary: dict[str, Any]) -> dict[str, Any]:
    return summary["segmentation"]["segmentation"]["nodule"]


def test_missed_structures_count_as_zero_and_are_named() -> None:
    rows = masks()
    found = nodule(summarized(rows))["arms"]["shared"]
    dice = rows.query("arm == 'shared'")["dice"]
    assert found["dice"]["mean"]["estimate"] == pytest.approx(dice.mean())
    assert found["dice"]["median"]["estimate"] == pytest.approx(dice.median())
    assert found["dice"]["q1"] == pytest.approx(dice.quantile(0.25))
    assert found["dice"]["n"] == len(LESIONS)
    assert (found["counts"]["missed"], found["counts"]["empty_prediction"]) == (2, 1)
    assert found["hd95_mm"]["n"] == len(LESIONS) - 1
    assert found["hd95_mm"]["not_computed"] == {
        "empty_prediction": 1,
        "false_structure": 0,
        "nothing_to_find": 0,
    }
    assert f"over {len(LESIONS) - 1} of {len(LESIONS)}" in found["hd95_mm"]["mean"]["method"]


def test_where_there_is_nothing_to_find_dice_has_no_say() -> None:
    rows = masks()
    nothing = rows["lesion_id"] == "L0003"
    rows.loc[nothing, "reference_volume_ml"] = 0.0
    scores = ["dice", "nsd", "hd95_mm", "volume_ml"]
    rows.loc[nothing & (rows["arm"] == "shared"), scores] = [NAN, NAN, NAN, 0.0]
    rows.loc[nothing & (rows["arm"] == "single"), scores] = [0.0, 0.0, NAN, 0.4]
    summary = nodule(summarized(rows))
    assert summary["arms"]["shared"]["counts"]["nothing_to_find"] == 1
    assert summary["arms"]["single"]["counts"]["false_structure"] == 1
    assert summary["arms"]["shared"]["dice"]["n"] == len(LESIONS) - 1
    assert summary["arms"]["single"]["dice"]["n"] == len(LESIONS)
    assert summary["differences"]["shared"]["not_compared"] == 1


def test_differences_are_paired_and_arm_minus_reference() -> None:
    rows = masks()
    difference = nodule(summarized(rows))["differences"]["shared"]
    means = rows.groupby("arm")["dice"].mean()
    assert difference["dice"]["estimate"] == pytest.approx(means["shared"] - means["single"])
    assert difference["dice"]["low"] > 0
    assert difference["other_reference"] == 0


def test_another_reference_is_counted_and_an_emptied_one_refused() -> None:
    rows = masks()
    rows.loc[5, "reference_volume_ml"] *= 1.2
    assert nodule(summarized(rows))["differences"]["shared"]["other_reference"] == 1
    rows.loc[5, ["reference_volume_ml", "dice", "nsd", "hd95_mm"]] = [0.0, 0.0, 0.0, NAN]
    with pytest.raises(EvaluationError, match="empty reference in one arm"):
        summarized(rows)


def test_subgroups_may_be_cut_by_either_table() -> None:
    rows = masks()
    subgroups = {
        "at_the_end": Subgroup("slices_beyond", at_most=0.0),
        "large": Subgroup("diameter_mm", at_least=20.0),
    }
    summary = nodule(summarized(rows, subgroups=subgroups))
    shared = rows.query("arm == 'shared'")
    at_the_end = shared[shared["slices_beyond"] == 0]
    large = shared[(LESIONS["diameter_mm"] >= 20).to_numpy()]
    for name, members in (("at_the_end", at_the_end), ("large", large)):
        found = summary["arms"]["shared"]["subgroups"][name]
        assert found["counts"]["lesions"] == len(members)
        assert found["dice"]["mean"]["estimate"] == pytest.approx(members["dice"].mean())
        assert found["underpowered"] == (len(members) < 10)
        other = summary["differences"]["shared"]["subgroups"][name]
        assert other["lesions"] == len(members)


def test_an_organ_without_a_lesion_is_paired_by_scan() -> None:
    rows = masks().drop_duplicates(["arm", "scan_id"]).assign(lesion_id=None, structure="lung")
    summary = summarized(rows, subgroups={"large": Subgroup("diameter_mm", at_least=20.0)})
    lung = summary["segmentation"]["segmentation"]["lung"]
    assert lung["unit"] == "scans"
    assert lung["arms"]["single"]["counts"]["scans"] == 50
    assert lung["differences"]["shared"]["scans"] == 50
    assert "of 50 scans" in lung["arms"]["single"]["dice"]["mean"]["method"]
    assert "not_applicable" in lung["arms"]["single"]["subgroups"]["large"]


def test_an_empty_lesion_name_is_none_and_no_lesion_of_two_patients() -> None:
    rows = masks().drop_duplicates(["arm", "scan_id"]).assign(structure="lung")
    empty, missing = (summarized(rows.assign(lesion_id=name)) for name in ("", None))
    assert empty == missing


def test_lesions_and_organs_are_not_counted_together() -> None:
    rows = masks()
    rows.loc[rows["lesion_id"] == "L0003", "lesion_id"] = ""
    with pytest.raises(EvaluationError, match="about lesions, or about organs"):
        summarized(rows)


def test_an_arm_alone_has_no_differences() -> None:
    rows = masks().query("arm == 'shared'")
    assert nodule(summarized(rows, reference_arm="shared"))["differences"] == {}
    assert nodule(summarized(rows, reference_arm=None))["differences"] == {}


def test_the_summary_is_json_and_the_same_in_any_row_order() -> None:
    rows = masks()
    text = json.dumps(summarized(rows), allow_nan=False)
    assert json.dumps(summarized(rows.sample(frac=1, random_state=2)), allow_nan=False) == text


@pytest.mark.parametrize(
    ("column", "value"),
    [("dice", NAN), ("nsd", NAN), ("hd95_mm", NAN), ("volume_ml", NAN), ("volume_ml", 0.0)],
)
def test_a_score_that_vanished_is_refused(column: str, value: float) -> None:
    rows = masks()
    rows.loc[4, column] = value
    with pytest.raises(EvaluationError, match="segmentation"):
        summarized(rows)


def test_a_structure_scored_twice_is_refused() -> None:
    rows = masks()
    with pytest.raises(EvaluationError, match="repeat"):
        summarized(pd.concat([rows, rows.iloc[:1]]))
