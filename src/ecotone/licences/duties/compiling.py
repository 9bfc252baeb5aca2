"""From what is required to files: texts, NOTICE, card, change statement, terms of use, strings to show. Pure.

Nothing is invented: a text or a notice that is not at hand stays open, with where to get it.
"""

from collections.abc import Iterable, Mapping

from ecotone.licences.duties.bundle import Bundle
from ecotone.licences.duties.cards import fields_of, noticed, says, section, with_fields
from ecotone.licences.duties.owing import Owing
from ecotone.licences.duties.requirements import (
    CARD,
    CHANGES,
    DISPLAY,
    NOTICE,
    OPEN,
    USE_LIMITS,
    Material,
    Requirement,
    licence_lines,
    stands_in,
    text_path,
)
from ecotone.licences.duties.texts import Held, held_texts, is_notice, text_of_this_machine
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.identify import declared_entries
from ecotone.licences.outbound import outbound
from ecotone.vocabulary import Relation

_WORDS = {Relation.ADAPTER: "adapter", Relation.MERGE: "merge", Relation.QUANTISED: "quantized"}


def compiled(
    knowledge: KnowledgeBase,
    owing: Owing,
    requirements: Iterable[Requirement],
    material: Material,
    present: Bundle,
) -> dict[str, str]:
    """The files to write, by path; a file of `present` is continued, never replaced, and left out when it is complete.

    Args:
        knowledge: the entries.
        owing: what is owed.
        requirements: what must be found for it.
        material: files of the work and its parents, where texts and notices come from.
        present: what lies already where the files go.
    """
    required = list(requirements)
    found = _texts(knowledge, owing, required, material, present)
    for path, made in (
        (NOTICE, _notice(required, material, owing, present)),
        (CHANGES, _merged(present, CHANGES, _changes(required, material, present))),
        (USE_LIMITS, _merged(present, USE_LIMITS, _use_limits(required))),
        (DISPLAY, _merged(present, DISPLAY, _display(required))),
        (CARD, _card(knowledge, owing, required, material, present)),
    ):
        name, content = made if isinstance(made, tuple) else (path, made)
        if content and content != _content(present, name):
            found[name] = content
    return found


def _content(bundle: Bundle | None, path: str) -> str:
    """A file's text; empty where there is none. Raises Unreadable for one that is there and cannot be read."""
    return bundle.text(path) if bundle is not None and path in bundle.paths() else ""


def _of(requirements: Iterable[Requirement], artefact: str) -> list[Requirement]:
    return [r for r in requirements if r.kind == "strings" and r.artefact == artefact]


def _strings(requirements: Iterable[Requirement]) -> list[str]:
    return list(dict.fromkeys(s for r in requirements for s in r.strings))


# -- texts -----------------------------------------------------------------------------------------------------------
def _texts(
    knowledge: KnowledgeBase, owing: Owing, required: list[Requirement], material: Material, present: Bundle
) -> dict[str, str]:
    wanted: dict[str, list[str]] = {}
    for one in required:
        if one.kind == "text" and one.entry:
            wanted.setdefault(one.entry, []).extend([owing.family.subject, *one.owed.nodes])
    shelves = {node: held_texts(files, knowledge) for node, files in material.files.items()}
    lying = held_texts(present, knowledge)
    found: dict[str, str] = {}
    for entry, nodes in wanted.items():
        kept = [h for h in lying if h.holds(entry)]
        sources = _sources(knowledge, entry, nodes, shelves)
        missing = [text for text in sources if not any(_same(text, h.text) for h in kept)]
        if kept and _copyrights_there(required, entry, kept):
            continue
        for number, text in enumerate(missing):
            path = text_path(entry)
            if number or kept:
                path = f"{path.removesuffix('.txt')}-{number + 1 + len(kept)}.txt"
            found[path] = text if text.endswith("\n") else text + "\n"
    return found


def _copyrights_there(required: list[Requirement], entry: str, kept: list[Held]) -> bool:
    lines = [line for r in required if r.entry == entry for line in r.copyrights]
    return all(any(says(h.text, line) for h in kept) for line in lines)


def _sources(
    knowledge: KnowledgeBase, entry: str, nodes: Iterable[str], shelves: Mapping[str, tuple[Held, ...]]
) -> list[str]:
    """The text as the works that are under it ship it, each different one once; else from any work of the family."""
    for group in (dict.fromkeys(nodes), shelves):
        texts: dict[str, str] = {}
        for node in group:
            for held in shelves.get(node, ()):
                if held.holds(entry):
                    texts.setdefault(" ".join(held.text.split()), held.text)
        if texts:
            return list(texts.values())
    kept = text_of_this_machine(knowledge, entry)
    return [kept[1]] if kept else []


def _same(one: str, other: str) -> bool:
    return one.split() == other.split()


