"""SPDX expressions with our own symbols: `MIT AND LicenseRef-llama-2`. Parsing is license-expression's."""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
from license_expression import ExpressionError, LicenseSymbol, Licensing

from ecotone.licences.entries import Entry, KnowledgeBase

_LONGEST = 500
_MOST_BRANCHES = 32
_NO_TEXT = ("policy", "family")  # no licence by itself; a family's name says nothing until one of its texts is found
_KEPT = 4  # knowledge bases whose names are held at a time: the present one, and two that are compared
_MILDEST_FIRST = ("public_domain", "permissive", "weak_copyleft", "cc", "rail", "community", "strong_copyleft")
Branch = tuple[Entry, ...]


class Expression(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed expression: `normalised` with ids in their proper case, the entries it names, and what is not known.

    `branches` are the ids of each choice that an `OR` offers. `error` says why nothing could be parsed.
    """

    text: str
    normalised: str | None = None
    entries: tuple[str, ...] = ()
    branches: tuple[tuple[str, ...], ...] = ()
    unknown: tuple[str, ...] = ()
    error: str | None = None


def check_expression(knowledge: KnowledgeBase, text: str) -> Expression:
    """Read an SPDX expression; ids of the knowledge base, Hub ids and `LicenseRef-` forms are symbols of it."""
    parsed = _parsed(knowledge, text)
    if isinstance(parsed, str):
        return Expression(text=text, error=parsed)
    known: dict[str, None] = {}
    unknown: dict[str, None] = {}
    keys = sorted((_key(s) for s in parsed.symbols), key=lambda k: (text.casefold().find(k.casefold()), k))
    for key in keys:
        ids = names(knowledge).get(key.casefold(), ())
        known |= dict.fromkeys(ids)
        if not ids:
            unknown[key] = None
    rendered = {key: _proper(knowledge, key) for key in keys}
    normalised = parsed.simplify().render() if hasattr(parsed, "simplify") else str(parsed)
    for key, proper in rendered.items():
        normalised = " ".join(_swap(part, key, proper) for part in normalised.split(" "))
    return Expression(
        text=text,
        normalised=normalised,
        entries=tuple(known),
        branches=tuple(tuple(e.id for e in branch) for branch in _branches(knowledge, parsed)),
        unknown=tuple(unknown),
    )


def branches_of(knowledge: KnowledgeBase, text: str, *, keep_unknown: bool = False) -> tuple[Branch, ...]:
    """The choices of an expression, each the entries that hold together, mildest first.

    A choice with a name that no entry has is left out, or, with `keep_unknown`, holds the entry `unknown` for it.
    """
    parsed = _parsed(knowledge, text)
    if isinstance(parsed, str):
        return ()
    unknown = [(knowledge.entry("unknown"),)] if keep_unknown else []
    return tuple(sorted(_branches(knowledge, parsed, unknown), key=_mildness))


def offers_unknown(knowledge: KnowledgeBase, text: str) -> bool:
    """Whether some part of the expression names a licence that the knowledge base does not hold."""
    return bool(check_expression(knowledge, text).unknown)


def _mildness(branch: Branch) -> tuple[int, int]:
    kinds = [_MILDEST_FIRST.index(e.kind) if e.kind in _MILDEST_FIRST else len(_MILDEST_FIRST) for e in branch]
    return max(kinds, default=0), sum(len(e.restricts) for e in branch)


def _parsed(knowledge: KnowledgeBase, text: str) -> Any:
    """The parsed expression, or the words of what is wrong with it."""
    if len(text) > _LONGEST:
        return f"the expression is longer than {_LONGEST} characters"
    try:
        parsed = _licensing(knowledge).parse(text, validate=False)
    except (ExpressionError, ValueError, RecursionError) as error:
        return " ".join(str(error).split())[:200] or "the expression cannot be parsed"
    return "the expression is empty" if parsed is None else parsed


def _branches(knowledge: KnowledgeBase, node: Any, unknown: Sequence[Branch] = ()) -> list[Branch]:
    operator = type(node).__name__
    if operator == "OR":
        return [b for part in node.args for b in _branches(knowledge, part, unknown)][:_MOST_BRANCHES]
    if operator == "AND":
        found: list[Branch] = [()]
        for part in node.args:
            inner = _branches(knowledge, part, unknown)
            found = [(*one, *other) for one in found for other in inner][:_MOST_BRANCHES]
        return found
    ids = names(knowledge).get(_key(node).casefold(), ())
    return [tuple(knowledge.entry(i) for i in ids)] if ids else list(unknown)


def _key(symbol: Any) -> str:
    """The name of a symbol. An exception changes the text, so that only an entry of just that pair says how."""
    return str(symbol.render() if type(symbol).__name__ == "LicenseWithExceptionSymbol" else symbol.key)


def _proper(knowledge: KnowledgeBase, key: str) -> str:
    ids = names(knowledge).get(key.casefold(), ())
    return knowledge.entry(ids[0]).expression if len(ids) == 1 else key


def _swap(part: str, key: str, proper: str) -> str:
    bare = part.strip("()")
    return part.replace(bare, proper) if bare == key else part


@functools.lru_cache(maxsize=_KEPT)
def names(knowledge: KnowledgeBase) -> dict[str, tuple[str, ...]]:
    """Case-folded names that stand for entries: ids, Hub ids, SPDX ids, `LicenseRef-` forms. No hints."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in knowledge.entries.values():
        if entry.kind in _NO_TEXT:
            continue
        references = [s for s in entry.names.scancode if s.startswith("LicenseRef-")]
        spellings = {entry.id, f"LicenseRef-{entry.id}", entry.names.spdx or entry.id, *entry.names.hf, *references}
        for name in {n.casefold() for n in spellings}:
            found[name] = (*found.get(name, ()), entry.id)
    return found


@functools.lru_cache(maxsize=_KEPT)
def _licensing(knowledge: KnowledgeBase) -> Licensing:
    single = (e.expression for e in knowledge.entries.values() if e.kind not in _NO_TEXT and " " not in e.expression)
    return Licensing([LicenseSymbol(expression) for expression in single])
