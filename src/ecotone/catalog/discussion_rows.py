"""Tables of discussions, and what is written to them within a transaction that holds the repository's row."""

import secrets
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from ecotone.catalog.discussion import (
    ALIVE,
    MOST_DISCUSSIONS,
    MOST_EVENTS,
    MOST_TEXT,
    Discussion,
    Event,
    Merging,
    Proposal,
    Status,
    WrongStatus,
    number_of,
)
from ecotone.catalog.entities import Revision
from ecotone.catalog.errors import StaleParent
from ecotone.catalog.events import ToldComment, ToldDiscussion
from ecotone.catalog.models import RefRow
from ecotone.database import Base, utc_now
from ecotone.vocabulary import TooLarge


class DiscussionRow(Base):
    """A discussion; a pull request when `base` is there."""

    __tablename__ = "discussions"
    __table_args__ = (Index("ix_discussions_author", "model_key", "author"),)

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    num: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(String(200))
    author: Mapped[str] = mapped_column(String(96))
    status: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime]
    base: Mapped[str | None] = mapped_column(String(255))
    fork: Mapped[str | None] = mapped_column(String(40))
    merge_commit: Mapped[str | None] = mapped_column(String(40))


class DiscussionEventRow(Base):
    """Comments, commits and changes in the order of `place`."""

    __tablename__ = "discussion_events"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_key", "num"],
            ["discussions.model_key", "discussions.num"],
            name="fk_discussion_events_discussions",
            ondelete="CASCADE",
        ),
        Index("ix_discussion_events_order", "model_key", "num", "place"),
    )

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    model_key: Mapped[int]
    num: Mapped[int]
    place: Mapped[int]
    type: Mapped[str] = mapped_column(String(32))
    author: Mapped[str] = mapped_column(String(96))
    created: Mapped[datetime]
    data: Mapped[dict[str, Any]]


def next_number(session: Session, model_key: int) -> int:
    wanted = sa.select(sa.func.max(DiscussionRow.num)).where(DiscussionRow.model_key == model_key)
    return (session.scalar(wanted) or 0) + 1


def opened(session: Session, model_key: int, proposal: Proposal) -> DiscussionRow:
    """The row of a new discussion under the next number; the ref of a pull request is for the caller."""
    number = next_number(session, model_key)
    if number > MOST_DISCUSSIONS:
        raise TooLarge(f"A repository may have {MOST_DISCUSSIONS} discussions.")
    row = DiscussionRow(
        model_key=model_key,
        num=number,
        title=proposal.title,
        author=proposal.author,
        status=proposal.status.value,
        created=utc_now(),
        base=proposal.base,
        fork=proposal.fork,
    )
    session.add(row)
    session.flush()
    if proposal.description:
        happened(session, row, "comment", proposal.author, {"raw": proposal.description, "hidden": False, "edits": []})
    return row


def happened(session: Session, row: DiscussionRow, kind: str, author: str, data: dict[str, Any]) -> DiscussionEventRow:
    """Add an event at the end of a discussion."""
    mine = (DiscussionEventRow.model_key == row.model_key, DiscussionEventRow.num == row.num)
    place = (session.scalar(sa.select(sa.func.max(DiscussionEventRow.place)).where(*mine)) or 0) + 1
    if place > (MOST_EVENTS if kind == "comment" else 2 * MOST_EVENTS):  # one that nobody can comment on can be ended
        raise TooLarge(f"A discussion may have {MOST_EVENTS} events; open another one.")
    event = DiscussionEventRow(
        id=secrets.token_hex(12),
        model_key=row.model_key,
        num=row.num,
        place=place,
        type=kind,
        author=author,
        created=utc_now(),
        data=data,
    )
    session.add(event)
    session.flush()
    if kind == "comment":
        check_room(session, row)
    return event


