"""Licence texts and notices that a bundle holds, recognised by their words and never by their names."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ecotone.licences.detection.detecting import SAME_WORDS, UNKNOWN, Detection, detect
from ecotone.licences.detection.index import load
from ecotone.licences.detection.reading import OF_THE_WORK, Unreadable
from ecotone.licences.duties.bundle import Bundle, Folder
from ecotone.licences.entries import KnowledgeBase

FOLDERS = ("licenses", "license", "licences", "licence")
NOTICES = re.compile(r"notices?(?:\.(?:txt|md))?", re.I)
_TEXTS = re.compile(r".*(?:li[cs]en[cs]e|copying|policy|terms|eula|agreement).*", re.I)
_PLAIN = re.compile(r"(?:[^.]*|.*\.(?:txt|md|rst|license|licence|text))", re.I)
_WRITTEN = frozenset({"README.md", "CHANGES.md", "USE_RESTRICTIONS.md", "UI_STRINGS.md", "duties.json"})
_MOST = 64
_WHOLE = 0.9
_FOREIGN_WORDS = 25
_SHOWN = 60
_KEPT = 256 * 1024
_WORD = re.compile(r"[^\W_]+")
_MOST_COPYRIGHTS = 40
_COPYRIGHT = re.compile(
    r"^[\s#*/;>_|-]{0,20}(?:portions\s+)?"
    r"(copyright\s*(?:\(c\)|©|&copy;|[12][0-9]{3}|[A-Z][\w.,-]+ [12][0-9]{3}).{0,200}"
    r"|(?:\(c\)|©)\s*(?:copyright\s*)?[12][0-9]{3}.{0,200})$",
    re.I | re.M,
)
_TEMPLATE = re.compile(r"[\[<{](?:yyyy|year|name|owner|copyright|fullname)|holders?>", re.I)
_SYSTEM = Path("/usr/share/common-licenses")
_LARGEST_SYSTEM = 100_000


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A text that a file holds. `entry` is None for one that is not recognised; `near` says which it resembles, and in
    what it differs."""

    path: str
    entry: str | None
    text: str
    near: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()
    reason: str | None = None

    def holds(self, entry: str) -> bool:
        return entry == self.entry or entry in self.others


def held_texts(bundle: Bundle, knowledge: KnowledgeBase) -> tuple[Held, ...]:
    """The texts in the files that are named as licences or policies, or lie in a folder for them."""
    named = [path for path in bundle.paths() if speaks(path)]
    found: list[Held] = []
    for path in sorted(named, key=lambda p: (p.count("/"), p))[:_MOST]:
        try:
            found += _held(path, bundle.text(path), knowledge)
        except Unreadable as reason:
            found.append(Held(path=path, entry=None, text="", reason=str(reason)))
    return tuple(found)


def speaks(path: str) -> bool:
    """Whether a file is looked at for licence texts."""
    folder, _, name = path.rpartition("/")
    if folder.lower() in FOLDERS:
        return bool(_PLAIN.fullmatch(name))
    return not folder and bool(OF_THE_WORK.fullmatch(name) or (_TEXTS.fullmatch(name) and _PLAIN.fullmatch(name)))


def is_artefact(path: str) -> bool:
    """Whether a file is one that the duties look at: texts, notices, card, and the others that they write."""
    return path in _WRITTEN or is_notice(path) or speaks(path)


def is_notice(path: str) -> bool:
    """Whether a file at the root, or in a folder for licences, is called NOTICE in any spelling."""
    folder, _, name = path.rpartition("/")
    return (not folder or folder.lower() in FOLDERS) and bool(NOTICES.fullmatch(name))


@functools.lru_cache(maxsize=32)
def _detected(text: str, knowledge: KnowledgeBase) -> tuple[Detection, ...]:
    """A family's works ship the same text again and again, and a bundle is checked against all of them."""
    return tuple(detect(text, knowledge, whole=True))


