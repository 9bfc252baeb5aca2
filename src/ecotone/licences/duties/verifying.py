"""The check of a bundle, or of a live page: for each duty whether it is kept, by looking and by nothing else.

What a file called `duties.json` says is not asked: anybody can write one.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ecotone.licences.detection.reading import Unreadable
from ecotone.licences.duties.bundle import Bundle
from ecotone.licences.duties.cards import says
from ecotone.licences.duties.owing import Owed, Owing
from ecotone.licences.duties.requirements import CARD, NOTICE, OPEN, Requirement, address, stands_in
from ecotone.licences.duties.texts import Held, copyrights, held_texts, is_notice, lacking, recognisable
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.identify import declared_branches

DONE, MISSING, UNCHECKED = "done", "open", "cannot_be_checked"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """Where a duty stands.

    Attributes:
        duty, entry, clause, means, where, nodes: the duty, and the works whose text asks for it.
        artefact: the file that keeps it, None for what no file keeps.
        status: done, open, cannot_be_checked.
        blocking: whether it keeps the bundle from being found complete.
        reason: what was found instead, or why nothing can be.
        todo: what to do about it.
        sha256: of the file that keeps it.
    """

    duty: str
    entry: str
    clause: str
    means: str
    where: tuple[str, ...]
    nodes: tuple[str, ...]
    artefact: str | None
    status: str
    text: str | None = None
    blocking: bool = False
    reason: str | None = None
    todo: str | None = None
    sha256: str | None = None


def verified(
    knowledge: KnowledgeBase,
    owing: Owing,
    requirements: Iterable[Requirement],
    bundle: Bundle,
    *,
    declared: str | None,
    originals: Iterable[Held] = (),
) -> tuple[Item, ...]:
    """Every requirement looked for in a bundle.

    Args:
        knowledge: the entries.
        owing: what is owed.
        requirements: what must be found.
        bundle: where to look.
        declared: the licence that the work's card declares.
        originals: texts as the work and its parents ship them; one of the bundle may not lack a paragraph of them.
    """
    look = _Look(knowledge, owing, bundle, declared, tuple(originals))
    return tuple(look.at(one) for one in requirements)


def on_page(requirements: Iterable[Requirement], text: str) -> tuple[Item, ...]:
    """Every requirement that a page can show, looked for in its text; of the rest, that a page does not show it."""
    found = []
    for one in requirements:
        if not one.on_page:
            found.append(_item(one.owed, one, UNCHECKED, reason="a page does not show it; verify the bundle"))
            continue
        wanted = one.strings[-1:] if one.owed.duty == "flow_down_use" else one.strings
        unsaid = [s for s in wanted if not says(text, s)]
        if unsaid:
            todo = f"show on the page: {'; '.join(unsaid)}"
            found.append(_item(one.owed, one, MISSING, artefact="page", reason="not on the page", todo=todo))
        else:
            found.append(_item(one.owed, one, DONE, artefact="page"))
    return tuple(found)


class _Look:
    def __init__(
        self,
        knowledge: KnowledgeBase,
        owing: Owing,
        bundle: Bundle,
        declared: str | None,
        originals: tuple[Held, ...],
    ) -> None:
        self._knowledge, self._owing, self._bundle, self._declared = knowledge, owing, bundle, declared
        self._originals = originals
        self._held = held_texts(bundle, knowledge)
        self._read: dict[str, str | Unreadable] = {}

    def at(self, one: Requirement) -> Item:
        match one.kind:
            case "text":
                return self._text(one)
            case "strings":
                return self._strings(one)
            case "name":
                return self._name(one)
            case "licence":
                return self._licence(one)
            case _:
                return _item(one.owed, one, UNCHECKED, reason=one.reason)

    # -- texts -------------------------------------------------------------------------------------------------------
    def _text(self, one: Requirement) -> Item:
        entry = self._knowledge.entry(one.entry or "")
        whole = [h for h in self._held if h.holds(entry.id)]
        if not whole:
            return self._no_text(one)
        without = [
            c for c in one.copyrights if not any(says(t, c) for t in (*(h.text for h in whole), *self._notices()))
        ]
        first = whole[0]
        if without:
            todo = f"add to {NOTICE} or beside the text: {'; '.join(without)}"
            return _item(one.owed, one, MISSING, artefact=first.path, reason="a copyright line is not there", todo=todo)
        part = self._cut(entry.id, whole)
        if part is not None:
            todo = f"put the whole text of {entry.title} there"
            reason = f"the part that begins {part!r} is not there"
            return _item(one.owed, one, MISSING, artefact=first.path, reason=reason, todo=todo)
        there = (*(h.text for h in whole), *self._notices())
        if one.owed.duty == "include_copyright" and not any(copyrights(t) for t in there):
            todo = "put in the copyright line of the licensor, as its licence file has it"
            return _item(one.owed, one, MISSING, artefact=first.path, reason="no copyright line", todo=todo)
        return self._done(one, first.path, one.reason)

    def _cut(self, entry: str, whole: list[Held]) -> str | None:
        """A part of the original that no copy has."""
        originals = {o.text for o in self._originals if o.holds(entry)}
        parts = [lacking(h.text, o) for h in whole for o in originals]
        return None if None in parts else next(iter(parts), None)

    def _no_text(self, one: Requirement) -> Item:
        entry = self._knowledge.entry(one.entry or "")
        sources = ", ".join(n for n in one.owed.nodes if n != self._owing.family.subject)
        place = f"the licence file of {sources}, or {address(entry)}" if sources else address(entry)
        todo = f"put the whole text of {entry.title} there, from {place}"
        if not recognisable(self._knowledge, entry.id):
            other = next((h for h in self._held if h.entry is None and not h.near and h.text), None)
            if other is not None:
                reason = f"{other.path} holds a text, but that of {entry.id} is not among those that can be recognised"
                return _item(one.owed, one, UNCHECKED, artefact=other.path, blocking=True, reason=reason)
        for held in self._held:
            resembling = _resembling(held, entry.id)
            if resembling is not None:
                return _item(one.owed, one, MISSING, artefact=held.path, reason=resembling, todo=todo)
        reason = self._unread(one.artefact) or "the text is not there"
        return _item(one.owed, one, MISSING, artefact=one.artefact, reason=reason, todo=todo)

    def _unread(self, path: str | None) -> str | None:
        return next((f"{h.path}: {h.reason}" for h in self._held if h.reason and h.path == path), None)

    # -- strings -----------------------------------------------------------------------------------------------------
    def _strings(self, one: Requirement) -> Item:
        path, content = self._content(one.artefact or "")
        if isinstance(content, Unreadable):
            reason = f"{path}: {content}"
            unsaid: list[str] = list(one.strings)
        else:
            unsaid = [s for s in one.strings if not stands_in(content, s)]
            reason = f"{path} does not say it" if content else f"there is no {path}"
        if unsaid and OPEN in str(content):
            reason, todo = "a field of it is still open", "write there which work was modified, and how"
            return _item(one.owed, one, MISSING, artefact=path, reason=reason, todo=todo)
        if unsaid:
            todo = f"add to {path}: {'; '.join(unsaid)}" if len(unsaid) < 4 else f"add to {path} what is owed there"
            return _item(one.owed, one, MISSING, artefact=path, reason=reason, todo=f"{todo} (or run --write)")
        if not one.strings:
            return _item(one.owed, one, DONE, artefact=None, reason="there is nothing to carry over")
        return self._done(one, path, one.reason)

    def _content(self, name: str) -> tuple[str, str | Unreadable]:
        if name == NOTICE:
            paths = [p for p in self._bundle.paths() if is_notice(p)]
            texts = [self._text_of(p) for p in paths]
            readable = [t for t in texts if isinstance(t, str)]
            if readable:
                return paths[0], "\n\n".join(readable)
            return (paths[0], texts[0]) if paths else (name, "")
        return name, self._text_of(name) if name in self._bundle.paths() else ""

    def _text_of(self, path: str) -> str | Unreadable:
        if path not in self._read:
            try:
                self._read[path] = self._bundle.text(path)
            except Unreadable as reason:
                self._read[path] = reason
        return self._read[path]

    def _notices(self) -> list[str]:
        texts = (self._text_of(p) for p in self._bundle.paths() if is_notice(p))
        return [t for t in texts if isinstance(t, str)]

    # -- name and label ----------------------------------------------------------------------------------------------
    def _name(self, one: Requirement) -> Item:
        name, prefix = self._owing.name, one.owed.text or ""
        others = [
            o.text
            for o in self._owing.owed
            if o.duty == "name_prefix" and o.text and not (o.text.startswith(prefix) or prefix.startswith(o.text))
        ]
        if not self._owing.named and not others:
            reason = f"only the folder is named, {name!r}, and that need not be the model's name"
            todo = f"say --name; it must begin with {prefix!r}, as written"
            return _item(one.owed, one, UNCHECKED, artefact=None, reason=reason, todo=todo)
        if name.startswith(prefix):
            return _item(one.owed, one, DONE, artefact=None)
        todo = f"rename the model: {prefix}... (as written, at the very beginning)"
        if others:
            todo = f"no name begins with {prefix!r} and {others[0]!r}: leave one of the parents out"
        return _item(one.owed, one, MISSING, artefact=None, reason=f"the name is {name!r}", todo=todo)

    def _licence(self, one: Requirement) -> Item:
        entry = self._knowledge.entry(one.owed.entry)
        if one.owed.duty == "declared_licence":
            todo = f"let the card's `license` say what stays on it: {entry.names.hf[0] if entry.names.hf else 'other'}"
            return _item(one.owed, one, MISSING, artefact=CARD, reason="the licence declared may not stand", todo=todo)
        offered = {e.id for branch in declared_branches(self._knowledge, self._declared) for e in branch}
        own = {i for i in self._owing.family.node(self._owing.family.subject).instruments if i != "unknown"}
        allowed = {entry.id, *entry.outbound.listed, *entry.outbound.upgrade}
        if allowed & (offered | own):
            return self._done(one, CARD, None)
        reason = f"the card declares {self._declared or 'no licence'}"
        todo = f"declare {entry.names.hf[0] if entry.names.hf else entry.id} as `license` of the card"
        return _item(one.owed, one, MISSING, artefact=CARD, reason=reason, todo=todo)

    def _done(self, one: Requirement, path: str, reason: str | None) -> Item:
        content = self._text_of(path) if path in self._bundle.paths() else ""
        digest = hashlib.sha256(content.encode()).hexdigest() if isinstance(content, str) and content else None
        return _item(one.owed, one, DONE, artefact=path, reason=reason, sha256=digest)


def _resembling(held: Held, entry: str) -> str | None:
    for near, difference in held.near:
        if near == entry:
            return f"{held.path} is not that text: {difference}"
    return None


def _item(owed: Owed, one: Requirement, status: str, **more: Any) -> Item:
    told: Mapping[str, Any] = {"artefact": one.artefact, "blocking": status == MISSING, **more}
    return Item(
        duty=owed.duty,
        entry=owed.entry,
        clause=owed.clause,
        means=owed.means,
        text=owed.text,
        where=owed.where,
        nodes=owed.nodes,
        status=status,
        **told,
    )