def check_room(session: Session, row: DiscussionRow) -> None:
    """Whether all that was said in a discussion can still be shown at once.

    Raises:
        TooLarge: when it is more than that.
    """
    size = sa.func.sum(sa.func.length(sa.cast(DiscussionEventRow.data, sa.Text)))
    mine = (DiscussionEventRow.model_key == row.model_key, DiscussionEventRow.num == row.num)
    if (session.scalar(sa.select(size).where(*mine)) or 0) > MOST_TEXT:
        raise TooLarge("That is more text than a discussion may hold; open another one.")


def changed_to(session: Session, row: DiscussionRow, status: Status, author: str) -> DiscussionEventRow:
    row.status = status.value
    return happened(session, row, "status-change", author, {"status": status.value})


def committed(session: Session, model_key: int, ref: str, revision: Revision) -> None:
    """Note a new commit in the pull request that it was made on.

    Raises:
        WrongStatus: when that was closed or merged meanwhile.
    """
    number = number_of(ref)
    row = session.get(DiscussionRow, (model_key, number)) if number is not None else None
    if row is None:
        return
    check_alive(row)
    happened(session, row, "commit", revision.author, {"subject": revision.title, "oid": revision.id})


def merged(
    session: Session, model_key: int, merging: Merging, commit: str
) -> tuple[DiscussionRow, DiscussionEventRow | None]:
    """End a pull request with its merge commit; returns it, and the comment that was made with it.

    Raises:
        WrongStatus: when it is no longer open.
        StaleParent: when it has got another commit since it was merged.
    """
    row = session.get(DiscussionRow, (model_key, merging.num))
    if row is None or row.base is None:
        raise WrongStatus(f"{merging.num} is no pull request.")
    check_open(row)
    at = session.get(RefRow, (model_key, f"refs/pr/{merging.num}"))
    if at is None or at.sha != merging.head:
        raise StaleParent(f"refs/pr/{merging.num}", at.sha if at else None)
    said = None
    if merging.comment:
        data = {"raw": merging.comment, "hidden": False, "edits": []}
        said = happened(session, row, "comment", merging.author, data)
    changed_to(session, row, Status.MERGED, merging.author)
    row.merge_commit = commit
    return row, said


def told(row: DiscussionRow) -> ToldDiscussion:
    """A discussion as an event tells of it."""
    return ToldDiscussion(
        id=f"{row.model_key:016x}{row.num:08x}",
        num=row.num,
        title=row.title,
        author=row.author,
        status=Status(row.status).value,
        is_pull_request=row.base is not None,
        base=row.base,
        merge_commit=row.merge_commit,
    )


def told_comment(event: DiscussionEventRow | None) -> ToldComment | None:
    if event is None:
        return None
    hidden = bool(event.data["hidden"])
    return ToldComment(id=event.id, author=event.author, hidden=hidden, content=None if hidden else event.data["raw"])


def first_comment(session: Session, row: DiscussionRow) -> DiscussionEventRow | None:
    """What a discussion was opened with."""
    mine = (DiscussionEventRow.model_key == row.model_key, DiscussionEventRow.num == row.num)
    first = session.scalars(sa.select(DiscussionEventRow).where(*mine, DiscussionEventRow.place == 1)).first()
    return first if first is not None and first.type == "comment" else None


def check_alive(row: DiscussionRow | Discussion) -> None:
    if row.status not in ALIVE:
        raise WrongStatus(
            f"Pull request {row.num} is {row.status}; "
            + ("reopen it first." if row.status == Status.CLOSED else "open a new one for more changes.")
        )


def check_open(row: DiscussionRow | Discussion) -> None:
    """Whether a pull request may be merged now."""
    if row.status == Status.DRAFT:
        raise WrongStatus(f"Pull request {row.num} is a draft; open it first: `hf discussions reopen`, or on its page.")
    check_alive(row)


def discussion_of(row: DiscussionRow) -> Discussion:
    return Discussion(
        model_key=row.model_key,
        num=row.num,
        title=row.title,
        author=row.author,
        status=Status(row.status),
        created=row.created,
        base=row.base,
        fork=row.fork,
        merge_commit=row.merge_commit,
    )


def event_of(row: DiscussionEventRow) -> Event:
    return Event(id=row.id, type=row.type, author=row.author, created=row.created, data=row.data)
