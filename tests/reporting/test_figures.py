"""Figures are the same every time, hold text as text, and net benefit is what it should be."""

import numpy as np
from matplotlib.figure import Figure

from medmtl.reporting.arm_styles import arm_styles
from medmtl.reporting.description import ArmDescription, ExperimentDescription
from medmtl.reporting.figures import net_benefit
from medmtl.reporting.fold_strip import fold_strip, strip_scale
from medmtl.reporting.svg import style, to_markup

THRESHOLDS = np.array([0.1, 0.3, 0.5])


def drawing(name: str) -> str:
    with style(name):
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], "o-")
        axes.set_title("<b>$x$ & y")
        return str(to_markup(figure, label='a "label" <b>'))


def test_a_drawing_is_the_same_every_time_and_its_ids_are_its_own() -> None:
    assert drawing("one") == drawing("one")
    ids = [set(part.split('"')[0] for part in drawing(name).split(' id="')[1:]) for name in "ab"]
    assert ids[0] and not ids[0] & ids[1]


def test_a_drawing_names_no_address_and_escapes_text() -> None:
    svg = drawing("one")
    assert "http" not in svg and "<metadata" not in svg and "<b>" not in svg
    assert "&lt;b&gt;$x$ &amp; y" in svg


def test_a_perfect_model_gains_the_prevalence_and_acting_on_all_less() -> None:
    target = np.array([True, False, False, True, False])
    perfect = net_benefit(target, np.tile(target, (3, 1)), THRESHOLDS)
    assert np.allclose(perfect, 0.4)
    everyone = net_benefit(target, np.ones((3, 5), dtype=bool), THRESHOLDS)
    assert np.allclose(everyone, 0.4 - 0.6 * THRESHOLDS / (1 - THRESHOLDS))
    nobody = net_benefit(target, np.zeros((3, 5), dtype=bool), THRESHOLDS)
    assert not nobody.any()


def test_a_strip_holds_every_fold_that_has_an_auc() -> None:
    folds = [
        {"fold": n, "auc": {"estimate": auc}, "positives": 3, "negatives": 4}
        for n, auc in enumerate([0.4, None, 0.9])
    ]
    mean = {"estimate": 0.65, "low": None, "high": None}
    svg = str(fold_strip(folds, mean, strip_scale([0.4, 0.9])))
    assert svg.count("<circle") == 2
    assert "fold 1: not estimable (3 positive, 4 negative)" in svg


def test_an_arm_looks_alike_whichever_others_are_drawn() -> None:
    arms = {
        name: ArmDescription(title=name, heads=["t"], is_control=name == "control")
        for name in ("a", "control", "b")
    }
    description = object.__new__(ExperimentDescription)
    for key, value in {"arms": arms, "baselines": {"size": "Size"}}.items():
        object.__setattr__(description, key, value)
    every = arm_styles(description, ["a", "b", "control", "size"], main="a")
    some = arm_styles(description, ["control", "b"], main=None)
    assert list(every) == ["a", "b", "size", "control"]
    assert all(every[name].colour == some[name].colour for name in some)
    assert len({each.colour for each in every.values()}) == 4
    assert every["control"].stroke == "dotted" and every["size"].stroke == "dashed"
