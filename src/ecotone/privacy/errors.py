"""Reasons for which a value cannot be looked through."""

from ecotone.vocabulary import Invalid


class TooDeep(Invalid):
    """A JSON value nested deeper than it is looked through; it must not pass unseen."""

    code = "too_deep"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is nested more than {limit} levels deep. Send a flatter one.")
        self.limit = limit
