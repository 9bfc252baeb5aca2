"""From a duty to what must be found where: the one reading that both the writing and the checking of a bundle follow.

A duty of conduct (keep to a policy, indemnify, delete at the end) leaves no trace in files and cannot be checked.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import msgspec

from ecotone.licences.duties.bundle import Bundle
from ecotone.licences.duties.cards import BEGIN, END, says
from ecotone.licences.duties.owing import HIDDEN, Owed, Owing
from ecotone.licences.duties.texts import copyrights_in, notice_texts
from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.evaluate import PUBLISHING
from ecotone.vocabulary import Mode

NOTICE, CARD, CHANGES = "NOTICE", "README.md", "CHANGES.md"
USE_LIMITS, DISPLAY = "USE_RESTRICTIONS.md", "UI_STRINGS.md"
TEXTS = "LICENSES"
OPEN = "[OPEN:"
DOCUMENTS = frozenset({"docs", "model_card", "public_statements", "blogpost"})
_OUTSIDE = {
    "comply_policy": "it is kept by what is done, not by a file",
    "indemnify": "it is a promise, which no file shows",
    "delete_on_end": "it arises when the licence ends",
    "no_endorse": "it is kept by what is not said in the licensor's name",
    "register": "the registration lies with the licensor",
    "pay": "the payment lies with the licensor",
    "ask_licence": "the licence lies with the licensor",
    "use_latest": "it is kept by following the licensor's releases",
    "disclose_source": "whether all of the source is offered is not seen in a bundle",
    "inform_users": "it is kept where users meet the model",
}


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What must be found for a duty.

    Attributes:
        kind: `text` (a licence text in `artefact`), `strings` (all of them in `artefact`), `name`, `licence` (the
            card's), or `conduct`.
        entry: of the text.
        copyrights: lines that must stand beside the text.
        reason: for conduct, why it cannot be checked; else a remark.
        on_page: whether a live page can show it.
    """

    owed: Owed
    kind: str
    artefact: str | None = None
    entry: str | None = None
    strings: tuple[str, ...] = ()
    copyrights: tuple[str, ...] = ()
    reason: str | None = None
    on_page: bool = False


class Material(msgspec.Struct, frozen=True):
    """What is at hand of a family: files of its works, by id, and how the subject's differ from each parent's."""

    files: Mapping[str, Bundle]
    changed: Mapping[str, str] = {}


def required(knowledge: KnowledgeBase, owing: Owing, material: Material) -> tuple[Requirement, ...]:
    """Everything that must be found, in the order of the duties."""
    found: list[Requirement] = []
    for owed in (*owing.refused, *owing.owed):
        found += _of(knowledge, owing, material, owed)
    block = _card_block(knowledge, owing)
    if block:
        found.append(block)
    return tuple(found)


def _of(knowledge: KnowledgeBase, owing: Owing, material: Material, owed: Owed) -> list[Requirement]:
    publishing = owing.use.mode in (*PUBLISHING, Mode.EMBED_PRODUCT)
    if owed.entry == HIDDEN:
        return [Requirement(owed=owed, kind="conduct", reason="its text is not shown to you; ask an administrator")]
    match owed.duty:
        case "include_licence" | "include_copyright":
            return [_text(knowledge, material, owed)]
        case "notice_file" | "keep_notices":
            return [_notice(knowledge, material, owed)]
        case "state_changes" | "document_changes":
            return _changes(owing, owed)
        case "attribution":
            return _attribution(knowledge, owing, owed)
        case "display_text":
            return [_display(owing, owed, publishing)]
        case "name_prefix":
            return [Requirement(owed=owed, kind="name")]
        case "flow_down_use":
            strings = (provision(knowledge.entry(owed.entry), owed), notice_to_users(knowledge.entry(owed.entry)))
            return [Requirement(owed=owed, kind="strings", artefact=USE_LIMITS, strings=strings, on_page=True)]
        case "same_licence" | "declared_licence":
            return [Requirement(owed=owed, kind="licence", artefact=CARD)]
        case duty:
            reason = _OUTSIDE.get(duty, "it is not one that a bundle shows")
            return [Requirement(owed=owed, kind="conduct", reason=f"{reason}{f': {owed.to}' if owed.to else ''}")]


