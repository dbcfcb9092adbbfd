"""The fixed rules choose what they say they choose."""

import numpy as np
import pandas as pd

from medmtl.reporting.case_selection import class_probabilities, select_classes, select_outlines


def outlines(dice: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"lesion_id": [f"l{n:02d}" for n in range(len(dice))], "dice": dice})


def binary(rows: list[tuple[str, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["lesion_id", "target", "prediction"])
    return table.assign(output="bad")


def test_the_four_worst_and_the_four_best_outlines() -> None:
    worst, best = select_outlines(
        outlines([0.5, 0.9, 0.1, np.nan, 0.8, 0.0, 0.7, 0.95, 0.2, 0.6, 0.3])
    )
    assert worst.names == ["l05", "l02", "l08", "l10"]
    assert best.names == ["l07", "l01", "l04", "l06"]
    assert worst.available == best.available == 10


def test_equal_outlines_come_in_the_order_of_their_names() -> None:
    rows = outlines([0.0] * 10).sample(frac=1, random_state=0)
    worst, best = select_outlines(rows)
    assert worst.names == ["l00", "l01", "l02", "l03"]
    assert best.names == ["l04", "l05", "l06", "l07"]


def test_no_lesion_is_shown_as_worst_and_as_best() -> None:
    worst, best = select_outlines(outlines([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert len(worst.names) == 4 and best.names == ["l04"]


def test_an_organ_without_a_lesion_is_not_shown() -> None:
    rows = outlines([0.1, 0.2]).assign(lesion_id=["", "l1"])
    assert select_outlines(rows)[0].names == ["l1"]


def test_the_most_confident_errors_and_successes_each_way() -> None:
    rows = binary(
        [
            ("a", 1, 0.99), ("b", 1, 0.6), ("c", 1, 0.4), ("d", 1, 0.01), ("e", 1, 0.3),
            ("f", 1, 0.2), ("g", 0, 0.9), ("h", 0, 0.05), ("i", 0, 0.5), ("j", np.nan, 1.0),
        ]
    )  # fmt: skip
    found = {each.title: each for each in select_classes(rows, ("good", "bad"))}
    assert found["Truly bad, taken for another class"].names == ["d", "f", "e"]
    assert found["Truly bad, taken for another class"].available == 4
    assert found["Truly good, taken for another class"].names == ["g", "i"]
    assert found["Truly bad, recognised"].names == ["a", "b"]
    assert found["Truly good, recognised"].names == ["h"]


def test_of_three_classes_the_most_probable_is_called() -> None:
    table = {"a": (0.7, 0.2, 0.1, "x"), "b": (0.1, 0.8, 0.1, "x"), "c": (0.2, 0.35, 0.45, "z")}
    rows = pd.DataFrame(
        [
            {
                "lesion_id": lesion, "output": output, "prediction": values[place],
                "target": float(values[3] == output),
            }
            for lesion, values in table.items()
            for place, output in enumerate("xyz")
        ]
    )  # fmt: skip
    found = {each.title: each.names for each in select_classes(rows, ("x", "y", "z"))}
    assert found["Truly x, taken for another class"] == ["b"]
    assert found["Truly x, recognised"] == ["a"]
    assert found["Truly z, recognised"] == ["c"]
    assert found["Truly y, recognised"] == []


def test_probabilities_of_both_classes_sum_to_one() -> None:
    table = class_probabilities(binary([("a", 1, 0.3), ("b", 0, 0.9)]), ("good", "bad"))
    assert np.allclose(table[["good", "bad"]].sum(axis=1), 1)
    assert table["truth"].to_dict() == {"a": "bad", "b": "good"}


def test_no_labelled_lesion_gives_empty_selections() -> None:
    found = select_classes(binary([("a", np.nan, 0.3)]), ("good", "bad"))
    assert [each.available for each in found] == [0, 0, 0, 0]
