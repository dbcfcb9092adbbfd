"""The section of the page, its tables and its figure."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmtl.errors import RunError
from medmtl.evaluation.intervals import Resampling
from medmtl.evaluation.label_efficiency import LabelEfficiency, measure_label_efficiency
from medmtl.reporting.label_efficiency import arm_title, needed_text, write_label_efficiency
from medmtl.reporting.label_efficiency_figure import draw_label_efficiency
from medmtl.reporting.label_efficiency_probes import probe_lines

from ..evaluation.cohorts import lesion_table, predictions

NOISE = {
    f"{source}-{mode}-{percent}": spread * 10 / percent + (mode == "frozen")
    for source, spread in (("scratch", 3.0), ("moco", 0.5), ("genesis", 2.0), ("masked", 30.0))
    for mode in ("full", "frozen")
    for percent in (10, 30, 100)
} | {f"padding-full-{percent}": 300.0 for percent in (10, 30, 100)}
MARKS = "<!-- results: label-efficiency -->", "<!-- end of results: label-efficiency -->"
EXPLAINED = "A paragraph with a \\1 and **stars**."


@pytest.fixture(scope="module")
def found() -> LabelEfficiency:
    lesions = lesion_table(patients=60)
    tables = [predictions(lesions, noise=NOISE, seed=seed) for seed in (1, 2)]
    tables[1] = tables[1][(tables[1]["arm"] != "masked-frozen-10") | (tables[1]["fold"] != 2)]
    return measure_label_efficiency(
        tables, task="malignancy", resampling=Resampling(samples=100, seed=1)
    )


def write(found: LabelEfficiency, folder: Path, text: str) -> str:
    page = folder / "docs" / "results.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(text, encoding="utf-8")
    write_label_efficiency(
        found,
        command="python pipelines/label_efficiency.py",
        commits=["0123456789abcdef", "fedcba9876543210"],
        explanation=EXPLAINED,
        tables=folder / "results" / "label-efficiency",
        page=page,
        figure=page.parent / "images" / "label_efficiency.svg",
        config="configs/label_efficiency.yaml",
        data="LIDC-IDRI nodules",
    )
    return page.read_text(encoding="utf-8")


def test_only_what_is_between_the_marks_is_replaced(found: LabelEfficiency, tmp_path: Path) -> None:
    before, after = "# Results\n\n<!-- results: lidc -->\nkept\n", "\n\nkept, too\n"
    text = write(found, tmp_path, f"{before}{MARKS[0]}\nof another run\n{MARKS[1]}{after}")
    assert text.startswith(before + MARKS[0]) and text.endswith(MARKS[1] + after)
    assert "of another run" not in text
    assert write(found, tmp_path, text) == text


def test_the_section_says_what_was_run_found_and_left_out(
    found: LabelEfficiency, tmp_path: Path
) -> None:
    text = write(found, tmp_path, "\n".join(MARKS))
    assert (
        "`python pipelines/label_efficiency.py` at commits `0123456789ab`, `fedcba987654`" in text
    )
    assert "`configs/label_efficiency.yaml`" in text and "LIDC-IDRI nodules" in text
    assert EXPLAINED in text
    assert f"{found.lesions} lesions ({found.positives} positive) of 60 patients" in text
    assert "not adjusted" in text
    assert "(images/label_efficiency.svg)" in text
    assert "| masked autoencoder, frozen, 10 % | 2 | 2 |" in text  # run 2 lacks fold 2
    arm = found.arms.set_index("arm").loc["moco-full-10"]
    told = f"{arm['estimate']:.3f} [{arm['low']:.3f}, {arm['high']:.3f}]"
    assert f"| MoCo, 10 % | 2 of 2 | {told} | {arm['sd_over_runs']:.3f} | +" in text
    assert "| masked autoencoder, frozen, 10 % | 1 of 2 |" in text
    hypotheses = [line for line in text.splitlines() if line.startswith("| H")]
    assert len(hypotheses) == 12
    assert all(line.endswith(("| met |", "| not met |", "| cannot tell |")) for line in hypotheses)
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_tables_keep_every_bit(found: LabelEfficiency, tmp_path: Path) -> None:
    write(found, tmp_path, "\n".join(MARKS))
    folder = tmp_path / "results" / "label-efficiency"
    arms = pd.read_csv(folder / "arms.csv", float_precision="round_trip")
    assert (arms["estimate"] == found.arms["estimate"]).all()
    runs = arms[["auc_run_1", "auc_run_2"]]
    assert np.allclose(runs.mean(axis=1), arms["estimate"])
    assert runs["auc_run_2"].isna().sum() == 1
    needed = pd.read_csv(folder / "labels_needed.csv")
    assert np.isinf(needed["needed"]).any()
    assert len(pd.read_csv(folder / "differences.csv")) == len(found.differences)
    assert len(pd.read_csv(folder / "left_out.csv")) == 1


def test_a_page_without_marks_is_refused_and_nothing_written(
    found: LabelEfficiency, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="put the lines"):
        write(found, tmp_path, "no marks")
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "docs" / "images").exists()


def test_the_figure_has_every_source_and_is_the_same_every_time(
    found: LabelEfficiency, tmp_path: Path
) -> None:
    for name in ("a.svg", "b.svg"):
        draw_label_efficiency(found.arms, tmp_path / name)
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert svg == (tmp_path / "b.svg").read_text(encoding="utf-8")
    for title in ("from scratch", "MoCo", "Models Genesis"):
        assert f">{title}<" in svg and f">{title}, frozen<" in svg
    assert ">masked autoencoder<" in svg
    assert ">masked autoencoder, frozen (1 of 2 runs)<" in svg, "a point of it has one"
    assert ">control: sees only where the file ends<" in svg
    assert all(f">{percent} %<" in svg for percent in (10, 30, 100))


def test_a_figure_of_what_has_finished_so_far(found: LabelEfficiency, tmp_path: Path) -> None:
    arms = found.arms[found.arms["arm"] == "scratch-full-10"].assign(low=None, high=None)
    draw_label_efficiency(arms, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">from scratch<" in svg and "control" not in svg and "frozen" not in svg


def test_shares_at_both_ends_say_what_they_mean() -> None:
    row = {"first_measured": 0.1, "last_measured": 1.0}
    assert needed_text(0.1, row) == "at most 10 %"
    assert needed_text(0.456, row) == "46 %"
    assert needed_text(np.inf, row) == "not reached"
    assert needed_text(np.inf, row | {"last_measured": 0.3}) == "not reached up to 30 %"
    assert needed_text(None, row) == "–"
    assert arm_title("genesis-frozen-30") == "Models Genesis, frozen, 30 %"
    assert arm_title("diameter") == "diameter"


def test_probes_are_means_over_encoders_by_step_and_by_level() -> None:
    rows = [
        {
            "source": source, "encoder": f"{source}-{fold}", "step": step,
            "effective_rank": 10.0 * (fold + 1), "probe_linear_auc": 0.6 + gain + fold / 10,
            "probe_linear_auc_level_1": 0.5, "probe_knn_auc": 0.55,
        }
        for source, gain in (("moco", 0.2), ("genesis", 0.1))
        for fold in (0, 1)
        for step, gain in ((0, 0.0), (500, gain))
    ]  # fmt: skip
    text = "\n".join(probe_lines(pd.DataFrame(rows)))
    assert "| MoCo | 0.650 (0.600 to 0.700) | 0.850 (0.800 to 0.900) |" in text
    assert "| random weights | 0.500 (0.500 to 0.500) | 0.650 (0.600 to 0.700) |" in text
    assert "| Models Genesis | 0.500 (0.500 to 0.500) | 0.750 (0.700 to 0.800) |" in text
    assert "| 15 (10 to 20) |" in text
    assert probe_lines(pd.DataFrame()) == []
