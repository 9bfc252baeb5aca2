"""The duties document: what is owed, where it stands, what to do. Not legal advice, and it says so."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ecotone.licences.decision import NOTICE, Reason
from ecotone.licences.duties.bundle import Bundle, Loose
from ecotone.licences.duties.compiling import compiled
from ecotone.licences.duties.owing import Owed, Owing
from ecotone.licences.duties.requirements import Material, Requirement, required
from ecotone.licences.duties.texts import Held, held_texts
from ecotone.licences.duties.verifying import DONE, MISSING, UNCHECKED, Item, on_page, verified
from ecotone.licences.entries import KnowledgeBase

DOCUMENT = "duties.json"
FORMAT = "ecotone-duties/1"
COMPLETE, INCOMPLETE, UNKNOWN = "complete", "open", "unknown"


class Duties:
    """What a work owes, ready to be written as files and looked for in them.

    Args:
        knowledge: the entries.
        owing: what is owed.
        material: the files of the work and of its parents, as far as they are at hand.
        declared: the licence that the card declares, as written.
    """

    def __init__(
        self, knowledge: KnowledgeBase, owing: Owing, material: Material, *, declared: str | None = None
    ) -> None:
        self._knowledge = knowledge
        self.owing = owing
        self._material = material
        self._declared = declared
        self._required: tuple[Requirement, ...] = required(knowledge, owing, material)

    @functools.cached_property
    def _originals(self) -> tuple[Held, ...]:
        files = self._material.files.values()
        return tuple(held for bundle in files for held in held_texts(bundle, self._knowledge) if held.entry)

    def files(self, present: Bundle | None = None) -> dict[str, str]:
        """The files to write, by path, the document last. `present`: what lies already where they go.

        Raises:
            Unreadable: a file that would be continued cannot be read.
        """
        before = present or Loose({})
        made = compiled(self._knowledge, self.owing, self._required, self._material, before)
        document = msgspec.json.encode(self.in_bundle(self.after(before, made)))
        made[DOCUMENT] = msgspec.json.format(document, indent=2).decode() + "\n"
        return made

    def after(self, present: Bundle, files: Mapping[str, str]) -> Bundle:
        """What lies in a bundle once these files are written."""
        return _Over(present, files)

    def in_bundle(self, bundle: Bundle) -> dict[str, Any]:
        """The document, with where every duty stands in a bundle."""
        items = verified(
            self._knowledge,
            self.owing,
            self._required,
            bundle,
            declared=self._declared,
            originals=self._originals,
        )
        return self._document(items)

    def on_page(self, text: str, address: str) -> dict[str, Any]:
        """The same for what a live page shows."""
        told = self._document(on_page(self._required, text))
        if not any(r.on_page for r in self._required):
            note = "a page can show none of these duties; verify the bundle"
            told |= {"status": UNKNOWN, "notes": [*told["notes"], note]}
        return {**told, "page": address}

    def _document(self, items: Iterable[Item]) -> dict[str, Any]:
        items = tuple(items)
        owing, knowledge = self.owing, self._knowledge
        missing = [i for i in items if i.status == MISSING]
        unsure = [i for i in items if i.status == UNCHECKED and i.blocking]
        status = INCOMPLETE if missing else UNKNOWN if unsure or owing.unknown else COMPLETE
        return {
            "format": FORMAT,
            "subject": {"model": owing.family.subject, "name": owing.name},
            "use": {"mode": str(owing.use.mode), "purpose": str(owing.use.purpose), "variables": owing.use.variables},
            "verdict": owing.verdict,
            "reasons": list({(r.entry, r.clause): _against(r) for r in owing.reasons}.values()),
            "status": status,
            "licences": [_licence(knowledge, t.entry, t.title, t.nodes) for t in owing.texts],
            "duties": [_shown(i) for i in items],
            "missing": [_missing(i) for i in missing],
            "unchecked": [_missing(i) for i in unsure],
            "unknown": [msgspec.to_builtins(u) for u in owing.unknown],
            "possible": [_possible(o) for o in owing.possible],
            "artefacts": _artefacts(items),
            "family": {
                "nodes": [
                    {"id": n.id, "instruments": list(n.instruments)} for n in owing.family.nodes.values() if n.visible
                ],
                "edges": [
                    {"child": e.child, "parent": e.parent, "relation": str(e.relation)}
                    for e in owing.family.edges
                    if owing.family.node(e.parent).visible and owing.family.node(e.child).visible
                ],
            },
            "notes": list(owing.notes),
            "knowledge_base": knowledge.version,
            "notice": NOTICE,
        }


class _Over:
    """Files over others, as they will lie after writing."""

    def __init__(self, below: Bundle, above: Mapping[str, str]) -> None:
        self._below, self._above = below, dict(above)

    def paths(self) -> tuple[str, ...]:
        return tuple(sorted({*self._below.paths(), *self._above}))

    def text(self, path: str) -> str:
        return self._above[path] if path in self._above else self._below.text(path)


def _licence(knowledge: KnowledgeBase, entry: str, title: str, nodes: tuple[str, ...]) -> dict[str, Any]:
    return {"entry": entry, "title": title, "nodes": list(nodes), "source": knowledge.entry(entry).text.source}


def _shown(item: Item) -> dict[str, Any]:
    told = msgspec.to_builtins(item)
    return {"duty": told.pop("duty"), "what": told.pop("means"), **told}


def _against(reason: Reason) -> dict[str, Any]:
    return {
        "entry": reason.entry,
        "clause": reason.clause,
        "what": reason.means,
        "evaluation": reason.evaluation,
    }


def _missing(item: Item) -> dict[str, Any]:
    return {
        "duty": item.duty,
        "what": item.means,
        "entry": item.entry,
        "clause": item.clause,
        "where": item.artefact or ("name" if item.duty == "name_prefix" else ", ".join(item.where)),
        "reason": item.reason,
        "todo": item.todo,
    }


def _possible(owed: Owed) -> dict[str, Any]:
    return {
        "duty": owed.duty,
        "entry": owed.entry,
        "clause": owed.clause,
        "what": owed.means,
        "if": list(owed.variables),
        "nodes": list(owed.nodes),
    }


def _artefacts(items: Iterable[Item]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        if item.artefact is None:
            continue
        one = found.setdefault(item.artefact, {"path": item.artefact, "status": DONE, "sha256": None})
        one["sha256"] = one["sha256"] or item.sha256
        if item.status == MISSING:
            one["status"] = MISSING
    return list(found.values())
