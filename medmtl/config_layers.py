"""Configurations as plain values, before they are validated: files, what they are laid on, --set.

`base:` names another YAML file (relative to this one) whose keys hold unless said again here;
mappings are merged, lists and values replaced. Each value remembers where it was written.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medmtl.config_faults import Key
from medmtl.errors import ConfigError

# What an arm sets may be written with dots, or below one another.
OF_AN_ARM = ("arms", "*", "set")
# Where a whole configuration may stand, or be named by its file.
PRETRAININGS = (
    ("start", "pretraining"),
    (*OF_AN_ARM, "start.pretraining"),
    (*OF_AN_ARM, "start", "pretraining"),
)
_OF_PRETRAINING = (("pool", "*", "manifest"), ("probe", "manifest"))
# Paths written in a file are relative to that file ("*": each entry).
PATHS: tuple[tuple[str, ...], ...] = (
    ("manifest",),
    ("output",),
    ("folds", "table"),
    ("cache", "folder"),
    ("start", "weights"),
    (*OF_AN_ARM, "start.weights"),
    (*OF_AN_ARM, "start", "weights"),
    ("baselines", "*", "path"),
    *_OF_PRETRAINING,
    *(
        (*above, *key)
        for above in PRETRAININGS
        for key in (*_OF_PRETRAINING, ("output",), ("cache", "folder"))
    ),
)


@dataclass
class Loaded:
    """Plain values beside the place each was written at."""

    values: Any = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)


def load_with_base(path: Path, seen: tuple[Path, ...]) -> Loaded:
    """Reads a file and what its `base:` names.

    Args:
        path: A YAML file.
        seen: The files that led to it.

    Raises:
        ConfigError: A file cannot be read, is no YAML, or leads back to itself.
    """
    loaded = _load_file(path)
    base = loaded.values.pop("base", None)
    if base is None:
        return loaded
    base_path = path.parent / str(base)
    if base_path.resolve() in seen:
        raise ConfigError(f"{path}: base: {base} leads back to itself")
    if not base_path.is_file():
        raise ConfigError(f"{loaded.places['base',]}: base: there is no file {base_path}")
    below = load_with_base(base_path, (*seen, path.resolve()))
    lay_on_top(below, loaded)
    return below


def _load_file(path: Path) -> Loaded:
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
    loaded = Loaded()
    loaded.values = _plain(node, (), loaded.places, path)
    for key in PATHS:
        change_values(
            loaded.values, key, of_text(lambda text: os.path.normpath(path.parent / text))
        )
    for key in PRETRAININGS:
        change_values(
            loaded.values, key, of_text(lambda text: os.path.normpath(path.parent / text))
        )
        change_values(loaded.values, key, of_text(_pretraining_values))
    return loaded


def _pretraining_values(named: str) -> Any:
    """The values of a pretraining's file; what is frozen must hold them, not their name."""
    return load_with_base(Path(named), seen=()).values


def of_text(change: Callable[[str], Any]) -> Callable[[Any], Any]:
    """The same change for texts; all else stays, for validation to tell."""
    return lambda value: change(value) if isinstance(value, str) else value


def change_values(values: Any, key: tuple[str, ...], change: Callable[[Any], Any]) -> None:
    """Changes what is given at a key of nested groups and lists ("*": each of them)."""
    first, *rest = key
    if isinstance(values, list) and first == "*":
        for each in values:
            change_values(each, tuple(rest), change)
    for name in list(values) if first == "*" and isinstance(values, dict) else [first]:
        if not isinstance(values, dict) or values.get(name) is None:
            continue
        if rest:
            change_values(values[name], tuple(rest), change)
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


def lay_on_top(below: Loaded, above: Loaded) -> None:
    """Merges values into others, in place; each takes the place along that it was written at."""
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
    whole = key[-2:] == PRETRAININGS[0] and {"pool", "views", "methods"} <= above.keys()
    return whole or ("kind" in above and above["kind"] != below.get("kind"))


def _merged(below: Any, above: Any, key: Key = ()) -> Any:
    if _replaces(below, above, key):
        return above
    return {
        **below,
        **{name: _merged(below.get(name), value, (*key, name)) for name, value in above.items()},
    }


def parse_override(text: str) -> Loaded:
    """Reads a `key=value` as given to --set.

    Raises:
        ConfigError: It is none, or the value is no YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"--set {text}: write it as key=value, such as training.epochs=20")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {text}: the value is not YAML") from error
    loaded = nested(key.strip(), parsed, "--set")
    for place in PRETRAININGS:
        change_values(loaded.values, place, of_text(_pretraining_values))
    return loaded


def nested(dotted: str, value: Any, place: str) -> Loaded:
    """A value below the groups that its dotted key names."""
    parts = tuple(dotted.split("."))
    places: dict[Key, str] = {parts[:n]: place for n in range(1, len(parts) + 1)}
    for part in reversed(parts):
        value = {part: value}
    return Loaded(value, places)
