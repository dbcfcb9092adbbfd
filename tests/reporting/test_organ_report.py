"""A run with an organ task: its tables, pictures, sentences, and pages in Markdown."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmtl.data.joined import join_manifests
from medmtl.data.manifest import Manifest
from medmtl.errors import RunError
from medmtl.reporting.abstract import abstract
from medmtl.reporting.case_selection import select_scans
from medmtl.reporting.collection_tables import by_collection, collection_table, organ_table
from medmtl.reporting.evidence import read_evidence
from medmtl.reporting.limitations import limitations
from medmtl.reporting.organ_cases import OrganCases
from medmtl.reporting.results_page import publish_results

from ..synthetic import write_cohort
from .finished_organs import ORGANS
from .finished_run import BINARY, OUTLINE, FinishedRun, write_finished_run
from .test_cohort import Page, report


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Lesions and organs."""
    folder = tmp_path_factory.mktemp("both")
    return write_finished_run(
        folder, tasks=(BINARY, OUTLINE, ORGANS), patients=7, folds=2, bootstrap_samples=30
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Organs only."""
    folder = tmp_path_factory.mktemp("alone")
    return write_finished_run(
        folder, tasks=(ORGANS,), with_control=False, patients=7, folds=2, bootstrap_samples=30
    )


@pytest.fixture(scope="module")
def html(both: FinishedRun) -> str:
    return report(both)


def organ_cases(finished: FinishedRun) -> OrganCases:
    return OrganCases(
        task=ORGANS,
        run=finished.run,
        evidence=read_evidence(finished.run, finished.description),
        description=finished.description,
        loader=finished.loader,
    )


def section(html: str, name: str, after: str) -> str:
    return html[html.index(f'id="{name}"') : html.index(f'id="{after}"')]


def test_an_organ_task_is_one_section_with_a_row_an_organ(both: FinishedRun, html: str) -> None:
    assert Page(html).open == []
    results = section(html, "results", "figures")
    assert results.count("<h3>Organs: organs</h3>") == 1
    organs = results[results.index("<h3>Organs") :]
    assert organs.count("Mean of 2 organs") == 3  # two arms, one difference
    assert organs.index("left side") < organs.index("right side")
    summary = json.loads(both.run.summary.read_text())
    means = summary["organs"]["organs"]
    for interval in (means["arms"]["joint"]["dice"], means["differences"]["joint"]["dice"]):
        assert f"{abs(interval['low']):.3f}" in organs
    drawn = summary["segmentation"]["organs"]["left_side"]["arms"]["joint"]["counts"]
    assert f"of {drawn['scans']} scans" in organs
    assert "cannot tell" in organs.lower()


def test_a_run_of_organs_alone_speaks_of_scans(alone: FinishedRun) -> None:
    page = report(alone)
    assert Page(page).open == []
    evidence = read_evidence(alone.run, alone.description)
    said = " ".join(abstract(evidence, alone.description))
    scans = evidence.segmentation["scan_id"].nunique()
    assert f"2 organs on {scans} scans" in said and "lesion" not in said
    limits = " ".join(limitations(evidence, alone.description))
    drawn = (evidence.segmentation.query("arm == 'joint'")["structure"] == "left_side").sum()
    assert f"left side on {drawn}" in limits
    assert "position was given" not in limits and "Holm" not in limits
    folds = page[page.index("Folds: the patients") :].split("</table>")[0]
    assert "Scans with organs drawn" in folds and "Lesions" not in folds


def test_the_scans_with_the_lowest_and_highest_mean_dice_are_shown(both: FinishedRun) -> None:
    evidence = read_evidence(both.run, both.description)
    rows = evidence.segmentation.query("arm == 'joint' and task == 'organs'")
    means = rows.groupby("scan_id")["dice"].mean().sort_values()
    worst, best = select_scans(rows)
    assert list(worst.names) == means.index[:4].tolist()
    assert list(best.names) == means.index[::-1][:4].tolist()
    gallery = organ_cases(both).gallery()
    assert gallery is not None
    facts = dict(gallery.groups[0].cases[0].facts)
    assert facts["Dice, mean"].startswith(f"{means.iloc[0]:.2f} of ")


def test_scans_tie_by_name_and_undefined_organs_do_not_count() -> None:
    rows = pd.DataFrame(
        {
            "scan_id": ["s1", "s0", "s2", "s2", "s3"],
            "dice": [0.3, 0.1 + 0.2, 0.5, np.nan, np.nan],
        }
    )
    worst, _ = select_scans(rows)
    assert worst.names == ["s0", "s1", "s2"] and worst.available == 3


def test_pictures_hold_what_was_drawn_and_nothing_else(both: FinishedRun) -> None:
    cases = organ_cases(both)
    values = both.loader.manifest.card.structures
    partly = [scan for scan in both.loader.manifest.scans if "left_side" not in scan.annotated]
    rows = cases.evidence.segmentation.query("arm == 'joint' and task == 'organs'")
    cell_of = dict(zip(rows["scan_id"], rows["cell"], strict=True))
    assert partly
    for scan in both.loader.manifest.scans:
        organs = both.loader.read_organs(scan)
        assert organs is not None
        drawn = cases._drawn(scan)
        for place, name in enumerate(ORGANS.structures, start=1):
            there = organs.voxels == values[name]
            expected = there if name in scan.annotated else np.zeros_like(there)
            np.testing.assert_array_equal(drawn == place, expected)
        volume = both.loader.read_volume(scan)
        found = cases._predicted(scan, cell_of[scan.scan_id], volume)
        assert (1 in found) == ("left_side" in scan.annotated)


def joined(folder: Path) -> Manifest:
    """One collection with organs and lesions, one whose first patient has no lesion."""
    first = write_cohort(folder / "one", patients=3, organs=True)
    second = write_cohort(folder / "two", patients=4)
    card = second.card.model_copy(update={"name": "elsewhere"})
    scans = tuple(
        replace(scan, scan_id=f"E{scan.scan_id}", patient_id=f"E{scan.patient_id}")
        for scan in second.scans
    )
    lesions = tuple(
        replace(each, lesion_id=f"E{each.lesion_id}", scan_id=f"E{each.scan_id}", mask=None)
        for each in second.lesions
    )
    lesions = tuple(one for one in lesions if not one.scan_id.startswith("ESYN-0001"))
    return join_manifests([first, replace(second, card=card, scans=scans, lesions=lesions)])


def test_every_collection_is_named_with_its_counts(both: FinishedRun, tmp_path: Path) -> None:
    manifest = joined(tmp_path)
    description = replace(both.description, manifest=manifest)
    parts = by_collection(manifest)
    assert sum(len(part.scans) for part in parts.values()) == len(manifest.scans)
    table = collection_table(description)
    assert table is not None
    rows = {row.title: row.entries for row in table.groups[0].rows}
    columns = dict(zip(table.columns, rows["elsewhere"], strict=True))
    assert columns["Patients"].text == "4" and columns["Patients without a lesion"].text == "1"
    assert columns["Outlined lesions"].text == "0"
    assert columns["Scans with organs drawn"].text == "0"
    organs = organ_table(description)
    assert organs is not None and list(organs.columns) == ["synthetic nodules", "elsewhere"]
    assert [row.entries[1].value for row in organs.groups[0].rows] == [0, 0]
    evidence = read_evidence(both.run, both.description)
    said = abstract(evidence, description)[0]
    assert "“synthetic nodules” (3 patients" in said and "“elsewhere” (4 patients" in said
    assert "1 patient without a lesion" in said
    assert collection_table(both.description) is None


MARKS = "<!-- results: {0} -->\nold {0}\n<!-- end of results: {0} -->\n"


@pytest.fixture
def pages(tmp_path: Path) -> tuple[Path, Path]:
    page, readme = tmp_path / "results.md", tmp_path / "README.md"
    for each in (page, readme):
        each.write_text("# Title\n" + MARKS.format("demo") + "between\n" + MARKS.format("demo-2"))
    return page, readme


def publish(finished: FinishedRun, pages: tuple[Path, Path], name: str) -> None:
    publish_results(
        finished.run,
        replace(finished.description, name=name),
        command="medmtl",
        tables=pages[0].parent / name,
        page=pages[0],
        readme=pages[1],
    )


def test_results_of_two_names_stand_side_by_side(
    both: FinishedRun, alone: FinishedRun, pages: tuple[Path, Path]
) -> None:
    publish(alone, pages, "demo-2")
    for each in pages:
        assert "old demo\n" in each.read_text() and "old demo-2" not in each.read_text()
    before = [each.read_text().split("between")[1] for each in pages]
    publish(both, pages, "demo")
    page, readme = (each.read_text() for each in pages)
    assert [text.split("between")[1] for text in (page, readme)] == before
    means = json.loads(alone.run.summary.read_text())["organs"]["organs"]
    dice = means["arms"]["joint"]["dice"]["estimate"]
    assert "| Dice organs (mean of 2) |" in readme.split("between")[1]
    assert f"| {dice:.3f} [" in readme.split("between")[1]
    for text in ("| mean of 2 organs |", "| left side |", "| right side |", "Dice minus single"):
        assert text in page.split("between")[1]
    assert "AUC" in page.split("between")[0] and "AUC" not in page.split("between")[1]
    publish(both, pages, "demo")
    assert [each.read_text() for each in pages] == [page, readme]


def test_without_marks_nothing_is_written(both: FinishedRun, pages: tuple[Path, Path]) -> None:
    pages[1].write_text("no marks\n")
    before = pages[0].read_text()
    with pytest.raises(RunError, match=r"README\.md: put the lines"):
        publish(both, pages, "demo")
    assert pages[0].read_text() == before and not (pages[0].parent / "demo").exists()


def test_results_name_each_code_that_trained_cells_and_the_one_that_evaluated(
    alone: FinishedRun, pages: tuple[Path, Path]
) -> None:
    own = json.loads(alone.run.provenance.read_text())["commit"]
    publish_results(
        alone.run,
        replace(alone.description, name="demo"),
        command="medmtl",
        trained_at=["a" * 40, own, "a" * 40],
        tables=pages[0].parent / "demo",
        page=pages[0],
    )

    assert f"at commits `{'a' * 12}`, `{own[:12]}` from " in pages[0].read_text()
