"""`medmtl manifest build`, as it is called."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from medmtl.cli_build import build_manifest, parse_structures
from medmtl.data.privacy.secret import make_secret
from medmtl.errors import ManifestError
from tests.data.building.trees import add_nifti, add_series

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(build_manifest)


@pytest.fixture(autouse=True)
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "secret"))
    return make_secret()


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_what_was_built_is_told_with_where_it_is(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "manifest"
    add_series(root / "a", "1.2.3.1", patient="P1000")
    add_series(root / "b", "1.2.3.2", patient="P2000")
    add_series(root / "gap", "1.2.3.3", patient="P2000", skip=(2,))
    told = " ".join(call(root, "--out", out, "--workers", "1").output.split())
    assert "archive: 2 patients, 2 scans left out: 1, see" in told
    assert "1 x 1 of 4 slices are missing" in told
    assert "the same content, of 2 patients: " in told and "crosses every split" in told
    assert f"contents: {out / 'contents.csv'}" in told and f"manifest: {out} " in told
    assert "P1000" not in told and "1.2.3" not in told


def test_masks_are_named_with_their_structures(tmp_path: Path) -> None:
    add_nifti(tmp_path / "scans" / "a.nii.gz", seed=1)
    add_nifti(tmp_path / "scans" / "a_seg.nii.gz", seed=2, is_mask=True)
    said = ["--patient", "file", "--pseudonyms-already", "--masks", "{stem}_seg.nii.gz"]
    arguments = [tmp_path / "scans", "--out", tmp_path / "out", "--workers", "1", *said]
    assert "give both" in str(call(*arguments).exception)
    assert call(*arguments, "--structures", "heart=1, aorta=2").exit_code == 0
    assert "a_seg.nii.gz,aorta;heart" in (tmp_path / "out" / "scans.csv").read_text()


@pytest.mark.parametrize("text", ["heart", "heart=", "heart=0", "=1", "a=1,a=2", "a=1,b=1", "a=1,"])
def test_structures_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="--structures"):
        parse_structures(text)


def test_a_mistyped_word_is_refused(tmp_path: Path) -> None:
    refused = call(tmp_path, "--out", tmp_path / "out", "--patient", "name")
    assert "allowed: folder, file" in str(refused.exception)
