"""Every command that the documentation shows is one that there is; the tutorial's are run."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml

from medmtl.cli import app
from medmtl.config_file import load_config
from medmtl.data.manifest_files import parse_card
from tests.docs.pages import DOCS, PAGES, Block, blocks_of, named_commands, typed_commands
from tests.small_experiment import REPOSITORY, environment

TUTORIAL, RECIPES = DOCS / "tutorial.md", DOCS / "howto.md"
INSTALLS = "make setup"  # done already where tests run
REFUSED = "# refused"
SERVER_S = 120.0


def command_named(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words behind it."""
    command: Any = typer.main.get_command(app)
    rest = [*words]
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            assert not rest or rest[0].startswith("--"), f"no such command: medmtl {words}"
            return command, rest
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_typed_command_is_understood(page: Path) -> None:
    for words in typed_commands(page):
        command, rest = command_named(words)
        command.make_context("medmtl", rest)  # raises what the user would be told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    for words in named_commands(page):
        command, rest = command_named(words)
        known = {option for each in command.params for option in each.opts} | {"--help"}
        assert {word for word in rest if word.startswith("--")} <= known, words


def test_commands_are_found_where_they_are_hidden_in_a_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`medmtl ui [RUNS]`\n```bash\nfor c in $(cut x); do medmtl cell r $c; done  # why\n"
        "medmtl config schema > file\n```\n",
        encoding="utf-8",
    )
    assert typed_commands(page) == [["cell", "r", "$c"], ["config", "schema"]]
    assert named_commands(page) == [["ui", "RUNS"]]


def test_every_page_shows_or_names_commands() -> None:
    # Otherwise a change of the pages' style would let the tests above pass on nothing.
    for page in (REPOSITORY / "README.md", TUTORIAL, RECIPES):
        assert len(typed_commands(page)) >= 5, page.name
    assert len(named_commands(REPOSITORY / "README.md")) >= 10


def write_files(folder: Path) -> None:
    """Writes the files that the tutorial shows."""
    for block in blocks_of(TUTORIAL):
        if block.file:
            write_file(block, folder)


def write_file(block: Block, folder: Path) -> None:
    """Writes the file that a block shows."""
    assert block.file
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def test_every_part_of_a_configuration_in_the_recipes_is_accepted(tmp_path: Path) -> None:
    write_files(tmp_path)
    card = yaml.safe_load((tmp_path / "mydata" / "lesions.card.yaml").read_text("utf-8"))
    parts = [block for block in blocks_of(RECIPES) if block.language == "yaml"]
    for block in parts:
        values = yaml.safe_load(block.text) or {}
        if block.file and block.file.endswith("card.yaml"):
            parse_card({**card, "data_root": ".", **values}, file=block.file)
            continue
        part = tmp_path / "part.yaml"
        part.write_text(yaml.safe_dump({"base": "mine.yaml", **values}), encoding="utf-8")
        load_config(part)
    assert len(parts) >= 10


def test_the_configuration_of_the_readme_is_accepted(tmp_path: Path) -> None:
    (block,) = [b for b in blocks_of(REPOSITORY / "README.md") if b.file == "mine.yaml"]
    write_file(block, tmp_path)
    assert set(load_config(tmp_path / "mine.yaml").arms) == {"single", "joint", "padding-only"}


@pytest.mark.slow
def test_the_tutorial_can_be_followed_to_its_end(tmp_path: Path) -> None:
    for block in blocks_of(TUTORIAL):
        if block.file:
            write_file(block, tmp_path)
        elif block.language == "bash" and INSTALLS not in block.text:
            for line in block.lines:
                follow(line, tmp_path)
    asked = pd.read_csv(tmp_path / "predictions" / "predictions.csv")
    assert set(asked["task"]) == {"malignancy", "outline"}
    assert set(asked["status"]) == {"predicted"}
    assert list((tmp_path / "predictions" / "masks").rglob("*.nii.gz"))
    outlines = pd.read_csv(tmp_path / "runs" / "mine" / "segmentation.csv")
    assert (outlines.groupby("arm")["dice"].mean() > 0.3).all()  # enough to look at
    differences = pd.read_csv(tmp_path / "differences.csv")
    assert set(differences["first"]) == {"joint", "diameter"}
    for file in ("runs/mine/report/index.html", "mine.png", "medmtl.schema.json"):
        assert (tmp_path / file).stat().st_size > 1000, file


def follow(line: str, folder: Path) -> None:
    """Types one line of the tutorial; a line that says so must be refused."""
    environ = {name: each for name, each in environment().items() if name != "MLFLOW_TRACKING_URI"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    if line.startswith("medmtl ui"):
        open_pages(line, folder, environ)
        return
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
    )
    said = f"{line}\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == (2 if REFUSED in line else 0), said
    assert "Traceback" not in said, said


def open_pages(line: str, folder: Path, environ: dict[str, str]) -> None:
    """Starts the server that the tutorial starts, at a free port; ends it once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [*line.split(), "--port", str(port)],
        cwd=folder,
        env=environ,
        executable=str(Path(sys.executable).with_name("medmtl")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + SERVER_S
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
                return
            except OSError:
                assert server.poll() is None, "the server ended"
                assert time.monotonic() < deadline_s, "the server did not answer"
                time.sleep(0.2)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
