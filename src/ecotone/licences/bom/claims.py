"""What a document says of each component: its licences as declared or concluded, and what it comes from.

CycloneDX and SPDX 3 are brought to one form. Anything may stand in the document: what does not have the expected type
is passed over here, and it is for the validation to say so.
"""

import base64
import binascii
import itertools
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

MOST_COMPONENTS = 20_000
_MOST_CLAIMS = 200
_LONGEST_TEXT = 256 * 1024
_PURL = re.compile(r"pkg:huggingface/([^/@?#]+)/([^/@?#]+)(?:@([^?#]*))?(\?[^#]*)?", re.I)
_MODEL = "machine-learning-model"
_LISTED = "https://spdx.org/licenses/"

Json = dict[str, Any]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A licence that a document names.

    Attributes:
        pointer: JSON pointer of the place.
        kind: id, name, expression or text (a text without any name).
        value: the id, name or expression.
        acknowledgement: declared, concluded or "" where the document does not say.
        others: further names of the same licence.
        text: the licence text that the document carries, or None.
    """

    pointer: str
    kind: str
    value: str
    acknowledgement: str = ""
    others: tuple[str, ...] = ()
    text: str | None = None


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A component: `id` is `namespace/name` where it is a model of a hub. `brief` means that it stands for a parent."""

    pointer: str
    name: str
    id: str | None = None
    revision: str | None = None
    claims: tuple[Claim, ...] = ()
    ancestors: tuple[str, ...] = ()
    brief: bool = False


def of_cyclonedx(document: Json) -> list[Claimed]:
    """The components of a CycloneDX document, nested ones and those of pedigrees included."""
    return list(itertools.islice(_all(document), MOST_COMPONENTS))


def _all(document: Json) -> Iterator[Claimed]:
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        yield from _components(metadata.get("component"), "/metadata/component", False)
        tools = metadata.get("tools")
        if isinstance(tools, dict):
            yield from _listed(tools.get("components"), "/metadata/tools/components", False)
        claims = tuple(_licences(metadata.get("licenses"), "/metadata/licenses"))[:_MOST_CLAIMS]
        if claims:
            yield Claimed(pointer="/metadata", name="the document", claims=claims)
    yield from _listed(document.get("components"), "/components", False)
    yield from _listed(document.get("services"), "/services", False)


def _listed(value: Any, pointer: str, brief: bool) -> Iterator[Claimed]:
    for number, one in enumerate(value if isinstance(value, list) else []):
        yield from _components(one, f"{pointer}/{number}", brief)


def _components(value: Any, pointer: str, brief: bool) -> Iterator[Claimed]:
    """A component and those in it, walked with a stack: nesting is the document's choice."""
    stack = [(value, pointer, brief)]
    count = 0
    while stack and count < MOST_COMPONENTS:
        one, place, short = stack.pop()
        if not isinstance(one, dict):
            continue
        count += 1
        yield _component(one, place, short)
        inside = [
            (one.get("components"), f"{place}/components", short),
            (one.get("services"), f"{place}/services", short),
        ]
        pedigree = one.get("pedigree")
        if isinstance(pedigree, dict):
            kin = ("ancestors", "descendants", "variants")
            inside += [(pedigree.get(name), f"{place}/pedigree/{name}", True) for name in kin]
        for items, where, brief_ones in inside:
            if isinstance(items, list):
                stack += [(item, f"{where}/{n}", brief_ones) for n, item in enumerate(items)]


def _component(one: Json, pointer: str, brief: bool) -> Claimed:
    model_id, revision = _identity(one)
    return Claimed(
        pointer=pointer,
        name=_text(one.get("name")) or "unnamed",
        id=model_id,
        revision=revision or _text(one.get("version")) or None,
        claims=tuple(_licences(one.get("licenses"), f"{pointer}/licenses"))[:_MOST_CLAIMS],
        ancestors=_ancestors(one),
        brief=brief,
    )


