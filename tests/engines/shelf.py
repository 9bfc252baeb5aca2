"""A small catalogue of folders, and engines over it: what tests of deployments stand on."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import File, LineageEdge, Model, ModelNotFound, Revision, RevisionNotFound
from ecotone.database import Base, Database, utc_now
from ecotone.engines import Engines
from ecotone.engines import models as _models  # noqa: F401  its table is made below
from ecotone.engines.supervision import Pace
from ecotone.policy import Action, Outcome
from ecotone.settings import Settings
from ecotone.storage import Content
from ecotone.vocabulary import ModelKind, Verdict
from tests.receiver import until
from tests.stores import empty_database

PACE = Pace(start=300, first_pause=0.3, probe_every=0.5, grace=3, settle=0.3, look=0.1)


_DATABASES: dict[Path, str] = {}  # of folders, whose engines may be started again


class Shelf:
    """What engines use of the catalogue, over plain folders: the revision of a folder is named by its place in time."""

    def __init__(self) -> None:
        self.revisions: dict[str, list[Path]] = {}
        self.hidden: set[str] = set()
        self.cards: dict[str, dict[str, Any]] = {}
        self.pins: dict[str, tuple[LineageEdge, ...]] = {}
        self.files: dict[tuple[str, str], dict[str, File]] = {}
        self.in_use = 0

    def put(self, model_id: str, folder: Path, card: dict[str, Any] | None = None) -> str:
        self.revisions.setdefault(model_id, []).append(folder)
        self.cards[model_id] = card or {}
        revision = f"{len(self.revisions[model_id]):040x}"
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.files[model_id, revision] = {
            path: File(path, Content(len(data), "", hashlib.sha256(data).hexdigest(), None, "lfs", None), revision)
            for path, data in found.items()
        }
        return revision

    def manifest(self, revision: Revision) -> dict[str, File]:
        return self.files[revision.model_id, revision.id]

    def model(self, model_id: str, *, viewer: Actor) -> Model:
        if model_id not in self.revisions or (model_id in self.hidden and viewer is not SYSTEM):
            raise ModelNotFound(model_id)
        namespace, _, name = model_id.partition("/")
        now = utc_now()
        count = len(self.revisions[model_id])
        head = f"{count:040x}" if count else None
        kind = ModelKind.WEIGHTS
        return Model(id=model_id, namespace=namespace, name=name, kind=kind, head=head, created=now, updated=now)

    def hold(self, _session: object, model: Model) -> None:
        self.model(model.id, viewer=SYSTEM)

    def revision(self, model: Model, rev: str = "main") -> Revision:
        wanted = model.head if rev == "main" else rev
        if wanted is None or not 0 < int(wanted, 16) <= len(self.revisions[model.id]):
            raise RevisionNotFound(model.id, rev)
        card = self.cards[model.id]
        return Revision(
            id=wanted,
            model_id=model.id,
            tree="",
            author="a",
            date=utc_now(),
            card=card,
            edges=self.pins.get(model.id, ()),
        )

    @contextlib.contextmanager
    def materialise(self, model: Model, revision: Revision) -> Iterator[Path]:
        self.in_use += 1
        try:
            yield self.revisions[model.id][int(revision.id, 16) - 1]
        finally:
            self.in_use -= 1


def outcome(allowed: bool = True) -> Outcome:
    verdict = Verdict.ALLOW if allowed else Verdict.DENY
    return Outcome(allowed=allowed, action=Action.SERVE, verdict=verdict, message="no project may call it: clause 2")


@contextlib.contextmanager
def running(folder: Path, shelf: Shelf, **more: Any) -> Iterator[Engines]:
    url = _DATABASES.setdefault(folder, empty_database() or f"sqlite:///{folder / 'engines.db'}")
    database = Database(url)
    Base.metadata.create_all(database.engine)
    settings = more.pop("settings", None) or Settings(data=folder)
    engines = Engines(database, shelf, settings, **({"may_serve": lambda *_: outcome(), "pace": PACE} | more))  # type: ignore[arg-type]
    try:
        yield engines
    finally:
        engines.shutdown()  # which waits for an engine's own thread for some seconds only
        until(lambda: shelf.in_use == 0)
        database.dispose()
