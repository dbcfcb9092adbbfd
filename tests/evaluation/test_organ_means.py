"""The mean over organs: each organ weighs the same, patients are resampled, arms are paired."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from medmtl.errors import EvaluationError
from medmtl.evaluation.summary import summarize

ORGANS = ("heart", "left_lung", "trachea")
SAMPLES, SEED = 400, 7
NAN = float("nan")


def organs(*, patients: int = 24, seed: int = 0) -> pd.DataFrame:
    """Two arms; every third patient has two scans; `trachea` is drawn on half of the scans."""
    generator = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        for scan in range(2 if patient % 3 == 0 else 1):
            for number, organ in enumerate(ORGANS):
                if organ == "trachea" and patient % 2:
                    continue
                easy = 0.9 - 0.25 * number + 0.05 * generator.normal()
                for arm, offset in (("joint", 0.03), ("alone", 0.0)):
                    dice = float(np.clip(easy + offset + 0.02 * generator.normal(), 0.01, 1))
                    rows.append(
                        {
                            "arm": arm, "cell": arm, "patient_id": f"P{patient:02d}",
                            "scan_id": f"S{patient:02d}-{scan}", "lesion_id": "", "task": "organs",
                            "structure": organ, "fold": patient % 3, "dice": dice,
                            "nsd": dice / 2, "hd95_mm": 3.0, "volume_ml": 20.0,
                            "reference_volume_ml": 21.0,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def summarized(rows: pd.DataFrame, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "subgroups": {},
        "reference_arm": "alone",
        "bootstrap_samples": SAMPLES,
        "seed": SEED,
        "thresholds": None,
    }
    return summarize(pd.DataFrame(), rows, pd.DataFrame(), **(arguments | changes))


def macro(rows: pd.DataFrame, value: str) -> float:
    return float(rows.groupby("structure")[value].mean().mean())


def resampled(rows: pd.DataFrame, value: str) -> np.ndarray:
    """The plain bootstrap: draw patients, put their rows below each other, average."""
    of_patient = dict(iter(rows.groupby("patient_id")))
    names = sorted(of_patient)
    generator = np.random.default_rng(99)
    return np.array(
        [
            macro(pd.concat([of_patient[names[n]] for n in drawn]), value)
            for drawn in generator.integers(len(names), size=(SAMPLES, len(names)))
        ]
    )


def test_each_organ_weighs_the_same_on_however_many_scans() -> None:
    rows = organs()
    summary = summarized(rows)
    means = summary["organs"]["organs"]
    for arm, of_arm in rows.groupby("arm"):
        for value in ("dice", "nsd"):
            assert means["arms"][arm][value]["estimate"] == pytest.approx(macro(of_arm, value))
        of_structures = [
            summary["segmentation"]["organs"][organ]["arms"][arm]["dice"]["mean"]["estimate"]
            for organ in ORGANS
        ]
        assert means["arms"][arm]["dice"]["estimate"] == pytest.approx(np.mean(of_structures))
    assert means["structures"] == sorted(ORGANS)
    assert (means["scans"], means["patients"]) == (rows["scan_id"].nunique(), 24)


def test_the_interval_is_that_of_a_plain_bootstrap_of_patients() -> None:
    rows = organs().query("arm == 'joint'")
    found = summarized(rows, reference_arm=None)["organs"]["organs"]["arms"]["joint"]["dice"]
    low, high = np.quantile(resampled(rows, "dice"), [0.025, 0.975])
    width = high - low
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.15 * width)
    assert found["n"] == 24
    assert "mean over 3 structures" in found["method"]


def test_the_difference_is_paired_scan_by_scan() -> None:
    rows = organs()
    found = summarized(rows)["organs"]["organs"]["differences"]["joint"]["dice"]
    keys = ["patient_id", "scan_id", "structure"]
    wide = rows.pivot(index=keys, columns="arm", values="dice").reset_index()
    wide["difference"] = wide["joint"] - wide["alone"]
    assert found["estimate"] == pytest.approx(macro(wide, "difference"))
    low, high = np.quantile(resampled(wide, "difference"), [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.15 * (high - low))
    alone = summarized(rows)["organs"]["organs"]["arms"]["joint"]["dice"]
    assert found["high"] - found["low"] < alone["high"] - alone["low"]


def test_a_resample_without_a_scan_of_an_organ_is_counted_and_left_out() -> None:
    rows = organs(patients=6).query("structure != 'trachea' or patient_id == 'P00'")
    rows = rows.query("arm == 'alone'")
    found = summarized(rows)["organs"]["organs"]["arms"]["alone"]["dice"]
    # One of six patients is in no resample with a chance of (5/6)^6.
    assert found["n_not_computed"] / SAMPLES == pytest.approx((5 / 6) ** 6, abs=0.08)
    assert "resamples without any scan of a structure" in found["method"]


def test_an_organ_that_is_not_there_follows_the_rules_of_its_own_row() -> None:
    rows = organs()
    absent = (rows["scan_id"] == "S01-0") & (rows["structure"] == "heart")
    rows.loc[absent, ["reference_volume_ml", "hd95_mm"]] = [0.0, NAN]
    rows.loc[absent & (rows["arm"] == "joint"), ["dice", "nsd"]] = 0.0  # outlined, not there
    rows.loc[absent & (rows["arm"] == "alone"), ["dice", "nsd", "volume_ml"]] = [NAN, NAN, 0.0]
    means = summarized(rows)["organs"]["organs"]
    for arm, of_arm in rows.groupby("arm"):
        assert means["arms"][arm]["dice"]["estimate"] == pytest.approx(macro(of_arm, "dice"))
    there = rows[~absent]
    difference = macro(there.query("arm == 'joint'"), "dice")
    difference -= macro(there.query("arm == 'alone'"), "dice")
    assert means["differences"]["joint"]["dice"]["estimate"] == pytest.approx(difference)


@pytest.mark.parametrize("lost", ["structure == 'trachea'", "scan_id == 'S03-1'"])
def test_arms_of_other_scans_or_organs_are_not_compared(lost: str) -> None:
    rows = organs()
    rows = rows.drop(rows.query(f"arm == 'joint' and {lost}").index)
    with pytest.raises(EvaluationError, match=r"scans.* are in one arm only"):
        summarized(rows)


def test_tasks_of_lesions_have_no_mean_over_organs() -> None:
    rows = organs()
    named = rows.assign(task="outline", lesion_id=rows["scan_id"], structure="nodule")
    outline = named.drop_duplicates(["arm", "lesion_id"])
    summary = summarized(pd.concat([rows, outline]))
    assert set(summary["organs"]) == {"organs"}
    assert set(summary["segmentation"]) == {"organs", "outline"}
    assert summary["segmentation"]["outline"]["nodule"]["unit"] == "lesions"
