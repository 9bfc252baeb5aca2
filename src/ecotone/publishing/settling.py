"""An administrator's word on a lineage edge: confirmed or rejected, with a reason.

A rejection can open what a licence closes, so it is in force only once another administrator has approved it, as a
concluded licence is (`policy.rules.FOUR_EYES`). A confirmation only binds, and is in force at once.
"""

import re
import threading
from collections.abc import Iterator
from functools import partial
from typing import Final

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Catalog, KeptWord, LineageEdge, Model, ModelNotFound, Revision
from ecotone.catalog.names import key_of
from ecotone.catalog.settled import NO_DESCENT
from ecotone.licences import Node
from ecotone.publishing.descent import weight_files
from ecotone.vocabulary import Conflict, EdgeStatus, EdgeWord, Forbidden, Invalid, NotFound, Relation, RepoType

LONGEST_REASON: Final = 1000
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class OwnWord(Forbidden):
    code = "own_approval"

    def __init__(self, word: KeptWord) -> None:
        super().__init__(
            f"{word.by} said the word {word.id}, so another administrator must approve it. (An installation with one "
            "administrator sets ECOTONE_SINGLE_PERSON_WAIVERS=1.)",
            param="word",
        )


class Cycle(Conflict):
    """Two models would descend from each other."""

    code = "lineage_cycle"

    def __init__(self, child: str, parent: str) -> None:
        super().__init__(
            f"{parent} counts as descending from {child} itself, so {child} cannot come from it. Reject that first: "
            f"`ecotone lineage reject {parent} {child} --reason ...` (`ecotone lineage family {parent}` shows it).",
            param="parent",
        )


class EdgeNotFound(NotFound):
    code = "edge_not_found"

    def __init__(self, child: str, parent: str) -> None:
        super().__init__(
            f"{child} has no edge to {parent}; `ecotone lineage family {child}` shows those that it has.",
            param="parent",
        )


