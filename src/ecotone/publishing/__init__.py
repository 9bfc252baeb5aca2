"""Publishing: the one way in which a revision becomes visible.

Names are loaded when first used, because the child process that reads weights imports this package and must not load
the database.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecotone.publishing.backfilling import Backfilling
    from ecotone.publishing.changes import AddLarge, AddRegular, Commit, Delete, DeleteFolder, Operation, Published
    from ecotone.publishing.duties import RevisionDuties
    from ecotone.publishing.examining import Examining
    from ecotone.publishing.repositories import Publishing
    from ecotone.publishing.reviews import Reviews
    from ecotone.publishing.settling import Settling
    from ecotone.publishing.turns import in_turn

_ROOMS = {
    "AddLarge": "changes",
    "AddRegular": "changes",
    "Backfilling": "backfilling",
    "Commit": "changes",
    "Delete": "changes",
    "DeleteFolder": "changes",
    "Examining": "examining",
    "Operation": "changes",
    "Published": "changes",
    "Publishing": "repositories",
    "Reviews": "reviews",
    "RevisionDuties": "duties",
    "Settling": "settling",
    "in_turn": "turns",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


__all__ = [
    "AddLarge",
    "AddRegular",
    "Backfilling",
    "Commit",
    "Delete",
    "DeleteFolder",
    "Examining",
    "Operation",
    "Published",
    "Publishing",
    "Reviews",
    "RevisionDuties",
    "Settling",
    "in_turn",
]
