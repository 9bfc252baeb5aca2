"""Which licence the result of a run may carry, and what goes with it. Pure; the catalogue composed the family."""

import datetime
from typing import Any

import msgspec

from ecotone.licences import Duty, Family, KnowledgeBase, Use, judge, outbound
from ecotone.vocabulary import Mode, Purpose

_UNDECIDED = ("unknown", "none")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Card fields for the licence, and the duties of whoever passes the adapter on."""

    card: dict[str, Any]
    label: str
    duties: tuple[Duty, ...] = ()
    remark: str = ""


def terms(knowledge: KnowledgeBase, family: Family, today: datetime.date) -> Terms:
    """Compute them for the family's subject, an adapter.

    Where an ancestor's licence is not known none is promised: the card says `other`.
    """
    found = outbound(knowledge, family)
    ancestors = [node for name, node in family.nodes.items() if name != family.subject]
    bound = {entry for node in ancestors for entry in node.instruments or _UNDECIDED}
    if any(entry in _UNDECIDED or entry not in knowledge.entries for entry in bound):
        card = {"license": "other", "license_name": "unknown"}
        remark = "The licence of an ancestor is not known, so none can be promised for this model."
        label = "unknown"
    elif found.licence is None:
        card = {"license": "other", "license_name": found.expression[:200]}
        remark = "No single licence satisfies all ancestors; the terms of each hold together."
        label = found.expression
    else:
        card, label, remark = {"license": found.licence}, found.licence, ""
    use = Use(
        mode=Mode.PUBLISH_WEIGHTS,
        purpose=Purpose.NONCOMMERCIAL,
        modified=True,
        declared_licence=found.licence,
        date=today,
    )
    return Terms(card=card, label=label, duties=judge(knowledge, family, use).duties, remark=remark)