class Settling:
    """The service. Thread-safe.

    Args:
        four_eyes: rejections need a second administrator's approval.
    """

    def __init__(self, catalog: Catalog, *, four_eyes: bool = True) -> None:
        self._catalog = catalog
        self._four_eyes = four_eyes
        # Other servers wait in the database; here it keeps who waits there from the connections that the checks need.
        self._one_at_a_time = threading.Lock()
        if four_eyes:
            catalog.forget_own_approvals()

    def say(
        self,
        model_id: str,
        parent: str,
        word: EdgeWord,
        reason: str,
        *,
        actor: Actor,
        rev: str = "main",
        relation: Relation | None = None,
        weights: str | None = None,
    ) -> KeptWord:
        """Say a word on the edge from a revision to a parent.

        Confirming makes the edge where there is none, so that a direction can be turned round.

        Args:
            relation: of an edge that is made; that of the edge the other way round, or a fine-tune, when None.
            weights: the digest of weights that were refused (the refusal names it), in the place of a revision's.

        Raises:
            ModelNotFound, RevisionNotFound, EdgeNotFound: there is no such thing.
            Cycle: the parent itself counts as descending from the model.
            Conflict: the revision's weights have no fingerprint yet.
            Invalid: no reason, or nothing that a word can be said of.
        """
        self._check(reason, actor)
        model = self._catalog.model(model_id, viewer=actor)
        if model.head is None or model.repo_type is not RepoType.MODEL:
            raise Invalid(
                f"{model.id} is an entry of the starter catalogue; its lineage is corrected there, with a source.",
                param="model",
            )
        revision = self._catalog.revision(model, rev)
        digest = self._digest(model, revision) if weights is None else _checked(weights)
        ahead = weights is not None
        with self._one_at_a_time:
            name, related = self._edge(model, revision, parent, word, relation, actor, ahead=ahead)
            return self._catalog.keep_word(
                model,
                revision,
                digest,
                name,
                related,
                word,
                reason.strip(),
                by=actor.name,
                waits=word is EdgeWord.REJECTED and self._four_eyes,
                check=partial(self._check_cycle, model.id, name) if word is EdgeWord.CONFIRMED else None,
            )

    def approve(self, word_id: str, *, actor: Actor) -> KeptWord:
        """The second pair of eyes.

        Raises:
            OwnWord: when who said it approves it.
            Conflict: when it needs no approval (any more).
        """
        if not actor.is_admin:
            raise Forbidden("Only administrators approve what is said of a lineage edge.")
        with self._one_at_a_time:
            word = self._catalog.word(word_id)
            if not word.waits:
                raise Conflict(f"The word {word_id} needs no approval (any more).", param="word")
            if self._four_eyes and word.by.casefold() == actor.name.casefold():
                raise OwnWord(word)
            return self._catalog.approve_word(word_id, by=actor.name)

    def take_back(self, word_id: str, *, actor: Actor) -> KeptWord:
        """Remove a word, so that its edge is again what it was found to be.

        Raises:
            Cycle: the rejected edge would close one.
        """
        if not actor.is_admin:
            raise Forbidden("Only administrators take back what is said of a lineage edge.")
        with self._one_at_a_time:
            return self._catalog.remove_word(word_id, check=partial(self._check_back, word_id))

    def _check_back(self, word_id: str) -> None:
        word = self._catalog.word(word_id)
        if word.word is EdgeWord.REJECTED and not word.waits:
            self._check_cycle(word.model, word.parent)

    def _check_cycle(self, child: str, parent: str) -> None:
        if self._descends(parent, child):
            raise Cycle(child, parent)

    @staticmethod
    def _check(reason: str, actor: Actor) -> None:
        if not actor.is_admin:
            raise Forbidden("Only administrators say whether a lineage edge is so.")
        if not reason.strip():
            raise Invalid("A word on an edge needs a reason: it is shown wherever the edge is.", param="reason")
        if len(reason) > LONGEST_REASON or "\0" in reason:
            raise Invalid(f"A reason is text of at most {LONGEST_REASON} characters.", param="reason")

    def _digest(self, model: Model, revision: Revision) -> str:
        weights = self._catalog.weights(model, revision.id)
        if weights is None and weight_files(self._catalog.manifest(revision)):
            raise Conflict(
                f"The weights of {model.id} have no fingerprint yet, and a word holds for weights; run "
                f"`ecotone lineage examine {model.id}` first.",
                param="model",
            )
        return weights.digest if weights is not None else ""

    def _edge(
        self,
        model: Model,
        revision: Revision,
        parent: str,
        word: EdgeWord,
        relation: Relation | None,
        actor: Actor,
        *,
        ahead: bool,
    ) -> tuple[str, Relation]:
        """The parent's name and the relation of the edge, or those of one that is made."""
        for edge in revision.edges:
            if key_of(edge.parent) == key_of(parent) and edge.relation not in NO_DESCENT:
                return edge.parent, edge.relation
        if word is EdgeWord.REJECTED and not ahead:
            raise EdgeNotFound(model.id, parent)
        if relation in NO_DESCENT:
            raise Invalid(f"{relation} is declared in the card; a word is said of descent alone.", param="relation")
        found = self._catalog.model(parent, viewer=actor)
        if found.id.casefold() == model.id.casefold():
            raise Invalid("A model is no parent of itself.", param="parent")
        back = next((e.relation for e in self._edges_of(found) if key_of(e.parent) == key_of(model.id)), None)
        return found.id, relation or back or Relation.FINETUNE

    def _edges_of(self, model: Model) -> tuple[LineageEdge, ...]:
        revision = self._catalog.revision(model, "main") if model.head is not None else None
        return tuple(self._catalog.parents(model, revision))

    def _descends(self, name: str, from_id: str) -> bool:
        """Whether a model counts as descending from another."""
        return any(key_of(one) == key_of(from_id) for one in self._above(name))

    def _above(self, name: str) -> Iterator[str]:
        try:
            model = self._catalog.model(name, viewer=SYSTEM)
        except ModelNotFound:  # deleted, or not here: its edges bind no more than its tombstone's
            return
        family = self._catalog.compose_family(Node(id=model.id), self._edges_of(model))
        seen, todo = {family.subject}, [family.subject]
        while todo:
            child = todo.pop()
            for edge in family.edges:
                if edge.child == child and edge.parent not in seen and edge.status is not EdgeStatus.REFUTED:
                    seen.add(edge.parent)
                    todo.append(edge.parent)
                    yield edge.parent


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise Invalid(
            f"{digest[:80]!r} names no weights; the 64 hexadecimal digits are expected that a refused upload was told.",
            param="weights",
        )
    return digest
