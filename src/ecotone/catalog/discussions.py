"""Discussions and pull requests of a repository: who may do what, what happened, and what a pull request would change.

Whoever is a user and sees a repository may open one and comment. Its author, or a writer of the repository, renames,
closes and reopens it and commits to a pull request; a comment is edited and hidden by its author or a writer. Merging
is for writers, and for publishing, which alone makes revisions visible.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.catalog.discussion import (
    ALIVE,
    CommentNotFound,
    Comparison,
    Discussion,
    DiscussionNotFound,
    Event,
    Proposal,
    Status,
    WrongStatus,
    comment_of,
    number_of,
    title_of,
)
from ecotone.catalog.discussion_rows import (
    DiscussionEventRow,
    DiscussionRow,
    changed_to,
    check_alive,
    check_room,
    discussion_of,
    event_of,
    happened,
    opened,
)
from ecotone.catalog.entities import File, Model, Revision
from ecotone.catalog.errors import ModelNotFound, RevisionNotFound
from ecotone.catalog.history import History
from ecotone.catalog.merging import merge
from ecotone.catalog.models import ModelRow, RefRow, RevisionRow
from ecotone.database import utc_now
from ecotone.vocabulary import Forbidden, Invalid, Unauthenticated

KINDS = ("all", "discussion", "pull_request")
STATUSES = ("all", "open", "closed")
MOST_EDITS_KEPT = 50


class Discussions(History):
    """Services over discussions."""

    # -- rights ------------------------------------------------------------------------------------------------------
    def writes(self, model: Model, actor: Actor) -> bool:
        """Whether the caller may write to a repository."""
        try:
            self.check_writer(model, actor)
        except Forbidden:
            return False
        return True

    def check_contributor(self, model: Model, actor: Actor, ref: str | None = None) -> None:
        """Whether the caller may send files for a ref, or with None for a pull request that is still to be opened.

        Raises:
            Unauthenticated: when nobody is logged in.
            Forbidden: when the ref is neither a pull request of the caller nor of a repository they may write.
            WrongStatus: when the pull request is closed or merged.
        """
        _check_user(actor)
        number = number_of(ref) if ref is not None else None
        if ref is None or number is None:
            if ref is not None:
                self.check_writer(model, actor)
            return
        found = self.discussion(model, number)
        if not found.is_pull_request:
            raise RevisionNotFound(model.id, ref)
        if found.author != actor.name:
            self.check_writer(model, actor)
        check_alive(found)

    def tenant(self, model: Model, actor: Actor) -> str:
        """Whose part of the store a caller's files for a repository go to: the namespace's for whoever may write in it.

        A namespace may name all that was sent to it, also what only private repositories hold. So whoever may not write
        there, but opens pull requests, has a part of their own for each repository: what they commit they have sent.
        """
        if self.writes(model, actor):
            return model.namespace
        return f"pr:{model.key}:{hashlib.sha256(actor.name.encode()).hexdigest()[:32]}"

    # -- reading -----------------------------------------------------------------------------------------------------
    def discussions(
        self,
        model: Model,
        *,
        kind: str = "all",
        status: str = "all",
        author: str | None = None,
        start: int = 0,
        limit: int = 50,
    ) -> tuple[list[Discussion], int]:
        """Some of the discussions, newest first, and how many there are in all.

        Args:
            kind: all, discussion or pull_request.
            status: all; open, which holds drafts too; or closed, which holds what was merged.
        """
        if kind not in KINDS or status not in STATUSES:
            raise Invalid(f"type is one of {', '.join(KINDS)}; status one of {', '.join(STATUSES)}.", param="type")
        rule = [DiscussionRow.model_key == model.key]
        if kind != "all":
            rule.append(DiscussionRow.base.is_not(None) if kind == "pull_request" else DiscussionRow.base.is_(None))
        if status != "all":
            alive = DiscussionRow.status.in_([s.value for s in ALIVE])
            rule.append(alive if status == "open" else ~alive)
        if author:
            rule.append(DiscussionRow.author == author)
        with self._database.reading() as session:
            count = session.scalar(sa.select(sa.func.count()).select_from(DiscussionRow).where(*rule)) or 0
            wanted = sa.select(DiscussionRow).where(*rule).order_by(DiscussionRow.num.desc())
            found = [discussion_of(row) for row in session.scalars(wanted.offset(start).limit(limit))]
        return found, count

    def discussion(self, model: Model, num: int) -> Discussion:
        """Raises DiscussionNotFound."""
        with self._database.reading() as session:
            return discussion_of(_row(session, model, num))

    def happenings(self, discussion: Discussion) -> list[Event]:
        """All that happened in a discussion, oldest first."""
        wanted = sa.select(DiscussionEventRow).where(
            DiscussionEventRow.model_key == discussion.model_key, DiscussionEventRow.num == discussion.num
        )
        with self._database.reading() as session:
            return [event_of(row) for row in session.scalars(wanted.order_by(DiscussionEventRow.place))]

    def comparison(self, model: Model, found: Discussion) -> Comparison:
        """What a pull request changes against the commit that it and its branch come from, and where it conflicts.

        Of one that was merged, what it changed when it was.

        Raises:
            RevisionNotFound: when its commits are gone.
        """
        theirs = self.revision(model, found.ref)
        ours = self._ours(model, found)
        base = self.common(model, ours, theirs, found)
        before: Mapping[str, File] = self.manifest(base) if base is not None else {}
        after = self.manifest(theirs)
        conflicts: tuple[str, ...] = ()
        if ours is not None and found.status in ALIVE:
            conflicts = merge(before, self.manifest(ours), after).conflicts
        return Comparison(base=base, ours=ours, theirs=theirs, before=before, after=after, conflicts=conflicts)

    def _ours(self, model: Model, found: Discussion) -> Revision | None:
        try:
            if found.merge_commit is not None:
                commit = self.revision(model, found.merge_commit)
                return self.revision(model, commit.parents[0])
            return self.revision(model, found.base or "")
        except RevisionNotFound:
            return None

    def common(self, model: Model, ours: Revision | None, theirs: Revision, found: Discussion) -> Revision | None:
        """The newest commit that both sides come from; where a branch was rewritten, that at which the pull request
        began; None when that is gone too."""
        with self._database.reading() as session:
            wanted = sa.select(RevisionRow.sha, RevisionRow.parents, RevisionRow.date)
            rows = session.execute(wanted.where(RevisionRow.model_key == model.key)).all()
        parents = {sha: tuple(of) for sha, of, _ in rows}
        both = _ancestors(parents, ours.id) & _ancestors(parents, theirs.id) if ours is not None else set()
        best = both - {parent for sha in both for parent in parents[sha]}
        if best:
            dates = {sha: date for sha, _, date in rows}
            return self.revision(model, max(best, key=lambda sha: (dates[sha], sha)))
        return self.revision(model, found.fork) if found.fork in parents and found.fork is not None else None

    def proposed(self, model: Model, mark: str) -> tuple[Discussion, Revision] | None:
        """The newest pull request whose head has a fingerprint: the one that is asked for again."""
        wanted = (
            sa.select(RefRow.ref)
            .join(RevisionRow, sa.and_(RevisionRow.model_key == RefRow.model_key, RevisionRow.sha == RefRow.sha))
            .where(RefRow.model_key == model.key, RefRow.ref.startswith("refs/pr/"), RevisionRow.fingerprint == mark)
        )
        with self._database.reading() as session:
            numbers = [n for n in map(number_of, session.scalars(wanted)) if n is not None]
        if not numbers:
            return None
        found = self.discussion(model, max(numbers))
        return found, self.revision(model, found.ref)

    def next_discussion(self, model: Model) -> int:
        """The number that the next discussion will have, unless another comes first."""
        wanted = sa.select(sa.func.max(DiscussionRow.num)).where(DiscussionRow.model_key == model.key)
        with self._database.reading() as session:
            return (session.scalar(wanted) or 0) + 1

    # -- changing ----------------------------------------------------------------------------------------------------
    def open_discussion(
        self, model: Model, title: str, description: str, *, actor: Actor, pull_request: bool = False
    ) -> Discussion:
        """Open a discussion, or a draft of a pull request for main at main's head."""
        _check_user(actor)
        if not model.key:
            raise ModelNotFound(model.id)
        title, description = title_of(title), comment_of(description, needed=False)
        proposal = Proposal(title=title, description=description, author=actor.name)
        with self._database.writing() as session:
            row = self._locked(session, model)
            if pull_request:
                proposal = Proposal(
                    title=title,
                    description=description,
                    author=actor.name,
                    status=Status.DRAFT,
                    base="refs/heads/main",
                    fork=row.head,
                )
            made = opened(session, model.key, proposal)
            if pull_request:
                session.add(RefRow(model_key=model.key, ref=f"refs/pr/{made.num}", sha=row.head, message=""))
            self._tell_of_opened(session, row, actor.name, made)
            return discussion_of(made)

    def comment(self, model: Model, num: int, text: str, *, actor: Actor) -> Event:
        """Say something in a discussion, open or not."""
        _check_user(actor)
        text = comment_of(text)
        with self._changing(model, num) as (session, repository, row):
            said = happened(session, row, "comment", actor.name, {"raw": text, "hidden": False, "edits": []})
            self._tell_of_discussion(session, repository, actor.name, row, "create", said)
            return event_of(said)

    def edit_comment(self, model: Model, num: int, comment: str, text: str, *, actor: Actor) -> Event:
        """Give a comment another text.

        Raises:
            Forbidden: when the caller is neither its author nor a writer.
            WrongStatus: when it is hidden.
        """
        text = comment_of(text)
        return self._rewrite_comment(model, num, comment, text, actor, hidden=False)

    def hide_comment(self, model: Model, num: int, comment: str, *, actor: Actor) -> Event:
        """Take a comment's text away for good; that there was one stays."""
        return self._rewrite_comment(model, num, comment, "", actor, hidden=True)

    def _rewrite_comment(self, model: Model, num: int, comment: str, text: str, actor: Actor, *, hidden: bool) -> Event:
        with self._changing(model, num) as (session, repository, row):
            event = self._own_comment(session, model, row, comment, actor)
            edits = [*event.data["edits"], {"at": utc_now().isoformat(), "by": actor.name}]
            event.data = {"raw": text, "hidden": hidden, "edits": edits[-MOST_EDITS_KEPT:]}
            if not hidden:
                session.flush()
                check_room(session, row)
            self._tell_of_discussion(session, repository, actor.name, row, "update", event)
            return event_of(event)

    def rename_discussion(self, model: Model, num: int, title: str, *, actor: Actor) -> Event:
        title = title_of(title)
        with self._changing(model, num) as (session, repository, row):
            self._check_owner(session, model, row.author, actor, "renamed")
            was, row.title = row.title, title
            event = happened(session, row, "title-change", actor.name, {"from": was, "to": title})
            self._tell_of_discussion(session, repository, actor.name, row, "update")
            return event_of(event)

    def set_status(self, model: Model, num: int, status: str, *, actor: Actor, comment: str = "") -> tuple[Event, ...]:
        """Open a draft or what was closed, or close; with a comment before. Returns the events, the last that of the
        status.

        Raises:
            WrongStatus: when it was merged, or has that status already.
        """
        if status not in (Status.OPEN, Status.CLOSED):
            raise Invalid(f"status is {status!r}; expected open or closed.", param="status")
        text = comment_of(comment, needed=False)
        with self._changing(model, num) as (session, repository, row):
            self._check_owner(session, model, row.author, actor, "opened or closed")
            if row.status in (Status.MERGED, status):
                raise WrongStatus(f"Discussion {num} is {row.status} already.")
            found = []
            if text:
                said = happened(session, row, "comment", actor.name, {"raw": text, "hidden": False, "edits": []})
                self._tell_of_discussion(session, repository, actor.name, row, "create", said)
                found.append(event_of(said))
            found.append(event_of(changed_to(session, row, Status(status), actor.name)))
            self._tell_of_discussion(session, repository, actor.name, row, "update")
        return tuple(found)

    @contextmanager
    def _changing(self, model: Model, num: int) -> Iterator[tuple[Session, ModelRow, DiscussionRow]]:
        """A transaction that holds the repository, its row, and a discussion's row in it."""
        with self._database.writing() as session:
            repository = self._locked(session, model)
            yield session, repository, _row(session, model, num)

    def _own_comment(
        self, session: Session, model: Model, row: DiscussionRow, comment: str, actor: Actor
    ) -> DiscussionEventRow:
        event = session.get(DiscussionEventRow, comment.lower()) if len(comment) <= 24 else None
        if event is None or (event.model_key, event.num, event.type) != (row.model_key, row.num, "comment"):
            raise CommentNotFound(row.num)
        self._check_owner(session, model, event.author, actor, "changed")
        if event.data["hidden"]:
            raise WrongStatus("The comment is hidden; its text is gone, so write a new one.")
        return event

    def _check_owner(self, session: Session, model: Model, author: str, actor: Actor, what: str) -> None:
        _check_user(actor)
        if actor.name == author:
            return
        try:
            self._check_namespace(session, model.namespace, actor)
        except Forbidden:
            raise Forbidden(
                f"This is {author}'s; it can be {what} by them and by those who may write to {model.id}."
            ) from None


def _check_user(actor: Actor) -> None:
    if actor.kind != "user":
        raise Unauthenticated("This needs a token: log in with `hf auth login`, or set HF_TOKEN.")


def _row(session: Session, model: Model, num: int) -> DiscussionRow:
    row = session.get(DiscussionRow, (model.key, num)) if 0 < num < 2**31 else None
    if row is None:
        raise DiscussionNotFound(model.id, num)
    return row


def _ancestors(parents: Mapping[str, tuple[str, ...]], sha: str) -> set[str]:
    """A commit and all that it comes from, as far as they are kept."""
    found: set[str] = set()
    waiting = [sha]
    while waiting:
        at = waiting.pop()
        if at in parents and at not in found:
            found.add(at)
            waiting += parents[at]
    return found
