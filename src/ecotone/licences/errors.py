"""Reasons for which the licence engine refuses to answer at all."""

from ecotone.vocabulary import Invalid, NotFound


class EntryNotFound(NotFound):
    code = "licence_not_found"

    def __init__(self, entry_id: str) -> None:
        super().__init__(f"The knowledge base has no entry {entry_id!r}; `ecotone licence list` shows all.", param="id")
        self.entry_id = entry_id


class BrokenEntry(Invalid):
    """A file of the knowledge base does not fit its schema."""

    code = "broken_entry"
