"""What has changed, told to whoever wants to know: one frozen event, and listeners that get it.

Listeners are called inside the transaction of the change, with its session: what they write is committed with the
change or not at all, so that nothing is told of what did not happen and nothing that happened is forgotten. They must
be quick and only write; a listener that raises undoes the change.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from sqlalchemy.orm import Session

from ecotone.catalog.entities import Model

Action = Literal["create", "delete", "move", "update"]
Scope = Literal["repo", "repo.content", "repo.config", "discussion", "discussion.comment"]


class RefChange(msgspec.Struct, frozen=True):
    """A branch, tag or pull request (full ref) that moved; None where it did not exist before, or does no longer."""

    ref: str
    old: str | None
    new: str | None


class ToldDiscussion(msgspec.Struct, frozen=True, kw_only=True):
    """A discussion or pull request as an event tells of it. `base` is the branch that a pull request is for."""

    id: str
    num: int
    title: str
    author: str
    status: Literal["draft", "open", "closed", "merged"]
    is_pull_request: bool = False
    base: str | None = None
    merge_commit: str | None = None
    pinned: bool = False


class ToldComment(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    author: str
    hidden: bool = False
    content: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change.

    `model` is the repository after the change (before it, for a deletion); `was` its id before a move. `refs` belong to
    scope repo.content, `config` (what was set, by the protocol's names) to repo.config.
    """

    action: Action
    scope: Scope
    model: Model
    actor: str
    was: str | None = None
    refs: tuple[RefChange, ...] = ()
    config: dict[str, Any] = {}
    discussion: ToldDiscussion | None = None
    comment: ToldComment | None = None


Listener = Callable[[Session, Event], None]


class Events:
    """The listeners of one installation."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def tell(self, session: Session, event: Event) -> None:
        """Tell of a change inside its transaction."""
        for listener in self._listeners:
            listener(session, event)