def _identity(one: Json) -> tuple[str | None, str | None]:
    """The hub id and revision of a model: of its package URL, else of group and name."""
    matched = _PURL.match(_text(one.get("purl")))
    if matched:
        return f"{unquote(matched[1])}/{unquote(matched[2])}", unquote(matched[3] or "") or None
    if one.get("type") != _MODEL:
        return None, None
    group, name = _text(one.get("group")), _text(one.get("name"))
    whole = f"{group}/{name}" if group else name
    return (whole if whole.count("/") == 1 and not whole.startswith("/") else None), None


def _ancestors(one: Json) -> tuple[str, ...]:
    pedigree = one.get("pedigree")
    listed = pedigree.get("ancestors") if isinstance(pedigree, dict) else None
    found: list[str] = []
    stack = list(listed) if isinstance(listed, list) else []
    while stack and len(found) < _MOST_CLAIMS:
        parent = stack.pop()
        if isinstance(parent, dict):
            found += [i for i in [_identity({**parent, "type": _MODEL})[0]] if i]
            inner = parent.get("pedigree")
            more = inner.get("ancestors") if isinstance(inner, dict) else None
            stack += more if isinstance(more, list) else []
    return tuple(found)


def _licences(value: Any, pointer: str) -> Iterator[Claim]:
    for number, one in enumerate(value if isinstance(value, list) else []):
        place = f"{pointer}/{number}"
        if not isinstance(one, dict):
            continue
        licence = one.get("license")
        if isinstance(licence, dict):
            yield from _licence(licence, f"{place}/license")
        if isinstance(one.get("expression"), str):
            yield _expression(one, place)
            yield from _details(one.get("expressionDetails"), f"{place}/expressionDetails")


def _licence(licence: Json, pointer: str) -> Iterator[Claim]:
    kind = "id" if isinstance(licence.get("id"), str) else "name" if isinstance(licence.get("name"), str) else "text"
    licensing = licence.get("licensing")
    alternatives = licensing.get("altIds") if isinstance(licensing, dict) else None
    yield Claim(
        pointer=f"{pointer}/{kind}",
        kind=kind,
        value=_text(licence.get(kind)) if kind != "text" else "",
        acknowledgement=_text(licence.get("acknowledgement")),
        others=tuple(_text(a) for a in alternatives if isinstance(a, str)) if isinstance(alternatives, list) else (),
        text=_attached(licence.get("text")),
    )


def _expression(one: Json, pointer: str) -> Claim:
    return Claim(
        pointer=f"{pointer}/expression",
        kind="expression",
        value=_text(one["expression"], 2000),
        acknowledgement=_text(one.get("acknowledgement")),
    )


def _details(value: Any, pointer: str) -> Iterator[Claim]:
    """Texts that CycloneDX 1.7 carries for parts of an expression."""
    for number, one in enumerate(value if isinstance(value, list) else []):
        text = _attached(one.get("text")) if isinstance(one, dict) else None
        if text is not None:
            name = _text(one.get("licenseIdentifier"))
            place = f"{pointer}/{number}"
            yield Claim(pointer=f"{place}/licenseIdentifier", kind="part", value=name, text=text)


