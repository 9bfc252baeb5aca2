"""Publishing: the one way in which a revision becomes visible, for hub, mirror, tuning and browser.

Verify the operations, read card and weights of the revision they would make, judge it as a whole, decide, and make it
visible in one transaction, with the decision in the ledger before anybody can see it. Bytes are for `storage`, tables
for `catalog`, licences for `licences`, the organisation's rules for `policy`.
"""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import msgspec

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import (
    BY_WEIGHTS,
    BadCard,
    Catalog,
    File,
    LineageEdge,
    Model,
    ModelNotFound,
    NewRevision,
    ReservedId,
    Revision,
    RevisionNotFound,
    StaleParent,
    asserter,
)
from ecotone.catalog.discussion import PULL_REQUESTS
from ecotone.catalog.gitformat import build_commit, build_trees
from ecotone.catalog.names import is_sha
from ecotone.database import utc_now
from ecotone.ledger import LedgerWriter
from ecotone.licences import Decision, Family, KnowledgeBase, Node, Use
from ecotone.policy import Action, Outcome, Policy
from ecotone.policy.rules import OF_WEIGHTS
from ecotone.publishing.changes import AddLarge, AddRegular, Commit, Operation, Published
from ecotone.publishing.contents import Contents, read_card, read_contents
from ecotone.publishing.copies import generated_edges
from ecotone.publishing.descent import Descent, Examined
from ecotone.publishing.drafts import Making, draft, large_of
from ecotone.publishing.refusals import refusal
from ecotone.storage import Storage
from ecotone.vocabulary import EdgeStatus, Invalid, Mode, Purpose, Refused, Relation, RepoType

REPEAT_WINDOW = timedelta(minutes=15)
ATTEMPTS = 8
FIRST_PAUSE = 0.02
TURNS = 64
MOST_MESSAGE = 20_000
_NOT_DERIVED = (Relation.TRAINED_ON, Relation.EVALUATED_ON, Relation.GENERATED_BY, Relation.MIRROR_OF)

_UNNAMED = "this/model"
_NAME_ONE = (
    " README.md names no licence: add `license: ID` between lines of --- at its top (`ecotone licence list` shows "
    "ids), or a LICENSE file."
)


