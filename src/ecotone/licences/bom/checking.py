"""Others' documents against what is known: their form, their licence claims, the models and ancestors they name.

A claim that nobody here knows is counted, not blamed: there are more licences than entries. Blamed is what cannot be:
an id that is on no list, an expression that cannot be parsed, a text that is not the licence named beside it, a model
that is known under other terms, an ancestor that is known and left out.
"""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ecotone.licences.bom.claims import Claim, Claimed, of_cyclonedx, of_spdx
from ecotone.licences.bom.facts import names_of
from ecotone.licences.bom.forms import listed_licences
from ecotone.licences.bom.reading import MOST_VALUES, read, shown
from ecotone.licences.bom.validation import format_of, problems
from ecotone.licences.detection import conclude
from ecotone.licences.detection.detecting import of_a_licence_file
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.errors import UnreadableBill
from ecotone.licences.expressions import check_expression, names
from ecotone.licences.identify import Identified

MOST_FINDINGS = 500
MOST_TEXTS = 40
_KEPT = 4
_JOINED = re.compile(r"\b(?:AND|OR|WITH)\b")
_REFERENCE = re.compile(r"(?:DocumentRef-[A-Za-z0-9.\-]+:)?(?:LicenseRef|AdditionRef)-[A-Za-z0-9.\-]+")
_NO_LICENCE = ("noassertion", "none")


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    """What is known here of a model: instruments that bind it, the models that it comes from, and who says so."""

    id: str
    instruments: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    source: str = ""


LookUp = Callable[[str, str | None], KnownModel | None]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong: `rule` is a stable word, `level` error or warning, `pointer` the place (RFC 6901)."""

    rule: str
    level: str
    pointer: str
    message: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `format` is cyclonedx-1.7, spdx-3.0.1 and the like, or None; `valid` says whether it has that form.

    `unrecognised` are licence names that are no fault and that nobody here knows.
    """

    format: str | None
    valid: bool
    components: int = 0
    claims: int = 0
    findings: tuple[Finding, ...] = ()
    unrecognised: tuple[str, ...] = ()
    knowledge_base: str = ""
    notice: str = "not legal advice"


def check(raw: bytes, knowledge: KnowledgeBase, look_up: LookUp, *, most_values: int = MOST_VALUES) -> Checked:
    """Everything that is wrong with a document; never an error, whatever the bytes are.

    Args:
        raw: the document.
        knowledge: the entries.
        look_up: what is known of a model id, at a revision where one is told.
        most_values: a document of more is not looked at; 100,000 take some seconds.
    """
    try:
        document = read(raw, most_values=most_values)
    except UnreadableBill as error:
        return _refused("unreadable", error.message, knowledge)
    claimed = format_of(document.value)
    if claimed is None:
        told = "The document is neither CycloneDX (`bomFormat`) nor SPDX 3 (`@context` and `@graph`)."
        return _refused("format", told, knowledge)
    wrong = problems(document.value, claimed)
    found = [_finding("duplicate-key", "warning", *oddity) for oddity in document.oddities]
    found += [_finding("form", "error", *problem) for problem in wrong]
    components = of_spdx(document.value) if claimed.name == "spdx" else of_cyclonedx(document.value)
    checking = _Checking(knowledge, look_up)
    for component in components:
        checking.component(component)
    checking.left_out(components)
    return Checked(
        format=f"{claimed.name}-{shown(claimed.version, 20)}",
        valid=not wrong,
        components=sum(not c.brief for c in components),
        claims=sum(len(c.claims) for c in components),
        findings=tuple(dict.fromkeys([*found, *checking.findings]))[:MOST_FINDINGS],
        unrecognised=tuple(sorted(checking.unrecognised))[:MOST_FINDINGS],
        knowledge_base=knowledge.version,
    )


def _refused(rule: str, message: str, knowledge: KnowledgeBase) -> Checked:
    finding = Finding(rule=rule, level="error", pointer="", message=message)
    return Checked(format=None, valid=False, findings=(finding,), knowledge_base=knowledge.version)


def _finding(rule: str, level: str, pointer: str, message: str) -> Finding:
    return Finding(rule=rule, level=level, pointer=shown(pointer, 500), message=shown(message, 600))


