"""The page on pretraining can be followed to its end."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks_of
from tests.docs.test_commands import follow, write_file


@pytest.mark.slow
def test_pretraining_can_be_followed_to_its_end(tmp_path: Path) -> None:
    for block in blocks_of(DOCS / "pretraining.md"):
        if block.file:
            write_file(block, tmp_path)
    for block in blocks_of(DOCS / "pretraining.md"):
        if block.language == "bash":
            for line in block.lines:
                follow(line, tmp_path)
    assert (tmp_path / "runs/archive/encoder.pt").stat().st_size > 1000
    assert (tmp_path / "runs/archive-two/encoder.pt").stat().st_size > 1000
    assert (tmp_path / "runs/gain/report/index.html").stat().st_size > 1000
