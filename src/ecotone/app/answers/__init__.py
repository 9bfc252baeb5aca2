"""Answers as data: records of the ledger made into a data set of the hub, which carries what made it."""

from ecotone.app.answers.plan import Plan, Sensitive
from ecotone.app.answers.service import AnswerSets

__all__ = ["AnswerSets", "Plan", "Sensitive"]
