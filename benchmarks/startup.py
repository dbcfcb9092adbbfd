"""How long one waits before anything happens: help, a mistyped key, and the first step."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contest import OURS, ROOT, Bar, Contest

FOLDER = ROOT / "runs" / "bench" / "startup"

CONTEST = Contest(
    name="startup",
    title="Waiting times",
    work=(
        "seconds until `medmtl --help` has ended, until a mistyped key is refused, and until the "
        "first epoch of `cross-validate` has ended, on a warm cache of 8 synthetic patients; "
        "beside the import of PyTorch and MONAI alone"
    ),
    contestants={OURS: "medmtl", "import": "python -c 'import torch, monai'"},
    measures={
        "help_s": ("s", False),
        "refusal_s": ("s", False),
        "first_epoch_s": ("s", False),
        "import_s": ("s", False),
    },
    bars=[Bar(measure="first_epoch_s", factor=10.0, kind="limit")],
    rounds=5,
)
CONFIG = """\
name: startup
manifest: cohort
output: runs
spacing_mm: [3.0, 2.0, 2.0]
windows: {nodule: {size_mm: [24.0, 32.0, 32.0]}}
heads: {malignancy: {kind: classification, label: malignant, window: nodule}}
training: {epochs: 400, evaluate_every: 400, select_epoch: last}
folds: {count: 2}
cache: {folder: cache}
"""


def prepare() -> dict[str, str]:
    """Makes the patients and warms the cache."""
    from medmtl.data.phantom.cohort import make_cohort

    FOLDER.mkdir(parents=True, exist_ok=True)
    make_cohort(FOLDER / "cohort", patients=8, seed=3, missing={}, workers=2)
    (FOLDER / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (FOLDER / "wrong.yaml").write_text(CONFIG + "trainign: {epochs: 3}\n", encoding="utf-8")
    _first_epoch_s("warm-up")
    return {}


def _seconds(*arguments: str) -> float:
    start_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=FOLDER, capture_output=True)
    return time.perf_counter() - start_s


def _first_epoch_s(name: str) -> float:
    """From the command to the moment when a cell has written its first epoch."""
    command = [sys.executable, "-m", "medmtl", "cross-validate", "config.yaml", "--set"]
    start_s = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"name={name}"],
        cwd=FOLDER,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    cells = FOLDER / "runs" / name / "cells"
    try:
        while not _has_begun(cells):
            if process.poll() is not None:
                raise RuntimeError("cross-validate ended before its first epoch")
            time.sleep(0.02)
        return time.perf_counter() - start_s
    finally:
        process.terminate()
        process.wait()


def _has_begun(cells: Path) -> bool:
    return any(path.stat().st_size > 0 for path in cells.glob("*/epochs.csv"))


def contest(name: str) -> dict[str, float]:
    """Measures one contestant."""
    if name == "import":
        return {"import_s": _seconds("-c", "import torch, monai")}
    return {
        "help_s": _seconds("-m", "medmtl", "--help"),
        "refusal_s": _seconds("-m", "medmtl", "cross-validate", "wrong.yaml"),
        "first_epoch_s": _first_epoch_s(f"run-{time.time_ns()}"),
    }


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
