"""One side of a question about two licences: what a name or an expression stands for, read with its oddities noted."""

import re

import msgspec

from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.expressions import Branch, branches_of, check_expression, names

_MOST_BRANCHES = 32
_LONGEST = 500
_WORD = re.compile(r"[A-Za-z0-9.+:_-]+")
_EXCEPTION = re.compile(r"([A-Za-z0-9.+:_-]+)\s+with\s+([A-Za-z0-9.+:_-]+)", re.IGNORECASE)
_OPERATORS = frozenset({"and", "or", "with"})


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """`branches` are the choices of an OR, each the entries that hold together; none where nothing could be read.

    `exact` is false where an exception was left out, which can only add permissions; `cut` where there were more
    choices than are weighed; `notes` say what was odd.
    """

    branches: tuple[Branch, ...] = ()
    notes: tuple[str, ...] = ()
    exact: bool = True
    cut: bool = False


def read_side(knowledge: KnowledgeBase, text: str) -> Side:
    """Read an id, a Hub id or an SPDX expression; whatever cannot be read is noted and stays unknown."""
    asked = " ".join(str(text).split())
    if len(asked) > _LONGEST:
        return Side(notes=(f"the expression is longer than {_LONGEST} characters",))
    notes: list[str] = []
    alone = names(knowledge).get(asked.casefold())
    if alone is not None:
        if len(alone) > 1:
            notes.append(f"{asked} stands for {' or '.join(alone)}; the answer holds for all of them")
        return Side(branches=(tuple(knowledge.entry(i) for i in alone),), notes=tuple(notes))
    family = [knowledge.entry(i) for i in knowledge.by_hf.get(asked.casefold(), ())]
    if family:
        notes.append(f"{asked} names a family of texts that say different things; unknown until one of them is found")
        return Side(branches=(tuple(family),), notes=tuple(notes))
    spelt, exact = _spelt(knowledge, asked, notes)
    branches = branches_of(knowledge, spelt, keep_unknown=True)
    if not branches:
        notes.insert(0, check_expression(knowledge, spelt).error or "the expression cannot be read")
    return Side(branches=branches, notes=tuple(notes), exact=exact, cut=len(branches) >= _MOST_BRANCHES)


def _spelt(knowledge: KnowledgeBase, text: str, notes: list[str]) -> tuple[str, bool]:
    """Older spellings in today's ids, and without exceptions that no entry describes."""
    known = names(knowledge)
    exact = True

    def without(match: re.Match[str]) -> str:
        nonlocal exact
        if f"{match[1]} with {match[2]}".casefold() in known:
            return match[0]
        exact = False
        notes.append(f"the exception {match[2]} is not known; it can only add permissions and is left out")
        return match[1]

    def today(match: re.Match[str]) -> str:
        word = match[0]
        if word.casefold() in _OPERATORS or word.casefold() in known:
            return word
        later, only = f"{word[:-1]}-or-later", f"{word}-only"
        if word.endswith("+") and later.casefold() in known:
            return later
        if only.casefold() in known:
            notes.append(f"{word} does not say whether later versions may be followed; -only is taken")
            return only
        return word

    return _WORD.sub(today, _EXCEPTION.sub(without, text)), exact
