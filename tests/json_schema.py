"""Holds values against a JSON Schema; of the standard only what the schema of ours uses."""

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
SAYS_NOTHING = {
    "$schema", "$defs", "title", "description", "default", "format", "discriminator",
    "then", "else",
}  # fmt: skip
KINDS: dict[str, type | tuple[type, ...]] = {
    "any": object, "object": dict, "array": list, "string": str, "boolean": bool,
    "null": type(None), "integer": int, "number": (int, float),
}  # fmt: skip
YES_OR_NO = ("any", "boolean")  # to Python, True is a whole number as well
LIMITS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": lambda value, bound: value % bound == 0,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "minLength": lambda value, bound: len(value) >= bound,
    "maxLength": lambda value, bound: len(value) <= bound,
    "minProperties": lambda value, bound: len(value) >= bound,
    "pattern": lambda value, bound: re.search(bound, value) is not None,
    "required": lambda value, bound: set(bound) <= set(value),
    "enum": lambda value, bound: value in bound,
    "const": lambda value, bound: value == bound,
}


def fits(value: Any, schema: Schema, whole: Schema | None = None) -> bool:
    """Says whether a value keeps a schema.

    Args:
        value: As YAML or JSON is read.
        schema: Draft 2020-12.
        whole: What `$ref` refers to; the schema itself by default.

    Raises:
        KeyError: The schema uses a word that is not known here.
    """
    whole = whole or schema
    kind = schema.get("type", "any")
    is_kind = isinstance(value, KINDS[kind]) and isinstance(value, bool) <= (kind in YES_OR_NO)
    if not is_kind:
        return False
    return all(
        _keeps(value, word, schema, whole) for word in schema if word not in SAYS_NOTHING | {"type"}
    )


def _keeps(value: Any, word: str, schema: Schema, whole: Schema) -> bool:
    bound = schema[word]
    if word == "$ref":
        return fits(value, whole["$defs"][bound.rpartition("/")[2]], whole)
    if word == "if":
        return fits(value, schema["then" if fits(value, bound, whole) else "else"], whole)
    if word in ("oneOf", "anyOf"):
        count = sum(fits(value, each, whole) for each in bound)
        return count == 1 if word == "oneOf" else count >= 1
    if word in ("items", "prefixItems"):
        pairs = zip(value, bound if word == "prefixItems" else [bound] * len(value), strict=False)
        return all(fits(each, own, whole) for each, own in pairs)
    if word == "propertyNames":
        return all(fits(name, bound, whole) for name in value)
    if word in ("properties", "patternProperties", "additionalProperties"):
        return all(_properties_keep(value, word, schema, whole))
    return bool(LIMITS[word](value, bound))


def _properties_keep(value: Schema, word: str, schema: Schema, whole: Schema) -> Iterator[bool]:
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, each in value.items():
        fitting = [own for pattern, own in patterns.items() if re.search(pattern, name)]
        if word == "properties" and name in named:
            yield fits(each, named[name], whole)
        elif word == "patternProperties":
            yield from (fits(each, own, whole) for own in fitting)
        elif word == "additionalProperties" and name not in named and not fitting:
            other = schema[word]
            yield fits(each, other, whole) if isinstance(other, dict) else other
