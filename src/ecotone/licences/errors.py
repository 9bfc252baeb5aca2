"""Reasons for which the licence engine refuses to answer at all."""

from ecotone.vocabulary import Invalid, NotFound


class EntryNotFound(NotFound):
    code = "licence_not_found"

    def __init__(self, entry_id: str) -> None:
        super().__init__(f"The knowledge base has no entry {entry_id!r}; `ecotone licence list` shows all.", param="id")
        self.entry_id = entry_id


class VersionNotFound(NotFound):
    code = "knowledge_version_not_found"

    def __init__(self, version: str, known: list[str]) -> None:
        shown = ", ".join(known[-5:]) or "none"
        super().__init__(f"No version {version!r} of the knowledge base is kept here; known are {shown}.", param="old")
        self.version = version


class BrokenEntry(Invalid):
    """A file of the knowledge base does not fit its schema."""

    code = "broken_entry"


class MalformedCase(Invalid):
    """A described case that cannot be read; `param` is the field."""

    code = "malformed_case"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", param=field)


class UnreadableRelease(Invalid):
    """A description of a model's release that cannot be read."""

    code = "unreadable_release"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The file {problem}; a model file of the Model Openness Tool (YAML) is expected.")


class UnreadableBill(Invalid):
    """A bill of materials that cannot be read at all."""

    code = "unreadable_bill"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The document {problem}; a CycloneDX or SPDX 3 document in JSON is expected.", param="file")
        self.problem = problem
