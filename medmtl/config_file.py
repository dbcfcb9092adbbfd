"""From a YAML file to a `Config`, with every mistake named by file, line and key.

`base:` names another YAML file (relative to this one) whose keys hold unless said again
here; `--set a.b=c` is laid on top. Mappings are merged, lists and values replaced.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from medmtl.config import Config
from medmtl.config_faults import Key, explain
from medmtl.config_knobs import Knobs
from medmtl.config_layers import (
    PATHS,
    PRETRAININGS,
    Loaded,
    change_values,
    lay_on_top,
    load_with_base,
    nested,
    of_text,
    parse_override,
)
from medmtl.config_pretraining import Pretraining
from medmtl.errors import ConfigError

Model = TypeVar("Model", bound=Knobs)
# What may change while a run goes on or after it: no cell hangs on it.
FREE_OF_RUN = ("engine", "cache", "tracking", "baselines", "question")
# What may change while a pretraining goes on: its encoder does not hang on it.
FREE_OF_PRETRAINING = ("output", "cache", "tracking", "probe")
FREE_OF_ITS_TRAINING = ("save_every_s", "threads")
# What an arm may depart in; the rest holds for the whole experiment.
OF_ONE_ARM = (
    "spacing_mm", "intensity", "windows", "patches", "encoder", "heads", "augmentation", "start",
    "training", "inference",
)  # fmt: skip


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration.

    Args:
        path: A YAML file.
        overrides: `key=value` texts as given to --set; the value is read as YAML.

    Raises:
        ConfigError: All mistakes at once, a line each:
            `file:line: key: what is wrong (got ...); allowed: ...; did you mean ...?`
    """
    loaded = _load_all(path, overrides)
    config = _validate(Config, loaded, path)
    for arm in config.arms:
        _resolve(config, arm, loaded.places)
    return config


def load_pretraining(path: Path, overrides: Sequence[str] = ()) -> Pretraining:
    """Reads the configuration of a pretraining; see `load_config`.

    Raises:
        ConfigError: All mistakes at once.
    """
    return _validate(Pretraining, _load_all(path, overrides), path)


def resolve_arm(config: Config, arm: str) -> Config:
    """The configuration of one arm: its `set` departures laid on top, other heads left out.

    Raises:
        ConfigError: A departure names a key that does not exist or a value out of range.
    """
    if arm not in config.arms:
        raise ConfigError(f"there is no arm {arm!r}; there are: {', '.join(config.arms)}")
    return _resolve(config, arm, {})


def _resolve(config: Config, arm: str, places: Mapping[Key, str]) -> Config:
    loaded = Loaded(json.loads(config.model_dump_json()))
    chosen = loaded.values["arms"][arm]
    for dotted, value in chosen["set"].items():
        written = ("arms", arm, "set", dotted)
        shortened = (written[:n] for n in range(len(written), 0, -1))
        found = [places[key] for key in shortened if key in places]
        place = ": ".join([*found[:1], f"arms.{arm}.set"])
        if dotted.split(".")[0] not in OF_ONE_ARM:
            raise ConfigError(
                f"{place}: {dotted}: holds for the whole experiment; an arm may "
                f"set what begins with: {', '.join(OF_ONE_ARM)}"
            )
        lay_on_top(loaded, nested(dotted, value, place))
    loaded.values["heads"] = {name: loaded.values["heads"][name] for name in chosen["heads"]}
    loaded.values["arms"] = {arm: {**chosen, "set": {}}}
    loaded.values["baselines"] = {}
    loaded.values["evaluation"]["reference"] = None
    return _validate(Config, loaded, Path(f"arms.{arm}.set"))


def dump_config(config: Config | Pretraining, folder: Path) -> str:
    """The resolved configuration as YAML, defaults included.

    Args:
        config: Any.
        folder: Of the file that the text is for; paths are written relative to it, so that the
            file names no user and may be moved with its surroundings.
    """
    values = json.loads(config.model_dump_json())
    for key in PATHS:
        change_values(
            values, key, of_text(lambda text: Path(os.path.relpath(text, folder)).as_posix())
        )
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def dump_public_config(config: Config | Pretraining) -> str:
    """The same without folders, which may name a user or a project: of each path its last part."""
    values = json.loads(config.model_dump_json())
    for key in PATHS:
        change_values(values, key, of_text(lambda text: Path(text).name))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def binding_part(text: str) -> str:
    """What of a dumped configuration trained models depend on.

    Workers, cache, tracking, baselines, titles and the evaluation's bootstrap may change while a
    run goes on or after it; whatever a cell is trained or scored with may not.
    """
    values = yaml.safe_load(text)
    for key in FREE_OF_RUN:
        values.pop(key, None)
    for key in ("bootstrap_samples", "reference", "subgroups"):
        values["evaluation"].pop(key, None)
    for arm in values["arms"].values():
        arm.pop("title", None)
        arm.pop("caution", None)
    for place in PRETRAININGS:
        change_values(values, place, _binding_pretraining)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def arm_digest(config: Config, arm: str) -> str:
    """Names what an arm's cells are trained and scored with, wherever the files lie.

    Of two experiments that differ in a name, a title, or how they are computed, it is the same.
    What has its default does not count: a knob that is added later changes no digest.
    """
    left_out = {"name", "output", "arms", *FREE_OF_RUN, "evaluation"}
    dumped = resolve_arm(config, arm).model_dump_json(exclude_defaults=True, exclude=left_out)
    values = json.loads(dumped)
    for key in PATHS:
        change_values(values, key, of_text(lambda text: Path(text).name))
    change_values(values, ("start", "pretraining"), _binding_pretraining)
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def arm_digests(config: Config) -> dict[str, str]:
    """The digest of each arm."""
    return {arm: arm_digest(config, arm) for arm in config.arms}


def binding_pretraining(text: str) -> str:
    """What of a dumped pretraining its encoder depends on."""
    values = _binding_pretraining(yaml.safe_load(text))
    for source in values["pool"]:
        source.pop("manifest")  # the same scans may be reached by another way
    return yaml.safe_dump(values, sort_keys=False)


def _binding_pretraining(values: Any) -> Any:
    bound = {key: value for key, value in values.items() if key not in FREE_OF_PRETRAINING}
    given = bound.get("training", {})
    training = {k: v for k, v in given.items() if k not in FREE_OF_ITS_TRAINING}
    return {**bound, "training": training}


def _load_all(path: Path, overrides: Sequence[str]) -> Loaded:
    loaded = load_with_base(path, seen=())
    for override in overrides:
        lay_on_top(loaded, parse_override(override))
    return loaded


def _validate(model: type[Model], loaded: Loaded, path: Path) -> Model:
    try:
        return model.model_validate(loaded.values)
    except ValidationError as error:
        raise ConfigError(explain(error, loaded.values, loaded.places, str(path), model)) from error
