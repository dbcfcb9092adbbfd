"""Tasks, model, losses and training settings of one arm."""

from collections.abc import Mapping, Sequence

from medmtl.config import Classification as ClassificationKnobs
from medmtl.config import Config, Focal, LeanResidual, Segmentation
from medmtl.data.manifest import DataCard
from medmtl.data.tasks import ClassificationTask, SegmentationTask, Task
from medmtl.errors import ConfigError
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import ClassificationLoss, SegmentationLoss, TaskLoss
from medmtl.models.encoder import LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.heads import ClassificationHead, SegmentationHead
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout
from medmtl.training.loop import TrainingSettings


def build_tasks(config: Config, card: DataCard) -> list[Task]:
    """The tasks of all heads of a configuration.

    Raises:
        ConfigError: A head asks for a label or structure that the data card does not have.
    """
    tasks: list[Task] = []
    outlined: dict[str, str] = {}
    for name, head in config.heads.items():
        if isinstance(head, Segmentation):
            if head.structure != card.lesion_structure:
                raise ConfigError(
                    f"heads.{name}.structure: {head.structure!r} is not what the lesion masks of "
                    f"{card.name} outline; allowed: {card.lesion_structure!r}"
                )
            if head.structure in outlined:
                raise ConfigError(
                    f"heads.{name}: {outlined[head.structure]!r} outlines {head.structure!r} "
                    "already; leave one of them out of the arm"
                )
            outlined[head.structure] = name
            tasks.append(SegmentationTask(name=name, structure=head.structure, window=head.window))
            continue
        if head.label not in card.labels:
            raise ConfigError(
                f"heads.{name}.label: {head.label!r} is not a label of {card.name}; allowed: "
                f"{', '.join(card.labels) or 'none, the data card declares no label'}"
            )
        classes = tuple(card.labels[head.label].classes)
        tasks.append(
            ClassificationTask(name=name, label=head.label, classes=classes, window=head.window)
        )
    return tasks


def build_model(config: Config, tasks: Sequence[Task]) -> MultiTaskModel:
    """An untrained model. Seed torch before: the weights are drawn here."""
    knobs = config.encoder
    encoder: LeanResidualEncoder | MonaiSegResNetEncoder
    if isinstance(knobs, LeanResidual):
        encoder = LeanResidualEncoder(widths=knobs.widths, dropout=knobs.dropout)
    else:
        encoder = MonaiSegResNetEncoder(
            init_filters=knobs.init_filters, blocks_down=knobs.blocks_down, norm=knobs.norm
        )
    heads: dict[str, ClassificationHead | SegmentationHead] = {}
    for task in tasks:
        head = config.heads[task.name]
        if isinstance(task, ClassificationTask) and isinstance(head, ClassificationKnobs):
            heads[task.name] = ClassificationHead(
                channels=encoder.channels[-1], outputs=task.outputs, dropout=head.dropout
            )
        else:
            heads[task.name] = SegmentationHead(
                channels=encoder.channels, finest=encoder.strides[0]
            )
    model = MultiTaskModel(
        encoder=encoder, heads=heads, windows={task.name: task.window for task in tasks}
    )
    return in_matrix_unit_layout(model)


def build_losses(
    config: Config, tasks: Sequence[Task]
) -> tuple[Mapping[str, TaskLoss], FixedWeights]:
    """The loss of each task, and what makes one of them."""
    losses: dict[str, TaskLoss] = {}
    for task in tasks:
        head = config.heads[task.name]
        if isinstance(head, Segmentation):
            losses[task.name] = SegmentationLoss()
        elif isinstance(head.loss, Focal):
            losses[task.name] = ClassificationLoss(gamma=head.loss.gamma)
        else:
            losses[task.name] = ClassificationLoss(label_smoothing=head.loss.label_smoothing)
    weights = FixedWeights({task.name: config.heads[task.name].weight for task in tasks})
    return losses, weights


def build_training(config: Config, seed: int) -> TrainingSettings:
    """How a cell's model learns."""
    return TrainingSettings(**config.training.model_dump(), seed=seed)
