from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medmtl.cli_privacy import deidentify, secret
from medmtl.errors import PrivacyError
from tests.data.dicom.writers import image_of, save, write_series
from tests.data.privacy.planting import SMALL, numbered

app = typer.Typer()
app.command()(deidentify)
app.command()(secret)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kept" / "secret"
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(path))
    return path


def call(*arguments: str | Path) -> str:
    answer = CliRunner().invoke(app, [str(each) for each in arguments])
    if answer.exception is not None:
        raise answer.exception
    return answer.output


def test_the_secret_is_made_shown_and_never_printed(file: Path) -> None:
    with pytest.raises(PrivacyError, match="there is no secret"):
        call("secret", "--show")
    said = call("secret") + call("secret") + call("secret", "--show")
    assert said.count(str(file)) == 3 and "Back it up" in said
    assert file.read_text().strip() not in said


def test_without_a_secret_nothing_is_written(tmp_path: Path) -> None:
    write_series(tmp_path / "in", SMALL, numbered())
    with pytest.raises(PrivacyError, match="medmtl secret"):
        call("deidentify", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_summary_names_pseudonyms_only(tmp_path: Path) -> None:
    call("secret")
    write_series(tmp_path / "in" / "SECRET", SMALL, numbered())
    said = call("deidentify", tmp_path / "in", tmp_path / "out", "--workers", "1")
    assert "4 files, 0 of them were there already" in said
    assert "SECRET" not in said


def test_nothing_written_is_a_fault(tmp_path: Path) -> None:
    call("secret")
    (tmp_path / "in").mkdir()
    image = image_of(SMALL, 0)
    image.BurnedInAnnotation = "YES"
    save(tmp_path / "in" / "a.dcm", image)
    with pytest.raises(PrivacyError, match="nothing could be written"):
        call("deidentify", tmp_path / "in", tmp_path / "out")
