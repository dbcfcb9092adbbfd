"""From a YAML file to a `Config`, with every mistake named by file, line and key.

`base:` names another YAML file (relative to this one) whose keys hold unless said again
here; `--set a.b=c` is laid on top. Mappings are merged, lists and values replaced.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from medmtl.config import Config
from medmtl.errors import ConfigError

Key = tuple[str | int, ...]
# Paths written in a file are relative to that file ("*": each entry).
_PATHS: tuple[tuple[str, ...], ...] = (
    ("manifest",),
    ("output",),
    ("folds", "table"),
    ("cache", "folder"),
    ("baselines", "*", "path"),
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
    loaded = _load_with_base(path, seen=())
    for override in overrides:
        _lay_on_top(loaded, _parse_override(override))
    return _validate(loaded, path)


def resolve_arm(config: Config, arm: str) -> Config:
    """The configuration of one arm: its `set` departures laid on top, other heads left out.

    Raises:
        ConfigError: A departure names a key that does not exist or a value out of range.
    """
    if arm not in config.arms:
        raise ConfigError(f"there is no arm {arm!r}; there are: {', '.join(config.arms)}")
    values = json.loads(config.model_dump_json())
    chosen = values["arms"][arm]
    loaded = _Loaded(values)
    for key, value in chosen["set"].items():
        place = f"arms.{arm}.set"
        _lay_on_top(loaded, _nested(key, value, place))
    loaded.values["heads"] = {name: loaded.values["heads"][name] for name in chosen["heads"]}
    loaded.values["arms"] = {arm: {**chosen, "set": {}}}
    loaded.values["baselines"] = {}
    loaded.values["evaluation"]["reference"] = None
    return _validate(loaded, Path(f"arms.{arm}"))


def dump_config(config: Config, folder: Path) -> str:
    """The resolved configuration as YAML, defaults included.

    Args:
        config: Any.
        folder: Of the file that the text is for; paths are written relative to it, so that the
            file names no user and may be moved with its surroundings.
    """
    values = json.loads(config.model_dump_json())
    for key in _PATHS:
        _change_path(values, key, lambda text: Path(os.path.relpath(text, folder)).as_posix())
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _load_with_base(path: Path, seen: tuple[Path, ...]) -> _Loaded:
    loaded = _load_file(path)
    base = loaded.values.pop("base", None)
    if base is None:
        return loaded
    base_path = path.parent / str(base)
    if base_path.resolve() in seen:
        raise ConfigError(f"{path}: base: {base} leads back to itself")
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
        _change_path(loaded.values, key, lambda text: str(path.parent / text))
    return loaded


def _change_path(values: Any, key: tuple[str, ...], change: Callable[[str], str]) -> None:
    """Changes the path at a key of nested dicts, where there is one."""
    first, *rest = key
    for name in list(values) if first == "*" and isinstance(values, dict) else [first]:
        if not isinstance(values, dict) or name not in values:
            continue
        if rest:
            _change_path(values[name], tuple(rest), change)
        elif isinstance(values[name], str):
            values[name] = change(values[name])


def _plain(node: yaml.Node, key: Key, places: dict[Key, str], path: Path) -> Any:
    places[key] = f"{path}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value)
            place = f"{path}:{key_node.start_mark.line + 1}"
            if name in values:
                where = ".".join(str(part) for part in (*key, name))
                raise ConfigError(f"{place}: {where}: is given twice; keep one")
            values[name] = _plain(value_node, (*key, name), places, path)
            places[(*key, name)] = place
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*key, i), places, path) for i, item in enumerate(node.value)]
    return yaml.safe_load(yaml.serialize(node))


def _lay_on_top(below: _Loaded, above: _Loaded) -> None:
    below.values = _merged(below.values, above.values)
    below.places.update(above.places)


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    # A group of another kind is another thing: nothing of the old one holds for it.
    if "kind" in above and above["kind"] != below.get("kind"):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def _parse_override(text: str) -> _Loaded:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {text}: write it as key=value, such as training.epochs=20")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML") from error
    if isinstance(parsed, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?e[-+]?\d+", parsed, re.I):
        parsed = float(parsed)  # YAML 1.1 reads 1e-3 as text
    return _nested(key.strip(), parsed, "--set")


def _nested(dotted: str, value: Any, place: str) -> _Loaded:
    parts = tuple(dotted.split("."))
    places: dict[Key, str] = {parts[:n]: place for n in range(1, len(parts) + 1)}
    for part in reversed(parts):
        value = {part: value}
    return _Loaded(value, places)


def _validate(loaded: _Loaded, path: Path) -> Config:
    try:
        return Config.model_validate(loaded.values)
    except ValidationError as error:
        lines = [
            _explain(fault, loaded, path)
            for fault in error.errors(include_url=False, include_context=True)
        ]
        raise ConfigError("\n".join(lines)) from error


def _explain(fault: Any, loaded: _Loaded, path: Path) -> str:
    key = _without_tags(fault["loc"], loaded.values)
    place = next(
        (loaded.places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in loaded.places),
        f"{path}:1",
    )
    dotted = ".".join(str(part) for part in key)
    prefix = f"{place}: {dotted}: " if dotted else f"{place}: "
    got = repr(fault["input"]) if not isinstance(fault["input"], dict) else "a group of keys"
    kind = fault["type"]
    if kind == "extra_forbidden":
        siblings = _allowed_at(fault["loc"][:-1])
        return f"{prefix}no such key; allowed: {', '.join(siblings)}{_guess(key[-1], siblings)}"
    if kind == "missing":
        return f"{prefix}is missing"
    if kind == "value_error":
        return f"{prefix}{fault['ctx']['error']}"
    if kind in ("literal_error", "union_tag_invalid"):
        context = fault["ctx"]
        allowed = context.get("expected") or context.get("expected_tags")
        if kind == "union_tag_invalid":
            got, prefix = repr(context["tag"]), f"{prefix}kind: "
        names = re.findall(r"'([^']+)'", allowed)
        guess = _guess(got.strip("'"), names)
        return f"{prefix}not allowed (got {got}); allowed: {allowed}{guess}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{prefix}{message} (got {got})"


def _without_tags(location: Iterable[str | int], values: Any) -> Key:
    """Pydantic adds the tag of a union to the place; the file does not have it."""
    key: list[str | int] = []
    *parents, last = location or ("",)
    for part in parents:
        in_dict = isinstance(values, dict) and part in values
        in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if in_dict or in_list:
            values = values[part]
            key.append(part)
    is_tag = isinstance(values, dict) and values.get("kind") == last and last not in values
    return tuple(key) if is_tag or last == "" else (*key, last)


def _allowed_at(location: Iterable[str | int]) -> list[str]:
    """The keys of the model that lies at a place in the configuration."""
    annotation: Any = Config
    for part in location:
        annotation = _step_into(annotation, part)
    models = list(_models(annotation))
    return list(models[0].model_fields) if len(models) == 1 else []


def _step_into(annotation: Any, part: str | int) -> Any:
    """Follows one part of a place: a field, a key of a dict, an index, or a union's tag."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = annotation.model_fields.get(str(part))
        return found.annotation if found else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if get_origin(annotation) in (list, tuple):
        return get_args(annotation)[0]
    tagged = [model for model in _models(annotation) if part in _tags(model)]
    return tagged[0] if tagged else None


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation)


def _guess(name: Any, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
