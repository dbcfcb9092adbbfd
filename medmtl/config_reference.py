"""Every key of a configuration as Markdown: what may stand there, its default, what it means.

Made from the knobs themselves, so that it cannot differ from what the loader accepts.
"""

import json
from collections.abc import Iterator, Mapping

from medmtl.config_file import OF_ONE_ARM
from medmtl.config_schema import (
    BASE,
    BASE_KNOB,
    PLACE,
    Schema,
    knob_schema,
    pretraining_schema,
)

UNITS = {"_mm": "mm", "_hu": "HU", "_degrees": "degrees", "_gb": "GB (10^9 bytes)"}
AXES = "[depth, height, width]"
INTRODUCTION = f"""\
# Every key of a configuration

<!-- Written by `medmtl config reference`; what is changed by hand here is lost. -->

Only `name`, `manifest` and `heads` must be given, and what the heads look at: `windows`, or
`patches`. Keys are written with dots, as `--set` and an arm's `set` take them: in a file,
`training.epochs` is the key `epochs` in the group `training`. NAME stands for a name of your own,
of small letters, digits, `-` and `_`. Lengths in space are {AXES}, in the directions
foot to head, back to front, left to right.

For help and checks while you type, in Visual Studio Code with its YAML extension:
`medmtl config schema > medmtl.schema.json`, and as the first line of your file
`# yaml-language-server: $schema=medmtl.schema.json`.
"""
OF_PRETRAINING = """\
# Every key of a pretraining

Of a file for `medmtl pretrain`, which `start.pretraining` of an experiment may name too. `name`,
`pool`, `views` and `methods` must be given.
"""
HEADER = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]


def config_reference() -> str:
    """Writes the reference: an experiment's keys, a section a group; then a pretraining's."""
    lines = [INTRODUCTION, "## The experiment", "", *_groups("", knob_schema())]
    lines += ["", OF_PRETRAINING, *_groups("pretraining: ", pretraining_schema())]
    return "\n".join(lines) + "\n"


def _groups(title: str, schema: Schema) -> Iterator[str]:
    """A table of the keys that are no groups, then a section a group."""
    knobs: Mapping[str, Schema] = {BASE: BASE_KNOB, **schema["properties"]}
    own = [name for name, knob in knobs.items() if not _groups_of(knob)]
    yield from HEADER
    yield from (_row(name, knobs[name], name in schema["required"]) for name in own)
    for name, knob in knobs.items():
        if name not in own:
            yield from ("", f"## {title}{name}", *_section(name, knob, schema["$defs"]))


def _section(path: str, knob: Schema, groups: Mapping[str, Schema]) -> Iterator[str]:
    """What may stand at a key that holds a group: a table a kind, then the groups in it."""
    if "description" in knob:
        yield from ("", _sentence(knob["description"]))
    if "additionalProperties" in knob:
        path = f"{path}.NAME"
    if "items" in knob:
        path = f"{path}.NUMBER"
    kinds = _groups_of(knob)
    for name in kinds:
        group = groups[name]
        if len(kinds) > 1:
            yield from ("", f"### {path}, kind: {group['properties']['kind']['const']}")
        yield from ("", " ".join(group["description"].split()), "", *HEADER)
        for key, each in group["properties"].items():
            yield _row(f"{path}.{key}", each, key in group.get("required", []))
        for key, each in group["properties"].items():
            inner = _groups_of(each)
            if len(inner) == 1:  # several kinds have a heading each
                yield from ("", f"### {path}.{key}")
            if inner:
                yield from _section(f"{path}.{key}", each, groups)


def _groups_of(knob: Schema) -> list[str]:
    """The groups of knobs that may stand at a key, one a kind; none for a plain value."""
    inner = knob.get("additionalProperties", knob.get("items"))
    parts = [knob, *knob.get("oneOf", []), *knob.get("anyOf", [])]
    found = [part["$ref"].removeprefix(PLACE) for part in parts if "$ref" in part]
    return found + (_groups_of(inner) if isinstance(inner, dict) else [])


def _row(key: str, knob: Schema, required: bool) -> str:
    if _groups_of(knob):
        value = "named groups, see below" if "additionalProperties" in knob else "group, see below"
        value = "list of groups, see below" if "items" in knob else value
    else:
        unit = next((f" {unit}" for end, unit in UNITS.items() if key.endswith(end)), "")
        value = _words(knob) + unit
    meaning = knob.get("description", "chooses this kind" if "const" in knob else "")
    cells = [f"`{key}`", value, _default(knob, required), _sentence(meaning)]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _default(knob: Schema, required: bool) -> str:
    if required:
        return "must be given"
    value = knob.get("default")
    if value is None or value in ("", [], {}):
        return "none"
    if _groups_of(knob):
        return "as below"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _words(knob: Schema) -> str:
    """What may stand at a key, in words."""
    if "anyOf" in knob:
        return " or ".join(_words(each) for each in knob["anyOf"])
    if "prefixItems" in knob:
        return f"{AXES}: {_words(knob['prefixItems'][0])}"
    if "const" in knob or "enum" in knob:
        return " or ".join(f"`{each}`" for each in knob.get("enum", [knob.get("const")]))
    match knob["type"]:
        case "integer" | "number":
            return _range(knob)
        case "array":
            return f"list{_count(knob)}: {_words(knob['items'])}"
        case "object":
            return f"keys with dots that begin with {', '.join(f'`{each}`' for each in OF_ONE_ARM)}"
        case "string":
            return "path" if knob.get("format") == "path" else "text"
    return {"boolean": "`true` or `false`", "null": "`null`"}[knob["type"]]


def _range(knob: Schema) -> str:
    text = "whole number" if knob["type"] == "integer" else "number"
    low, above = knob.get("minimum"), knob.get("exclusiveMinimum")
    high, below = knob.get("maximum"), knob.get("exclusiveMaximum")
    if low is not None:
        text += f" from {low}" if high is not None else f", at least {low}"
    if above is not None:
        text += f" above {above}"
    if high is not None:
        text += f" to {high}" if low is not None else f", at most {high}"
    if below is not None:
        text += f", below {below}"
    return text + (f", a multiple of {knob['multipleOf']}" if "multipleOf" in knob else "")


def _count(knob: Schema) -> str:
    least, most = knob.get("minItems"), knob.get("maxItems")
    if most is not None:
        return f" of {least} to {most}"
    return f" of at least {least}" if least else ""


def _sentence(text: str) -> str:
    """A description as a sentence; the name of a key that it begins with stays as it is."""
    first = text.partition(" ")[0].rstrip(",:;")
    return f"{text[0].upper()}{text[1:]}." if first.isalpha() else f"{text}."
