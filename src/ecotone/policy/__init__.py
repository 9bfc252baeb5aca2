"""The organisation's decision: the licence engine's verdict joined with the organisation's rules."""

from ecotone.policy.decide import Action, Outcome, Rule, RuleKind, best, decide
from ecotone.policy.errors import RuleNotFound
from ecotone.policy.services import Policy

__all__ = ["Action", "Outcome", "Policy", "Rule", "RuleKind", "RuleNotFound", "best", "decide"]
