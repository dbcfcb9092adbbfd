"""The JSON Schema of a configuration file, for editors; made from the knobs themselves.

It also knows what a file may say that `Config` does not hold: `base:`, and the dotted keys of an
arm's `set:`. A file with `base:` need not be complete, for the rest stands in the file below it.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema

from medmtl.config import Config
from medmtl.config_file import OF_ONE_ARM
from medmtl.config_knobs import NAME
from medmtl.config_pretraining import Pretraining

Schema = dict[str, Any]
DIALECT = GenerateJsonSchema.schema_dialect  # draft 2020-12
PLACE = "#/$defs/"
BASE = "base"
PARTIAL = "Partial"
BASE_KNOB: Schema = {
    "type": "string",
    "format": "path",
    "description": "another configuration, relative to this file; its keys hold unless said again",
}


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles that pydantic makes of names: an editor shows the name anyway."""

    def field_title_should_be_set(self, schema: CoreSchema) -> bool:
        return False


def pretraining_schema() -> Schema:
    """The schema of a pretraining's complete configuration."""
    schema = Pretraining.model_json_schema(schema_generator=_WithoutTitles)
    schema["properties"]["name"]["pattern"] = f"^{NAME.pattern}$"
    schema["properties"]["methods"]["propertyNames"] = {"pattern": f"^{NAME.pattern}$"}
    _require_kinds(schema)
    return schema


def pretraining_file_schema() -> Schema:
    """The schema of a pretraining's file, draft 2020-12."""
    complete = pretraining_schema()
    groups = complete.pop("$defs")
    partial = _without_demands(complete)
    for whole in (complete, partial):
        whole["properties"][BASE] = BASE_KNOB
    return {
        "$schema": DIALECT,
        "title": "A pretraining of medmtl",
        "if": {"required": [BASE]},
        "then": partial,
        "else": complete,
        "$defs": groups | _partial(groups),
    }


def knob_schema() -> Schema:
    """The schema of a complete configuration, as pydantic tells it.

    Beyond pydantic's own: one manifest may be named without a list, names that become folders are
    told their letters, and where there are several kinds, one must be named.
    """
    schema = Config.model_json_schema(schema_generator=_WithoutTitles)
    knobs, groups = schema["properties"], schema["$defs"]
    several = {key: knobs["manifest"].pop(key) for key in ("type", "items", "minItems")}
    knobs["manifest"] |= {"anyOf": [several["items"], several]}
    knobs["name"]["pattern"] = f"^{NAME.pattern}$"
    for knob in (*knobs.values(), *groups["Evaluation"]["properties"].values()):
        if isinstance(knob.get("additionalProperties"), dict):
            knob["propertyNames"] = {"pattern": f"^{NAME.pattern}$"}
    # In a file it is named by its own file.
    begun = groups["Start"]["properties"]["pretraining"]
    begun["anyOf"] = [{"type": "string", "format": "path"}, {"type": "null"}]
    _require_kinds(schema)
    return schema


def _require_kinds(schema: Schema) -> None:
    """Where there are several kinds, one must be named."""
    for union in [part for part in _parts(schema) if "discriminator" in part]:
        for place in union["discriminator"]["mapping"].values():
            kind = schema["$defs"][place.removeprefix(PLACE)]
            kind["required"] = list(dict.fromkeys(["kind", *kind.get("required", [])]))


def _partial(groups: Schema) -> Schema:
    """The same groups, of which nothing must be given."""
    return {f"{name}{PARTIAL}": _without_demands(group) for name, group in groups.items()}


def file_schema() -> Schema:
    """The schema of a configuration file, draft 2020-12."""
    complete = knob_schema()
    groups = complete.pop("$defs")
    partial = _without_demands(complete)
    groups |= _partial(groups)
    for whole in (complete, partial):
        whole["properties"][BASE] = BASE_KNOB
    groups["Departures"] = _departures(partial["properties"], groups)
    for name in ("Arm", f"Arm{PARTIAL}"):
        described = groups[name]["properties"]["set"]["description"]
        groups[name]["properties"]["set"] = {
            "$ref": f"{PLACE}Departures",
            "description": described,
        }
    return {
        "$schema": DIALECT,
        "title": "A configuration of medmtl",
        "if": {"required": [BASE]},
        "then": partial,
        "else": complete,
        "$defs": groups,
    }


def _without_demands(schema: Schema) -> Schema:
    """The same, but nothing in it must be given, as in a file that is laid on top of another.

    A group may then lack its kind, so that several kinds can fit it.
    """
    schema = deepcopy(schema)
    for part in _parts(schema):
        part.pop("required", None)
        part.pop("discriminator", None)
        if "oneOf" in part:
            part["anyOf"] = part.pop("oneOf")
        if "$ref" in part:
            part["$ref"] += PARTIAL
    return schema


def _parts(schema: Schema) -> Iterator[Schema]:
    """The schema and all that it is made of; a default is a value, no schema."""
    yield schema
    for key, value in schema.items():
        if key == "default":
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _parts(each)


def _departures(knobs: Schema, groups: Schema) -> Schema:
    """What an arm may `set`: whole groups, and keys with dots, such as training.epochs."""
    allowed = {group: knobs[group] for group in OF_ONE_ARM}
    named = [name for name, knob in allowed.items() if "additionalProperties" in knob]
    kinds = [name for name, knob in allowed.items() if "anyOf" in knob]
    for group in OF_ONE_ARM:
        if "$ref" in allowed[group]:
            own = groups[allowed[group]["$ref"].removeprefix(PLACE)]["properties"]
            allowed |= {f"{group}.{name}": knob for name, knob in own.items()}
    return {
        "type": "object",
        "properties": allowed,
        "patternProperties": {rf"^({'|'.join([*named, *kinds, 'start.pretraining'])})\..+": {}},
        "additionalProperties": False,
    }