def _attached(value: Any) -> str | None:
    """The text of an attachment, decoded where it is in base64."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        return None
    content: str = value["content"]
    if value.get("encoding") != "base64":
        return content[:_LONGEST_TEXT]
    try:
        return base64.b64decode(content[: 2 * _LONGEST_TEXT - 2 * _LONGEST_TEXT % 4], validate=False).decode(
            "utf-8", "replace"
        )
    except (binascii.Error, ValueError):
        return None


def _text(value: Any, most: int = 500) -> str:
    return value[:most].strip() if isinstance(value, str) else ""


def of_spdx(document: Json) -> list[Claimed]:
    """The packages of an SPDX 3 document with their licences and ancestors, which relationships tell."""
    graph = document.get("@graph")
    elements = [e for e in graph if isinstance(e, dict)] if isinstance(graph, list) else []
    pointers = {id(e): f"/@graph/{n}" for n, e in enumerate(graph if isinstance(graph, list) else [])}
    known: dict[str, Json] = {i: e for e in elements if isinstance(i := e.get("spdxId", e.get("@id")), str)}
    links: dict[str, list[tuple[str, str, str]]] = {}
    for element in elements:
        start, ends, kind = element.get("from"), element.get("to"), element.get("relationshipType")
        if not isinstance(start, str) or not isinstance(kind, str):
            continue
        for number, end in enumerate(ends if isinstance(ends, list) else [ends]):
            if isinstance(end, str):
                links.setdefault(start, []).append((kind, end, f"{pointers[id(element)]}/to/{number}"))
    parents = _spdx_parents(links, known)
    found: list[Claimed] = []
    for place, element in known.items():
        if element.get("type") in _PACKAGES and len(found) < MOST_COMPONENTS:
            claims = _spdx_claims(links.get(place, []), known, pointers)
            found.append(_package(element, pointers[id(element)], claims, parents.get(place, ())))
    return found


_PACKAGES = ("ai_AIPackage", "dataset_DatasetPackage", "software_Package", "software_File")


def _package(element: Json, pointer: str, claims: list[Claim], parents: tuple[str, ...]) -> Claimed:
    matched = _PURL.match(_text(element.get("software_packageUrl")))
    name = _text(element.get("name"))
    model = element.get("type") == "ai_AIPackage" and name.count("/") == 1
    return Claimed(
        pointer=pointer,
        name=name or "unnamed",
        id=f"{unquote(matched[1])}/{unquote(matched[2])}" if matched else name if model else None,
        revision=_text(element.get("software_packageVersion")) or None,
        claims=tuple(claims[:_MOST_CLAIMS]),
        ancestors=parents,
    )


def _spdx_parents(links: dict[str, list[tuple[str, str, str]]], known: dict[str, Json]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for start, ends in links.items():
        for kind, end, _ in ends:
            child, parent = (
                (end, start) if kind == "ancestorOf" else (start, end) if kind == "descendantOf" else ("", "")
            )
            name = _package(known[parent], "", [], ()).id if parent in known else None
            if name and len(found.get(child, ())) < _MOST_CLAIMS:
                found[child] = (*found.get(child, ()), name)
    return found


_ACKNOWLEDGED = {"hasDeclaredLicense": "declared", "hasConcludedLicense": "concluded"}


def _spdx_claims(links: list[tuple[str, str, str]], known: dict[str, Json], pointers: dict[int, str]) -> list[Claim]:
    found: list[Claim] = []
    for kind, end, pointer in links:
        said = _ACKNOWLEDGED.get(kind)
        if said is None:
            continue
        if end.startswith(_LISTED):
            name = end.removeprefix(_LISTED).removesuffix(".html")
            found.append(Claim(pointer=pointer, kind="id", value=name, acknowledgement=said))
        elif end in known:
            found += _spdx_licence(known[end], pointers[id(known[end])], said)
    return found


def _spdx_licence(element: Json, pointer: str, said: str) -> list[Claim]:
    expression = element.get("simplelicensing_licenseExpression")
    if isinstance(expression, str):
        place = f"{pointer}/simplelicensing_licenseExpression"
        return [Claim(pointer=place, kind="expression", value=_text(expression, 2000), acknowledgement=said)]
    for field in ("simplelicensing_licenseText", "expandedlicensing_licenseText"):
        text = element.get(field)
        if isinstance(text, str):
            name = _text(element.get("name")) or (text.strip() if len(text) <= 200 else "")
            carried = text[:_LONGEST_TEXT] if len(text) > 200 else None
            place = f"{pointer}/{field}"
            return [Claim(pointer=place, kind="name", value=name, acknowledgement=said, text=carried)]
    return []