class _Checking:
    def __init__(self, knowledge: KnowledgeBase, look_up: LookUp) -> None:
        self.knowledge = knowledge
        self.look_up = look_up
        self.findings: list[Finding] = []
        self.unrecognised: set[str] = set()
        self.texts = 0
        self.known: dict[tuple[str, str | None], KnownModel | None] = {}

    def blame(self, rule: str, pointer: str, message: str, level: str = "error") -> None:
        if len(self.findings) < 2 * MOST_FINDINGS:
            self.findings.append(_finding(rule, level, pointer, message))

    def component(self, component: Claimed) -> None:
        said: set[str] = set()
        for claim in component.claims:
            ids = self.claim(claim)
            said |= ids
            if claim.text is not None:
                said |= self.text(claim, ids)
        known = self.model(component)
        if known is not None:
            self.compare(component, known, said)

    def model(self, component: Claimed) -> KnownModel | None:
        if component.id is None or len(component.id) > 200:
            return None
        key = (component.id, component.revision)
        if key not in self.known:
            self.known[key] = self.look_up(*key)
        return self.known[key]

    def claim(self, claim: Claim) -> set[str]:
        """The ids that a claim stands for; blames what cannot be."""
        if claim.kind == "text" or claim.value.casefold() in _NO_LICENCE:
            return set()
        if claim.kind == "expression" or (claim.kind != "id" and _JOINED.search(claim.value)):
            return self.expression(claim)
        found = self.ids(claim.value) or next((i for i in map(self.ids, claim.others) if i), set())
        if found:
            return found
        if claim.kind == "id" and claim.value not in listed_licences():
            self.blame("licence-id", claim.pointer, f"{shown(claim.value)} is on no list of licence ids")
        elif claim.value not in listed_licences():
            self.unrecognised.add(shown(claim.value, 200))
        return {claim.value} if claim.value in listed_licences() else set()

    def ids(self, name: str) -> set[str]:
        folded = " ".join(name.split()).casefold()
        return set(names(self.knowledge).get(folded) or hints(self.knowledge).get(folded) or ())

    def expression(self, claim: Claim) -> set[str]:
        parsed = check_expression(self.knowledge, claim.value)
        if parsed.error is not None:
            if claim.kind != "expression":
                self.unrecognised.add(shown(claim.value, 200))
            else:
                told = f"{shown(claim.value)} is no SPDX expression: {parsed.error}"
                self.blame("licence-expression", claim.pointer, told)
            return set()
        found = set(parsed.entries)
        for key in parsed.unknown:
            ids = self.ids(key)
            found |= ids
            parts = [p.strip("() +") for p in key.split(" WITH ")]
            if all(p in listed_licences() for p in parts):
                found.add(key)
            elif ids or key.casefold() in _NO_LICENCE:
                continue
            elif claim.kind != "expression" or all(_REFERENCE.fullmatch(p) or p in listed_licences() for p in parts):
                self.unrecognised.add(shown(key, 200))
            else:
                self.blame("licence-id", claim.pointer, f"{shown(key)} is on no list of licence ids")
        return found

    def text(self, claim: Claim, ids: set[str]) -> set[str]:
        """Ids of the text that stands beside a claim; blames a text that is another licence's."""
        self.texts += 1
        if self.texts > MOST_TEXTS or not claim.text:
            return set()
        detections = of_a_licence_file(claim.text, self.knowledge)
        known = tuple(sorted(i for i in ids if i in self.knowledge.entries))
        if known:
            declared = Identified(instruments=known, declared=claim.value)
            for conflict in conclude(self.knowledge, declared, detections).conflicts:
                found = conflict["detected"]
                if found not in self.knowledge.entries and not found.startswith(("near ", "a text")):
                    continue
                reason = "none of those known" if found == "a text" else f"{found}: {conflict['reason']}"
                self.blame(
                    "licence-text", claim.pointer, f"{shown(claim.value)} is named; the text carried is {reason}"
                )
        return {d.id for d in detections if d.id in self.knowledge.entries and d.id != "unknown"}

    def compare(self, component: Claimed, known: KnownModel, said: set[str]) -> None:
        bound = {i for i in known.instruments if i not in ("unknown", "none")}
        shown_names = " AND ".join(names_of(self.knowledge, i).reference for i in sorted(bound))
        source = f" ({known.source})" if known.source else ""
        if bound and len(bound) == len(known.instruments) and component.claims and not bound <= said:
            told = ", ".join(sorted(said)) or "a name that nobody here knows"
            message = f"{known.id} is known under {shown_names}{source}; the document says {told}"
            self.blame("licence-differs", component.claims[0].pointer, message)
        if component.brief:
            return
        named = {a.casefold() for a in component.ancestors} | {known.id.casefold()}
        for parent in known.parents:
            if parent.casefold() not in named:
                message = f"{known.id} is known to come from {parent}{source}; the document does not name it"
                self.blame("ancestor-missing", component.pointer, message, "warning")

    def left_out(self, components: Iterable[Claimed]) -> None:
        """Models that are known and of which the document says no licence anywhere."""
        told = list(components)
        stated = {c.id.casefold() for c in told if c.id and c.claims}
        for component in told:
            known = self.model(component)
            if known is None or known.id.casefold() in stated or (component.id or "").casefold() in stated:
                continue
            bound = [i for i in known.instruments if i not in ("unknown", "none")]
            if bound:
                references = " AND ".join(names_of(self.knowledge, i).reference for i in sorted(bound))
                message = f"{known.id} is known under {references}; the document names no licence of it"
                self.blame("licence-missing", component.pointer, message, "warning")
                stated.add(known.id.casefold())


@functools.lru_cache(maxsize=_KEPT)
def hints(knowledge: KnowledgeBase) -> dict[str, tuple[str, ...]]:
    """Titles, aliases and references of entries, case-folded: how people write a licence that has no id."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in knowledge.entries.values():
        if entry.kind in ("policy", "family"):
            continue
        spellings: list[Any] = [entry.title, *entry.names.aliases, *entry.names.license_name]
        spellings.append(names_of(knowledge, entry.id).reference)
        for spelling in {" ".join(str(s).split()).casefold() for s in spellings}:
            found[spelling] = (*found.get(spelling, ()), entry.id)
    return found