def _text(knowledge: KnowledgeBase, material: Material, owed: Owed) -> Requirement:
    lines: tuple[str, ...] = ()
    unseen = []
    if owed.duty == "include_copyright":
        for node in owed.nodes:
            files = material.files.get(node)
            if files is None:
                unseen.append(node)
            else:
                lines += copyrights_in(files, knowledge)
    reason = None
    if unseen:
        reason = (
            f"whether the copyright lines are those of {', '.join(unseen)} was not compared: its files are not here"
        )
    return Requirement(
        owed=owed,
        kind="text",
        artefact=text_path(owed.entry),
        entry=owed.entry,
        copyrights=tuple(dict.fromkeys(lines)),
        reason=reason,
    )


def text_path(entry: str) -> str:
    return f"{TEXTS}/{PurePosixPath(entry).name}.txt"


def _notice(knowledge: KnowledgeBase, material: Material, owed: Owed) -> Requirement:
    if owed.text:
        return Requirement(owed=owed, kind="strings", artefact=NOTICE, strings=(owed.text,))
    paragraphs: dict[str, None] = {}
    unseen = []
    for node in owed.nodes:
        files = material.files.get(node)
        if files is None:
            unseen.append(node)
            continue
        for text in notice_texts(files).values():
            paragraphs |= dict.fromkeys(_paragraphs(text))
        if owed.duty == "keep_notices":
            paragraphs |= dict.fromkeys(copyrights_in(files, knowledge))
    reason: str | None
    if not paragraphs and unseen:
        reason = f"the notices of {', '.join(unseen)} are not here to compare with: give its files with --parent"
        return Requirement(owed=owed, kind="conduct", reason=reason)
    reason = f"the notices of {', '.join(unseen)} were not compared" if unseen else None
    return Requirement(owed=owed, kind="strings", artefact=NOTICE, strings=tuple(paragraphs), reason=reason)


def _paragraphs(text: str) -> list[str]:
    parts = (p.strip() for p in text.replace("\r\n", "\n").split("\n\n"))
    return [p for p in parts if p and p not in (BEGIN, END)]


def _changes(owing: Owing, owed: Owed) -> list[Requirement]:
    statements = change_statements(owing, owed)
    places = [CARD] if "model_card" in owed.where else [CHANGES]
    if owed.file:
        places.append(NOTICE)
    return [Requirement(owed=owed, kind="strings", artefact=place, strings=statements) for place in places]


def stands_in(content: str, wanted: str) -> bool:
    """Whether a sentence stands in a content; of one with an open field, its beginning, with every field filled in."""
    if OPEN not in wanted:
        return says(content, wanted)
    return says(content, wanted[: wanted.index(OPEN)]) and OPEN not in content


def change_statements(owing: Owing, owed: Owed) -> tuple[str, ...]:
    """That and how the work was changed, a sentence for each work that it was made from."""
    found = []
    for node in owed.nodes:
        if node == owing.family.subject:
            if owing.use.modified:
                found.append(f"This model is a modified version of {OPEN} name the work that was modified and how].")
            continue
        how = (owed.relation or "modified").replace("_", " ")
        found.append(f"This model is a modified version of {node} ({how}).")
    return tuple(found)


