"""The server that cells are forked from starts early, and never stays behind."""

import subprocess
import sys
import time

SLOW = "import time; time.sleep(30)"
ENGINE = """
from medmtl.experiment.engines.nursery import make_nursery
make_nursery(1, ["slow_library"]).warm_up()
print("a message")
"""


def test_an_engine_that_ends_early_leaves_no_server_that_imports_and_holds_its_output(tmp_path):
    (tmp_path / "slow_library.py").write_text(SLOW)

    begun_s = time.monotonic()
    # Returns when nobody holds the engine's output any more.
    told = subprocess.run(
        [sys.executable, "-c", ENGINE], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert told.stdout == "a message\n"
    assert time.monotonic() - begun_s < 15
