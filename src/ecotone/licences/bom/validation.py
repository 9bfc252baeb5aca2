"""Whether a document has the form that it claims: CycloneDX 1.4 to 1.7 by their schemas, SPDX 3.0 by its model.

Bounded: the number of errors told, the length of each, and the comparison of list items, which is done by hashes.
"""

from typing import Any

import msgspec

from ecotone.licences.bom import spdx_form
from ecotone.licences.bom.forms import CYCLONEDX

MOST_PROBLEMS = 50
_LONGEST = 300


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
    from ecotone.licences.bom.schemas import validator  # a library that only checks of documents need

    found = []
    try:
        for error in validator(claimed.version).iter_errors(document):
            found.append(_told(error))
            if len(found) >= MOST_PROBLEMS:
                break
    except RecursionError:
        found.append(("", "the document is nested too deeply to be checked"))
    return found


def _told(error: Any) -> tuple[str, str]:
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
