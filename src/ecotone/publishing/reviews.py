"""Discussions and pull requests as people act on them: each act is recorded, done by the catalogue, and told.

Proposing, merging and updating make revisions, by the same way and judgement as any other; what is merged is judged as
the whole that it makes.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, File, LineageEdge, Model, Revision, RevisionNotFound, StaleParent
from ecotone.catalog.discussion import (
    MOST_TITLE,
    PULL_REQUESTS,
    Comparison,
    Discussion,
    Event,
    MergeConflict,
    Merging,
    Proposal,
    WrongStatus,
    comment_of,
    title_of,
)
from ecotone.catalog.discussion_rows import check_open
from ecotone.catalog.gitformat import build_trees
from ecotone.catalog.merging import Side, merge
from ecotone.database import utc_now
from ecotone.ledger import LedgerFull, LedgerWriter
from ecotone.publishing.changes import Commit, Published
from ecotone.publishing.contents import CARD_EVIDENCE
from ecotone.publishing.drafts import MOST_FILES, Draft, Making
from ecotone.publishing.services import ATTEMPTS, FIRST_PAUSE, REPEAT_WINDOW, Publishing, fingerprint, full_ref
from ecotone.vocabulary import Invalid, RepoType

log = logging.getLogger("ecotone.publishing")

MAIN = "refs/heads/main"
MOST_COMMITS_NAMED = 50
NUMBERS = f"{PULL_REQUESTS}*"
T = TypeVar("T")


class Reviews:
    """The service. Thread-safe."""

    def __init__(self, catalog: Catalog, publishing: Publishing, ledger: LedgerWriter) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._ledger = ledger

    # -- talking -----------------------------------------------------------------------------------------------------
    def open(
        self, model: Model, title: str, description: str, *, actor: Actor, pull_request: bool = False
    ) -> Discussion:
        """Open a discussion, or a draft of a pull request. Raises as `Catalog.open_discussion`."""
        act = "pull_request.open" if pull_request else "discussion.open"
        self._intend(act, model, actor)
        with self._publishing.turn(model, NUMBERS):
            made = self._catalog.open_discussion(model, title, description, actor=actor, pull_request=pull_request)
        self._note(act, model, actor, made.num)
        return made

    def comment(self, model: Model, num: int, text: str, *, actor: Actor) -> Event:
        self._intend("discussion.comment", model, actor, num=num)
        event = self._catalog.comment(model, num, text, actor=actor)
        self._note("discussion.comment", model, actor, num, comment=event.id)
        return event

    def edit(self, model: Model, num: int, comment: str, text: str, *, actor: Actor) -> Event:
        self._intend("discussion.edit", model, actor, num=num, comment=comment[:24])
        event = self._catalog.edit_comment(model, num, comment, text, actor=actor)
        self._note("discussion.edit", model, actor, num, comment=event.id)
        return event

    def hide(self, model: Model, num: int, comment: str, *, actor: Actor) -> Event:
        self._intend("discussion.hide", model, actor, num=num, comment=comment[:24])
        event = self._catalog.hide_comment(model, num, comment, actor=actor)
        self._note("discussion.hide", model, actor, num, comment=event.id)
        return event

    def rename(self, model: Model, num: int, title: str, *, actor: Actor) -> Event:
        self._intend("discussion.rename", model, actor, num=num)
        event = self._catalog.rename_discussion(model, num, title, actor=actor)
        self._note("discussion.rename", model, actor, num)
        return event

    def set_status(self, model: Model, num: int, status: str, *, actor: Actor, comment: str = "") -> Event:
        self._intend("discussion.status", model, actor, num=num, status=status[:16])
        events = self._catalog.set_status(model, num, status, actor=actor, comment=comment)
        self._note("discussion.status", model, actor, num, status=status)
        return events[-1]

    # -- pull requests -----------------------------------------------------------------------------------------------
    def propose(
        self, model_id: str, ref: str, changes: Commit, *, actor: Actor, repo_type: RepoType = RepoType.MODEL
    ) -> tuple[Published, Discussion]:
        """Open a pull request with its first commit.

        Args:
            ref: the branch it is for; main, when there is none of that name.
            changes: go on top of its `parent`, else of the branch's head.

        Raises:
            Refused, BadPath, EntryNotFound, Invalid: as `Publishing.commit`; then no pull request is opened.
        """
        model = self._catalog.model(model_id, viewer=actor, repo_type=repo_type)
        self._catalog.check_contributor(model, actor)
        target = self._branch(model, ref)
        base = self._catalog.revision(model, changes.parent or target)
        mark = fingerprint(f"{PULL_REQUESTS}* of {actor.name} for {target}", changes)
        with self._publishing.turn(model, NUMBERS):
            known = self._catalog.proposed(model, mark)
            if known is not None and utc_now() - known[1].date < REPEAT_WINDOW:
                return Published(model_id=model.id, revision_id=known[1].id), known[0]

            def once() -> tuple[Published, int]:
                number = self._catalog.next_discussion(model)
                making = self._publishing.drafted(model, f"{PULL_REQUESTS}{number}", None, base, changes, actor, mark)
                if making.tree.root == base.tree and not making.made.changed:
                    raise Invalid(f"The commit changes nothing of {target}, so no pull request was opened.")
                proposal = Proposal(
                    title=title_of(making.title[:MOST_TITLE]),
                    description=comment_of(changes.description, needed=False),
                    author=actor.name,
                    base=target,
                    fork=base.id,
                )
                making = msgspec.structs.replace(making, proposal=proposal)
                return self._publishing.publish(model, making, actor), number

            published, number = _retried(once)
        return published, self._catalog.discussion(model, number)

    def merge(self, model: Model, num: int, *, actor: Actor, comment: str = "") -> Published:
        """Merge a pull request into its branch, by a commit of two parents that carries its title.

        Raises:
            Forbidden: when the caller may not write to the repository.
            MergeConflict: naming the files that both sides changed.
            WrongStatus: when it is a draft, closed, or merged already.
            Refused: when what it makes may not be published; it stays open then.
        """
        self._catalog.check_writer(model, actor)
        text = comment_of(comment, needed=False)
        target = self._pull_request(model, num).base or MAIN
        self._intend("pull_request.merge", model, actor, num=num)
        with self._publishing.turn(model, target):
            published = _retried(lambda: self._merge(model, num, actor, text))
        self._note("pull_request.merge", model, actor, num, revision=published.revision_id)
        return published

    def _merge(self, model: Model, num: int, actor: Actor, comment: str) -> Published:
        found = self._pull_request(model, num)
        check_open(found)
        sides = self._catalog.comparison(model, found)
        ours, theirs = sides.ours, sides.theirs
        if ours is None:
            raise RevisionNotFound(model.id, found.base or "")
        if sides.conflicts:
            raise MergeConflict(num, sides.conflicts)
        before = self._catalog.manifest(ours)
        made = _merged(before, merge(sides.before, before, sides.after).files)
        brings = sides.base is None or sides.base.id != theirs.id
        making = Making(
            ref=found.base or MAIN,
            expected=ours.id,
            base=ours,
            before=before,
            made=made,
            tree=build_trees({path: file.content.git_oid for path, file in made.files.items()}),
            parents=(ours.id, theirs.id) if brings else (ours.id,),
            title=f"{found.title} (#{num})",
            message=self._commits_named(model, found, sides),
            merging=Merging(num=num, head=theirs.id, author=actor.name, comment=comment),
        )
        return self._publishing.publish(model, making, actor, _asserted(theirs))

    def update(self, model: Model, num: int, *, actor: Actor, keep: Mapping[str, Side] | None = None) -> Published:
        """Bring what is new on its branch into a pull request, by a commit of two parents.

        Args:
            keep: the side that shall stand for a file in conflict: ours, the pull request's, or theirs, the branch's.

        Raises:
            MergeConflict: naming the files in conflict for which no side was chosen.
            WrongStatus: when there is nothing new, or it is closed or merged.
        """
        ref = f"{PULL_REQUESTS}{num}"
        self._catalog.check_contributor(model, actor, ref)
        self._intend("pull_request.update", model, actor, num=num)
        with self._publishing.turn(model, ref):
            published = _retried(lambda: self._update(model, num, actor, keep or {}))
        self._note("pull_request.update", model, actor, num)
        return published

    def _update(self, model: Model, num: int, actor: Actor, keep: Mapping[str, Side]) -> Published:
        found = self._pull_request(model, num)
        sides = self._catalog.comparison(model, found)
        if sides.ours is None:
            raise RevisionNotFound(model.id, found.base or "")
        if sides.base is not None and sides.base.id == sides.ours.id:
            raise WrongStatus(f"Pull request {num} holds all that is on its branch already.")
        branch = self._catalog.manifest(sides.ours)
        chosen = {path: side for path, side in keep.items() if path in sides.conflicts}
        result = merge(sides.before, sides.after, branch, chosen)
        if result.conflicts:
            raise MergeConflict(num, result.conflicts)
        made = _merged(sides.after, result.files)
        name = (found.base or MAIN).removeprefix("refs/heads/")
        making = Making(
            ref=found.ref,
            expected=sides.theirs.id,
            base=sides.theirs,
            before=sides.after,
            made=made,
            tree=build_trees({path: file.content.git_oid for path, file in made.files.items()}),
            parents=(sides.theirs.id, sides.ours.id),
            title=f"Update from {name}",
        )
        return self._publishing.publish(model, making, actor, _asserted(sides.ours))

    def _pull_request(self, model: Model, num: int) -> Discussion:
        found = self._catalog.discussion(model, num)
        if not found.is_pull_request:
            raise WrongStatus(f"{num} is a discussion and no pull request; there is nothing to merge.")
        return found

    def _branch(self, model: Model, ref: str) -> str:
        try:
            full = full_ref(ref)
        except Invalid:
            return MAIN
        is_branch = full.startswith("refs/heads/") and self._catalog.ref_target(model, full) is not None
        return full if is_branch else MAIN

    def _commits_named(self, model: Model, found: Discussion, sides: Comparison) -> str:
        """The commits that a merge brings, as its message lists them."""
        named = []
        for commit in self._catalog.commits(model, sides.theirs.id, limit=MOST_COMMITS_NAMED):
            if commit.id in (sides.base.id if sides.base else "", found.fork):
                break
            named.append(f"- {commit.title} ({commit.id})")
        return "\n".join(named)

    # -- recording -----------------------------------------------------------------------------------------------------
    def _intend(self, act: str, model: Model, actor: Actor, **what: Any) -> None:
        told = {"act": act, "actor": actor.name, "model": model.id, "repo_type": model.repo_type.value, **what}
        self._ledger.append("intent", told, flush=True)

    def _note(self, act: str, model: Model, actor: Actor, num: int, **what: Any) -> None:
        told = {"act": act, "actor": actor.name, "model": model.id, "repo_type": model.repo_type.value, "num": num}
        try:
            self._ledger.append("admin", told | what, flush=True)
        except LedgerFull:
            log.exception("%s by %s was done, but only its intent is in the ledger", act, actor.name)


def _merged(before: Mapping[str, File], files: dict[str, File]) -> Draft:
    """What a merge makes of files; those brought in keep the commit that last changed them."""
    if len(files) > MOST_FILES:
        raise Invalid(f"A repository may hold {MOST_FILES} files; this merge would make {len(files)}.")
    changed = [p for p, f in files.items() if p not in before or before[p].content.git_oid != f.content.git_oid]
    return Draft(files, tuple(changed))


def _asserted(revision: Revision) -> tuple[LineageEdge, ...]:
    """Lineage that others than the card tell of a revision; that of the card is read anew from what is merged."""
    return tuple(edge for edge in revision.edges if not edge.evidence.startswith(CARD_EVIDENCE))


def _retried(once: Callable[[], T]) -> T:
    """Do something anew when a writer of another process was quicker."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return once()
        except StaleParent:
            time.sleep(random.uniform(0, FIRST_PAUSE * 2**attempt))  # noqa: S311  no secret
    return once()
