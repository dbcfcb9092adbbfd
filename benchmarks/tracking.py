"""What tracking costs: processor time of the process that uploads, beside the time of the run.

Starting MLflow and making a new database is most of it, so a short run is the hard case; this one
takes as long as `make demo`, a few minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.contest import OURS, ROOT, Bar, Contest
from benchmarks.startup import CONFIG
from benchmarks.startup import FOLDER as SMALL

FOLDER = ROOT / "runs" / "bench" / "tracking"
EPOCHS, WORKERS = 1200, 2

CONTEST = Contest(
    name="tracking",
    title="What MLflow tracking costs",
    work=(
        f"`cross-validate` of a small job, two cells of {EPOCHS} epochs on two cores, "
        "and beside it `medmtl track --follow` into a new sqlite database"
    ),
    contestants={OURS: "medmtl"},
    measures={
        "run_s": ("s", False),
        "tracking_cpu_s": ("s of processor", False),
        "share_percent": ("% of the cores' time", False),
    },
    bars=[Bar(measure="share_percent", factor=2.0, kind="limit")],
    rounds=1,
)


def prepare() -> dict[str, str]:
    """Uses the patients of the waiting times."""
    from benchmarks import startup

    startup.prepare()
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = CONFIG.replace("manifest: cohort", f"manifest: {SMALL / 'cohort'}")
    text = text.replace("[24.0, 32.0, 32.0]", "[96.0, 128.0, 128.0]")
    text = text.replace("epochs: 400, evaluate_every: 400", f"epochs: {EPOCHS}, evaluate_every: 10")
    text += "tracking: {enabled: false}\n"
    (FOLDER / "config.yaml").write_text(text, encoding="utf-8")
    return {}


def contest(name: str) -> dict[str, float]:
    """Measures one run and the process beside it."""
    runs = FOLDER / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    (runs / "startup").mkdir(parents=True)
    start_s = time.perf_counter()
    follower = subprocess.Popen(
        _medmtl("track", "runs/startup", "--follow"), cwd=FOLDER, stdin=subprocess.PIPE
    )
    run = subprocess.Popen(
        _medmtl("cross-validate", "config.yaml"), cwd=FOLDER, stdout=subprocess.DEVNULL
    )
    if run.wait() != 0:
        raise RuntimeError("cross-validate failed")
    run_s = time.perf_counter() - start_s
    assert follower.stdin is not None
    follower.stdin.close()
    _, status, usage = os.wait4(follower.pid, 0)
    if status != 0:
        raise RuntimeError("the upload failed")
    tracking_cpu_s = usage.ru_utime + usage.ru_stime
    return {
        "run_s": run_s,
        "tracking_cpu_s": tracking_cpu_s,
        "share_percent": 100 * tracking_cpu_s / (WORKERS * run_s),
    }


def _medmtl(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "medmtl", *arguments]


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
