"""Tasks, model, losses and training settings of one arm."""

from collections.abc import Callable, Mapping, Sequence

from medmtl.config import Config
from medmtl.config_encoder import Encoder as EncoderKnobs
from medmtl.config_file import resolve_arm
from medmtl.config_knobs import Classification as ClassificationKnobs
from medmtl.config_knobs import Focal, Organs, Segmentation
from medmtl.data.manifest import DataCard
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task
from medmtl.errors import ConfigError
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import ClassificationLoss, OrganLoss, SegmentationLoss, TaskLoss
from medmtl.models.encoder import Encoder, LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.heads import ClassificationHead, SegmentationHead, decoder_for
from medmtl.models.monai_densenet import MonaiDenseNetEncoder
from medmtl.models.monai_efficientnet import MonaiEfficientNetEncoder
from medmtl.models.monai_resnet import MonaiResNetEncoder
from medmtl.models.monai_swin import MonaiSwinEncoder
from medmtl.models.monai_vit import MonaiViTEncoder
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout
from medmtl.models.nnunet_resenc import NnunetResEncEncoder
from medmtl.training.loop import TrainingSettings

ENCODERS: Mapping[str, Callable[..., Encoder]] = {
    "lean_residual": LeanResidualEncoder,
    "monai_segresnet": MonaiSegResNetEncoder,
    "monai_resnet": MonaiResNetEncoder,
    "monai_densenet": MonaiDenseNetEncoder,
    "monai_efficientnet": MonaiEfficientNetEncoder,
    "monai_vit": MonaiViTEncoder,
    "monai_swin_unetr": MonaiSwinEncoder,
    "nnunet_resenc": NnunetResEncEncoder,
}


def build_tasks(config: Config, card: DataCard) -> list[Task]:
    """The tasks of all heads of a configuration.

    Raises:
        ConfigError: A head asks for a label or structure that the data card does not have.
    """
    tasks: list[Task] = []
    outlined: dict[str, str] = {}
    for name, head in config.heads.items():
        if isinstance(head, Segmentation):
            if head.structure in outlined:
                raise ConfigError(
                    f"heads.{name}: {outlined[head.structure]!r} outlines {head.structure!r} "
                    "already; leave one of them out of the arm"
                )
            outlined[head.structure] = name
            tasks.append(_outline_task(name, head, card))
        elif isinstance(head, Organs):
            tasks.append(_organ_task(name, head, card))
        else:
            tasks.append(_classification_task(name, head, card))
    return tasks


def _outline_task(name: str, head: Segmentation, card: DataCard) -> SegmentationTask:
    if head.structure != card.lesion_structure:
        raise ConfigError(
            f"heads.{name}.structure: {head.structure!r} is not what the lesion masks of "
            f"{card.name} outline; allowed: {card.lesion_structure!r}"
        )
    return SegmentationTask(name=name, structure=head.structure, window=head.window)


def _organ_task(name: str, head: Organs, card: DataCard) -> OrganTask:
    structures = tuple(head.structures or card.structures)
    unknown = [each for each in structures if each not in card.structures]
    if unknown or not structures:
        asked = ", ".join(map(repr, unknown)) or "no structure"
        raise ConfigError(
            f"heads.{name}.structures: {asked} of {card.name}; allowed: "
            f"{', '.join(card.structures) or 'none, the data card declares no structure'}"
        )
    if len(set(structures)) < len(structures):
        raise ConfigError(f"heads.{name}.structures: a structure is named twice; name each once")
    for pair in card.left_right_pairs:
        if len({*pair} & {*structures}) == 1:
            raise ConfigError(
                f"heads.{name}.structures: {' and '.join(pair)} are a left-right pair, which "
                "mirrored patches swap; take both, or neither"
            )
    pairs = tuple(pair for pair in card.left_right_pairs if pair[0] in structures)
    return OrganTask(name=name, structures=structures, left_right_pairs=pairs, window=head.patch)


def _classification_task(
    name: str, head: ClassificationKnobs, card: DataCard
) -> ClassificationTask:
    if head.label not in card.labels:
        raise ConfigError(
            f"heads.{name}.label: {head.label!r} is not a label of {card.name}; allowed: "
            f"{', '.join(card.labels) or 'none, the data card declares no label'}"
        )
    classes = tuple(card.labels[head.label].classes)
    return ClassificationTask(name=name, label=head.label, classes=classes, window=head.window)


def build_encoder(knobs: EncoderKnobs) -> Encoder:
    """An untrained encoder. Seed torch before: the weights are drawn here."""
    return ENCODERS[knobs.kind](**knobs.model_dump(exclude={"kind"}))


def build_model(config: Config, tasks: Sequence[Task]) -> MultiTaskModel:
    """An untrained model. Seed torch before: the weights are drawn here."""
    encoder = build_encoder(config.encoder)
    heads: dict[str, ClassificationHead | SegmentationHead] = {}
    for task in tasks:
        head = config.heads[task.name]
        if isinstance(task, ClassificationTask) and isinstance(head, ClassificationKnobs):
            heads[task.name] = ClassificationHead(
                channels=encoder.channels[-1], outputs=task.outputs, dropout=head.dropout
            )
        else:
            outputs = len(task.structures) if isinstance(task, OrganTask) else 1
            heads[task.name] = decoder_for(encoder, outputs)
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
        elif isinstance(head, Organs):
            losses[task.name] = OrganLoss(foreground_weight=head.foreground_weight)
        elif isinstance(head.loss, Focal):
            losses[task.name] = ClassificationLoss(gamma=head.loss.gamma)
        else:
            losses[task.name] = ClassificationLoss(label_smoothing=head.loss.label_smoothing)
    weights = FixedWeights({task.name: config.heads[task.name].weight for task in tasks})
    return losses, weights


def label_fractions(config: Config) -> dict[str, float]:
    """By arm, the share of the training patients whose labels it looks at."""
    return {arm: resolve_arm(config, arm).training.label_fraction for arm in config.arms}


def build_training(config: Config, seed: int) -> TrainingSettings:
    """How a cell's model learns."""
    knobs = config.training.model_dump(exclude={"label_fraction"})  # of the split, not the loop
    return TrainingSettings(**knobs, seed=seed)
