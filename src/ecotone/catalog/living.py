"""What living repositories name: the ground on which garbage collection and checks of the store decide.

Every revision that is kept of a repository that was not deleted counts, also one that no branch leads to any more.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.catalog.entities import File
from ecotone.catalog.gitformat import build_trees
from ecotone.catalog.history import MAIN
from ecotone.catalog.manifests import decode
from ecotone.catalog.models import ModelRow, ObjectRow, RefRow, RevisionRow
from ecotone.catalog.objects import keep_objects
from ecotone.catalog.weight_rows import WeightFileRow
from ecotone.database import HELD, Database, batches, utc_now
from ecotone.storage import GONE

_BATCH = 500


class Kept(NamedTuple):
    """A revision of a living repository."""

    model_key: int
    repository: str
    namespace: str
    sha: str
    tree: str
    files: dict[str, File]


class Living:
    """Questions to the tables of the catalogue, a little at a time. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def naming(self, names: Iterable[str]) -> set[tuple[str, str]]:
        """(namespace, name) of those of some sha256 and Xet hashes that a living repository names."""
        wanted, found = sorted(set(names)), set[tuple[str, str]]()
        with self._database.reading() as session:
            for some in batches(wanted, _BATCH):
                rows = (
                    sa.select(ModelRow.namespace, ObjectRow.name)
                    .join(ModelRow, ModelRow.key == ObjectRow.model_key)
                    .where(ObjectRow.name.in_(some), ModelRow.buried == 0)
                )
                found |= {(namespace, name) for namespace, name in session.execute(rows.distinct())}
        return found

    def weights(self, names: set[str]) -> set[str]:
        """Those of some weight files that a repository names, or the tombstone of one."""
        with self._database.reading() as session:
            wanted = sa.select(WeightFileRow.name).where(WeightFileRow.name.in_(names)).distinct()
            return set(session.scalars(wanted))

    def git_ids(self) -> Iterator[str]:
        """Ids of all git objects that revisions are made of; many come more than once."""
        for kept in self.revisions():
            yield kept.sha
            yield kept.tree
            blobs = {path: file.content.git_oid for path, file in kept.files.items()}
            yield from build_trees(blobs).folders.values()
            yield from blobs.values()

    def revisions(self) -> Iterator[Kept]:
        """Every revision of every living repository, one manifest in memory at a time."""
        for key in self._keys():
            with self._database.reading() as session:
                model = session.get(ModelRow, key)
                shas = session.scalars(sa.select(RevisionRow.sha).where(RevisionRow.model_key == key)).all()
            if model is None or model.buried:
                continue
            name = f"{'' if model.repo_type == 'model' else model.repo_type + 's/'}{model.namespace}/{model.name}"
            for sha in shas:
                with self._database.reading() as session:
                    one = sa.select(RevisionRow.tree, RevisionRow.manifest).where(
                        RevisionRow.model_key == key, RevisionRow.sha == sha
                    )
                    found = session.execute(one).first()
                if found is not None:
                    yield Kept(key, name, model.namespace, sha, found.tree, decode(found.manifest))

    def _keys(self) -> Iterator[int]:
        """Keys of living repositories; one that is made meanwhile comes at the end."""
        after = 0
        while True:
            with self._database.reading() as session:
                wanted = sa.select(ModelRow.key).where(ModelRow.buried == 0, ModelRow.key > after)
                keys = session.scalars(wanted.order_by(ModelRow.key).limit(_BATCH)).all()
            if not keys:
                return
            yield from keys
            after = keys[-1]

    def lost_refs(self) -> list[tuple[str, str, str]]:
        """(repository, ref, commit) of refs that lead to no revision."""
        with self._database.reading() as session:
            rows = (
                sa.select(ModelRow.namespace, ModelRow.name, RefRow.ref, RefRow.sha)
                .join(ModelRow, ModelRow.key == RefRow.model_key)
                .outerjoin(
                    RevisionRow, sa.and_(RevisionRow.model_key == RefRow.model_key, RevisionRow.sha == RefRow.sha)
                )
                .where(RevisionRow.sha.is_(None), ModelRow.buried == 0)
            )
            return [(f"{namespace}/{name}", ref, sha) for namespace, name, ref, sha in session.execute(rows)]

    def unlisted(self, kept: Kept) -> list[str]:
        """sha256 and Xet hashes of a revision that the index of the repository's objects lacks."""
        names = {n for f in kept.files.values() for n in _names(f)}
        missing: list[str] = []
        with self._database.reading() as session:
            wanted = sorted(names)
            for some in batches(wanted, _BATCH):
                listed = sa.select(ObjectRow.name).where(
                    ObjectRow.model_key == kept.model_key, ObjectRow.name.in_(some)
                )
                missing += sorted(set(some) - set(session.scalars(listed)))
        return missing

    def list_again(self, kept: Kept) -> None:
        """Put the objects of a revision into the index."""
        with self._database.writing() as session:
            session.get(ModelRow, kept.model_key, with_for_update=HELD)  # a commit may bring the same ones
            keep_objects(session, kept.model_key, kept.files.values(), ref=MAIN, pushed=utc_now())


def forget_objects(session: Session, model_key: int) -> int:
    """Take out of the index of a repository's objects what none of its revisions names; returns how many.

    For the transaction that has removed revisions and holds the repository's row.
    """
    named: set[str] = set()
    shas = session.scalars(sa.select(RevisionRow.sha).where(RevisionRow.model_key == model_key)).all()
    for sha in shas:
        one = sa.select(RevisionRow.manifest).where(RevisionRow.model_key == model_key, RevisionRow.sha == sha)
        for file in decode(session.scalars(one).one()).values():
            named |= _names(file)
    listed = session.scalars(sa.select(ObjectRow.name).where(ObjectRow.model_key == model_key)).all()
    doomed = sorted(set(listed) - named)
    for some in batches(doomed, _BATCH):
        session.execute(sa.delete(ObjectRow).where(ObjectRow.model_key == model_key, ObjectRow.name.in_(some)))
    return len(doomed)


def _names(file: File) -> set[str]:
    """The hashes by which a file names its bytes; one that was deleted for good names none."""
    content = file.content
    return set() if content.kind == GONE else {n for n in (content.sha256, content.xet_hash) if n}
