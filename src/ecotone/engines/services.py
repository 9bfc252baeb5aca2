"""Which models are served: rows that survive the server, one supervised engine for each.

Serving is decided before anything starts; each call is decided again by the gateway.
"""

import importlib.util
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Catalog, Model, Revision
from ecotone.database import Database, utc_now
from ecotone.engines.entities import Deployment
from ecotone.engines.errors import DeploymentNotFound, EngineFailed, ExtraMissing, NotServable
from ecotone.engines.models import DeploymentRow
from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import base_of
from ecotone.engines.sockets import Sockets
from ecotone.engines.supervision import Files, Pace, Supervised
from ecotone.policy import Outcome
from ecotone.settings import Settings
from ecotone.vocabulary import ModelKind, NotFound, Refused

_LIBRARIES = ("torch", "transformers", "safetensors")
_TAIL_BYTES = 64 * 1024


class MayServe(Protocol):
    """Policy's answer to serving a revision to projects (none named: to any)."""

    def __call__(self, model_id: str, revision: str, projects: tuple[str, ...]) -> Outcome: ...


class Engines:
    """Starts, shows and stops engines. Thread-safe."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        settings: Settings,
        *,
        may_serve: MayServe,
        pace: Pace | None = None,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._root = settings.data
        self._folder = settings.folder("engines")
        self._sockets = Sockets(self._folder / "run")
        self._may_serve = may_serve
        self._pace = pace or Pace(start=settings.engine_start)
        self._lock = threading.Lock()
        self._serving: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._running: dict[str, tuple[DeploymentRow, Supervised]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._may_run = threading.Event()
        self._may_run.set()
        self._closing = False

    # -- serving -----------------------------------------------------------------------------------------------------
    def serve(self, model_id: str, rev: str, projects: tuple[str, ...], actor: Actor) -> Deployment:
        """Serve a revision and return when it answers. Another revision of the model is replaced once the new one is
        ready; serving the same one again changes only its projects.

        Raises:
            Refused: no project that may be meant is allowed to call it.
            NotServable: its files cannot be served.
            ExtraMissing: the engine's libraries are not installed.
            EngineFailed: it did not start; with the end of its log.
        """
        model = self._catalog.model(model_id, viewer=actor)
        if model.kind != ModelKind.WEIGHTS or model.head is None:
            raise NotServable(f"{model.id} has no weights here; upload them, or add a backend that serves it.")
        revision = self._catalog.revision(model, rev)
        outcome = self._may_serve(model.id, revision.id, projects)
        if not outcome.allowed:
            raise Refused(outcome.message, decision=outcome.to_json())
        check_extra()
        with self._serving_of(model.id):
            return self._serve(model, revision, projects, actor)

    def _serve(self, model: Model, revision: Revision, projects: tuple[str, ...], actor: Actor) -> Deployment:
        old_row, old = self._running.get(model.id, (None, None))
        row = DeploymentRow(
            id=old_row.id if old_row else f"dep-{secrets.token_hex(6)}",
            model=model.id,
            revision=revision.id,
            projects=list(projects),
            actor=actor.name[:96],
            created=utc_now(),
        )
        stays = old is not None and old_row is not None and old_row.revision == revision.id and old.failure is None
        engine = old if stays and old is not None else self._start(row, actor, patient=False)
        if not stays and old is None:
            self._keep(row, engine)  # is seen while it starts
        try:
            engine.wait_ready(self._pace.start + 5)
        except BaseException:
            if not stays:
                engine.stop()
                if old is None:
                    self._forget(model.id)
            raise
        with self._database.writing() as session:
            session.merge(row)
        self._keep(row, engine)
        if old is not None and not stays:
            old.stop()
        return self._deployment(row, engine)

    def stop(self, model_id: str) -> None:
        """End a model's engine for good.

        Raises:
            DeploymentNotFound: none serves it.
        """
        found = self._found(model_id)
        with self._lock:
            starting = self._running[found][1]
        starting.stop()  # also one that somebody waits for
        with self._serving_of(found):
            with self._database.writing() as session:
                session.execute(sa.delete(DeploymentRow).where(DeploymentRow.model == found))
            entry = self._forget(found)
            if entry is not None:
                entry[1].stop()

    def deployments(self) -> list[Deployment]:
        """What runs or should run, by model."""
        with self._lock:
            entries = sorted(self._running.items())
        return [self._deployment(row, engine) for _, (row, engine) in entries]

    def logs(self, model_id: str) -> str:
        """The end of what a model's engine wrote."""
        with self._lock:
            entry = self._running[self._found_locked(model_id)]
        file = entry[1].log_file
        if not file.exists():
            return ""
        with open(file, "rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            return opened.read().decode("utf-8", "replace")

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of any deployment, in whatever thread it happens."""
        self._listeners.append(listener)

    # -- life --------------------------------------------------------------------------------------------------------
    def restore(self) -> None:
        """Bring back what was served before: seen as starting at once, whether held or not."""
        with self._database.reading() as session:
            rows = session.scalars(sa.select(DeploymentRow).order_by(DeploymentRow.created)).all()
        for row in rows:
            self._keep(row, self._start(row, SYSTEM, patient=True))

    def hold(self) -> None:
        """Start no engine until `own` is called: another process of this installation still has its own."""
        self._may_run.clear()

    def own(self) -> None:
        """Engines may run: no other process of this installation has any."""
        self._sockets.sweep()
        self._may_run.set()

    def shutdown(self) -> None:
        """End all engines; they are restored at the next start."""
        self._closing = True
        self._may_run.set()
        with self._lock:
            engines = [engine for _, engine in self._running.values()]
            self._running.clear()
        if engines:
            with ThreadPoolExecutor(max_workers=len(engines)) as pool:
                list(pool.map(Supervised.stop, engines))

    # -- inside ------------------------------------------------------------------------------------------------------
    def _start(self, row: DeploymentRow, viewer: Actor, *, patient: bool) -> Supervised:
        return Supervised(
            row.model,
            lambda: self._files(row.model, row.revision, viewer),
            sockets=self._sockets,
            log_file=self._folder / row.id / "log",
            changed=self._tell,
            pace=self._pace,
            info={"model": row.model, "revision": row.revision},
            root=self._root,
            patient=patient,
        )

    @contextmanager
    def _files(self, model_id: str, rev: str, viewer: Actor) -> Iterator[Files]:
        self._may_run.wait()
        if self._closing:
            raise EngineFailed(f"{model_id} is not started: the server ends.")
        check_extra()
        model = self._catalog.model(model_id, viewer=SYSTEM)
        revision = self._catalog.revision(model, rev)
        with ExitStack() as stack:
            folder = stack.enter_context(self._catalog.materialise(model, revision))
            base = self._base(model, revision, folder, viewer)
            yield Files(folder, None if base is None else stack.enter_context(self._catalog.materialise(*base)))

    def _base(self, model: Model, revision: Revision, folder: Path, viewer: Actor) -> tuple[Model, Revision] | None:
        """An adapter's base, at the revision that the adapter was made from where that is told: what its configuration
        names, else what its card names, if the viewer may see it (an adapter must not be a way to call somebody's
        private model)."""
        try:
            named = base_of(folder)
        except Unloadable as error:
            raise NotServable(f"{model.id} cannot be served: {error}") from None
        if named is None:
            return None
        check_extra("peft")
        pinned = next((e.parent_revision for e in revision.edges if e.parent_revision), None)
        card = revision.card.get("base_model")
        for candidate in (named, *(card if isinstance(card, list) else [card])):
            try:
                base = self._catalog.model(str(candidate), viewer=viewer)
                if base.head is not None:
                    return base, self._catalog.revision(base, pinned or "main")
            except NotFound:
                continue
        raise NotServable(
            f"{model.id} is an adapter of {named!r}, and the hub holds no weights of that; publish the base first."
        )

    def _serving_of(self, model_id: str) -> threading.Lock:
        with self._lock:
            return self._serving[model_id]

    def _keep(self, row: DeploymentRow, engine: Supervised) -> None:
        with self._lock:
            self._running[row.model] = (row, engine)
        self._tell()

    def _forget(self, model_id: str) -> tuple[DeploymentRow, Supervised] | None:
        with self._lock:
            found = self._running.pop(model_id, None)
        self._tell()
        return found

    def _found(self, model_id: str) -> str:
        with self._lock:
            return self._found_locked(model_id)

    def _found_locked(self, model_id: str) -> str:
        found = next((name for name in self._running if name.lower() == model_id.lower()), None)
        if found is None:
            raise DeploymentNotFound(model_id)
        return found

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    @staticmethod
    def _deployment(row: DeploymentRow, engine: Supervised) -> Deployment:
        socket = engine.socket
        return Deployment(
            id=row.id,
            model=row.model,
            revision=row.revision,
            state=engine.state,
            projects=tuple(row.projects),
            task=engine.info.get("task"),
            socket=None if socket is None else str(socket),
            pid=engine.pid,
            restarts=engine.restarts,
            started=engine.started,
            error=engine.error,
            context_length=engine.info.get("context_length"),
            info=engine.info,
        )


def check_extra(*more: str) -> None:
    """Whether the engine's libraries are installed, without loading them.

    Raises:
        ExtraMissing: naming the first that is not, and what to run.
    """
    for library in (*_LIBRARIES, *more):
        if importlib.util.find_spec(library) is None:
            raise ExtraMissing(library)
