"""How many labels does pretraining save? Nodules of LIDC-IDRI.

    python pipelines/label_efficiency.py ../shared/data

Every source of first weights (random, MoCo, Models Genesis, masked autoencoder; each pretrained
for each fold without its test patients) is adapted with 10, 30 and 100 % of the labels, as frozen
features and as a whole, on the folds of the main results, with three seeds; beside them a control
that sees only where the file ends. Killed at any moment, the same command goes on; what is finished
is kept in results/label-efficiency, and counts as finished wherever the command is given again.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml

from medmtl.build.experiment import build_cross_validation
from medmtl.build.first_weights import read_first_weights
from medmtl.build.tracking import tracked
from medmtl.config import Config
from medmtl.config_file import arm_digests, load_config
from medmtl.data.adapters.lidc_nodules import import_lidc_nodules
from medmtl.data.adapters.openkbp import import_openkbp
from medmtl.errors import MedmtlError
from medmtl.evaluation.intervals import Resampling
from medmtl.evaluation.label_efficiency import measure_label_efficiency
from medmtl.experiment.keeping import keeping, kept_commits, read_kept
from medmtl.pretraining_folder import kept_pretraining
from medmtl.reporting.label_efficiency import write_label_efficiency
from medmtl.run_folder import RunFolder, write_table

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "results" / "label-efficiency"
SOURCES = ("scratch", "moco", "genesis", "masked")
# Tried after MoCo had not helped, each with one seed: views that keep the nodule and its size, and
# an adaptation that leaves more of what was learnt without labels.
NEAR, GENTLE = "near", {"start.adaptation": "linear_then_full", "training.learning_rate": 0.001}
EPOCHS = {10: 180, 30: 100, 100: 60}  # by percent: with fewer labels an epoch has fewer steps
SEEDS = (0, 1, 2)
FOLDS = 5
PAGE = ROOT / "docs" / "results.md"
PROBES = KEPT / "probes.csv"
PROBE_COLUMNS = ["source", "encoder", "step", "loss", "effective_rank", "alignment", "uniformity"]
PROBE_COLUMNS += [f"probe_linear_auc_level_{level}" for level in (1, 2, 3)]
PROBE_COLUMNS += ["probe_linear_auc", "probe_knn_auc"]


def main(data: Path) -> None:
    """Imports, pretrains, cross-validates, seed by seed; then measures and publishes."""
    first = experiment_config(SEEDS[0])
    import_lidc_nodules(data / "lidc_nodules", first.manifest[0])
    import_openkbp(data / "openkbp_head_neck", ROOT / "data_manifests" / "openkbp")
    for seed in SEEDS:
        config = experiment_config(seed)
        experiment = build_cross_validation(config)
        experiment.prepare()
        made = arm_digests(config)
        with keeping(experiment.run, KEPT / f"seed-{seed}", made), tracked(config, experiment.run):
            experiment.train_prepared()
        keep_probes(experiment.run)
        print(f"run:      {experiment.run.path}", flush=True)
        publish()  # after each seed, for whoever cannot wait for the others
    print(f"results:  {PAGE}")


def keep_probes(run: RunFolder) -> None:
    """Keeps what probes told of the encoders that a run began with."""
    tables = [pd.read_csv(PROBES)] if PROBES.is_file() else []
    for name in dict.fromkeys(read_first_weights(run).values()):
        steps = kept_pretraining(run.path.parent, name).steps
        table = pd.read_csv(steps) if steps.is_file() else pd.DataFrame()
        if "probe_linear_auc" in table:
            source = name.removeprefix("lidc-").rsplit("-", 1)[0]
            probed = table[table["probe_linear_auc"].notna()]
            tables.append(probed.assign(source=source, encoder=name))
    if tables:
        every = pd.concat(tables).drop_duplicates(["encoder", "step"], keep="last")
        write_table(PROBES, every.sort_values(["source", "encoder", "step"])[PROBE_COLUMNS])


def publish() -> None:
    """Measures what is kept so far, and rewrites the section of the results page."""
    kept = [KEPT / f"seed-{seed}" for seed in SEEDS if (KEPT / f"seed-{seed}").is_dir()]
    found = measure_label_efficiency(
        [read_kept(folder) for folder in kept],
        task="malignancy",
        resampling=Resampling(),
        folds=FOLDS,
    )
    write_label_efficiency(
        found,
        command="python pipelines/label_efficiency.py ../shared/data",
        commits=[commit for folder in kept for commit in kept_commits(folder)],
        config="configs/label_efficiency.yaml, configs/pretraining/lidc_*.yaml",
        data="LIDC-IDRI nodules; OpenKBP scans in the pool of the pretraining",
        explanation=(KEPT / "explanation.md").read_text(encoding="utf-8"),
        tables=KEPT,
        page=PAGE,
        figure=ROOT / "docs" / "images" / "label_efficiency.svg",
        probes=pd.read_csv(PROBES) if PROBES.is_file() else None,
    )


def experiment_config(seed: int) -> Config:
    """The configuration with all arms."""
    changes = [f"name=label-efficiency-{seed}", f"seed={seed}", f"output={ROOT / 'runs'}"]
    planned = arms() | {SEEDS[0]: near(), SEEDS[-1]: gentle()}.get(seed, {})
    changes += [f"arms.{name}={yaml.safe_dump(arm)}" for name, arm in planned.items()]
    return load_config(ROOT / "configs" / "label_efficiency.yaml", changes)


def arms() -> dict[str, dict[str, object]]:
    """By name: source, mode and percent of the labels."""
    found: dict[str, dict[str, object]] = {}
    for percent in EPOCHS:
        found[f"padding-full-{percent}"] = _arm(percent) | {
            "input": "padding_only",
            "caution": "control: sees only where the file ends",
        }
        for source in SOURCES:
            for mode in ("frozen", "full"):
                adapted = {"start.adaptation": mode} | _begun(source)
                found[f"{source}-{mode}-{percent}"] = _arm(percent, adapted)
    return found


def near() -> dict[str, dict[str, object]]:
    """The same of the first further idea."""
    return {
        f"{NEAR}-{mode}-{percent}": _arm(percent, {"start.adaptation": mode} | _begun(NEAR))
        for percent in EPOCHS
        for mode in ("frozen", "full")
    }


def gentle() -> dict[str, dict[str, object]]:
    """The same of the second, with the encoders that its seed pretrains anyway."""
    return {
        f"{source}-gentle-{percent}": _arm(percent, GENTLE | _begun(source))
        for percent in EPOCHS
        for source in SOURCES[1:]
    }


def _arm(percent: int, more: Mapping[str, object] | None = None) -> dict[str, object]:
    labels = {"training.label_fraction": percent / 100, "training.epochs": EPOCHS[percent]}
    return {"heads": ["malignancy"], "set": labels | dict(more or {})}


def _begun(source: str) -> dict[str, object]:
    pretraining = ROOT / "configs" / "pretraining" / f"lidc_{source}.yaml"
    return {} if source == "scratch" else {"start.pretraining": str(pretraining)}


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared/data"))
    except MedmtlError as fault:
        print(f"label_efficiency.py: {fault}", file=sys.stderr)
        sys.exit(2)
