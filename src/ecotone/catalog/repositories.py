"""Repositories: making, finding, changing, moving and deleting them; likes and downloads."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.catalog.discussion_rows import DiscussionRow
from ecotone.catalog.entities import DEFAULT_BRANCH, File, Model
from ecotone.catalog.errors import ModelNotFound, RepoExists, ReservedId
from ecotone.catalog.events import Event
from ecotone.catalog.gitformat import build_commit, build_trees
from ecotone.catalog.manifests import encode
from ecotone.catalog.models import LikeRow, ModelRow, RedirectRow, RefRow, RevisionRow
from ecotone.catalog.names import RESERVED_SEGMENTS, key_of, split_id
from ecotone.catalog.part import visible
from ecotone.catalog.rights import Rights
from ecotone.database import Database, utc_now
from ecotone.licences import KnowledgeBase
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.vocabulary import Forbidden, Invalid, ModelKind, RepoType

log = logging.getLogger("ecotone.catalog")

_LARGE = (
    "7z arrow bin bz2 ckpt ftz gguf gz h5 joblib lz4 mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt "
    "pth rar safetensors tar tflite tgz wasm xz zip zst"
)
LARGE_SUFFIXES = tuple(_LARGE.split())
GITATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES).encode()
GATES = ("auto", "manual")
_DOWNLOAD_SESSION = 300.0
_DOWNLOADS_HELD = 5.0


class Repositories(Rights):
    """Services over the table of models."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        knowledge: KnowledgeBase,
        settings: Settings,
        starter: Mapping[str, Model],
    ) -> None:
        super().__init__(database, storage, knowledge, settings, starter)
        self.reserved_segments = RESERVED_SEGMENTS
        self._guards: list[Callable[[Model], None]] = []
        self._last_guards: list[Callable[[Session, Model], None]] = []
        self._downloads = DownloadCounter()

    def reserve(self, segments: Iterable[str]) -> None:
        """Add first path segments that no namespace may have (the app gives those of its route table)."""
        self.reserved_segments = self.reserved_segments | {s.casefold() for s in segments}

    def on_delete(self, guard: Callable[[Model], None]) -> None:
        """Register a guard that raises Conflict while something, such as a deployment, still uses a model."""
        self._guards.append(guard)

    def on_deleting(self, guard: Callable[[Session, Model], None]) -> None:
        """Register a guard that raises Conflict in the transaction that deletes a model: it sees what was written by
        any server that held the model (`hold`), and nothing more comes."""
        self._last_guards.append(guard)

    def hold(self, session: Session, model: Model) -> None:
        """Keep a model for as long as the transaction lasts. Raises ModelNotFound when it was deleted meanwhile."""
        self._locked(session, model)

    def check_unused(self, model: Model) -> None:
        """Raises Conflict, by a guard, while something uses a model that is about to be taken away."""
        for guard in self._guards:
            guard(model)

    # -- making and finding ------------------------------------------------------------------------------------------
    def create(
        self,
        model_id: str,
        *,
        repo_type: RepoType = RepoType.MODEL,
        private: bool,
        gated: str | None = None,
        actor: Actor,
    ) -> Model:
        """Make a repository with its first commit, which holds `.gitattributes`.

        Raises:
            RepoExists: carrying the model that has the name.
            ReservedId: for an id of the starter catalogue, unless an administrator asks.
            Forbidden: when the namespace is new, or the starter catalogue's, and the caller no administrator.
            BadName: when the id is not legal.
        """
        namespace, name = split_id(model_id, self.reserved_segments)
        if not actor.may_write:
            raise Forbidden("This token may only read; creating a repository needs one that may write.")
        folded = key_of(model_id)
        if folded in self._starter and repo_type is RepoType.MODEL and not actor.is_admin:
            raise ReservedId(f"{model_id!r} is reserved by the starter catalogue; only an administrator may import it.")
        first = self._first_commit(actor.name)
        try:
            with self._database.writing() as session:
                row = self._row(session, model_id, repo_type)
                if row is not None and row.folded == folded:
                    raise RepoExists(self._entity(row))
                self._check_new(session, namespace, actor)
                row = _new_row(namespace, name, repo_type, private, actor.name, utc_now())
                row.head, row.gated = first.sha, gated
                session.execute(  # before the name is taken, as by who moves another one to it
                    sa.delete(RedirectRow).where(RedirectRow.repo_type == repo_type.value, RedirectRow.folded == folded)
                )
                session.add(row)
                session.flush()
                first.model_key = row.key
                session.add(first)
                session.add(RefRow(model_key=row.key, ref=f"refs/heads/{DEFAULT_BRANCH}", sha=first.sha, message=""))
                self.events.tell(
                    session, Event(action="create", scope="repo", model=self._entity(row), actor=actor.name)
                )
        except IntegrityError:  # another writer on another process made it first
            raise RepoExists(self.model(model_id, viewer=actor, repo_type=repo_type)) from None
        return self._entity(row)

    def _first_commit(self, author: str) -> RevisionRow:
        content = self._storage.put_regular(GITATTRIBUTES)
        tree = build_trees({".gitattributes": content.git_oid})
        date = utc_now().replace(microsecond=0)
        commit = build_commit(tree.root, (), author, date, "Initial commit")
        for made in (*tree.objects, commit):
            self._storage.put_git_object(made.kind, made.data)
        files = {".gitattributes": File(".gitattributes", content, commit.oid)}
        return RevisionRow(
            sha=commit.oid,
            tree=tree.root,
            parents=[],
            title="Initial commit",
            message="",
            author=author,
            date=date,
            card={},
            card_text="",
            config={},
            weights={},
            findings=[],
            instruments=[],
            declared_licence=None,
            detected=[],
            size=len(GITATTRIBUTES),
            fingerprint="",
            manifest=encode(files),
        )

    def model(self, model_id: str, *, viewer: Actor, repo_type: RepoType = RepoType.MODEL) -> Model:
        """The repository or starter entry with this id (whatever its case), also by the id it had before a move.

        Raises:
            ModelNotFound: when it is absent or the viewer may not see it.
        """
        with self._database.reading() as session:
            row = self._row(session, model_id, repo_type)
        if row is not None:
            if not visible(row.private, viewer):
                raise ModelNotFound(model_id)
            return self._entity(row)
        starter = self._starter.get(key_of(model_id)) if repo_type is RepoType.MODEL else None
        if starter is None:
            raise ModelNotFound(model_id)
        return starter

    def model_by_key(self, key: int, *, viewer: Actor) -> Model:
        """The repository of a row, wherever it was moved. Raises ModelNotFound."""
        with self._database.reading() as session:
            row = session.get(ModelRow, key)
        if row is None or row.buried or not visible(row.private, viewer):
            raise ModelNotFound(f"number {key}")
        return self._entity(row)

    def api_models(self) -> list[Model]:
        """Starter entries that are reachable only through a provider."""
        return [m for m in self._starter.values() if m.kind is ModelKind.API]

    def provider_terms(self, namespace: str) -> str | None:
        """The terms that the starter catalogue knows for all models of a provider, if those are known and the same."""
        found = {i for m in self.api_models() if m.namespace == namespace for i in m.instruments}
        return found.pop() if len(found) == 1 else None

    # -- changing ----------------------------------------------------------------------------------------------------
    def update(
        self, model: Model, *, actor: Actor, private: bool | None = None, gated: str | bool | None = None
    ) -> Model:
        """Change visibility or gating; None leaves as it is, `gated=False` opens the gate.

        Raises:
            Forbidden: when the caller is neither the author nor an administrator, as for `move` and `delete`.
        """
        if gated not in (None, False, *GATES):
            raise Invalid(f"gated is {gated!r}; expected 'auto', 'manual' or false.", param="gated")
        with self._database.writing() as session:
            row = self._locked(session, model)
            self._check_author(session, row, actor)
            if private is not None:
                row.private = private
            if gated is not None:
                row.gated = str(gated) if gated else None
            changed = {"private": private, "gated": gated}
            config = {name: value for name, value in changed.items() if value is not None}
            told = Event(action="update", scope="repo.config", model=self._entity(row), actor=actor.name, config=config)
            if config:
                self.events.tell(session, told)
        return self._entity(row)

    def move(self, model: Model, to_id: str, *, actor: Actor) -> Model:
        """Give a repository a new id; the old one keeps leading to it.

        Storage deduplicates within a namespace, so a repository moves within its own only. A reserved id leads nowhere
        else: what stood there was vouched for by an administrator, what a writer commits elsewhere is not.
        """
        namespace, name = split_id(to_id, self.reserved_segments)
        folded = key_of(to_id)
        if folded in self._starter and model.repo_type is RepoType.MODEL and not actor.is_admin:
            raise ReservedId(f"{to_id!r} is reserved by the starter catalogue; choose another name.")
        if namespace != model.namespace:
            raise Invalid(
                f"A repository moves within its namespace only, which is {model.namespace!r}; upload it to "
                f"{namespace!r} instead.",
                param="toRepo",
            )
        try:
            with self._database.writing() as session:
                row = self._locked(session, model)
                self._check_author(session, row, actor)
                taken = self._row(session, to_id, model.repo_type)
                if taken is not None and taken.key != row.key:
                    raise RepoExists(self._entity(taken))
                for old in {row.folded, folded}:
                    session.execute(
                        sa.delete(RedirectRow).where(RedirectRow.repo_type == row.repo_type, RedirectRow.folded == old)
                    )
                if row.folded != folded and self._may_lead(model.repo_type, row.folded, folded):
                    session.add(RedirectRow(repo_type=row.repo_type, folded=row.folded, model_key=row.key))
                row.name, row.folded, row.updated = name, folded, utc_now()
                row.searched = row.searched.replace(key_of(model.id), folded, 1)
                session.flush()
                moved = Event(action="move", scope="repo", model=self._entity(row), actor=actor.name, was=model.id)
                self.events.tell(session, moved)
        except IntegrityError:  # another writer took the name in the same moment
            raise RepoExists(self.model(to_id, viewer=actor, repo_type=model.repo_type)) from None
        return self._entity(row)

    def delete(self, model: Model, actor: Actor) -> None:
        """Take a repository out of sight; a tombstone (id, lineage, licence) remains.

        Raises:
            Conflict: by a guard, while a deployment or route uses it.
        """
        with self._database.reading() as session:
            self._check_author(session, self._alive(session, model), actor)
        self.check_unused(model)
        with self._database.writing() as session:
            row = self._locked(session, model)
            for guard in self._last_guards:
                guard(session, model)
            gone = self._entity(row)
            row.buried = row.key
            row.updated = utc_now()
            session.execute(sa.delete(RefRow).where(RefRow.model_key == row.key))
            session.execute(sa.delete(RedirectRow).where(RedirectRow.model_key == row.key))
            session.execute(sa.delete(DiscussionRow).where(DiscussionRow.model_key == row.key))
            self.events.tell(session, Event(action="delete", scope="repo", model=gone, actor=actor.name))

    # -- likes and downloads -----------------------------------------------------------------------------------------
    def like(self, model: Model, actor: Actor, *, likes: bool) -> None:
        """Set or take back a user's like."""
        with self._database.writing() as session:
            row = self._locked(session, model)
            found = session.get(LikeRow, (row.key, actor.name))
            if likes and found is None:
                session.add(LikeRow(model_key=row.key, user=actor.name, created=utc_now()))
                row.likes += 1
            elif found is not None and not likes:
                session.delete(found)
                row.likes -= 1

    def likers(self, model: Model, *, after: str | None = None, limit: int = 1000) -> list[str]:
        """Users who like a repository, by name, those behind `after`."""
        with self._database.reading() as session:
            wanted = sa.select(LikeRow.user).where(LikeRow.model_key == model.key)
            if after is not None:
                wanted = wanted.where(LikeRow.user > after)
            return list(session.scalars(wanted.order_by(LikeRow.user).limit(limit)))

    def liked_by(
        self, user: str, *, viewer: Actor, after: int | None = None, limit: int = 1000
    ) -> list[tuple[Model, datetime]]:
        """What a user likes, as far as the viewer may see it; the newest repositories first.

        Args:
            after: the key of the last one of the page before.
        """
        wanted = (
            sa.select(ModelRow, LikeRow.created)
            .join(LikeRow, LikeRow.model_key == ModelRow.key)
            .where(LikeRow.user == user, ModelRow.buried == 0)
            .order_by(ModelRow.key.desc())
        )
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        if after is not None:
            wanted = wanted.where(ModelRow.key < after)
        with self._database.reading() as session:
            found = session.execute(wanted.limit(limit)).all()
        return [(self._entity(row), created) for row, created in found]

    def counts(self, namespace: str, *, viewer: Actor) -> dict[RepoType, int]:
        """How many repositories of each type a namespace has, as far as the viewer may see them; empty for none."""
        wanted = sa.select(ModelRow.repo_type, sa.func.count()).where(
            sa.func.lower(ModelRow.namespace) == namespace.lower(), ModelRow.buried == 0
        )
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        with self._database.reading() as session:
            found = session.execute(wanted.group_by(ModelRow.repo_type)).all()
        return {RepoType(kind): count for kind, count in found}

    def likes_given(self, user: str, *, viewer: Actor) -> int:
        """How many repositories that the viewer may see a user likes."""
        wanted = (
            sa.select(sa.func.count())
            .select_from(LikeRow)
            .join(ModelRow, LikeRow.model_key == ModelRow.key)
            .where(LikeRow.user == user, ModelRow.buried == 0)
        )
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        with self._database.reading() as session:
            return session.scalar(wanted) or 0

    def count_download(self, model: Model, who: str) -> None:
        """Count one download for each repository and caller within five minutes; written in batches."""
        due = self._downloads.add(model.key, who)
        if not due:
            return
        try:
            with self._database.writing() as session:
                for key, count in sorted(due.items()):  # as every server does, so that none waits in a circle
                    session.execute(
                        sa.update(ModelRow).where(ModelRow.key == key).values(downloads=ModelRow.downloads + count)
                    )
        except Exception:  # whoever reads must not be refused because the count cannot be written
            self._downloads.keep(due)
            log.warning("downloads could not be counted; it is tried again", exc_info=True)