def _held(path: str, text: str, knowledge: KnowledgeBase) -> list[Held]:
    found = []
    for one in _detected(text, knowledge) if len(text) <= _KEPT else detect(text, knowledge, whole=True):
        if one.evidence != "text":
            continue
        near = tuple((n.id, n.difference) for n in one.near if n.difference != SAME_WORDS)
        same = tuple(n.id for n in one.near if n.difference == SAME_WORDS)
        if one.id == UNKNOWN:
            found.append(Held(path=path, entry=None, text=text, near=near))
        elif one.coverage < _WHOLE:
            lacking = f"{round(100 * one.coverage)} % of its words were found"
            found.append(Held(path=path, entry=None, text=text, near=((one.id, lacking),)))
        else:
            found.append(Held(path=path, entry=one.id, text=text, others=same))
    if not found and len(text.split()) >= _FOREIGN_WORDS:
        found.append(Held(path=path, entry=None, text=text, reason="a text that is none of those known"))
    return found


def _spoken(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def lacking(text: str, original: str) -> str | None:
    """How the first paragraph begins that an original has and a text has not, word for word; None when it has all.

    A text that is recognised may still lack a sentence that hardly shows; beside an original it shows.
    """
    there = f" {' '.join(_spoken(text))} "
    for paragraph in re.split(r"\n\s*\n", original):
        words = _spoken(paragraph)
        if words and f" {' '.join(words)} " not in there:
            return " ".join(paragraph.split())[:_SHOWN]
    return None


@functools.cache
def _recognised() -> frozenset[str]:
    index = load()
    return frozenset(label.casefold() for label in index.labels)


def recognisable(knowledge: KnowledgeBase, entry_id: str) -> bool:
    """Whether the text of an entry is among those that can be recognised at all."""
    entry = knowledge.entry(entry_id)
    names = (entry.id, entry.names.spdx, *entry.names.scancode, *entry.names.aliases)
    return any(name.casefold() in _recognised() for name in names if name)


def copyrights(text: str) -> tuple[str, ...]:
    """Lines that name a holder of copyright, as they stand, without those of a template."""
    lines = (" ".join(m[1].split()) for m in _COPYRIGHT.finditer(text))
    return tuple(dict.fromkeys(line for line in lines if not _TEMPLATE.search(line)))[:_MOST_COPYRIGHTS]


def copyrights_in(bundle: Bundle, knowledge: KnowledgeBase) -> tuple[str, ...]:
    """Copyright lines of the licence and notice files of a bundle."""
    found: dict[str, None] = {}
    for held in held_texts(bundle, knowledge):
        found |= dict.fromkeys(copyrights(held.text))
    for text in notice_texts(bundle).values():
        found |= dict.fromkeys(copyrights(text))
    return tuple(found)


def notice_texts(bundle: Bundle) -> Mapping[str, str]:
    """What the NOTICE files of a bundle say, by path; unreadable ones are left out."""
    found = {}
    for path in bundle.paths():
        if is_notice(path):
            try:
                found[path] = bundle.text(path)
            except Unreadable:
                continue
    return found


@functools.cache
def _of_this_machine(folder: Path) -> tuple[tuple[str, Path], ...]:
    try:
        return tuple(
            (file.name, file)
            for file in sorted(folder.iterdir())
            if file.is_file() and not file.is_symlink() and file.stat().st_size <= _LARGEST_SYSTEM
        )
    except OSError:
        return ()


def text_of_this_machine(knowledge: KnowledgeBase, entry_id: str, folder: Path = _SYSTEM) -> tuple[str, str] | None:
    """A text that names no holder of copyright, from where the system keeps common licences: where, and the text.

    What is found there is recognised like any other, so that a changed file is not taken.
    """
    entry = knowledge.entry(entry_id)
    wanted = entry_id.casefold().removesuffix("-only").removesuffix("-or-later").removesuffix(".0")
    for name, file in _of_this_machine(folder):
        if name.casefold().removesuffix(".0") != wanted:
            continue
        try:
            text = Folder(folder).text(name)
        except Unreadable:
            continue
        if entry.names.spdx and any(h.holds(entry_id) for h in _held(name, text, knowledge)):
            return str(file), text
    return None
