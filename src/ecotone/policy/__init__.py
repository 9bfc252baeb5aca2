"""The organisation's decision: the licence engine's verdict joined with the organisation's rules."""

from ecotone.policy.decide import Action, Outcome, Rule, RuleKind, best, decide, may_call_private
from ecotone.policy.errors import RuleNotFound
from ecotone.policy.services import Policy

__all__ = ["Action", "Outcome", "Policy", "Rule", "RuleKind", "RuleNotFound", "best", "decide", "may_call_private"]