# -- notices, changes, terms, strings --------------------------------------------------------------------------------
def _notice(required: list[Requirement], material: Material, owing: Owing, present: Bundle) -> tuple[str, str]:
    name = next((p for p in present.paths() if is_notice(p) and "/" not in p), NOTICE)
    before = _content(present, name)
    if not before:
        own = material.files.get(owing.family.subject)
        kept = next((p for p in own.paths() if is_notice(p) and "/" not in p), None) if own is not None else None
        before = _content(own, kept) if kept else ""
    strings = _strings(_of(required, NOTICE))
    return name, noticed(before, strings) if strings or before else ""


def _merged(present: Bundle, path: str, body: str) -> str:
    return section(_content(present, path), body) if body else ""


def _filled_in(present: Bundle, strings: list[str]) -> bool:
    """Whether somebody filled in the fields that were left open: that is not undone."""
    content = _content(present, CHANGES)
    return any(OPEN in s for s in strings) and all(stands_in(content, s) for s in strings)


def _changes(required: list[Requirement], material: Material, present: Bundle) -> str:
    strings = _strings(_of(required, CHANGES))
    if not strings or _filled_in(present, strings):
        return ""
    lines = ["# Changes", ""]
    for sentence in strings:
        lines += [sentence, ""]
    for node, told in material.changed.items():
        lines += [f"Files against {node}: {told}", ""]
    return "\n".join(lines)


def _use_limits(required: list[Requirement]) -> str:
    wanted = _of(required, USE_LIMITS)
    if not wanted:
        return ""
    return "\n\n".join(["# Use restrictions", "These are terms of use of this model.", *_strings(wanted)])


def _display(required: list[Requirement]) -> str:
    wanted = _of(required, DISPLAY)
    if not wanted:
        return ""
    lines = ["# Strings to show", ""]
    for one in wanted:
        where = ", ".join(w.replace("_", " ") for w in one.owed.where)
        lines.append(f"- {one.strings[0]} ({one.owed.entry} {one.owed.clause}: in {where})")
    return "\n".join(lines)


# -- card ------------------------------------------------------------------------------------------------------------
def _card(
    knowledge: KnowledgeBase, owing: Owing, required: list[Requirement], material: Material, present: Bundle
) -> str:
    wanted = _of(required, CARD)
    if not wanted:
        return ""
    before = _content(present, CARD)
    own = material.files.get(owing.family.subject)
    if not before and own is not None:
        before = _content(own, CARD)
    if not before:
        before = f"# {owing.name}\n"
    return section(with_fields(before, _fields(knowledge, owing, before)), _block(knowledge, owing, wanted))


def _block(knowledge: KnowledgeBase, owing: Owing, wanted: list[Requirement]) -> str:
    lines = ["## Licences and notices", ""]
    listed = licence_lines(knowledge, owing)
    shown = [r for r in wanted if r.owed.duty == "display_text"]
    for text in _strings(shown):
        lines += [f"**{text}**", ""]
    lines += [f"- {line}" for line in listed]
    lines += [f"- {s}" for s in _strings(r for r in wanted if r not in shown) if s not in listed]
    if _of_kind(owing, "flow_down_use"):
        lines += ["", f"The terms of use are in `{USE_LIMITS}`."]
    return "\n".join(lines)


def _of_kind(owing: Owing, duty: str) -> bool:
    return any(o.duty == duty for o in owing.owed)


def _fields(knowledge: KnowledgeBase, owing: Owing, own_card: str) -> dict[str, str | tuple[str, ...]]:
    """Fields of the Hub's cards: what a text asks the card to say, for a card that does not say it."""
    found: dict[str, str | tuple[str, ...]] = {}
    answer = outbound(knowledge, owing.family)
    entry = knowledge.entry(answer.entry) if answer.entry else None
    texts = [knowledge.entry(t.entry) for t in owing.texts]
    named = next((e for e in texts if not e.names.hf), None)
    own = owing.family.node(owing.family.subject).instruments
    known = [knowledge.entry(i) for i in own if i in knowledge.entries and i not in ("unknown", "none")]
    if known and known[0].names.hf and len(declared_entries(knowledge, known[0].names.hf[0])) == 1:
        found["license"] = known[0].names.hf[0]
    elif known or named is not None:
        first = known[0] if known else named
        assert first is not None
        found |= {"license": "other", "license_name": first.id, "license_link": text_path(first.id)}
    elif entry is not None and texts:
        found["license"] = entry.names.hf[0]
    bases = [
        e
        for e in owing.family.edges
        if e.child == owing.family.subject
        and e.relation not in (Relation.TRAINED_ON, Relation.EVALUATED_ON)
        and owing.family.node(e.parent).visible
    ]
    if bases and "base_model" not in fields_of(own_card):
        found["base_model"] = tuple(e.parent for e in bases) if len(bases) > 1 else bases[0].parent
        found["base_model_relation"] = _WORDS.get(bases[0].relation, "finetune")
    return found
