"""JSON schemas that an answer can be held to: read from `response_format` and tools, checked keyword by keyword.

A keyword that the constraint would not keep is refused by name and place: an answer that quietly broke it would be
worse than none.
"""

import json
from typing import Any

from ecotone.engines.server.errors import RequestError

KEPT = frozenset(
    (
        *("type", "enum", "const", "properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        *("items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum"),
        *("maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "anyOf", "allOf", "$ref", "$defs"),
        "definitions",
    )
)
SAYINGS = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment"),
    )
)
FORMATS = frozenset(["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"])
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_DEEPEST = 64
_LARGEST = 128 * 1024
_INSTEAD = {"oneOf": "anyOf"}

ANY_OBJECT = {"type": "object"}


def of_response_format(given: Any) -> str | None:
    """The schema that `response_format` asks for, as JSON text; None for free text.

    Hugging Face's client writes a schema as `{"type": "json_object", "value": SCHEMA}`.
    """
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        value = given.get("value")
        return checked(ANY_OBJECT if value is None else value, "response_format", "/value")
    if kind == "json_schema":
        named = given.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if schema is None:
            raise _wrong("response_format.json_schema", "an object with name and schema", "")
        return checked(schema, "response_format", "/json_schema/schema")
    raise _wrong("response_format", "an object whose type is text, json_object or json_schema", "")


def checked(schema: Any, field: str, pointer: str) -> str:
    """The schema as JSON text, after a look at every keyword.

    Raises:
        RequestError: naming the keyword and its JSON pointer (RFC 6901) within `field`.
    """
    if not isinstance(schema, dict):
        raise _wrong(field, "a JSON schema that is an object", pointer)
    text = json.dumps(schema)
    if len(text) > _LARGEST:
        raise _wrong(field, f"a JSON schema of at most {_LARGEST} bytes", pointer)
    _check(schema, field, pointer, 0)
    return text


def call_of(tools: list[tuple[str, Any]]) -> str:
    """The schema of one call of one of these tools (name, schema of its arguments)."""
    choices = []
    defs = {}
    for place, (name, parameters) in enumerate(tools):
        key = f"tool{place}"
        defs[key] = _moved(parameters, f"#/$defs/{key}")
        choices.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{key}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return json.dumps({"$defs": defs, **(choices[0] if len(choices) == 1 else {"anyOf": choices})})


def _check(schema: Any, field: str, pointer: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _wrong(field, "a JSON schema (an object, true or false)", pointer)
    if depth > _DEEPEST:
        raise _wrong(field, f"a JSON schema of at most {_DEEPEST} levels", pointer)
    for keyword, value in schema.items():
        place = f"{pointer}/{_escaped(keyword)}"
        if keyword not in KEPT and keyword not in SAYINGS:
            instead = _INSTEAD.get(keyword)
            raise RequestError(
                f"{field}: the keyword {keyword[:100]!r} at {place[:300]} is not supported; "
                f"{f'use {instead!r}' if instead else 'leave it out'}. Supported: {', '.join(sorted(KEPT))}.",
                code="unsupported_schema",
                param=field,
            )
        if keyword == "format" and not (isinstance(value, str) and value in FORMATS):
            raise _wrong(field, f"one of the formats {', '.join(sorted(FORMATS))}", place)
        if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise _wrong(field, "a $ref into the schema itself, beginning with #", place)
        if keyword in _NAMED:
            if not isinstance(value, dict):
                raise _wrong(field, "an object of schemas", place)
            for name, inner in value.items():
                _check(inner, field, f"{place}/{_escaped(name)}", depth + 1)
        elif keyword in _LISTED:
            if not isinstance(value, list) or not value:
                raise _wrong(field, "a list of schemas", place)
            for number, inner in enumerate(value):
                _check(inner, field, f"{place}/{number}", depth + 1)
        elif keyword in _SINGLE:
            _check(value, field, place, depth + 1)


def _moved(schema: Any, to: str) -> Any:
    """The schema with its own references kept right after it was moved to another place."""
    if isinstance(schema, list):
        return [_moved(inner, to) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: to + inner[1:] if name == "$ref" and isinstance(inner, str) else _moved(inner, to)
        for name, inner in schema.items()
    }


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _wrong(field: str, expected: str, pointer: str) -> RequestError:
    where = f" at {pointer[:300]}" if pointer else ""
    return RequestError(f"{field}{where} must be {expected}.", code="invalid_schema", param=field)
