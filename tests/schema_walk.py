"""Whether a value is valid under a JSON schema: a walk over the words that our own schemas use, and no others.

A package for this is not among what the tests install. Unlike JSON Schema, a whole number here is a Python `int`: the
reader tells 2 and 2.0 apart, as YAML does.
"""

from __future__ import annotations

import re
from typing import Any

from campus_tune.words.types import Json

_SAID = {"description", "default", "title", "$schema", "$defs"}  # to people
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "null": type(None)}


def valid(value: Any, schema: Json, root: Json | None = None) -> bool:
    """Whether `schema` takes `value`.

    Args:
        value: of JSON's types.
        schema: of the value.
        root: with the `$defs` that the schema refers to; itself if not given.
    """
    root = schema if root is None else root
    return all(_holds(word, said, value, schema, root) for word, said in schema.items() if word not in _SAID)


def _holds(word: str, said: Any, value: Any, schema: Json, root: Json) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    size = len(value) if isinstance(value, str | list | dict) else 0
    match word:
        case "$ref":
            return valid(value, root["$defs"][said.removeprefix("#/$defs/")], root)
        case "anyOf":
            return any(valid(value, one, root) for one in said)
        case "type":
            return any(_is_a(value, one) for one in ([said] if isinstance(said, str) else said))
        case "enum" | "const":
            words = said if word == "enum" else [said]
            return any(type(value) is type(one) and value == one for one in words)
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return not is_number or _inside(word, said, value)
        case "pattern":
            return not isinstance(value, str) or re.search(said, value) is not None
        case "minLength":
            return not isinstance(value, str) or size >= said
        case "properties" | "required" | "additionalProperties" | "minProperties" | "maxProperties":
            return not isinstance(value, dict) or _mapping(word, said, value, schema, root)
        case "items" | "minItems" | "maxItems" | "uniqueItems":
            return not isinstance(value, list) or _list(word, said, value, root)
    raise AssertionError(f"no word of ours: {word}")


def _is_a(value: Any, name: str) -> bool:
    if name == "boolean" or isinstance(value, bool):
        return isinstance(value, bool) and name == "boolean"
    return isinstance(value, _TYPES[name])


def _inside(word: str, bound: float, value: float) -> bool:
    return {
        "minimum": value >= bound,
        "maximum": value <= bound,
        "exclusiveMinimum": value > bound,
        "exclusiveMaximum": value < bound,
    }[word]


def _mapping(word: str, said: Any, value: Json, schema: Json, root: Json) -> bool:
    if word == "properties":
        return all(valid(value[name], one, root) for name, one in said.items() if name in value)
    if word == "additionalProperties":
        others = [one for name, one in value.items() if name not in schema.get("properties", {})]
        return all(valid(one, said, root) for one in others) if isinstance(said, dict) else said or not others
    if word == "required":
        return all(name in value for name in said)
    return len(value) >= said if word == "minProperties" else len(value) <= said


def _list(word: str, said: Any, value: list[Any], root: Json) -> bool:
    if word == "items":
        return all(valid(one, said, root) for one in value)
    if word == "uniqueItems":
        return all(one not in value[:i] for i, one in enumerate(value))
    return len(value) >= said if word == "minItems" else len(value) <= said
