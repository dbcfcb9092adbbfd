"""The weights that networks begin with, and the guard that knows what those have seen."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from medmtl.config import Config
from medmtl.config_file import resolve_arm
from medmtl.data.contamination.exposure import Exposure
from medmtl.data.privacy.secret import find_secret
from medmtl.errors import ConfigError, RunError, some_of
from medmtl.experiment.guard import Guard
from medmtl.models.multitask import MultiTaskModel
from medmtl.models.norm import shared_name, source_name
from medmtl.training.adaptation import Adaptation
from medmtl.training.checkpoint import load_tensors

ENCODER = "encoder."


def build_adaptation(config: Config) -> Adaptation:
    """How much of the networks of one arm may change."""
    return Adaptation(
        mode=config.start.adaptation,
        layer_decay=config.start.layer_decay,
        auto_folds=config.start.auto_folds,
    )


def build_guard(config: Config) -> Guard:
    """What the first weights of each arm have seen.

    Raises:
        ConfigError: A checkpoint that cannot be read, or does not say what it has seen.
        PrivacyError: The secret cannot be used.
    """
    arms = {name: resolve_arm(config, name) for name in config.arms}
    return Guard(
        exposures={
            name: read_exposure(arm.start.weights)
            for name, arm in arms.items()
            if arm.start.weights is not None
        },
        accepted=config.start.accept_seen,
        secret=find_secret(),
    )


def build_cell_guard(config: Config, arm: str, weights: Path | None) -> Guard:
    """The same for one cell, whose first weights may have been pretrained for its fold.

    Args:
        config: Of the cell's arm.
        arm: Its name.
        weights: What it begins with, if that is not random.
    """
    return Guard(
        exposures={} if weights is None else {arm: read_exposure(weights)},
        accepted=config.start.accept_seen,
        secret=find_secret(),
    )


def read_exposure(path: Path) -> Exposure:
    """What the weights of a checkpoint have seen.

    Raises:
        ConfigError: It cannot be read, or does not say: a list that is empty is believed only with
            a note, as `medmtl encoder import` writes it.
    """
    seen = _load(path).get("exposure")
    if not isinstance(seen, Mapping):
        raise ConfigError(
            f"{path.name}: does not say which scans its weights have seen, so it cannot be known "
            "whether test patients were among them; use a checkpoint that this version made"
        )
    exposure = Exposure.from_dict(seen)
    if not exposure.count and not exposure.notes:
        raise ConfigError(f"{path.name}: its list of scans that its weights have seen is empty")
    return exposure


def begin_with(model: MultiTaskModel, path: Path) -> None:
    """Gives a model's encoder the weights of a checkpoint's; heads keep their random ones.

    Norms of a kind of window that the checkpoint does not know begin as those it has, the first
    by name.

    Raises:
        ConfigError: The checkpoint cannot be read, or its encoder is another one.
    """
    state = _load(path).get("state")
    found = {
        name.removeprefix(ENCODER): value
        for name, value in (state.items() if isinstance(state, Mapping) else ())
        if name.startswith(ENCODER) and isinstance(value, Tensor)
    }
    wanted = model.encoder.state_dict()
    chosen = {name: source_name(name, found) for name in wanted}
    unused = {shared_name(name) for name in found} - {shared_name(name) for name in wanted}
    unfit = sorted(unused) + [
        name
        for name, source in sorted(chosen.items())
        if source is None or found[source].shape != wanted[name].shape
    ]
    if unfit:
        raise ConfigError(
            f"start.weights: {path.name} holds another encoder: {len(unfit)} of {len(wanted)} "
            f"tensors do not fit ({some_of(unfit, 3)}); give 'encoder' the settings that it was "
            "trained with"
        )
    model.encoder.load_state_dict({name: found[str(source)] for name, source in chosen.items()})


def _load(path: Path) -> Mapping[str, object]:
    try:
        return load_tensors(path)
    except RunError:
        raise ConfigError(
            f"{path.name}, named as weights, is missing, damaged or not one of ours; name the "
            "model.pt of a cell, an encoder.pt, or what 'medmtl encoder import' made of a "
            "published file"
        ) from None
