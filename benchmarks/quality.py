"""How long training takes until the inner split is seen as well as by the peer.

The peer is trained once for many epochs first; what it then reaches is the target: AUC and Dice
on the lesions of the inner split, means of its last looks. Then both are trained anew, with other
seeds, and looked at after every epoch, until both scores have reached the target. Only training
counts, not the looks. Our learning rate falls over `ROUNDS` epochs; the peer's stays, as in the
tutorials.

A caution: the peer's window shows where the file ends, which tells a nodule's size in this
collection; ours does not. Its AUC is helped by that.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from math import inf
from statistics import mean
from typing import Any

from benchmarks import training
from benchmarks.contest import OURS, Bar, Contest

PEER_EPOCHS, LAST = 40, 10
ROUNDS = 20
TARGET = training.FOLDER / "quality-target.json"

CONTEST = Contest(
    name="quality",
    title="Training until the peer's quality is reached",
    work=(
        "training time, one core, until AUC and Dice of the inner split both reach what the peer "
        f"reached in {PEER_EPOCHS} epochs (mean of its last {LAST})"
    ),
    contestants={
        OURS: "configs/lidc.yaml, arm joint (bf16)",
        "monai": "MONAI as in its tutorials, fp32",
    },
    measures={
        "time_s": ("s", False),
        "epochs": ("epochs", False),
    },
    bars=[Bar(measure="time_s", peer="monai", factor=3.0)],
    rounds=3,
)


def prepare() -> dict[str, str]:
    """As for training; then the peer is trained for the target."""
    facts = training.prepare()
    looks = []
    for _, scores in zip(range(PEER_EPOCHS), _peer(seed=0), strict=False):
        looks.append(scores)
        print(f"  the peer's epoch {len(looks)}: {scores}", flush=True)
    target = {name: mean(each[name] for each in looks[-LAST:]) for name in ("auc", "dice")}
    TARGET.write_text(json.dumps(target))
    return facts | {"target": f"AUC {target['auc']:.3f}, Dice {target['dice']:.3f}"}


Look = dict[str, float]  # train_s, auc, dice


def _peer(seed: int) -> Iterator[Look]:
    """A look after every epoch."""
    import numpy as np
    import torch
    from monai.data import CacheDataset, DataLoader

    from benchmarks.tutorial_network import cached_transforms
    from medmtl.evaluation.metrics import roc_auc
    from medmtl.experiment.inner_scores import mask_dice

    torch.set_num_threads(1)
    transforms = cached_transforms(training.WINDOW, training.SPACING_MM)
    inner = CacheDataset(training.items("inner"), transforms, progress=False)
    epochs = training.peer_epochs(bf16=False, seed=seed)
    next(epochs)
    train_s = 0.0
    while True:
        start_s = time.perf_counter()
        model = next(epochs)
        train_s += time.perf_counter() - start_s
        model.eval()
        classes, predicted, dice = [], [], []
        with torch.no_grad():
            for batch in DataLoader(inner, batch_size=training.BATCH):
                mask, malignant = model(batch["image"].as_tensor())
                predicted += malignant[:, 0].tolist()
                classes += batch["malignant"].tolist()
                there = batch["mask"].as_tensor() > 0.5
                pairs = zip(mask > 0, there, strict=True)
                dice += [mask_dice(found[0], drawn[0]) for found, drawn in pairs]
        model.train()
        auc = float(roc_auc(np.array(classes), np.array(predicted)))
        yield {"train_s": train_s, "auc": auc, "dice": mean(dice)}


class _ReachedError(Exception):
    """Training need not go on."""


def _ours(seed: int, target: dict[str, float]) -> list[Look]:
    """Looks after every epoch until the target is reached."""
    from medmtl.experiment.inner_scores import inner_scores

    job = training.frozen_job()
    settings = replace(job.settings, epochs=ROUNDS, evaluate_every=1, seed=seed)
    looks: list[Look] = []
    looked_s = 0.0
    start_s = time.perf_counter()

    def look(model: Any) -> dict[str, float]:
        nonlocal looked_s
        before_s = time.perf_counter()
        scores = inner_scores(
            model, job.parts["inner"], {}, job.tasks, precision="bf16", organ_segmenter=_none
        )
        looks.append(
            {
                "train_s": before_s - start_s - looked_s,
                "auc": scores["malignancy"],
                "dice": scores["nodule"],
            }
        )
        looked_s += time.perf_counter() - before_s
        if _reached(looks[-1], target):
            raise _ReachedError
        return scores

    with suppress(_ReachedError):
        training.make_trainer(job, settings=settings, evaluate=look).train()
    return looks


def _none(*_: Any) -> Any:
    raise AssertionError("no organs here")


def _reached(look: Look, target: dict[str, float]) -> bool:
    return look["auc"] >= target["auc"] and look["dice"] >= target["dice"]


def contest(name: str) -> dict[str, float]:
    """Measures one contestant; a target that is not reached takes for ever."""
    target = json.loads(TARGET.read_text())
    seed = time.time_ns() % 100_000
    if name == OURS:
        looks = _ours(seed, target)
    else:
        looks = []
        for _, look in zip(range(2 * PEER_EPOCHS), _peer(seed), strict=False):
            looks.append(look)
            if _reached(look, target):
                break
    if not _reached(looks[-1], target):
        return {"time_s": inf, "epochs": inf}
    return {"time_s": looks[-1]["train_s"], "epochs": float(len(looks))}


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
