"""Reasons for which policy refuses."""

from ecotone.vocabulary import Forbidden, NotFound


class RuleNotFound(NotFound):
    code = "rule_not_found"

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"There is no rule {rule_id!r}; `ecotone rule list` shows the ids of all rules.", param="rule")
        self.rule_id = rule_id


class OwnApproval(Forbidden):
    code = "own_approval"

    def __init__(self, rule_id: str, author: str) -> None:
        super().__init__(
            f"{author} proposed the rule {rule_id}, so another administrator must approve it. (An installation with "
            "one administrator sets ECOTONE_SINGLE_PERSON_WAIVERS=1.)",
            param="rule",
        )
        self.rule_id = rule_id
