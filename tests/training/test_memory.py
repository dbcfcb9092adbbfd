"""Freed memory is kept for the next step."""

import subprocess
import sys

SCRIPT = """
import resource, sys, torch
from medmtl.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    for _ in range(5):
        torch.ones(16_000_000).add_(1)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_second_step_fetches_no_memory_anew():
    def faults(how):
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
        )
        return int(ended.stdout)

    # A part may be fetched once more, where the heap is cut otherwise.
    assert faults("kept") < faults("as it is") / 2
