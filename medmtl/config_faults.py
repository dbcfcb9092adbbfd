"""What is wrong with a configuration, said so that it can be mended: where, what, what instead."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from medmtl.config_knobs import NameFaults

Key = tuple[str | int, ...]


def explain(
    error: ValidationError,
    values: Any,
    places: Mapping[Key, str],
    file: str,
    model: type[BaseModel],
) -> str:
    """Says every fault in a line: `file:line: key: what is wrong (got ...); allowed: ...`.

    Args:
        error: Of pydantic.
        values: What was validated.
        places: Where each key was written.
        file: What to name where no place is known.
        model: What it was validated as.
    """
    lines = []
    for fault in error.errors(include_url=False, include_context=True):
        inner = fault.get("ctx", {}).get("error")
        if isinstance(inner, NameFaults):
            above = _without_tags(fault["loc"], values) if fault["loc"] else ()
            for within, message, known in inner.faults:
                key = (*above, *within)
                guess = _guess(key[-1] if not known else _last_word(message), known)
                lines.append(f"{_prefix(key, places, file)}{message}{guess}")
        else:
            lines.append(_explain_one(fault, values, places, file, model))
    return "\n".join(lines)


def _last_word(message: str) -> str:
    quoted = re.findall(r"'([^']*)'", message)
    return quoted[0] if quoted else message


def _prefix(key: Key, places: Mapping[Key, str], file: str) -> str:
    shortened = (key[:n] for n in range(len(key), 0, -1))
    place = next((places[part] for part in shortened if part in places), f"{file}:1")
    dotted = ".".join(str(part) for part in key)
    return f"{place}: {dotted}: " if dotted else f"{place}: "


def _explain_one(
    fault: Any, values: Any, places: Mapping[Key, str], file: str, model: type[BaseModel]
) -> str:
    key = _without_tags(fault["loc"], values)
    prefix = _prefix(key, places, file)
    got = repr(fault["input"]) if not isinstance(fault["input"], dict) else "a group of keys"
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        siblings = _allowed_at(model, fault["loc"][:-1])
        return f"{prefix}no such key; allowed: {', '.join(siblings)}{_guess(key[-1], siblings)}"
    if kind == "missing":
        return f"{prefix}is missing"
    if kind == "union_tag_not_found":
        tags = ", ".join(repr(tag) for tag in _tags_at(model, fault["loc"]))
        return f"{prefix}kind: is missing; allowed: {tags}"
    if kind == "value_error":
        return f"{prefix}{context['error']}"
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = context.get("expected") or context.get("expected_tags")
        if kind == "union_tag_invalid":
            got, prefix = repr(context["tag"]), f"{prefix}kind: "
        guess = _guess(got.strip("'"), re.findall(r"'([^']+)'", allowed))
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


def _allowed_at(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """The keys of the model that lies at a place in the configuration."""
    annotation: Any = model
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


def _tags_at(model: type[BaseModel], location: Iterable[str | int]) -> list[Any]:
    """The kinds that may stand at a place in the configuration."""
    annotation: Any = model
    for part in location:
        annotation = _step_into(annotation, part)
    return [tag for model in _models(annotation) for tag in _tags(model)]


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
