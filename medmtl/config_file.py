"""From a YAML file to a `Config`, with every mistake named by file, line and key.

`base:` names another YAML file (relative to this one) whose keys hold unless said again
here; `--set a.b=c` is laid on top. Mappings are merged, lists and values replaced.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from medmtl.config import Config
from medmtl.config_faults import Key, explain
from medmtl.config_knobs import Knobs
from medmtl.config_pretraining import Pretraining
from medmtl.errors import ConfigError

Model = TypeVar("Model", bound=Knobs)
# What an arm may depart in; the rest holds for the whole experiment.
OF_ONE_ARM = (
    "spacing_mm", "intensity", "windows", "patches", "encoder", "heads", "augmentation", "start",
    "training", "inference",
)  # fmt: skip
# Where a whole configuration may stand, or be named by its file.
_PRETRAININGS = (("start", "pretraining"), ("arms", "*", "set", "start.pretraining"))
_OF_PRETRAINING = (("pool", "*", "manifest"), ("probe", "manifest"))
# Paths written in a file are relative to that file ("*": each entry).
_PATHS: tuple[tuple[str, ...], ...] = (
    ("manifest",),
    ("output",),
    ("folds", "table"),
    ("cache", "folder"),
    ("start", "weights"),
    ("arms", "*", "set", "start.weights"),
    ("baselines", "*", "path"),
    *_OF_PRETRAINING,
    *(
        (*above, *key)
        for above in _PRETRAININGS
        for key in (*_OF_PRETRAINING, ("output",), ("cache", "folder"))
    ),
)


@dataclass
class _Loaded:
    """Plain values beside the place each was written at."""

    values: Any = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)


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
    loaded = _Loaded(json.loads(config.model_dump_json()))
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
        _lay_on_top(loaded, _nested(dotted, value, place))
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
    for key in _PATHS:
        _change(values, key, _of_text(lambda text: Path(os.path.relpath(text, folder)).as_posix()))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def dump_public_config(config: Config | Pretraining) -> str:
    """The same without folders, which may name a user or a project: of each path its last part."""
    values = json.loads(config.model_dump_json())
    for key in _PATHS:
        _change(values, key, _of_text(lambda text: Path(text).name))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def binding_part(text: str) -> str:
    """What of a dumped configuration trained models depend on.

    Workers, cache, tracking, baselines, titles and the evaluation's bootstrap may change while a
    run goes on or after it; whatever a cell is trained or scored with may not.
    """
    values = yaml.safe_load(text)
    for key in ("engine", "cache", "tracking", "baselines", "question"):
        values.pop(key, None)
    for key in ("bootstrap_samples", "reference", "subgroups"):
        values["evaluation"].pop(key, None)
    for arm in values["arms"].values():
        arm.pop("title", None)
        arm.pop("caution", None)
    for nested in _PRETRAININGS:
        _change(values, nested, _binding_pretraining)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def binding_pretraining(text: str) -> str:
    """What of a dumped pretraining its encoder depends on."""
    return yaml.safe_dump(_binding_pretraining(yaml.safe_load(text)), sort_keys=False)


def _binding_pretraining(values: Any) -> Any:
    free = ("output", "cache", "tracking", "probe")
    bound = {key: value for key, value in values.items() if key not in free}
    own = ("save_every_s", "threads")
    return {**bound, "training": {k: v for k, v in bound["training"].items() if k not in own}}


def _load_all(path: Path, overrides: Sequence[str]) -> _Loaded:
    loaded = _load_with_base(path, seen=())
    for override in overrides:
        _lay_on_top(loaded, _parse_override(override))
    return loaded


def _load_with_base(path: Path, seen: tuple[Path, ...]) -> _Loaded:
    loaded = _load_file(path)
    base = loaded.values.pop("base", None)
    if base is None:
        return loaded
    base_path = path.parent / str(base)
    if base_path.resolve() in seen:
        raise ConfigError(f"{path}: base: {base} leads back to itself")
    if not base_path.is_file():
        raise ConfigError(f"{loaded.places['base',]}: base: there is no file {base_path}")
    below = _load_with_base(base_path, (*seen, path.resolve()))
    _lay_on_top(below, loaded)
    return below


def _load_file(path: Path) -> _Loaded:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a configuration is a list of 'key: value' lines")
    loaded = _Loaded()
    loaded.values = _plain(node, (), loaded.places, path)
    for key in _PATHS:
        _change(loaded.values, key, _of_text(lambda text: os.path.normpath(path.parent / text)))
    for key in _PRETRAININGS:
        _change(loaded.values, key, _of_text(lambda text: os.path.normpath(path.parent / text)))
        _change(loaded.values, key, _of_text(_pretraining_values))
    return loaded


def _pretraining_values(named: str) -> Any:
    """The values of a pretraining's file; what is frozen must hold them, not their name."""
    return _load_with_base(Path(named), seen=()).values


