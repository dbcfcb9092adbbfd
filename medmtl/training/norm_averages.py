"""Takes the running averages of batch norms anew, from the windows that will be trained on.

Given weights bring the averages of other windows. A head that is fitted under those would meet
other features in the first step of training, where each batch is normalised by its own mean and
variance: with random weights its loss rose from 0.4 to 2300.

Source:
    Li 2018 (adaptive batch normalisation).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Generator
from torch.nn.modules.batchnorm import _BatchNorm

from medmtl.data.dataset import Batch, LesionDataset
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import Task
from medmtl.models.multitask import MultiTaskModel
from medmtl.training.loop import TrainingSettings
from medmtl.training.steps import draw_steps


@torch.no_grad()
def renew_averages(
    model: MultiTaskModel,
    data: LesionDataset,
    scans: Mapping[str, ScanDataset],
    tasks: Sequence[Task],
    settings: TrainingSettings,
) -> None:
    """Replaces the averages of the encoder's batch norms by the mean over one epoch of batches.

    Args:
        model: Left in evaluation mode; no weight changes. Other norms keep no averages.
        data: Training lesions.
        scans: Training scans, by patch.
        tasks: Whose windows are looked at.
        settings: Batch size, sampling and seed of the epoch.
    """
    norms = [each for each in model.encoder.modules() if isinstance(each, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
        norm.train()
    generator = Generator().manual_seed(settings.seed)
    size, sampling = settings.batch_size, settings.sampling
    steps = draw_steps(data, scans, tasks, batch_size=size, sampling=sampling, generator=generator)
    for window, rows in (each for step in steps for each in sorted(step.items())):
        source = scans.get(window)
        batch = (
            data.training_batch(rows, window, generator)
            if source is None
            else source.training_batch(rows, generator)
        )
        _pass(model, batch, next(task.name for task in tasks if task.window == window), settings)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _pass(model: MultiTaskModel, batch: Batch, task: str, settings: TrainingSettings) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        model(batch.image, [task])