class DownloadCounter:
    """Downloads not written yet, and who was counted lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[int, str], float] = {}
        self._waiting: dict[int, int] = {}
        self._written = 0.0

    def add(self, key: int, who: str) -> dict[int, int]:
        """Note a call; returns the counts that are due to be written now."""
        now = time.monotonic()
        with self._lock:
            if now - self._seen.get((key, who), -_DOWNLOAD_SESSION) >= _DOWNLOAD_SESSION:
                if len(self._seen) > 10_000:
                    self._seen.clear()
                self._seen[key, who] = now
                self._waiting[key] = self._waiting.get(key, 0) + 1
            if not self._waiting or now - self._written < _DOWNLOADS_HELD:
                return {}
            due, self._waiting, self._written = self._waiting, {}, now
            return due

    def keep(self, due: dict[int, int]) -> None:
        """Take back counts that could not be written."""
        with self._lock:
            for key, count in due.items():
                self._waiting[key] = self._waiting.get(key, 0) + count


def _new_row(namespace: str, name: str, repo_type: RepoType, private: bool, actor: str, now: datetime) -> ModelRow:
    folded = key_of(f"{namespace}/{name}")
    return ModelRow(
        repo_type=repo_type.value,
        namespace=namespace,
        name=name,
        folded=folded,
        buried=0,
        kind=ModelKind.WEIGHTS.value,
        private=private,
        gated=None,
        created=now,
        updated=now,
        created_by=actor,
        head=None,
        downloads=0,
        likes=0,
        title="",
        tags=[],
        pipeline_tag=None,
        library=None,
        licence=None,
        instruments=[],
        searched=f"\n{folded}\n",
        tagged="\n",
        parameters=None,
        small_bytes=len(GITATTRIBUTES),
    )
