"""Whether a JSON-LD document has the form of SPDX 3.0: known classes, their properties, cardinalities, vocabularies.

What is checked is the model of 3.0.1 as data (`forms/spdx-3.0.1.model.json`), on documents in the compact form that the
specification's JSON serialization prescribes (one `@graph`, `type`, `spdxId`). Not checked are the types of elements
that stand in other documents, the profiles' further demands, and extensions.
"""

import re
from collections.abc import Iterator
from typing import Any

from ecotone.licences.bom.forms import form

MODEL = "spdx-3.0.1.model.json"
CONTEXTS = tuple(f"https://spdx.org/rdf/{v}/spdx-context.jsonld" for v in ("3.0.0", "3.0.1"))
_LONGEST = 4096
_IRI = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:\S*|_:\S+)")
Problem = tuple[str, str]


def problems(document: Any, most: int = 50) -> list[Problem]:
    """What is wrong, each with its JSON pointer; [] for a document that has the form."""
    found: list[Problem] = []
    for problem in _problems(document):
        found.append(problem)
        if len(found) >= most:
            break
    return found


def _problems(document: Any) -> Iterator[Problem]:
    if not isinstance(document, dict):
        yield "", "the document is no object"
        return
    context = document.get("@context")
    if context not in CONTEXTS and not (isinstance(context, list) and any(c in CONTEXTS for c in context)):
        yield "/@context", f"the context is not {CONTEXTS[-1]}"
    graph = document.get("@graph")
    if not isinstance(graph, list):
        yield "/@graph", "there is no list @graph"
        return
    ids = {_id(e): e for e in graph if isinstance(e, dict) and isinstance(_id(e), str)}
    seen: set[str] = set()
    for number, element in enumerate(graph):
        place = _id(element) if isinstance(element, dict) else None
        if isinstance(place, str):
            if place in seen:
                yield f"/@graph/{number}", f"{place[:200]} stands there twice"
            seen.add(place)
        yield from _object(element, f"/@graph/{number}", None, ids)


def _id(element: dict[str, Any]) -> Any:
    return element.get("spdxId", element.get("@id"))


def _object(value: Any, pointer: str, wanted: str | None, ids: dict[Any, Any]) -> Iterator[Problem]:
    classes = form(MODEL)["classes"]
    if not isinstance(value, dict):
        yield pointer, "an object with a `type` is expected"
        return
    kind = value.get("type", value.get("@type"))
    if not isinstance(kind, str):
        yield pointer, "there is no `type`"
        return
    if kind not in classes:
        if ":" not in kind:  # an extension's class has a full name
            yield f"{pointer}/type", f"{kind[:200]!r} is no class of SPDX 3.0.1"
        return
    if classes[kind].get("abstract"):
        yield f"{pointer}/type", f"{kind} is abstract: one of its kinds is expected"
    if wanted is not None and wanted not in _line(kind):
        yield pointer, f"{wanted} is expected, {kind} stands there"
    if classes[kind].get("named") and not isinstance(value.get("spdxId"), str):
        yield pointer, f"{kind} needs an `spdxId`"
    properties = _properties(kind)
    for name, stated in value.items():
        if name in ("type", "@type", "spdxId", "@id"):
            continue
        told = properties.get(name)
        if told is None:
            if ":" not in name:
                yield f"{pointer}/{_escaped(name)}", f"{kind} has no property {name[:200]!r}"
            continue
        yield from _value(stated, told, f"{pointer}/{name}", ids)
    for name, told in properties.items():
        if told.get("min") and name not in value:
            yield pointer, f"{kind} needs {name}"


def _value(value: Any, told: dict[str, Any], pointer: str, ids: dict[Any, Any]) -> Iterator[Problem]:
    if told.get("many"):
        items = value if isinstance(value, list) else [value]
        if len(items) < told.get("min", 0):
            yield pointer, "at least one value is expected"
        for number, item in enumerate(items):
            where = f"{pointer}/{number}" if isinstance(value, list) else pointer
            yield from _one(item, told, where, ids)
    elif isinstance(value, list):
        yield pointer, "one value is expected, a list stands there"
    else:
        yield from _one(value, told, pointer, ids)


def _one(value: Any, told: dict[str, Any], pointer: str, ids: dict[Any, Any]) -> Iterator[Problem]:
    if "class" in told:
        yield from _linked(value, told["class"], pointer, ids)
    elif "one_of" in told:
        if value not in form(MODEL)["vocabularies"][told["one_of"]]:
            yield pointer, f"{str(value)[:100]!r} is no word of {told['one_of']}"
    else:
        yield from _scalar(value, told, pointer)


def _linked(value: Any, wanted: str, pointer: str, ids: dict[Any, Any]) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield from _object(value, pointer, wanted, ids)
        return
    target = ids.get(value)
    if target is None:
        if value.startswith("_:"):
            yield pointer, f"{value[:200]} stands nowhere in the document"
        elif not _IRI.fullmatch(value) and value not in _individuals():
            yield pointer, f"{value[:200]!r} is no IRI"
        return
    kind = target.get("type", target.get("@type"))
    if isinstance(kind, str) and kind in form(MODEL)["classes"] and wanted not in _line(kind):
        yield pointer, f"{wanted} is expected, {kind} stands there"


_PYTHON: dict[str, type] = {
    "String": str,
    "AnyURI": str,
    "IRI": str,
    "DateTime": str,
    "DateTimeStamp": str,
    "Boolean": bool,
}
_LEAST = {"NonNegativeInteger": 0, "PositiveInteger": 1}


def _scalar(value: Any, told: dict[str, Any], pointer: str) -> Iterator[Problem]:
    kind = told["type"]
    if kind in _PYTHON:
        if not isinstance(value, _PYTHON[kind]):
            yield pointer, f"{kind} is expected"
        elif isinstance(value, str) and told.get("pattern") and not re.search(told["pattern"], value[:_LONGEST]):
            yield pointer, f"{value[:100]!r} does not have the form of a {kind}"
    elif kind == "Float":
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            yield pointer, "a number is expected"
    elif isinstance(value, bool) or not isinstance(value, int) or value < _LEAST.get(kind, value):
        yield pointer, f"{kind} is expected"


def _individuals() -> set[str]:
    """Compact names of the individuals that the model itself holds."""
    full = [i for names in form(MODEL)["individuals"].values() for i in names]
    prefixes = {"ExpandedLicensing": "expandedlicensing_", "Core": ""}
    parts = (i.rsplit("/", 2) for i in full)
    return {prefixes.get(space, "") + name for _, space, name in parts}


def _line(kind: str) -> list[str]:
    """A class and all that it is a kind of."""
    found, classes = [], form(MODEL)["classes"]
    at: str | None = kind
    while at is not None and at in classes:
        found.append(at)
        at = classes[at].get("parent")
    return found


def _properties(kind: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in reversed(_line(kind)):
        found |= form(MODEL)["classes"][name].get("properties", {})
    return found


def _escaped(name: str) -> str:
    return name[:200].replace("~", "~0").replace("/", "~1")
