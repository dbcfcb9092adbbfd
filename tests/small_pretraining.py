"""A pretraining small enough for tests: a dozen noise lungs, an encoder of two levels."""

from pathlib import Path

from tests.synthetic import write_cohort

MOCO = "moco: {kind: moco, queue: 16, outputs: 8, hidden: 16}"
MOCO_V3 = "moco: {kind: moco, queue: 0, outputs: 8, hidden: 16}"
GENESIS = "restore: {kind: models_genesis}"
MASKED = "masked: {kind: masked_autoencoder, cell_mm: [3.0, 4.0, 4.0]}"
SIMCLR = "simclr: {kind: simclr, outputs: 8, hidden: 16}"
CONFIG = """\
name: small
pool:
  - {{manifest: cohort/manifest, aim: anywhere, visits: 2}}
output: runs
spacing_mm: [1.5, 1.0, 1.0]
encoder: {{kind: lean_residual, widths: [8, 16]}}
views: {{size_mm: [6.0, 12.0, 12.0], shift_mm: [1.0, 1.0, 1.0]}}
methods:
  {methods}
training: {{steps: 6, batch_size: 4, look_every: 2, save_every_s: 0, precision: fp32}}
cache: {{folder: cache}}
tracking: {{enabled: false}}
"""


def write_pretraining(home: Path, *methods: str, patients: int = 12) -> Path:
    """Writes a cohort and the configuration of a pretraining below `home`."""
    write_cohort(home / "cohort", patients=patients)
    config = home / "pretraining.yaml"
    chosen = "\n  ".join(methods or (MOCO,))
    config.write_text(CONFIG.format(methods=chosen), encoding="utf-8")
    return config
