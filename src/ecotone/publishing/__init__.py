"""Publishing: the one way in which a revision becomes visible."""

from ecotone.publishing.changes import AddLarge, AddRegular, Commit, Delete, DeleteFolder, Operation, Published
from ecotone.publishing.duties import RevisionDuties
from ecotone.publishing.repositories import Publishing
from ecotone.publishing.reviews import Reviews
from ecotone.publishing.turns import in_turn

__all__ = [
    "AddLarge",
    "AddRegular",
    "Commit",
    "Delete",
    "DeleteFolder",
    "Operation",
    "Published",
    "Publishing",
    "Reviews",
    "RevisionDuties",
    "in_turn",
]
