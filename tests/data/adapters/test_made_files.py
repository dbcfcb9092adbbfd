from pathlib import Path

import pytest

from medmtl.data.adapters.made_files import common_root, digest_of, make_once
from medmtl.errors import ManifestError


def test_a_file_killed_before_its_note_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "made"

    def killed(to: Path) -> None:
        to.write_text("other")  # as long as the first
        raise KeyboardInterrupt

    assert make_once(path, "a", lambda to: to.write_text("first"))
    assert not make_once(path, "a", killed)
    with pytest.raises(KeyboardInterrupt):
        make_once(path, "b", killed)
    assert make_once(path, "a", lambda to: to.write_text("first"))
    assert path.read_text() == "first"


def test_a_digest_knows_where_its_parts_end() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("ab", b"c") == digest_of(b"ab", "c")


def test_the_root_is_the_deepest_common_folder(tmp_path: Path) -> None:
    assert common_root(tmp_path / "a" / "b", tmp_path / "a" / "c") == tmp_path.resolve() / "a"
    assert common_root(tmp_path / "a", tmp_path / "a" / "c") == tmp_path.resolve() / "a"
    with pytest.raises(ManifestError, match="must share a folder"):
        common_root(tmp_path, Path("/elsewhere"))
