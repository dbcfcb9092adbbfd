"""The report says what the run holds, escapes it, needs no network, and is always the same."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medmtl.errors import LeakageError, RunError
from medmtl.reporting.cohort import write_cohort_report
from medmtl.run_folder import RunFolder

from .finished_run import (
    BINARY,
    CAUTION,
    MULTICLASS,
    OUTLINE,
    FinishedRun,
    write_finished_run,
)

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects what a browser would load, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ADDRESS_ATTRIBUTES]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


ADDRESS_ATTRIBUTES = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}


def report(finished: FinishedRun) -> str:
    path = write_cohort_report(
        run=finished.run, description=finished.description, loader=finished.loader
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return write_finished_run(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def html(finished: FinishedRun) -> str:
    return report(finished)


@pytest.fixture(scope="module")
def small_once(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("small")
    return write_finished_run(folder, patients=6, folds=2, bootstrap_samples=20)


@pytest.fixture
def small(small_once: FinishedRun, tmp_path: Path) -> FinishedRun:
    """A run of which files may be spoiled."""
    copy = RunFolder(tmp_path / "small")
    shutil.copytree(small_once.run.path, copy.path)
    return replace(small_once, run=copy)


def test_every_arm_baseline_and_caution_is_in_the_main_table(html: str) -> None:
    table = html[html.index('id="results"') : html.index('id="figures"')]
    for title in ("Joint &lt;i&gt;model&lt;/i&gt;", "single", "Diameter alone", "Padding only"):
        assert title in table
    assert table.count("extent-confounded &lt;b&gt;&amp; more&lt;/b&gt;") >= 4
    assert '<tbody class="control">' in table


def test_names_are_escaped(html: str) -> None:
    assert "<i>model" not in html
    assert CAUTION not in html


def test_nothing_is_loaded_from_anywhere(html: str) -> None:
    page = Page(html)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert not page.tags & {"link", "iframe", "object", "embed", "base"}
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style and "url(" not in style
    assert "default-src 'none'" in html
    assert not re.search(r"https?://", html)


def test_every_element_is_closed_and_every_id_is_its_own(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert targets <= set(page.ids)


def test_a_rerun_gives_the_same_bytes_and_names_no_path(finished: FinishedRun, html: str) -> None:
    assert report(finished) == html
    assert str(finished.run.path) not in html
    assert "/tmp/" not in html


def test_the_numbers_are_those_of_the_summary(finished: FinishedRun, html: str) -> None:
    summary = json.loads(finished.run.summary.read_text())
    arm = summary["tasks"]["malignancy"]["arms"]["joint"]["outputs"]["malignant"]
    dice = summary["segmentation"]["outline"]["nodule"]["arms"]["joint"]["dice"]
    for interval in (arm["mean_of_folds"], arm["pooled"], dice["mean"], dice["median"]):
        ends = f"({interval['low']:.3f} to {interval['high']:.3f})"
        assert f"{interval['estimate']:.3f}" in html and ends in html


def test_the_label_the_exclusions_and_the_checks_are_stated(
    finished: FinishedRun, html: str
) -> None:
    for text in (
        "known by construction",
        finished.description.manifest.card.exclusions[0].id,
        "its position is outside its file",
        "No patient is in two folds",
        "Research use only",
        "What this does not show",
        "medmtl run configs/demo.yaml",
    ):
        assert text in html


@pytest.mark.parametrize(
    ("tasks", "absent"),
    [
        ((OUTLINE,), "Classification:"),
        ((BINARY,), "Segmentation:"),
        ((MULTICLASS,), "threshold was chosen for a sensitivity"),
    ],
)
def test_a_run_may_lack_what_another_has(tmp_path: Path, tasks: Any, absent: str) -> None:
    finished = write_finished_run(
        tmp_path,
        tasks=tasks,
        with_baselines=False,
        with_subgroups=False,
        with_control=False,
        patients=6,
        folds=2,
        bootstrap_samples=20,
    )
    html = report(finished)
    assert Page(html).open == []
    assert absent not in html
    assert all(f"{task.name}" in html for task in tasks)


def without_estimates(value: Any) -> Any:
    """The same summary with nothing estimable in it."""
    if isinstance(value, dict) and "n_not_computed" in value:
        return value | {
            "estimate": None, "low": None, "high": None,
            "method": "bootstrap; not estimable: too few lions",
        }  # fmt: skip
    if isinstance(value, dict) and "brier" in value:
        return value | {"slope": None, "intercept": None, "note": "one class only"}
    if isinstance(value, dict):
        emptied = {key: without_estimates(each) for key, each in value.items()}
        none = {"p_value", "p_value_holm", "statistic", "q1", "q3"} & set(emptied)
        return emptied | dict.fromkeys(none)
    return [without_estimates(each) for each in value] if isinstance(value, list) else value


def test_what_cannot_be_estimated_is_named_with_n_and_reason(small: FinishedRun) -> None:
    summary = json.loads(small.run.summary.read_text())
    small.run.summary.write_text(json.dumps(without_estimates(summary)))
    html = report(small)
    assert re.search(r"not estimable \(n = \d+\)", html)
    assert "too few lions" in html and "one class only" in html
    assert not re.search(r">None<|\bnan\b", html)


def test_a_leak_across_folds_is_refused(small: FinishedRun) -> None:
    contents = pd.read_csv(small.run.contents)
    contents["content_hash"] = "same"
    contents.to_csv(small.run.contents, index=False)
    with pytest.raises(LeakageError, match="same image content"):
        report(small)


def test_what_the_guard_found_is_said_as_a_check_or_as_a_limit(small: FinishedRun) -> None:
    passed = report(small)
    assert "No two images of different folds look nearly the same" in passed
    near = [{"scans": ["S-1", "S-2"], "folds": [0, 1], "score": 3.0}]
    weights = {"joint": {"images": 40, "seen": 0, "unchecked_lists": 1}}
    audit = {"scans": 9, "weights": weights, "accepted": "", "near_duplicates": near}
    audit["alike_pairs"] = 7
    small.run.audit.write_text(json.dumps(audit))
    page = report(small)
    assert "No two images of different folds" not in page
    assert "1 pair of images in different folds look nearly the same" in page
    assert "S-1 and S-2" in page and "look alike (7 pairs of different folds)" in page
    assert "their list of 40 images was compared by content alone" in page
    assert "Test patients were seen before" not in page


def test_weights_from_elsewhere_stand_on_the_first_page(small: FinishedRun) -> None:
    assert "First weights from elsewhere" not in report(small)
    audit = json.loads(small.run.audit.read_text())
    told = {"images": 0, "seen": 0, "unchecked_lists": 0, "unknown": ["5,000 CT of <others>"]}
    small.run.audit.write_text(json.dumps({**audit, "weights": {"joint": told}}))
    page = report(small)
    first_page = page[: page.index('id="abstract"')]
    assert "First weights from elsewhere." in first_page
    assert "is not known by us" in first_page and "5,000 CT of &lt;others&gt;" in first_page
    assert "by a model that never saw them" not in page
    assert "No scan was seen before by the weights" not in page


def test_a_missing_file_and_an_unknown_arm_are_named(small: FinishedRun) -> None:
    rows = pd.read_csv(small.run.out_of_fold)
    rows.assign(arm="stranger").to_csv(small.run.out_of_fold, index=False)
    with pytest.raises(RunError, match="stranger"):
        report(small)
    small.run.cell("joint_r0_f1").done.unlink()
    with pytest.raises(RunError, match=r"joint_r0_f1/done\.json is missing"):
        report(small)


def test_each_arm_says_what_it_was_trained_chosen_and_tested_on(small: FinishedRun) -> None:
    page = report(small)
    table = page[page.index("What the networks of each arm") :].split("</table>")[0]
    done = [
        json.loads(path.read_text())
        for path in sorted(small.run.path.glob("cells/joint_*/done.json"))
    ]
    for part in ("train", "inner", "test"):
        lesions = sorted({each["lesions"][part] for each in done})
        said = " to ".join(str(count) for count in (lesions[0], lesions[-1])[: len(lesions)])
        assert f"{said} lesions" in table
    assert "patients" in table
