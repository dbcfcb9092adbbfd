"""`folder#label`: one series of a folder, as a manifest names it."""

from pathlib import Path

import pytest

from medmtl.data.cache import CaseCache
from medmtl.data.dicom.choice import split_choice, with_choice
from medmtl.data.dicom.reader import list_series
from tests.data.dicom.writers import Phantom, write_series


@pytest.mark.parametrize("folder", [".", "a", "a b/c#d", "é/1.2.3", "a\nb"])
def test_a_choice_is_taken_apart_as_it_was_made(folder: str, tmp_path: Path) -> None:
    path = tmp_path / with_choice(folder, "0123abcd")
    assert split_choice(path) == (tmp_path / folder, "0123abcd")


@pytest.mark.parametrize(
    "path", ["a", "a#1", "a#0123abcg", "a#0123ABCD", "#0123abcd/b", "a.nii.gz"]
)
def test_other_paths_are_left_alone(path: str) -> None:
    assert split_choice(Path(path)) == (Path(path), None)


def test_a_folder_of_such_a_name_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "a#0123abcd").mkdir()
    assert split_choice(tmp_path / "a#0123abcd") == (tmp_path / "a#0123abcd", None)


def test_series_of_one_folder_are_different_cases(tmp_path: Path) -> None:
    write_series(tmp_path / "a", Phantom(series_uid="1.2.1"))
    write_series(tmp_path / "a", Phantom(series_uid="1.2.2"))
    cache = CaseCache(folder=tmp_path / "cache", max_gb=1.0)
    labels = [each.label for each in list_series(tmp_path / "a", name="a")]
    paths = [tmp_path / with_choice("a", label) for label in labels]
    digests = {cache.digest(path) for path in [*paths, tmp_path / "a"]}
    assert len(digests) == 3 and cache.digest(paths[0]) in digests
