"""`tags`: choosealicense.com's view of a licence (permissions, conditions, limitations), derived from the facts.

The view is flat: it knows no thresholds, purposes, places or clauses. It is never stored, so that the 47 licences which
that site describes test our facts. What each tag means: choosealicense.com, `_data/rules.yml`.
"""

from collections.abc import Callable, Iterable

import msgspec

from ecotone.licences.entries import Entry, Fact

_USING = frozenset({"run", "internal_use", "serve_api"})
_SHARING = frozenset({"redistribute_weights", "redistribute_derivative"})
_NOTICES = frozenset({"include_licence", "include_copyright", "attribution", "keep_notices"})
_TEXT_GOES_ALONG = frozenset({"include_licence", "include_copyright"})
_CHANGES = frozenset({"state_changes", "document_changes"})
_SOURCE_ONLY = "source"
_SAME: dict[str, str] = {
    "same_licence": "same-license",
    "same_or_listed": "same-license",
    "same_licence_file": "same-license--file",
    "same_licence_library": "same-license--library",
}


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """The tags that apply, each group in the order of choosealicense's own list."""

    permissions: tuple[str, ...]
    conditions: tuple[str, ...]
    limitations: tuple[str, ...]


def tags(entry: Entry) -> Tags:
    """The 17 tags of choosealicense for an entry: 5 permissions, 8 conditions, 4 limitations."""
    return Tags(
        permissions=_applying(entry, _PERMISSIONS), conditions=_conditions(entry), limitations=_limitations(entry)
    )


def _applying(entry: Entry, rules: Iterable[tuple[str, Callable[[Entry], bool]]]) -> tuple[str, ...]:
    return tuple(tag for tag, holds in rules if holds(entry))


def _permits(entry: Entry, actions: frozenset[str]) -> bool:
    return any(f.modality == "permit" and actions & set(f.action) for f in entry.facts)


_PERMISSIONS: tuple[tuple[str, Callable[[Entry], bool]], ...] = (
    ("commercial-use", lambda e: _permits(e, _USING) and "noncommercial" not in e.restricts),
    ("modifications", lambda e: _permits(e, frozenset({"modify"}))),
    ("distribution", lambda e: _permits(e, _SHARING)),
    ("private-use", lambda e: _permits(e, _USING)),
    ("patent-use", lambda e: _permits(e, frozenset({"patent_use"}))),
)


def _conditions(entry: Entry) -> tuple[str, ...]:
    duties = [f for f in entry.facts if f.modality == "require"]
    found = list(_notice(duties))
    if any(f.duty in _CHANGES for f in duties):
        found.append("document-changes")
    sources = [f for f in duties if f.duty == "disclose_source"]
    if sources:
        found.append("disclose-source")
    if any(f.trigger is not None and "serve_api" in f.trigger.on for f in sources):
        found.append("network-use-disclose")
    if entry.outbound.derivative in _SAME:
        found.append(_SAME[entry.outbound.derivative])
    return tuple(found)


def _notice(duties: list[Fact]) -> Iterable[str]:
    """Notice and text with every copy, or with source alone."""
    shared = [f for f in duties if f.duty in _NOTICES and f.trigger is not None and _SHARING & set(f.trigger.on)]
    kept = [f for f in shared if f.params.get("where") != [_SOURCE_ONLY]]
    if any(f.duty in _TEXT_GOES_ALONG for f in shared) and all(f.duty == "attribution" for f in kept):
        yield "include-copyright--source"
    elif shared:
        yield "include-copyright"


def _limitations(entry: Entry) -> tuple[str, ...]:
    bans = {action for f in entry.facts if f.modality == "prohibit" for action in f.action}
    disclaimers = " ".join(f"{f.id} {f.means}" for f in entry.facts if f.modality == "disclaim")
    applying = (
        ("trademark-use", "trademark_use" in bans),
        ("liability", "liab" in disclaimers),
        ("patent-use", "patent_use" in bans),
        ("warranty", "warrant" in disclaimers or "as it is" in disclaimers),
    )
    return tuple(tag for tag, applies in applying if applies)
