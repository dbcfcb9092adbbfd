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
from medmtl.models.heads import SegmentationHead
from medmtl.models.multitask import MultiTaskModel
from medmtl.models.norm import shared_name, source_name
from medmtl.training.adaptation import Adaptation
from medmtl.training.checkpoint import load_tensors

ENCODER, DECODER = "encoder.", "decoder."
LAST_LAYER = "output."


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


def require_decoders(config: Config) -> None:
    """Refuses a decoder that no head of an arm can begin with, or that its weights do not hold.

    Raises:
        ConfigError: No head outlines; or a file of weights holds no such decoder.
    """
    for name in config.arms:
        arm = resolve_arm(config, name)
        if arm.start.decoder is None:
            continue
        if all(head.kind == "classification" for head in arm.heads.values()):
            raise ConfigError(
                f"arms.{name}: start.decoder: none of its heads outlines anything, so none begins "
                "with a decoder; leave it out"
            )
        if arm.start.weights is not None:
            _decoder_of(arm.start.weights, _state(arm.start.weights), arm.start.decoder)


def begin_with(model: MultiTaskModel, path: Path, decoder: str | None = None) -> None:
    """Gives a model's encoder the weights of a checkpoint's; heads keep their random ones.

    Norms of a kind of window that the checkpoint does not know begin as those it has, the first
    by name.

    Args:
        model: Untrained.
        path: Of the checkpoint.
        decoder: The method whose decoder the heads that outline begin with, but for the last layer.

    Raises:
        ConfigError: The checkpoint cannot be read, or its encoder or decoder is another one.
    """
    state = _state(path)
    found = _part(state, ENCODER)
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
    if decoder is not None:
        restoring = _decoder_of(path, state, decoder)
        for head in model.heads.values():
            if isinstance(head, SegmentationHead):
                _begin_head(head, restoring, path)


def _begin_head(head: SegmentationHead, restoring: Mapping[str, Tensor], path: Path) -> None:
    """Gives a head all of a decoder but its last layer, which is another task's."""
    own, given = (
        {name: value for name, value in state.items() if not name.startswith(LAST_LAYER)}
        for state in (head.state_dict(), restoring)
    )
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in given.items()}:
        raise ConfigError(
            f"start.decoder: {path.name} holds a decoder of another build; pretrain it with this "
            "version and the arm's encoder"
        )
    head.load_state_dict(given, strict=False)


def _decoder_of(path: Path, state: Mapping[str, Tensor], method: str) -> Mapping[str, Tensor]:
    found = _part(state, f"{DECODER}{method}.")
    if not found:
        names = {name.split(".")[1] for name in state if name.startswith(DECODER)}
        raise ConfigError(
            f"start.decoder: {path.name} holds no decoder of {method!r}; it holds those of: "
            f"{some_of(sorted(names)) if names else 'no method'}"
        )
    return found


def _state(path: Path) -> Mapping[str, Tensor]:
    state = _load(path).get("state")
    named = state.items() if isinstance(state, Mapping) else ()
    return {name: value for name, value in named if isinstance(value, Tensor)}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def _load(path: Path) -> Mapping[str, object]:
    try:
        return load_tensors(path)
    except RunError:
        raise ConfigError(
            f"{path.name}, named as weights, is missing, damaged or not one of ours; name the "
            "model.pt of a cell, an encoder.pt, or what 'medmtl encoder import' made of a "
            "published file"
        ) from None
