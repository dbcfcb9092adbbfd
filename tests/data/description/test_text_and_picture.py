import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from medmtl.data.description.describe import CohortDescription, describe_manifests
from medmtl.data.description.picture import write_picture
from medmtl.data.description.text import render_text
from medmtl.data.manifest import Manifest
from medmtl.errors import MedmtlError
from tests.synthetic import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=9, side=12, organs=True)


@pytest.fixture(scope="module")
def described(cohort: Manifest) -> CohortDescription:
    return describe_manifests([cohort], workers=1)


@pytest.fixture(scope="module")
def two(cohort: Manifest) -> CohortDescription:
    card = cohort.card.model_copy(update={"name": "few [scans] $x$", "labels": {}})
    few = replace(cohort, card=card, scans=cohort.scans[:1], lesions=())
    return describe_manifests([cohort, few], workers=1)


def texts_of(path: Path) -> str:
    return " ".join(ElementTree.parse(path).getroot().itertext())


def test_every_task_and_number_stands_in_the_text(described: CohortDescription) -> None:
    text = render_text(described)
    (only,) = described.manifests
    for task in only.tasks:
        (row,) = [line for line in text.splitlines() if line[1:].startswith(tuple("12345"))
                  and f"  {task.name} " in line]  # fmt: skip
        assert f" {task.cases} " in row
    assert "does not prove that sharing helps" in " ".join(text.split())
    assert re.search(r"\bnan\b", text, re.IGNORECASE) is None
    assert max(len(line) for line in text.splitlines()) <= 80


def test_pairs_that_cannot_be_judged_are_called_so(two: CohortDescription) -> None:
    text = render_text(two)
    assert "below 10 scans" in text
    assert "few [scans] $x$" in text
    constant = replace(
        two.manifests[0].pairs[0], rho=None, verdict="not defined", scans=12, share=1.0
    )
    whole = replace(two, manifests=(replace(two.manifests[0], pairs=(constant,)),))
    assert "not defined" in render_text(whole)


def test_uneven_collections_are_warned_of_for_the_whole_only(two: CohortDescription) -> None:
    before, whole = render_text(two).rsplit("BALANCE OF TASKS", 1)
    assert "times as many labelled" not in before
    counts = {count.name: count for count in two.counts}
    assert "WARNING" not in whole
    assert counts["right_side"].cases == two.manifests[0].tasks[3].cases + 1


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_text_keeps_to_the_width_of_the_terminal(two: CohortDescription, width: int) -> None:
    assert max(len(line) for line in render_text(two, width=width).splitlines()) <= width


def test_the_picture_names_every_collection_task_and_count(
    two: CohortDescription, tmp_path: Path
) -> None:
    write_picture(two, tmp_path / "a.svg")
    text = texts_of(tmp_path / "a.svg")
    for each in two.manifests:
        assert f"{each.name}: {each.patients} patients, {each.scans} scans" in text
        for task in each.tasks:
            assert task.name in text
            assert f"{task.cases} {task.unit}s, {len(task.patients)} patients" in text


def test_a_png_is_written_and_other_endings_are_refused(
    described: CohortDescription, tmp_path: Path
) -> None:
    write_picture(described, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(MedmtlError, match=r"x\.jpg: a picture's name must end in"):
        write_picture(described, tmp_path / "x.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_collection_without_any_task_is_drawn(cohort: Manifest, tmp_path: Path) -> None:
    card = cohort.card.model_copy(update={"labels": {}, "structures": {}})
    bare = describe_manifests([replace(cohort, card=card, lesions=())], workers=1)
    assert "there is nothing to share" in render_text(bare)
    write_picture(bare, tmp_path / "a.svg")
