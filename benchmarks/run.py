"""Runs the contests and writes docs/benchmarks.md and its figure.

    python -m benchmarks.run            # all of them
    python -m benchmarks.run patches    # some

What was measured lies in results/benchmarks/<name>.json; the page is made from these files, so a
contest that was not run again keeps its last measurement, with the commit it was made at.
"""

import importlib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import ROOT, hold
from benchmarks.page import write_page
from medmtl.experiment.provenance import git_commit
from medmtl.run_folder import write_json

NAMES = (
    "training",
    "quality",
    "machine_limit",
    "patches",
    "views",
    "inference",
    "startup",
    "tracking",
)
RESULTS = ROOT / "results" / "benchmarks"


def main(names: Sequence[str]) -> None:
    """Runs contests and rewrites the page."""
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"{name}: preparing", flush=True)
        facts = module.prepare()
        outcome = hold(module.CONTEST, facts)
        write_json(
            RESULTS / f"{name}.json",
            {
                "command": f"python -m benchmarks.run {name}",
                "commit": git_commit(),
                "machine": _machine(),
                "facts": outcome.facts,
                "values": outcome.values,
            },
        )
    write_page(NAMES, RESULTS, ROOT / "docs")
    print(f"page:    {ROOT / 'docs' / 'benchmarks.md'}")


def _machine() -> str:
    """Cores and what matters of the processor; no name of a host."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags]
    cores = sum(line.startswith("processor") for line in lines)
    return f"{cores} cores of {model} ({', '.join(units)}), Python {platform.python_version()}"


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