class Publishing:
    """The service. Thread-safe; writers on one branch take turns here, and between processes are ordered by the
    catalogue's transaction: a commit without a parent goes on top of whatever came first.
    """

    def __init__(
        self, catalog: Catalog, storage: Storage, policy: Policy, knowledge: KnowledgeBase, ledger: LedgerWriter
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._policy = policy
        self._knowledge = knowledge
        self._ledger = ledger
        self._turns = tuple(threading.RLock() for _ in range(TURNS))
        self._listeners: list[Callable[[Model, str, Actor], None]] = []
        self.descent = Descent(catalog, storage)

    def on_weights(self, listener: Callable[[Model, str, Actor], None]) -> None:
        """Be told of each revision that became visible whose weights are to be examined by a job."""
        self._listeners.append(listener)

    def commit(
        self,
        model_id: str,
        ref: str,
        changes: Commit,
        *,
        actor: Actor,
        repo_type: RepoType = RepoType.MODEL,
        asserted_edges: Iterable[LineageEdge] = (),
    ) -> Published:
        """Publish a revision on a branch.

        Args:
            ref: a branch's name, or a full `refs/heads/...` or `refs/pr/...`.
            asserted_edges: lineage that the caller knows beside what the card declares (tuning, mirror).

        Raises:
            Refused: when licence or policy forbids it; the message names licence, clause and what to do.
            StaleParent: when `changes.parent` is no longer the branch's head.
            BadPath, EntryNotFound, Invalid: when an operation cannot be done; the message names the file.
            ModelNotFound, RevisionNotFound: when there is no such repository or branch.
            Forbidden: when the caller may not write.
            WrongStatus: when the pull request was closed or merged.
        """
        model = self._catalog.model(model_id, viewer=actor, repo_type=repo_type)
        full = full_ref(ref)
        self._check_writer(model, full, actor)
        mark = fingerprint(full, changes)
        extra = tuple(asserted_edges)
        with self.turn(model, full):
            for attempt in range(ATTEMPTS):
                head = self._catalog.ref_target(model, full)
                if head is None:
                    raise RevisionNotFound(model.id, ref)
                try:
                    if self._is_repeat(model, head, mark):
                        return Published(model_id=model.id, revision_id=head)
                    if changes.parent is not None and changes.parent != head:
                        raise StaleParent(ref, head)
                    return self._publish(model, full, head, changes, actor, mark, extra)
                except StaleParent:  # a writer of another process was quicker
                    if changes.parent is not None:
                        raise
                except RevisionNotFound:  # history was written anew, and the branch leads to another commit by now
                    if changes.parent is not None or self._catalog.ref_target(model, full) == head:
                        raise
                time.sleep(random.uniform(0, FIRST_PAUSE * 2**attempt))  # noqa: S311  no secret
        raise StaleParent(ref, self._catalog.ref_target(model, full))

    def turn(self, model: Model, ref: str) -> AbstractContextManager[bool]:
        """What writers on one ref hold one after the other, so that they need not try again.

        Several refs share one: whoever holds it for one ref may take it for another.
        """
        return self._turns[hash((model.key, ref)) % len(self._turns)]

    def _check_writer(self, model: Model, ref: str, actor: Actor) -> None:
        if not model.key and actor.may_write:
            raise ReservedId(
                f"{model.id!r} is an entry of the starter catalogue without a repository; an administrator may create "
                "one first."
            )
        if ref.startswith(PULL_REQUESTS):
            self._catalog.check_contributor(model, actor, ref)
        else:
            self._catalog.check_writer(model, actor)

    def _is_repeat(self, model: Model, head: str, mark: str) -> bool:
        """Whether the head is the very commit that is sent again, because its answer was lost."""
        known, date = self._catalog.fingerprint(model, head)
        return known == mark and utc_now() - date < REPEAT_WINDOW

    def _publish(
        self,
        model: Model,
        ref: str,
        head: str,
        changes: Commit,
        actor: Actor,
        mark: str,
        extra: tuple[LineageEdge, ...],
    ) -> Published:
        base = self._catalog.revision(model, head)
        making = self.drafted(model, ref, head, base, changes, actor, mark)
        if making.tree.root == base.tree and not making.made.changed:
            return Published(model_id=model.id, revision_id=head)
        return self.publish(model, making, actor, extra)

    def drafted(
        self, model: Model, ref: str, expected: str | None, base: Revision, changes: Commit, actor: Actor, mark: str
    ) -> Making:
        """What a commit on top of `base` would make, every path and object verified."""
        before = self._catalog.manifest(base)
        tenant = self._catalog.tenant(model, actor)
        own = {} if tenant == model.namespace or model.gated else large_of(before)
        made = draft(
            before, changes.operations, self._storage, tenant, own=own, model_id=model.id, at=expected or base.id
        )
        title = title_of(changes.message)
        return Making(
            ref=ref,
            expected=expected,
            base=base,
            before=before,
            made=made,
            tree=build_trees({path: file.content.git_oid for path, file in made.files.items()}),
            parents=(base.id,),
            title=title,
            message=_storable(changes.description).strip()[:MOST_MESSAGE],
            mark=mark,
            tenant=tenant,
        )

    def publish(self, model: Model, making: Making, actor: Actor, extra: tuple[LineageEdge, ...] = ()) -> Published:
        """Judge what a revision would be, and make it visible when it may be.

        Raises:
            Refused: when licence or policy forbids it.
            StaleParent, WrongStatus: when ref or pull request moved on meanwhile; nothing is visible then.
        """
        made = making.made
        extra = (*generated_edges(self._catalog, model, made.files, made.changed), *extra)
        contents = read_contents(
            made.files, making.before, making.base, self._storage, self._knowledge, model_id=model.id, kept_edges=extra
        )
        return self._show(model, making, self.descent.examine(model, making, contents), actor)

    def show(self, model: Model, making: Making, contents: Contents, actor: Actor) -> Published:
        """The same where the contents are known, since a revision has them already."""
        return self._show(model, making, self.descent.known(model, making, contents), actor)

    def _show(self, model: Model, making: Making, examined: Examined, actor: Actor) -> Published:
        made = making.made
        examined = self._settled(model, examined)
        contents = examined.contents
        new = self._new_revision(model, making, contents, actor)
        new = msgspec.structs.replace(new, weights=examined.weights)
        outcome, decision = self._decide(model, examined, actor)
        record = self._record(model, making.ref, new.revision, actor, outcome)
        if outcome is not None and not outcome.allowed:
            self._ledger.append("decision", record, flush=True)
            raise self._refusal(model, examined, outcome, actor)
        if making.tenant not in ("", model.namespace):
            sent = (made.files[path].content.sha256 for path in made.changed)
            self._storage.share(making.tenant, model.namespace, (sha256 for sha256 in sent if sha256 is not None))
        self._catalog.add_revision(
            model,
            making.ref,
            new,
            expected=making.expected,
            proposal=making.proposal,
            merging=making.merging,
            before_visible=lambda: self._note(record),
        )
        if examined.weights is not None and examined.weights.waits:
            for listener in self._listeners:
                listener(model, new.revision.id, actor)
        told = self.descent.told(examined.alarms, actor)
        warnings = tuple(dict.fromkeys([*told, *contents.findings, *_outcome_warnings(outcome, contents)]))
        return Published(model_id=model.id, revision_id=new.revision.id, decision=decision, warnings=warnings)

    def _refusal(self, model: Model, examined: Examined, outcome: Outcome, actor: Actor) -> Refused:
        contents, weights = examined.contents, examined.weights
        found = [e.parent for e in contents.edges if e.asserted_by == BY_WEIGHTS and e.status is not EdgeStatus.REFUTED]
        return refusal(
            model.id,
            contents.declared_licence,
            outcome,
            self._knowledge,
            family=self._family(model, contents, actor),
            found=found,
            weights=weights.digest if weights is not None else "",
        )

    def _settled(self, model: Model, examined: Examined) -> Examined:
        """With administrators' words on the edges."""
        digest = examined.weights.digest if examined.weights is not None else ""
        edges = self._catalog.settled_edges(model, digest, examined.contents.edges)
        contents = msgspec.structs.replace(examined.contents, edges=tuple(edges))
        return msgspec.structs.replace(examined, contents=contents)

    def _note(self, record: dict[str, Any]) -> None:
        self._ledger.append("decision", record, flush=True)

    def _new_revision(self, model: Model, making: Making, contents: Contents, actor: Actor) -> NewRevision:
        """Store the git objects of the revision; they are orphans until the catalogue names the commit."""
        title, message, tree, made = making.title, making.message, making.tree, making.made
        date = utc_now().replace(microsecond=0)
        said = f"{title}\n\n{message}" if message else title
        commit = build_commit(tree.root, making.parents, actor.name, date, said)
        self._storage.put_git_objects((one.kind, one.data) for one in (*tree.objects, commit))
        files = {p: File(p, f.content, f.last_commit or commit.oid) for p, f in made.files.items()}
        revision = Revision(
            id=commit.oid,
            model_id=model.id,
            tree=tree.root,
            parents=making.parents,
            title=title,
            message=message,
            author=actor.name,
            date=date,
            card=contents.card,
            card_text=contents.card_text,
            config=contents.config,
            weights=contents.weights,
            findings=contents.findings,
            instruments=contents.instruments,
            declared_licence=contents.declared_licence,
            detected=contents.detected,
            edges=tuple(
                msgspec.structs.replace(
                    e, child=model.id, child_revision=commit.oid, asserted_by=e.asserted_by or asserter(actor.name)
                )
                for e in contents.edges
            ),
            size=sum(file.content.size for file in files.values()),
            repo_type=model.repo_type,
            model_key=model.key,
        )
        return NewRevision(revision=revision, files=files, changed=made.changed, fingerprint=making.mark)

    # -- deciding ----------------------------------------------------------------------------------------------------
    def _decide(self, model: Model, examined: Examined, actor: Actor) -> tuple[Outcome | None, Decision | None]:
        if model.repo_type is not RepoType.MODEL:
            return None, None
        contents = examined.contents
        family = self._family(model, contents, actor)
        also = (OF_WEIGHTS,) if any(alarm.contradicts for alarm in examined.alarms) else ()
        return self._judge(family, contents.edges, contents.declared_licence, also)

    def _family(self, model: Model, contents: Contents, actor: Actor) -> Family:
        node = Node(id=model.id, instruments=contents.instruments or ("none",))
        return self._catalog.compose_family(node, contents.edges, viewer=actor, binding=True)

    def _judge(
        self, family: Family, edges: Iterable[LineageEdge], declared: str | None, also: tuple[str, ...] = ()
    ) -> tuple[Outcome, Decision]:
        use = Use(
            mode=Mode.PUBLISH_WEIGHTS,
            purpose=Purpose.NONCOMMERCIAL,
            modified=any(edge.relation not in _NOT_DERIVED for edge in edges),
            declared_licence=declared,
            date=utc_now().date(),
        )
        decision = self._policy.judge_family(family, use)
        return self._policy.outcome(decision, Action.PUBLISH, family, also), decision

    def _record(
        self, model: Model, ref: str, revision: Revision, actor: Actor, outcome: Outcome | None
    ) -> dict[str, Any]:
        return {
            "action": Action.PUBLISH.value,
            "model": model.id,
            "repo_type": model.repo_type.value,
            "ref": ref,
            "revision": revision.id,
            "parent": revision.parents[0] if revision.parents else None,
            "actor": actor.name,
            "allowed": outcome is None or outcome.allowed,
            "outcome": outcome.to_json() if outcome is not None else None,
            "knowledge_base": outcome.knowledge_base if outcome is not None else None,
        }

    def check_card(
        self,
        content: str,
        repo_type: RepoType = RepoType.MODEL,
        model_id: str | None = None,
        *,
        viewer: Actor = SYSTEM,
    ) -> tuple[list[str], list[str]]:
        """What would be said of a card before it is uploaded: errors that would refuse it, and warnings.

        Only what the card alone shows is judged: its licence against that of the ancestors it names. Ancestors that
        the viewer may not see count as unknown ones.
        """
        try:
            read = read_card(content, self._knowledge, model_id=model_id or _UNNAMED)
        except BadCard as error:
            return [error.message], []
        if repo_type is not RepoType.MODEL:
            return [], list(read.findings)
        edges = tuple(edge for edge in read.edges if self._may_name(edge, viewer))
        node = Node(id=model_id or _UNNAMED, instruments=read.instruments or ("none",))
        family = self._catalog.compose_family(node, edges, viewer=viewer)
        outcome, _ = self._judge(family, edges, read.declared_licence)
        if not outcome.allowed:
            return [refusal(model_id or "The model", read.declared_licence, outcome, self._knowledge).message], []
        return [], [
            text.replace(_UNNAMED, "this model") for text in (*read.findings, *_outcome_warnings(outcome, read))
        ]

    def _may_name(self, edge: LineageEdge, viewer: Actor) -> bool:
        if viewer.may_read_private:
            return True
        try:
            self._catalog.model(edge.parent, viewer=viewer)
        except ModelNotFound:
            return False
        return True


def full_ref(ref: str) -> str:
    """The full name of a branch to write on.

    Raises:
        Invalid: for a commit or a tag, which never move.
    """
    if is_sha(ref) or ref.startswith("refs/tags/"):
        raise Invalid(f"{ref!r} never moves; commit to a branch, e.g. main.", param="revision")
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def fingerprint(ref: str, changes: Commit) -> str:
    """Tells a commit that is sent twice: SHA-256 over ref, parent, message and operations."""
    made = hashlib.sha256(msgspec.json.encode([ref, changes.parent, changes.message, changes.description]))
    for operation in changes.operations:
        made.update(msgspec.json.encode([type(operation).__name__, operation.path, _told(operation)]))
    return made.hexdigest()


def title_of(message: str) -> str:
    """The first line of a commit's message."""
    return (_storable(message).strip().splitlines() or ["Update"])[0][:500]


def _storable(text: str) -> str:
    """Text that every database takes."""
    return text.replace("\0", "\ufffd")


def _told(operation: Operation) -> str:
    if isinstance(operation, AddRegular):
        return hashlib.sha256(operation.data).hexdigest()
    return operation.sha256 if isinstance(operation, AddLarge) else ""


def _outcome_warnings(outcome: Outcome | None, contents: Contents) -> list[str]:
    if outcome is None or not outcome.warning:
        return []
    silent = not contents.declared_licence and not contents.detected
    return [outcome.warning + (_NAME_ONE if silent else "")]


__all__ = ["Publishing", "Refused", "fingerprint", "full_ref"]
