"""The pages hold together: every link leads somewhere, every page is in the menu."""

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS
from tests.small_experiment import REPOSITORY, environment


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    for page in DOCS.glob("*.md"):
        folder = tmp_path / "site" / ("" if page.stem == "index" else page.stem)
        built = (folder / "index.html").read_text(encoding="utf-8")
        assert "<h1" in built, page.name
        # Read without a network: nothing is fetched from elsewhere.
        assert 'src="http' not in built and '<link href="http' not in built, page.name
        # The theme's script stops at a heading whose anchor begins with a digit.
        assert not re.search(r'<h\d id="\d', built), page.name
