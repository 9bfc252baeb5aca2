"""Which large objects a repository names: what may be read of the store in its name, and what it takes of room."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.catalog.entities import File, LargeFile, Model, NewRevision, StoredRepo
from ecotone.catalog.manifests import decode
from ecotone.catalog.models import LargeFileRow, ModelRow, ObjectRow, RevisionRow
from ecotone.catalog.part import Part
from ecotone.database import batches
from ecotone.storage import GONE


class Objects(Part):
    """Services over the index of large objects."""

    def holds(self, model: Model, name: str) -> bool:
        """Whether some revision of a repository has a file with this sha256 or Xet hash."""
        with self._database.reading() as session:
            return session.get(ObjectRow, (model.key, name)) is not None

    def held(self, model: Model, names: Iterable[str]) -> set[str]:
        """Those of some sha256 and Xet hashes that a repository has."""
        found: set[str] = set()
        with self._database.reading() as session:
            for some in batches(sorted(set(names))):
                wanted = sa.select(ObjectRow.name).where(ObjectRow.model_key == model.key, ObjectRow.name.in_(some))
                found |= set(session.scalars(wanted))
        return found

    def large_files(self, model: Model, *, after: str = "", limit: int = 100) -> list[LargeFile]:
        """The large files of all revisions, ordered by sha256, those behind `after`."""
        wanted = sa.select(LargeFileRow).where(LargeFileRow.model_key == model.key, LargeFileRow.sha256 > after)
        with self._database.reading() as session:
            rows = session.scalars(wanted.order_by(LargeFileRow.sha256).limit(limit))
            return [LargeFile(r.sha256, r.size, r.path, r.ref, r.pushed) for r in rows]

    def used_storage(self, models: Sequence[Model]) -> dict[int, int]:
        """Bytes that repositories take, by their key: all their large files, and the small ones of main."""
        found: dict[int, int] = {}
        with self._database.reading() as session:
            keys = [str(model.key) for model in models]
            for some in batches(keys):
                found |= {key: int(size) for key, size in session.execute(_sizes([int(key) for key in some]))}
        return found

    def repositories_of(
        self, author: str | None, *, viewer: Actor, after: int = 0, limit: int = 100
    ) -> list[StoredRepo]:
        """Repositories of every type in a namespace (everywhere when None) that the viewer sees, oldest first.

        Args:
            after: the key of the last one of the page before.
        """
        wanted = sa.select(ModelRow).where(ModelRow.buried == 0, ModelRow.head.is_not(None), ModelRow.key > after)
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        if author is not None:
            wanted = wanted.where(sa.func.lower(ModelRow.namespace) == author.lower())
        with self._database.reading() as session:
            models = [self._entity(row) for row in session.scalars(wanted.order_by(ModelRow.key).limit(limit))]
        sizes = self.used_storage(models)
        return [StoredRepo(model, sizes.get(model.key, 0)) for model in models]


def _sizes(keys: Sequence[int]) -> "sa.Select[int, int]":
    large = (
        sa.select(sa.func.coalesce(sa.func.sum(LargeFileRow.size), 0))
        .where(LargeFileRow.model_key == ModelRow.key)
        .scalar_subquery()
    )
    return sa.select(ModelRow.key, ModelRow.small_bytes + large).where(ModelRow.key.in_(keys))


def deleted_since(session: Session, model_key: int, new: NewRevision, expected: str | None) -> str | None:
    """The revision from which a new one takes over a large file that was deleted for good since it was read there.

    For the transaction that makes the new one visible: history may stay as it is when files are deleted for good, so
    that the refs alone do not tell.

    Args:
        expected: what the ref points at, whose files those are that a commit without parents leaves unchanged.
    """
    changed = set(new.changed)
    large = {p: f.content.sha256 for p, f in new.files.items() if f.content.sha256 and f.content.kind != GONE}
    kept = {path: sha256 for path, sha256 in large.items() if path not in changed}
    brought = {path: sha256 for path, sha256 in large.items() if path in changed}
    first, *others = new.revision.parents or (expected,)
    for sha, taken in ((first, kept), *((other, brought) for other in others)):
        at = (RevisionRow.model_key == model_key, RevisionRow.sha == sha)
        manifest = session.scalar(sa.select(RevisionRow.manifest).where(*at)) if taken else None
        for path, file in decode(manifest).items() if manifest is not None else ():
            if file.content.kind == GONE and taken.get(path) == file.content.sha256:
                return sha
    return None


def keep_objects(session: Session, model_key: int, files: Iterable[File], *, ref: str, pushed: datetime) -> None:
    """Note the sha256 and Xet hash of each large file that was not deleted for good; those that are known stay."""
    large = {f.content.sha256: f for f in files if f.content.sha256 is not None and f.content.kind != GONE}
    names = {n for f in large.values() for n in (f.content.sha256, f.content.xet_hash) if n is not None}
    for some in batches(sorted(names)):
        known = sa.select(ObjectRow.name).where(ObjectRow.model_key == model_key, ObjectRow.name.in_(some))
        fresh = set(some) - set(session.scalars(known))
        if fresh:
            session.execute(sa.insert(ObjectRow), [{"model_key": model_key, "name": name} for name in sorted(fresh)])
    for some in batches(sorted(large)):
        listed = sa.select(LargeFileRow.sha256).where(
            LargeFileRow.model_key == model_key, LargeFileRow.sha256.in_(some)
        )
        new = set(some) - set(session.scalars(listed))
        if new:
            rows = [
                {
                    "model_key": model_key,
                    "sha256": name,
                    "size": large[name].content.size,
                    "path": large[name].path,
                    "ref": ref[:255],
                    "pushed": pushed,
                }
                for name in sorted(new)
            ]
            session.execute(sa.insert(LargeFileRow), rows)
