"""Edges under the words that administrators said of them: laid on when edges are written, and taken off again.

A word outlives examinations: what the weights say anew is written beside it and does not lift it. An edge of which only
the word is left stands as one that the administrator asserts.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.catalog.entities import LineageEdge, Said
from ecotone.catalog.models import EdgeWordRow, ModelRow, RedirectRow
from ecotone.catalog.names import key_of
from ecotone.vocabulary import EdgeStatus, EdgeWord, Relation, RepoType

BY_WEIGHTS: Final = "weights"
SAID: Final = "; weights: "  # in the evidence of an edge that others assert, before what the weights say of it
SAID_SO: Final = "an administrator says so"
NO_DESCENT: Final = frozenset(
    {Relation.TRAINED_ON, Relation.EVALUATED_ON, Relation.GENERATED_BY, Relation.DISTILLED_OUTPUTS}
)


def with_word(edge: LineageEdge, word: EdgeWordRow) -> LineageEdge:
    """An edge as a word makes it; as it is while the word waits for approval."""
    if word.approved is None:
        return edge
    said = Said(
        id=word.id,
        word=EdgeWord(word.word),
        reason=word.reason,
        by=word.created_by,
        at=word.created,
        found=edge.status,
        approved_by=word.approved_by,
    )
    confirmed = EdgeStatus.VERIFIED if edge.status is EdgeStatus.VERIFIED else EdgeStatus.DECLARED
    status = EdgeStatus.REFUTED if said.word is EdgeWord.REJECTED else confirmed
    return msgspec.structs.replace(edge, status=status, said=said)


def is_shown(edge: LineageEdge) -> bool:
    """Whether no card names the parent, but weights or an administrator: its name may not be told to all."""
    return edge.asserted_by == BY_WEIGHTS or edge.evidence == SAID_SO


def as_declared(edge: LineageEdge) -> LineageEdge:
    """An edge that a card declares, for whoever may not read the parent: by a card's word nobody learns whether it is
    here."""
    said = unnamed(edge)
    rejected = said is not None and said.word is EdgeWord.REJECTED
    status = EdgeStatus.REFUTED if rejected else EdgeStatus.DECLARED
    return msgspec.structs.replace(edge, status=status, evidence=edge.evidence.partition(SAID)[0], said=said)


def unnamed(edge: LineageEdge) -> Said | None:
    """The word on an edge without what could name the parent."""
    return edge.said and msgspec.structs.replace(edge.said, reason="", by="an administrator", approved_by=None)


def unsettled(edges: Iterable[LineageEdge]) -> list[LineageEdge]:
    """Edges as they are without any word."""
    found = [edge for edge in edges if edge.evidence != SAID_SO]
    return [
        edge if edge.said is None else msgspec.structs.replace(edge, status=edge.said.found, said=None)
        for edge in found
    ]


def settled(
    session: Session, child: ModelRow, sha: str, digest: str, edges: Iterable[LineageEdge]
) -> list[LineageEdge]:
    """The edges of a revision with weights of this digest, under the words that are in force."""
    made = unsettled(edges)
    for word in words_for(session, child.key, digest):
        names = names_meant(session, word)
        hits = [at for at, e in enumerate(made) if e.relation not in NO_DESCENT and key_of(e.parent) in names]
        for at in hits:
            made[at] = with_word(made[at], word)
        if not hits:
            made.append(with_word(_only_said(session, child, sha, word), word))
    return made


def words_for(session: Session, model_key: int, digest: str) -> list[EdgeWordRow]:
    """Words in force on revisions with weights of this digest."""
    holds = sa.or_(EdgeWordRow.word == EdgeWord.CONFIRMED.value, EdgeWordRow.digest == digest)
    wanted = sa.select(EdgeWordRow).where(EdgeWordRow.model_key == model_key, EdgeWordRow.approved.is_not(None), holds)
    return list(session.scalars(wanted.order_by(EdgeWordRow.created)))


def names_meant(session: Session, word: EdgeWordRow) -> set[str]:
    """The folded ids by which edges name the parent that a word is about, also after it was moved."""
    row = session.get(ModelRow, word.parent_key) if word.parent_key is not None else None
    if row is None:
        return {word.parent_folded}
    former = sa.select(RedirectRow.folded).where(
        RedirectRow.model_key == row.key, RedirectRow.repo_type == RepoType.MODEL.value
    )
    names = {row.folded, *session.scalars(former)}
    others = sa.select(ModelRow.folded).where(
        ModelRow.repo_type == RepoType.MODEL.value,
        ModelRow.folded.in_(names),
        ModelRow.buried == 0,
        ModelRow.key != row.key,
    )
    return names - set(session.scalars(others))


def _only_said(session: Session, child: ModelRow, sha: str, word: EdgeWordRow) -> LineageEdge:
    row = session.get(ModelRow, word.parent_key) if word.parent_key is not None else None
    return LineageEdge(
        child=f"{child.namespace}/{child.name}",
        child_revision=sha,
        parent=word.parent if row is None else f"{row.namespace}/{row.name}",
        relation=Relation(word.relation),
        asserted_by=word.created_by,
        evidence=SAID_SO,
    )