def _of_text(change: Callable[[str], Any]) -> Callable[[Any], Any]:
    """The same change for texts; all else stays, for validation to tell."""
    return lambda value: change(value) if isinstance(value, str) else value


def _change(values: Any, key: tuple[str, ...], change: Callable[[Any], Any]) -> None:
    """Changes what is given at a key of nested groups and lists ("*": each of them)."""
    first, *rest = key
    if isinstance(values, list) and first == "*":
        for each in values:
            _change(each, tuple(rest), change)
    for name in list(values) if first == "*" and isinstance(values, dict) else [first]:
        if not isinstance(values, dict) or values.get(name) is None:
            continue
        if rest:
            _change(values[name], tuple(rest), change)
        elif isinstance(values[name], list):
            values[name] = [change(each) for each in values[name]]
        else:
            values[name] = change(values[name])


def _plain(
    node: yaml.Node, key: Key, places: dict[Key, str], path: Path, above: tuple[int, ...] = ()
) -> Any:
    """Plain values of a YAML node; notes where each key was written."""
    place = places[key] = f"{path}:{node.start_mark.line + 1}"
    if id(node) in above:
        raise ConfigError(f"{place}: an anchor that holds itself")
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value)
            here = f"{path}:{key_node.start_mark.line + 1}"
            if name in values:
                where = ".".join(str(part) for part in (*key, name))
                raise ConfigError(f"{here}: {where}: is given twice; keep one")
            values[name] = _plain(value_node, (*key, name), places, path, above)
            places[(*key, name)] = here
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*key, i), places, path, above) for i, item in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{place}: not a value of YAML: {node.value!r}") from error


def _lay_on_top(below: _Loaded, above: _Loaded) -> None:
    for key in _replaced(below.values, above.values, ()):
        for place in [place for place in below.places if place[: len(key)] == key]:
            del below.places[place]
    below.values = _merged(below.values, above.values)
    below.places.update(above.places)


def _replaced(below: Any, above: Any, key: Key) -> Iterator[Key]:
    """The keys at which nothing of the value below is left."""
    if _replaces(below, above, key):
        yield key
        return
    for name, value in above.items():
        if name in below:
            yield from _replaced(below[name], value, (*key, name))


def _replaces(below: Any, above: Any, key: Key) -> bool:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return True
    # A group of another kind is another thing: nothing of the old one holds for it. So is a
    # pretraining that is given whole, by its file.
    whole = key[-2:] == _PRETRAININGS[0] and {"pool", "views", "methods"} <= above.keys()
    return whole or ("kind" in above and above["kind"] != below.get("kind"))


def _merged(below: Any, above: Any, key: Key = ()) -> Any:
    if _replaces(below, above, key):
        return above
    return {
        **below,
        **{name: _merged(below.get(name), value, (*key, name)) for name, value in above.items()},
    }


def _parse_override(text: str) -> _Loaded:
    key, separator, value = text.partition("=")
    if not separator or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"--set {text}: write it as key=value, such as training.epochs=20")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {text}: the value is not YAML") from error
    loaded = _nested(key.strip(), parsed, "--set")
    for nested in _PRETRAININGS:
        _change(loaded.values, nested, _of_text(_pretraining_values))
    return loaded


def _nested(dotted: str, value: Any, place: str) -> _Loaded:
    parts = tuple(dotted.split("."))
    places: dict[Key, str] = {parts[:n]: place for n in range(1, len(parts) + 1)}
    for part in reversed(parts):
        value = {part: value}
    return _Loaded(value, places)


def _validate(model: type[Model], loaded: _Loaded, path: Path) -> Model:
    try:
        return model.model_validate(loaded.values)
    except ValidationError as error:
        raise ConfigError(explain(error, loaded.values, loaded.places, str(path), model)) from error
