"""CycloneDX's schemas as validators, with two keywords done by hashes: long documents are checked in linear time."""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft7Validator, FormatChecker, ValidationError, validators
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from ecotone.licences.bom.forms import form

_WORDS: dict[int, frozenset[Any]] = {}  # by the list in a schema that is kept for good
_SHARED = ("spdx.schema.json", "jsf-0.82.schema.json", "cryptography-defs.schema.json")


@functools.cache
def validator(version: str) -> Any:
    """The validator of a version. A schema that names its dialect would bring the library's own keywords back."""
    told = [form(f"bom-{version}.schema.json"), *(form(name) for name in _SHARED)]
    schemas = [{k: v for k, v in schema.items() if k != "$schema"} for schema in told]
    registry: Any = Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema, default_specification=DRAFT7)) for schema in schemas]
    )
    kind = validators.extend(Draft7Validator, {"uniqueItems": _unique, "enum": _enum})
    return kind(schemas[0], registry=registry, format_checker=_formats())


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]*")  # RFC 3986, section 3
_IRI_REFERENCE = re.compile(r"[^\s<>\"{}|\\^`]*")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?:[Zz]|[+-]\d\d:\d\d)")  # RFC 3339


def _formats() -> FormatChecker:
    """The formats that decide in these schemas: without `uri`, two branches of JSF's `algorithm` overlap."""
    checker = FormatChecker(formats=())
    for name, pattern in (("uri", _URI), ("iri-reference", _IRI_REFERENCE), ("date-time", _MOMENT)):
        checker.checks(name)(functools.partial(_fits, pattern))
    return checker


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return not isinstance(value, str) or pattern.fullmatch(value) is not None


def _enum(_: Any, words: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """`enum` of words by their hashes; the library compares with each of the 811 licence ids in turn."""
    known = _WORDS.get(id(words))
    if known is None:
        known = _WORDS[id(words)] = frozenset(words)
    if not isinstance(instance, str) or instance not in known:
        yield ValidationError(f"{str(instance)[:100]!r} is not one of the words expected here")


def _unique(_: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """`uniqueItems` in linear time; the library compares all pairs of objects."""
    if not wanted or not isinstance(instance, list):
        return
    seen = set()
    for item in instance:
        key = json.dumps(item, sort_keys=True)
        if key in seen:
            yield ValidationError(f"an item stands there twice: {key[:100]}")
            return
        seen.add(key)
