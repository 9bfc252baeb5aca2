"""What may be done with a model, and why: licence facts as data, evaluated under a use over a family. Pure.

Usable alone:

    from ecotone.licences import Family, KnowledgeBase, Node, Use, judge
    kb = KnowledgeBase.load()
    family = Family("me/chat", {"me/chat": Node("me/chat", instruments=("Apache-2.0",))})
    judge(kb, family, Use(mode="serve_api", purpose="commercial")).verdict
"""

from ecotone.licences.composition import inherited, legal_class
from ecotone.licences.decision import Decision, Duty, Missing, Reason, Way
from ecotone.licences.entries import Entry, Fact, KnowledgeBase
from ecotone.licences.errors import EntryNotFound
from ecotone.licences.expressions import Expression, check_expression
from ecotone.licences.family import Edge, Family, Node, Use
from ecotone.licences.identify import Identified, check_card, identify
from ecotone.licences.judge import Verdicts, judge
from ecotone.licences.outbound import Outbound, outbound
from ecotone.licences.variables import check_variables

__all__ = [
    "Decision",
    "Duty",
    "Edge",
    "Entry",
    "EntryNotFound",
    "Expression",
    "Fact",
    "Family",
    "Identified",
    "KnowledgeBase",
    "Missing",
    "Node",
    "Outbound",
    "Reason",
    "Use",
    "Verdicts",
    "Way",
    "check_card",
    "check_expression",
    "check_variables",
    "identify",
    "inherited",
    "judge",
    "legal_class",
    "outbound",
]
