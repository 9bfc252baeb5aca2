"""Publishing: the one way in which a revision becomes visible."""

from ecotone.publishing.changes import AddLarge, AddRegular, Commit, Delete, DeleteFolder, Operation, Published
from ecotone.publishing.examining import Examining
from ecotone.publishing.repositories import Publishing
from ecotone.publishing.reviews import Reviews
from ecotone.publishing.turns import in_turn

__all__ = [
    "AddLarge",
    "AddRegular",
    "Commit",
    "Delete",
    "DeleteFolder",
    "Examining",
    "Operation",
    "Published",
    "Publishing",
    "Reviews",
    "in_turn",
]
