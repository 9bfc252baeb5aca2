"""The organisation's decision: the licence engine's verdict joined with the organisation's rules and profile."""

from ecotone.policy.asking import asked_months
from ecotone.policy.decide import Outcome, best, decide, may_call_private
from ecotone.policy.errors import OwnApproval, RuleNotFound
from ecotone.policy.rules import FOUR_EYES, Action, Rule, RuleKind, names_of
from ecotone.policy.services import Policy
from ecotone.policy.stance import Stance, node_names

__all__ = [
    "FOUR_EYES",
    "Action",
    "Outcome",
    "OwnApproval",
    "Policy",
    "Rule",
    "RuleKind",
    "RuleNotFound",
    "Stance",
    "asked_months",
    "best",
    "decide",
    "may_call_private",
    "names_of",
    "node_names",
]
