"""Whether a document has the form that it claims: CycloneDX 1.4 to 1.7 by their schemas, SPDX 3.0 by its model.

Bounded: the number of errors told, the length of each, and the comparison of list items, which is done by hashes.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from jsonschema import Draft7Validator, FormatChecker, ValidationError, validators
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from ecotone.licences.bom import spdx_form
from ecotone.licences.bom.forms import CYCLONEDX, form

MOST_PROBLEMS = 50
_LONGEST = 300
_WORDS: dict[int, frozenset[Any]] = {}  # by the list in a schema that is kept for good
_SHARED = ("spdx.schema.json", "jsf-0.82.schema.json", "cryptography-defs.schema.json")


class Format(msgspec.Struct, frozen=True):
    """Which form a document claims: `cyclonedx` with a version, or `spdx` 3."""

    name: str
    version: str


def format_of(document: Any) -> Format | None:
    """The form that a document claims; None where it is none of those read here."""
    if not isinstance(document, dict):
        return None
    if document.get("bomFormat") == "CycloneDX":
        return Format("cyclonedx", str(document.get("specVersion"))[:20])
    context = document.get("@context")
    told = [context, *context] if isinstance(context, list) else [context]
    if "@graph" in document and any(isinstance(c, str) and c.startswith("https://spdx.org/rdf/3.") for c in told):
        version = next((c.split("/")[4] for c in told if isinstance(c, str) and c.count("/") >= 5), "3")
        return Format("spdx", version[:20])
    return None


def problems(document: Any, claimed: Format) -> list[tuple[str, str]]:
    """What does not fit the form, as JSON pointer and sentence; [] for a valid document."""
    if claimed.name == "spdx":
        return spdx_form.problems(document, MOST_PROBLEMS)
    if claimed.version not in CYCLONEDX:
        return [("/specVersion", f"version {claimed.version} is none of those read here: {', '.join(CYCLONEDX)}")]
    found = []
    try:
        for error in _validator(claimed.version).iter_errors(document):
            found.append(_told(error))
            if len(found) >= MOST_PROBLEMS:
                break
    except RecursionError:
        found.append(("", "the document is nested too deeply to be checked"))
    return found


def _told(error: ValidationError) -> tuple[str, str]:
    """The place and a sentence of the innermost reason."""
    inner = error
    while inner.context:
        inner = max(inner.context, key=lambda e: (len(e.absolute_path), str(e.validator)))
    pointer = "".join(f"/{_escaped(str(part))}" for part in inner.absolute_path)
    if inner.validator == "enum":
        return pointer, f"{str(inner.instance)[:100]!r} is none of the {len(inner.validator_value)} words expected here"
    return pointer, " ".join(inner.message.split())[-_LONGEST:]


def _escaped(part: str) -> str:
    return part[:200].replace("~", "~0").replace("/", "~1")


@functools.cache
def _validator(version: str) -> Any:
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


def _enum(validator: Any, words: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """`enum` of words by their hashes; the library compares with each of the 811 licence ids in turn."""
    known = _WORDS.get(id(words))
    if known is None:
        known = _WORDS[id(words)] = frozenset(words)
    if not isinstance(instance, str) or instance not in known:
        yield ValidationError(f"{str(instance)[:100]!r} is not one of the words expected here")


def _unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
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
