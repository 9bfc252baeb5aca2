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
_PATTERNS = (re.compile(r"org\.mau_at\.\d{4}-(0[1-9]|1[0-2])"), re.compile(r"policy\.[a-z_]+"))


def check_variables(knowledge: KnowledgeBase, variables: Mapping[str, Any]) -> None:
    """Refuse a variable that no entry could ever read.

    Raises:
        Invalid: naming it, and the names that come near.
    """
    known = known_variables(knowledge)
    for name in variables:
        if name in known or any(p.fullmatch(name) for p in _PATTERNS):
            continue
        near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
        told = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}."
        raise Invalid(f"No licence reads a variable {name[:100]!r}; {told}", param=f"variables.{name[:100]}")


@functools.cache
def known_variables(knowledge: KnowledgeBase) -> frozenset[str]:
    """Every variable that the schema names or an entry reads."""
    read = {name for entry in knowledge.entries.values() for fact in entry.facts for name in fact.reads}
    return _NAMED | read
