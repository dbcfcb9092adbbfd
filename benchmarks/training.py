"""An epoch of the LIDC job: malignancy and outline of nodules, in one network, on one core.

The peer is written as MONAI's tutorials write it: CacheDataset, dictionary transforms, DataLoader,
a MONAI UNet, to which a class head is added; as it is, and under autocast to bf16. Everyone sees
the same nodules in batches of the same size, turns, scales, flips and disturbs them alike, and
has everything in its cache when the clock starts.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from benchmarks.contest import OURS, ROOT, Bar, Contest

DATA = ROOT.parent / "shared" / "data" / "lidc_nodules"
FOLDER = ROOT / "runs" / "bench"
RUN, CELL = FOLDER / "lidc-training", "joint_r0_f0"
EPOCHS, BATCH = 4, 16
SPACING_MM, WINDOW = (0.6, 0.6, 1.0), (48, 48, 8)

CONTEST = Contest(
    name="training",
    title="Training on lung nodules",
    work=(
        "one epoch over the training nodules of fold 0 of the LIDC job: malignancy and outline, "
        "batches of 16, one core; the median of the epochs after the first"
    ),
    contestants={
        OURS: "configs/lidc.yaml, arm joint (bf16)",
        "monai": "MONAI as in its tutorials, fp32",
        "monai-bf16": "the same under autocast to bf16",
    },
    measures={"epoch_s": ("s", False), "lesions_per_s": ("lesions/s", True)},
    bars=[
        Bar(measure="lesions_per_s", peer="monai", factor=4.0),
        Bar(measure="lesions_per_s", peer="monai-bf16", factor=4.0),
    ],
    rounds=3,
)


def prepare() -> dict[str, str]:
    """Imports the nodules, freezes the split, and fills our cache."""
    from medmtl.build.experiment import build_cross_validation
    from medmtl.config_file import load_config
    from medmtl.data.adapters.lidc_nodules import import_lidc_nodules
    from medmtl.experiment.plan import freeze_plan

    settings = [f"name={RUN.name}", f"output={FOLDER}", f"manifest={FOLDER / 'lidc-manifest'}"]
    schedule = {"epochs": EPOCHS, "evaluate_every": EPOCHS, "select_epoch": "last"}
    settings += [f"training.{key}={value}" for key, value in schedule.items()]
    config = load_config(ROOT / "configs" / "lidc.yaml", settings)
    import_lidc_nodules(DATA, config.manifest[0])
    shutil.rmtree(RUN, ignore_errors=True)  # the configuration may have changed since
    experiment = build_cross_validation(config)
    freeze_plan(
        experiment.run,
        experiment.plan,
        experiment.config_text,
        experiment.folds,
        experiment.binding,
    )
    return {"nodules": f"{len(frozen_job().parts['train'].lesions)} of 572 are trained on"}


def frozen_job() -> Any:
    """Our cell, as the run was frozen."""
    from medmtl.build.cell import build_cell
    from medmtl.run_folder import RunFolder

    return build_cell(RunFolder(RUN), CELL)


def _ours() -> list[float]:
    """When each epoch ended."""
    job = frozen_job()
    ends = [time.perf_counter()]
    make_trainer(job, on_epoch=lambda epoch: ends.append(time.perf_counter())).train()
    return ends


def make_trainer(job: Any, **other: Any) -> Any:
    """What trains our cell on its lesions; nobody looks at the inner split."""
    from medmtl.training.loop import Trainer

    usual = dict(
        model=job.model,
        data=job.parts["train"],
        scans={},
        tasks=job.tasks,
        losses=job.losses,
        balance=job.balance,
        settings=job.settings,
        evaluate=lambda model: {task.name: 0.0 for task in job.tasks},
        checkpoint=FOLDER / f"training-{time.time_ns()}" / "checkpoint.pt",
        fingerprint="bench",
        save_every_s=60.0,
    )
    return Trainer(**{**usual, **other})


def peer_epochs(*, bf16: bool, seed: int = 0) -> Iterator[Any]:
    """A loop as in MONAI's 3D tutorials: the network, before the first and after every epoch."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss

    from benchmarks.tutorial_network import TutorialNetwork, tutorial_transforms

    torch.manual_seed(seed)
    transforms = tutorial_transforms(WINDOW, SPACING_MM)
    data = CacheDataset(items("train"), transforms, progress=False)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    model = TutorialNetwork()
    outline, label = DiceCELoss(sigmoid=True), torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    yield model
    while True:
        for batch in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                mask, malignant = model(batch["image"].as_tensor())
            loss = outline(mask.float(), batch["mask"].as_tensor().float())
            loss = loss + label(malignant.float()[:, 0], batch["malignant"].float())
            loss.backward()
            optimizer.step()
        yield model


def _peer(*, bf16: bool) -> list[float]:
    """When each epoch ended."""
    epochs = peer_epochs(bf16=bf16)
    return [time.perf_counter() for _, _ in zip(range(EPOCHS + 1), epochs, strict=False)]


def items(part: str) -> list[dict[str, Any]]:
    """The nodules of a part of our cell, as MONAI's transforms want them."""
    lesions, manifest = frozen_job().parts[part].lesions, frozen_job().parts[part].manifest
    return [
        {
            "image": str(manifest.resolve(manifest.scan(lesion.scan_id).image)),
            "mask": str(manifest.resolve(str(lesion.mask))),
            "malignant": float(lesion.labels["malignant"] == 1),
        }
        for lesion in lesions
    ]


def contest(name: str) -> dict[str, float]:
    """Measures one contestant."""
    from statistics import median

    ends = _ours() if name == OURS else _peer(bf16=name == "monai-bf16")
    epochs_s = [after - before for before, after in pairwise(ends[1:])]
    count = len(frozen_job().parts["train"].lesions)
    return {"epoch_s": median(epochs_s), "lesions_per_s": count / median(epochs_s)}


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
