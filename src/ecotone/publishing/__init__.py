"""Publishing: the one way in which a revision becomes visible."""

from ecotone.publishing.changes import AddLarge, AddRegular, Commit, Delete, DeleteFolder, Operation, Published
from ecotone.publishing.repositories import Publishing
from ecotone.publishing.reviews import Reviews

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
]
