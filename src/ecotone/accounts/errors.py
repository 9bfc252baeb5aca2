"""Reasons for which accounts refuse."""

from ecotone.vocabulary import Conflict, NotFound


class ProjectNotFound(NotFound):
    code = "project_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no project {name!r}; `ecotone project list` shows those there are.", param="project"
        )
        self.project = name


class ProjectExists(Conflict):
    code = "project_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"A project {name!r} exists already; choose another name or remove it first.", param="name")
        self.project = name


class KeyNotFound(NotFound):
    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no key {key_id!r}; `ecotone key list` and `token list` show ids.", param="key")
        self.key_id = key_id