def _attribution(knowledge: KnowledgeBase, owing: Owing, owed: Owed) -> list[Requirement]:
    if owed.text:
        named = f"{owing.name} {owed.text}" if owed.text[:1].islower() else owed.text
        strings: tuple[str, ...] = (named,)
    else:
        strings = tuple(credit(knowledge.entry(owed.entry), owing, owed, node) for node in owed.nodes)
    places = []
    if not owed.where or "weights_bundle" in owed.where:
        places.append(NOTICE)
    if DOCUMENTS & set(owed.where):
        places.append(CARD)
    if not places:
        reason = f"it is owed in {', '.join(w.replace('_', ' ') for w in owed.where)}: {strings[0]}"
        return [Requirement(owed=owed, kind="conduct", reason=reason)]
    return [
        Requirement(owed=owed, kind="strings", artefact=place, strings=strings, on_page=place == CARD)
        for place in places
    ]


def credit(entry: Entry, owing: Owing, owed: Owed, node: str) -> str:
    """Who made it, under which licence, where that stands, and that it was changed."""
    maker, _, name = node.removeprefix("datasets/").rpartition("/")
    by = f"{name} by {maker}" if maker else name
    changed = ""
    if node != owing.family.subject and owed.relation:
        changed = f"; modified here ({owed.relation.replace('_', ' ')})"
    return f"{by}, licensed under {entry.names.spdx or entry.title} ({address(entry)}){changed}."


def address(entry: Entry) -> str:
    """Where the text can be had."""
    if entry.names.spdx:
        return f"https://spdx.org/licenses/{entry.names.spdx}.html"
    return entry.text.source or "the licensor's own site"


def _display(owing: Owing, owed: Owed, publishing: bool) -> Requirement:
    strings = (owed.text or "",)
    if not owed.where or (publishing and DOCUMENTS & set(owed.where)):
        return Requirement(owed=owed, kind="strings", artefact=CARD, strings=strings, on_page=True)
    where = ", ".join(w.replace("_", " ") for w in owed.where)
    reason = f"that it is shown ({where}) is not seen in a bundle; check the live page with --verify URL"
    return Requirement(owed=owed, kind="strings", artefact=DISPLAY, strings=strings, reason=reason, on_page=True)


def provision(entry: Entry, owed: Owed) -> str:
    """A term of use that makes the limits of a text binding on whoever gets the work."""
    return (
        f"By using this model, a derivative of it or a service built on it, you agree to the use restrictions of "
        f"{entry.title} ({owed.entry} {owed.clause}), which stand in the copy of it that is shipped with the model "
        f"and in what it refers to; they are an enforceable part of these terms, and you pass them on, with this "
        f"provision, to whoever gets the model or a derivative of it from you."
    )


def notice_to_users(entry: Entry) -> str:
    return f"Notice to users: use of this model is subject to the use restrictions of {entry.title}."


def _card_block(knowledge: KnowledgeBase, owing: Owing) -> Requirement | None:
    """The part of the card that says which texts the work is under and where they are."""
    lines = licence_lines(knowledge, owing)
    if not lines:
        return None
    owed = Owed(
        duty="card_block",
        entry=owing.texts[0].entry,
        clause="model card",
        means="the card says which texts the model is under, where they are, and which use policies bind",
        where=("model_card",),
        nodes=(owing.family.subject,),
    )
    return Requirement(owed=owed, kind="strings", artefact=CARD, strings=lines)


def licence_lines(knowledge: KnowledgeBase, owing: Owing) -> tuple[str, ...]:
    """A line for each text that binds and for each use policy of it."""
    ships = {o.entry for o in owing.owed if o.duty in ("include_licence", "include_copyright")}
    found = []
    for one in owing.texts:
        entry = knowledge.entry(one.entry)
        place = "its text is shipped with the model" if entry.id in ships else f"text: {address(entry)}"
        found.append(f"{entry.title}, from {', '.join(one.nodes)}; {place}")
        for part in entry.incorporates:
            policy = knowledge.entry(part.ref)
            found.append(f"use policy of {entry.id} ({part.clause}): {policy.title}, {address(policy)}")
    return tuple(dict.fromkeys(found))
