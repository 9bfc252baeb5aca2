"""What administrators say of lineage edges: kept with who and when, and laid on the revisions that it speaks of."""

import contextlib
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.catalog.entities import LineageEdge, Model, Revision, Said
from ecotone.catalog.history import edge_of, edge_row
from ecotone.catalog.models import EdgeRow, EdgeWordRow, ModelRow, RefRow
from ecotone.catalog.names import key_of
from ecotone.catalog.settled import names_meant, settled, unsettled, with_word, words_for
from ecotone.catalog.weight_rows import WeightSetRow
from ecotone.catalog.weights import WeightSets
from ecotone.database import HELD, alone, utc_now
from ecotone.vocabulary import EdgeWord, NotFound, Relation, RepoType

_MOST_LISTED = 1000


class WordNotFound(NotFound):
    code = "word_not_found"

    def __init__(self, word_id: str) -> None:
        super().__init__(f"There is no word {word_id!r}; `ecotone lineage words` shows the ids of all.", param="word")


class KeptWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word on the edges from a model to a parent. `revision` is the one that it was said of; it waits while nobody
    has approved it."""

    id: str
    model: str
    revision: str
    parent: str
    relation: Relation
    word: EdgeWord
    reason: str
    by: str
    created: datetime
    approved: datetime | None = None
    approved_by: str | None = None

    @property
    def waits(self) -> bool:
        return self.approved is None


class EdgeWords(WeightSets):
    """Services over words on edges."""

    def words(self, model: Model | None = None) -> list[KeptWord]:
        """The words on edges of one model, or of all; the newest first."""
        wanted = sa.select(EdgeWordRow, ModelRow).join(ModelRow, ModelRow.key == EdgeWordRow.model_key)
        if model is not None:
            wanted = wanted.where(EdgeWordRow.model_key == model.key)
        with self._database.reading() as session:
            rows = session.execute(wanted.order_by(EdgeWordRow.created.desc(), EdgeWordRow.id).limit(_MOST_LISTED))
            return [_kept(word, row) for word, row in rows]

    def word(self, word_id: str) -> KeptWord:
        """Raises WordNotFound."""
        with self._database.reading() as session:
            word = session.get(EdgeWordRow, word_id)
            row = session.get(ModelRow, word.model_key) if word is not None else None
        if word is None or row is None:
            raise WordNotFound(word_id)
        return _kept(word, row)

    def said_of_parents(self, model: Model, digest: str) -> dict[int, Said]:
        """The words in force on a model with weights of this digest, by the key of the parent that they are about."""
        with self._database.reading() as session:
            found = {}
            for word in words_for(session, model.key, digest):
                edge = with_word(
                    LineageEdge(child=model.id, parent=word.parent, relation=Relation(word.relation)), word
                )
                parent = word.parent_key
                if parent is None:
                    row = self._row(session, word.parent, RepoType.MODEL)
                    parent = row.key if row is not None else None
                if parent is not None and edge.said is not None:
                    found[parent] = edge.said
        return found

    def settled_edges(
        self, model: Model, digest: str, edges: Iterable[LineageEdge], sha: str = ""
    ) -> list[LineageEdge]:
        """Edges of a revision with weights of this digest, as the words in force make them."""
        with self._database.reading() as session:
            row = session.get(ModelRow, model.key)
            return list(edges) if row is None else settled(session, row, sha, digest, edges)

    def keep_word(
        self,
        model: Model,
        revision: Revision,
        digest: str,
        parent: str,
        relation: Relation,
        word: EdgeWord,
        reason: str,
        *,
        by: str,
        waits: bool,
        check: Callable[[], None] | None = None,
    ) -> KeptWord:
        """Keep a word, and lay it on the edges unless it waits for approval. An earlier one on the same edge gives way
        once the new one is in force.

        Args:
            digest: of the revision's weights, empty when it has none.
            check: raises where the word may not be kept; from before it until the word is kept no other is checked.
        """
        now = utc_now()
        with self._database.writing() as session:
            _checked(session, check)
            row = self._locked(session, model)
            about = self._row(session, parent, RepoType.MODEL) or self._buried(session, parent)
            new = EdgeWordRow(
                id="w" + secrets.token_hex(4),
                model_key=row.key,
                sha=revision.id,
                digest=digest,
                parent=parent,
                parent_folded=key_of(parent),
                parent_key=about.key if about is not None else None,
                relation=relation.value,
                word=word.value,
                reason=reason,
                created=now,
                created_by=by,
                approved=None if waits else now,
                approved_by=None if waits else by,
            )
            session.add(new)
            session.flush()
            self._in_place(session, row, new)
            return _kept(new, row)

    def approve_word(self, word_id: str, *, by: str) -> KeptWord:
        """Put a word in force."""
        with self._database.writing() as session:
            word, row = _held(session, word_id)
            word.approved, word.approved_by = utc_now(), by
            session.flush()
            self._in_place(session, row, word)
            return _kept(word, row)

    def remove_word(self, word_id: str, *, check: Callable[[], None] | None = None) -> KeptWord:
        """Take a word back: its edges are again what they were found to be. `check` as for `keep_word`."""
        with self._database.writing() as session:
            _checked(session, check)
            word, row = _held(session, word_id)
            kept = _kept(word, row)
            self._lay(session, row, self._taken_off(session, word))
        return kept

    def forget_own_approvals(self) -> None:
        """Where four eyes are asked for, a rejection that its author approved while that was allowed counts no more."""
        own = sa.func.lower(EdgeWordRow.approved_by) == sa.func.lower(EdgeWordRow.created_by)
        of = (EdgeWordRow.word == EdgeWord.REJECTED.value, own)
        with self._database.reading() as session:
            ids = list(session.scalars(sa.select(EdgeWordRow.id).where(*of)))
        for word_id in ids:
            with contextlib.suppress(WordNotFound), self._database.writing() as session:
                word, row = _held(session, word_id)
                word.approved = word.approved_by = None
                session.flush()
                self._lay(session, row, self._shas_of(session, word))

    # -- the edges -----------------------------------------------------------------------------------------------------
    def _in_place(self, session: Session, row: ModelRow, new: EdgeWordRow) -> None:
        """Take off what a word replaces, and lay it on when it is in force."""
        names = names_meant(session, new)
        others = sa.select(EdgeWordRow).where(EdgeWordRow.model_key == row.key, EdgeWordRow.id != new.id)
        touched: set[str] = set()
        for other in list(session.scalars(others)):
            one_edge = other.digest == new.digest or EdgeWord.CONFIRMED.value in (other.word, new.word)
            in_turn = other.word == new.word if other.approved is None else new.approved is not None
            if one_edge and in_turn and names_meant(session, other) & names:
                touched |= self._taken_off(session, other)
        if new.approved is not None:
            touched |= self._shas_of(session, new)
        self._lay(session, row, touched)

    def _taken_off(self, session: Session, word: EdgeWordRow) -> set[str]:
        """Delete a word; returns the revisions whose edges it was on."""
        shas = set(session.scalars(sa.select(EdgeRow.sha).where(EdgeRow.word_id == word.id)))
        session.execute(sa.update(EdgeRow).where(EdgeRow.word_id == word.id).values(word_id=None))
        session.delete(word)
        session.flush()
        session.expire_all()
        return shas

    def _shas_of(self, session: Session, word: EdgeWordRow) -> set[str]:
        """The revisions that a word speaks of: those with the same weights, the newest of each ref, and its own."""
        refs = sa.select(RefRow.sha).where(RefRow.model_key == word.model_key)
        same = sa.select(WeightSetRow.sha).where(
            WeightSetRow.model_key == word.model_key, WeightSetRow.digest == word.digest
        )
        return {word.sha, *session.scalars(refs), *session.scalars(same)}

    def _lay(self, session: Session, row: ModelRow, shas: Iterable[str]) -> None:
        """Write the edges of revisions anew under the words that are in force."""
        name = f"{row.namespace}/{row.name}"
        for sha in sorted(shas):
            weights = session.get(WeightSetRow, (row.key, sha))
            at = (EdgeRow.model_key == row.key, EdgeRow.sha == sha)
            old = [edge_of(e, name) for e in session.scalars(sa.select(EdgeRow).where(*at).order_by(EdgeRow.key))]
            raw = unsettled(old)
            new = settled(session, row, sha, weights.digest if weights is not None else "", raw)
            session.execute(sa.delete(EdgeRow).where(*at))
            session.add_all(edge_row(row.key, sha, edge) for edge in new)
        session.flush()


def _checked(session: Session, check: Callable[[], None] | None) -> None:
    if check is not None:
        alone(session, "edge words")
        check()


def _held(session: Session, word_id: str) -> tuple[EdgeWordRow, ModelRow]:
    """A word and the model that it is on, both held. The model first, as whoever writes edges holds it and then its
    words. Raises WordNotFound."""
    found = session.get(EdgeWordRow, word_id)
    row = session.get(ModelRow, found.model_key, with_for_update=HELD) if found is not None else None
    word = session.get(EdgeWordRow, word_id, with_for_update=True, populate_existing=True)
    if word is None or row is None:
        raise WordNotFound(word_id)
    return word, row


def _kept(word: EdgeWordRow, row: ModelRow) -> KeptWord:
    return KeptWord(
        id=word.id,
        model=f"{row.namespace}/{row.name}",
        revision=word.sha,
        parent=word.parent,
        relation=Relation(word.relation),
        word=EdgeWord(word.word),
        reason=word.reason,
        by=word.created_by,
        created=word.created,
        approved=word.approved,
        approved_by=word.approved_by,
    )
