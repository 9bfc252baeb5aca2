"""Reasons for which policy refuses."""

from ecotone.vocabulary import NotFound


class RuleNotFound(NotFound):
    code = "rule_not_found"

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"There is no rule {rule_id!r}; `ecotone rule list` shows the ids of all rules.", param="rule")
        self.rule_id = rule_id
