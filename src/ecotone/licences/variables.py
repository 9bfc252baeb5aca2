"""The variables of a use that the entries may read: their names, so that a slip is found and not taken for silence."""

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any

from ecotone.licences.entries import KnowledgeBase
from ecotone.vocabulary import Invalid

_NAMED = frozenset(
    {
        "account.tier",
        "actor",
        "copyright_suit_over_work",
        "date",
        "ip_suit_over_materials_or_outputs",
        "licence_ended",
        "model.modality",
        "modified",
        "name",
        "org.annual_revenue",
        "org.domicile",
        "org.mau",
        "org.principal_place",
        "parent_has_notice_file",
        "patent_suit_over_work",
        "product.competes_with",
        "product.mau",
        "product.monthly_revenue",
        "relation",
        "target.distributed",
        "target_model",
        "territory",
        "trademark_use",
        "use_tags",
    }
)
_ASKED_OTHERWISE = {"purpose": "--purpose", "mode": "--mode", "date": "the day of the question"}
_WORDS = {
    "account.tier": ("free", "paid", "zero_retention"),
    "actor": ("company", "individual", "licensee", "licensor", "recipient_of_integrated_product"),
    "model.modality": ("text", "image", "audio", "video"),
    "target_model": ("any", "classifier_internal", "other_llm", "same_family", "similar"),
}
_TRUTHS = re.compile(r"modified|licence_ended|target\.distributed|parent_has_notice_file|.*_suit_over_.*|.*_opt_out")
_FIGURES = re.compile(r"(?:org|product)\.(?:mau|annual_revenue|monthly_revenue)|org\.(?:own_)?mau_at\..*")
_PLACE = re.compile(r"[A-Z]{2}|EU|EEA")
_PATTERNS = (re.compile(r"org\.(own_)?mau_at\.\d{4}-(0[1-9]|1[0-2])"), re.compile(r"policy\.[a-z_]+"))


def check_variables(knowledge: KnowledgeBase, variables: Mapping[str, Any]) -> None:
    """Refuse a variable that no entry could ever read, and a value that none could ever mean.

    Raises:
        Invalid: naming it, and the names or values that are known.
    """
    known = known_variables(knowledge)
    for name, value in variables.items():
        if name in _ASKED_OTHERWISE:
            raise Invalid(f"{name} is told by {_ASKED_OTHERWISE[name]}, not as a variable.", param=f"variables.{name}")
        if name in known or any(p.fullmatch(name) for p in _PATTERNS):
            _check_value(name, value)
            continue
        near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
        told = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}."
        raise Invalid(f"No licence reads a variable {name[:100]!r}; {told}", param=f"variables.{name[:100]}")


def _check_value(name: str, value: Any) -> None:
    expected = _expected(name, value)
    if expected:
        raise Invalid(f"{name} is {str(value)[:100]!r}; {expected}.", param=f"variables.{name}")


def _expected(name: str, value: Any) -> str:
    """What was expected where the value is nothing that the variable may hold; empty where it is."""
    values = value if isinstance(value, list) else [value]
    if name in _WORDS:
        words = _WORDS[name]
        return "" if values and all(v in words for v in values) else f"expected is {', '.join(words)}"
    if _TRUTHS.fullmatch(name):
        return "" if isinstance(value, bool) else "true or false is expected"
    if _FIGURES.fullmatch(name):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        return "" if fits else "a number, 0 or more, is expected"
    if name in ("org.domicile", "org.principal_place"):
        fits = bool(values) and all(isinstance(v, str) and _PLACE.fullmatch(v) for v in values)
        return "" if fits else "a country as two capitals (DE), EU or EEA is expected"
    return ""


@functools.cache
def known_variables(knowledge: KnowledgeBase) -> frozenset[str]:
    """Every variable that the schema names or an entry reads."""
    read = {name for entry in knowledge.entries.values() for fact in entry.facts for name in fact.reads}
    return _NAMED | read
