"""Which models are served: rows that survive the server, and the fleets of engines that serve them.

Serving is decided before anything starts; each call is decided again by the gateway.
"""

import contextlib
import logging
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import sqlalchemy as sa

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Catalog, Model, Revision
from ecotone.database import Database, utc_now
from ecotone.engines.bases import base_for, is_adapter, may_share
from ecotone.engines.deployed import Deployed, described
from ecotone.engines.entities import Deployment
from ecotone.engines.errors import DeploymentNotFound, EngineFailed, NotServable, NotSupported
from ecotone.engines.fleets import Fleet, engine_options, key_of
from ecotone.engines.kinds import check_installed, named
from ecotone.engines.kinds.kind import Options
from ecotone.engines.memory import SHARE, Memory, need_of, of_machine
from ecotone.engines.models import DeploymentRow
from ecotone.engines.sockets import Sockets
from ecotone.engines.supervision import Files, Pace, Supervised
from ecotone.engines.tending import Tending
from ecotone.engines.verifying import Verified
from ecotone.engines.waking import Ear
from ecotone.policy import Outcome
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError, ModelKind, NotFound, Refused

log = logging.getLogger("ecotone.engines")

_TAIL_BYTES = 64 * 1024
_MOST_REPLICAS = 64
_ATTACH_PAUSES = (1.0, 5.0, 30.0)


class MayServe(Protocol):
    """Policy's answer to serving a revision to projects (none named: to any)."""

    def __call__(self, model_id: str, revision: str, projects: tuple[str, ...]) -> Outcome: ...


class Engines:
    """Starts, shows, loads, unloads and stops engines. Thread-safe."""

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
        self._verified = Verified(self._folder / "verified")
        self._may_serve = may_serve
        self._pace = pace or Pace(start=settings.engine_start)
        self._lock = threading.RLock()
        self._serving: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._deployed: dict[str, Deployed] = {}
        self._fleets: dict[tuple[str, str, bytes], Fleet] = {}
        self._retiring: set[Fleet] = set()
        self._merged: set[tuple[str, str]] = set()
        """Bases whose engines take no adapters while they run."""
        self._listeners: list[Callable[[], None]] = []
        self._may_run = threading.Event()
        self._may_run.set()
        self._closing = False
        self._ear: Ear | None = None
        self._tending = Tending(
            Memory(settings.engine_memory or int(of_machine() * SHARE)), self._tended, settings.engine_idle, self._pace
        )

    # -- serving -----------------------------------------------------------------------------------------------------
    def serve(
        self, model_id: str, rev: str, projects: tuple[str, ...], actor: Actor, options: Options | None = None
    ) -> Deployment:
        """Serve a revision and return when it answers (at once where it is loaded on demand). Another revision of the
        model, or other options, are replaced once the new engines are ready; serving the same again changes only its
        projects and when it is unloaded. Without options those that it has stay.

        Raises:
            Refused: no project that may be meant is allowed to call it.
            NotServable: its files cannot be served, or the options make no sense.
            ExtraMissing: the engine's libraries are not installed.
            NoRoom: there is no memory for it; with the numbers.
            EngineFailed: it did not start; with the end of its log.
        """
        model = self._catalog.model(model_id, viewer=actor)
        options = options or self._options_of(model.id)
        kind = named(options.kind)
        _check(options)
        kind.check(options)
        if model.kind != ModelKind.WEIGHTS or model.head is None:
            raise NotServable(f"{model.id} has no weights here; upload them, or add a backend that serves it.")
        revision = self._catalog.revision(model, rev)
        outcome = self._may_serve(model.id, revision.id, projects)
        if not outcome.allowed:
            raise Refused(outcome.message, decision=outcome.to_json())
        check_installed(kind)
        with self._serving_of(model.id):
            return self._serve(model, revision, projects, options, actor)

    def _serve(
        self, model: Model, revision: Revision, projects: tuple[str, ...], options: Options, actor: Actor
    ) -> Deployment:
        old = self._deployed.get(model.id)
        row = DeploymentRow(
            id=old.row.id if old is not None else f"dep-{secrets.token_hex(6)}",
            model=model.id,
            revision=revision.id,
            projects=list(projects),
            options=msgspec.to_builtins(options),
            actor=actor.name[:96],
            created=utc_now(),
        )
        new = self._on_base(row, model, revision, options, actor) or self._alone(row, options, actor)
        with self._database.writing() as session:
            session.merge(_copy(row))
        self._keep(new)
        if new.adapter is None and new.fleet is not None:
            self._gather(new.fleet)
        if old is not None and old is not new:
            self._replace(old, new)
        return self._described(new)

    def _alone(self, row: DeploymentRow, options: Options, viewer: Actor) -> Deployed:
        """Serve a model by engines of its own."""
        old = self._deployed.get(row.model)
        fleet = self._use(row.model, row.revision, options, row.model, viewer)
        new = Deployed(row, options, fleet)
        if old is None:
            self._keep(new)  # is seen while it starts
        if options.on_demand and not fleet.is_loaded:
            return new
        try:
            fleet.load(patient=False, anew=True)
            fleet.wait_ready(self._pace.start + 5)
        except BaseException:
            if old is None:
                self._forget(row.model)
            if old is None or old.fleet is not fleet:
                self._release(fleet, row.model, at_once=True)
            raise
        return new

    def _on_base(
        self, row: DeploymentRow, model: Model, revision: Revision, options: Options, viewer: Actor
    ) -> Deployed | None:
        """Serve an adapter on an engine of its base. None where it is none, or has to be merged into its base."""
        if options.kind != "builtin" or not is_adapter(self._catalog, revision):
            return None
        name, old = f"{model.id}@{revision.id}", self._deployed.get(model.id)
        with ExitStack() as stack:
            folder = self._whole(stack, model, revision)
            found = base_for(self._catalog, model, revision, folder, viewer)
            if found is None or (found[0].id, found[1].id) in self._merged:
                return None
            base, base_revision = found
            with ExitStack() as looking:
                if not may_share(folder, self._whole(looking, base, base_revision)):
                    return None
            fleet = self._use(base.id, base_revision.id, self._base_options(base.id, base_revision.id, options),
                              model.id, SYSTEM)  # fmt: skip
            new = Deployed(row, options, fleet, adapter=name)
            if old is None:
                self._keep(new)
            try:
                fleet.load(patient=False, anew=True)
                fleet.wait_ready(self._pace.start + 5)
                if name not in fleet.adapters:
                    fleet.add(name, folder)
            except BaseException as error:
                if old is None:
                    self._forget(model.id)
                if old is None or old.fleet is not fleet:
                    self._release(fleet, model.id, at_once=True)
                if isinstance(error, NotSupported):
                    log.info("%s is merged into a base of its own: %s", model.id, error.message)
                    self._merged.add((base.id, base_revision.id))
                    return None
                raise
            new.held = stack.pop_all()
        return new

    def _base_options(self, base: str, revision: str, options: Options) -> Options:
        """Those of the base's own deployment where the adapter asks for none of its own, so that they share it."""
        public = self._deployed.get(base)
        fleet = public.fleet if public is not None and public.adapter is None else None
        if engine_options(options) != Options() or fleet is None or fleet.revision != revision:
            return engine_options(options)
        return fleet.options if fleet.options.kind == "builtin" else Options()

    def _gather(self, fleet: Fleet) -> None:
        """Let adapters that run on another copy of this fleet's revision move to it, where they asked for nothing of
        their own: one copy of a base is enough."""
        if fleet.options.kind != "builtin":
            return
        for other in list(self._deployed.values()):
            apart = other.fleet
            if other.adapter is None or apart is None or apart is fleet or other.over:
                continue
            is_same = (apart.model, apart.revision) == (fleet.model, fleet.revision)
            if not is_same or engine_options(other.options) != Options():
                continue
            try:
                fleet.add(other.adapter, apart.adapters[other.adapter])
            except (EcotoneError, KeyError) as error:
                log.warning("%s stays on its own copy of %s: %s", other.model, fleet.model, error)
                continue
            fleet.users.add(other.model)
            other.fleet = fleet
            self._tell()
            self._release(apart, other.model)

    def _replace(self, old: Deployed, new: Deployed) -> None:
        """Let what served a model before end once its last answers are over."""
        old.over = True
        fleet = old.fleet
        if fleet is None:
            old.held.close()
        elif old.adapter is not None and (fleet is not new.fleet or old.adapter != new.adapter):
            name, held = old.adapter, old.held
            self._behind(lambda: self._drop(fleet, name, held, keep=fleet is new.fleet, user=old.model))
        elif old.adapter is not None:
            old.held.close()
        elif fleet is not new.fleet:
            self._release(fleet, old.model)

    def _drop(self, fleet: Fleet, name: str, held: ExitStack, *, keep: bool, user: str) -> None:
        """Take an adapter from an engine when every gateway knows of its successor."""
        fleet.rest(self._pace.settle)
        fleet.remove(name)
        held.close()
        if not keep:
            self._release(fleet, user)

    def stop(self, model_id: str) -> None:
        """End a deployment for good.

        Raises:
            DeploymentNotFound: none serves it.
        """
        found = self._found(model_id)
        with self._lock:
            starting = self._deployed[found]
            starting.over = True
        if starting.fleet is not None and starting.fleet.users <= {found}:
            starting.fleet.stop()  # also one that somebody waits for
        with self._serving_of(found):
            with self._database.writing() as session:
                session.execute(sa.delete(DeploymentRow).where(DeploymentRow.model == found))
            gone = self._forget(found)
            if gone is not None:
                self._end(gone)

    def _end(self, deployed: Deployed) -> None:
        deployed.over = True
        fleet = deployed.fleet
        if fleet is not None:
            if deployed.adapter is not None and fleet.users != {deployed.model}:
                fleet.remove(deployed.adapter)
            self._release(fleet, deployed.model, at_once=True)
        deployed.held.close()

    def deployments(self) -> list[Deployment]:
        """What runs or should run, by model."""
        with self._lock:
            found = sorted(self._deployed.items())
        return [self._described(deployed) for _, deployed in found]

    def logs(self, model_id: str) -> str:
        """The end of what a model's engines wrote."""
        with self._lock:
            fleet = self._deployed[self._found_locked(model_id)].fleet
        texts = []
        for replica in list(fleet.replicas) if fleet is not None else []:
            with contextlib.suppress(FileNotFoundError), open(replica.log_file, "rb") as opened:
                opened.seek(max(0, replica.log_file.stat().st_size - _TAIL_BYTES))
                texts.append(opened.read().decode("utf-8", "replace"))
        if len(texts) < 2:
            return "".join(texts)
        return "\n".join(f"--- replica {number} ---\n{text}" for number, text in enumerate(texts))

    def wake(self, model_id: str) -> None:
        """Have a deployed model loaded, if it is not. Returns at once; a model that is not deployed is no error."""
        with self._lock:
            found = self._deployed.get(model_id)
        if found is not None and found.fleet is not None and not self._closing:
            found.fleet.may_evict = True
            found.fleet.load(patient=True)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of any deployment, in whatever thread it happens."""
        self._listeners.append(listener)

    # -- life --------------------------------------------------------------------------------------------------------
    def restore(self) -> None:
        """Bring back what was served before: seen as starting at once, whether held or not."""
        with self._database.reading() as session:
            rows = session.scalars(sa.select(DeploymentRow).order_by(DeploymentRow.created)).all()
        for row in rows:
            options = _options(row)
            if options.kind == "builtin" and self._holds_adapter(row):
                deployed = Deployed(row, options, None)
                self._keep(deployed)
                self._behind(lambda deployed=deployed: self._attach(deployed))  # type: ignore[misc]
                continue
            fleet = self._use(row.model, row.revision, options, row.model, SYSTEM)
            fleet.may_evict = False  # the oldest come first; what finds no room is loaded when it is called
            self._keep(Deployed(row, options, fleet))
            if not options.on_demand:
                fleet.load(patient=True)

    def hold(self) -> None:
        """Start no engine until `own` is called: another process of this installation still has its own."""
        self._may_run.clear()

    def own(self) -> None:
        """Engines may run: no other process of this installation has any."""
        self._sockets.sweep()
        self._may_run.set()
        if self._ear is None:
            self._ear = Ear(self._folder, self._sockets.new(), self.wake)

    def shutdown(self) -> None:
        """End all engines; they are restored at the next start."""
        self._closing = True
        self._may_run.set()
        self._tending.close()
        if self._ear is not None:
            self._ear.close()
        with self._lock:
            deployed = list(self._deployed.values())
            fleets = {*self._fleets.values(), *self._retiring}
            self._deployed.clear()
            self._fleets.clear()
        for each in deployed:
            each.over = True
        if fleets:
            with ThreadPoolExecutor(max_workers=len(fleets)) as pool:
                list(pool.map(Fleet.stop, fleets))
        for each in deployed:
            each.held.close()

    # -- fleets ------------------------------------------------------------------------------------------------------
    def _use(self, model: str, revision: str, options: Options, user: str, viewer: Actor) -> Fleet:
        """The fleet of these engines, made when there is none; it stays as long as somebody uses it."""
        key = key_of(model, revision, options)
        with self._lock:
            fleet = self._fleets.get(key)
            if fleet is None:
                fleet = Fleet(model, revision, options, start=self._starter(viewer), changed=self._tell,
                              pace=self._pace)  # fmt: skip
                self._fleets[key] = fleet
            fleet.users.add(user)
            fleet.may_evict = True
        return fleet

    def _release(self, fleet: Fleet, user: str, *, at_once: bool = False) -> None:
        """One user less; the last one ends the fleet: at once, or when its last answers are over."""
        with self._lock:
            fleet.users.discard(user)
            if fleet.users or fleet in self._retiring:
                return
            if self._fleets.get(fleet.key) is fleet:
                del self._fleets[fleet.key]
            self._retiring.add(fleet)

        def end() -> None:
            try:
                fleet.stop() if at_once else fleet.retire()
            finally:
                with self._lock:
                    self._retiring.discard(fleet)

        end() if at_once else self._behind(end)

    def _starter(self, viewer: Actor) -> Callable[[Fleet, int, bool], Supervised]:
        def start(fleet: Fleet, number: int, patient: bool) -> Supervised:
            folder = self._folder / "logs" / fleet.model.replace("/", "--")
            return Supervised(
                fleet.model,
                lambda: self._files(fleet, number, viewer),
                kind=named(fleet.options.kind),
                options=fleet.options,
                revision=fleet.revision,
                replica=number,
                sockets=self._sockets,
                log_file=folder / (f"log-{number}" if number else "log"),
                changed=self._tell,
                pace=self._pace,
                info={"model": fleet.model, "revision": fleet.revision},
                root=self._root,
                patient=patient,
                adapters=fleet.adapters,
            )

        return start

    @contextmanager
    def _files(self, fleet: Fleet, number: int, viewer: Actor) -> Iterator[Files]:
        """Whole and verified files of a fleet's model, and memory for one replica, for as long as it runs."""
        self._may_run.wait()
        if self._closing:
            raise EngineFailed(f"{fleet.model} is not started: the server ends.")
        kind = named(fleet.options.kind)
        check_installed(kind)
        if not kind.takes_files:
            yield Files(None)
            return
        model = self._catalog.model(fleet.model, viewer=SYSTEM)
        revision = self._catalog.revision(model, fleet.revision)
        with ExitStack() as stack:
            folder = self._whole(stack, model, revision)
            base = base_for(self._catalog, model, revision, folder, viewer)
            base_folder = None
            if base is not None:
                check_installed(kind, "peft")
                base_folder = self._whole(stack, *base)
            need = need_of(base_folder or folder, None if base is None else folder)
            stack.enter_context(self._tending.room(fleet, number, need))
            yield Files(folder, base_folder)

    def _whole(self, stack: ExitStack, model: Model, revision: Revision) -> Path:
        """The revision's files, compared with what the hub recorded of them."""
        folder = stack.enter_context(self._catalog.materialise(model, revision))
        manifest = self._catalog.manifest(revision)
        self._verified.check(model.id, folder, {path: file.content for path, file in manifest.items()})
        return folder

    # -- adapters at the start ---------------------------------------------------------------------------------------
    def _holds_adapter(self, row: DeploymentRow) -> bool:
        try:
            model = self._catalog.model(row.model, viewer=SYSTEM)
            return is_adapter(self._catalog, self._catalog.revision(model, row.revision))
        except NotFound:  # told when it is started
            return False

    def _attach(self, deployed: Deployed) -> None:
        """Put a restored adapter on its base's engine, however long that takes to come."""
        row, tries = deployed.row, 0
        self._may_run.wait()
        while not deployed.over and not self._closing:
            try:
                model = self._catalog.model(row.model, viewer=SYSTEM)
                revision = self._catalog.revision(model, row.revision)
                with self._serving_of(row.model):
                    if self._deployed.get(row.model) is not deployed:
                        return
                    new = self._on_base(row, model, revision, deployed.options, SYSTEM)
                    new = new or self._alone(row, deployed.options, SYSTEM)
                    deployed.over = True
                    self._keep(new)
                return
            except (NotServable, NotFound) as error:
                deployed.error, deployed.has_failed = error.message, True
            except EcotoneError as error:
                deployed.error = error.message
            self._tell()
            if deployed.has_failed:
                return
            self._tending.wait(_ATTACH_PAUSES[min(tries, len(_ATTACH_PAUSES) - 1)])
            tries += 1

    # -- inside ------------------------------------------------------------------------------------------------------
    def _options_of(self, model: str) -> Options:
        with self._lock:
            found = self._deployed.get(model)
        return found.options if found is not None else Options()

    def _tended(self) -> list[tuple[Fleet, list[Options]]]:
        """Fleets with the options of the deployments that use each."""
        with self._lock:
            return [
                (fleet, [d.options for d in self._deployed.values() if d.fleet is fleet])
                for fleet in self._fleets.values()
            ]

    def _described(self, deployed: Deployed) -> Deployment:
        fleet = deployed.fleet
        with self._lock:
            users = [d.options for d in self._deployed.values() if fleet is not None and d.fleet is fleet]
        return described(deployed, self._tending.limit(users))

    def _serving_of(self, model_id: str) -> threading.Lock:
        with self._lock:
            return self._serving[model_id]

    def _keep(self, deployed: Deployed) -> None:
        with self._lock:
            self._deployed[deployed.model] = deployed
        self._tell()

    def _forget(self, model_id: str) -> Deployed | None:
        with self._lock:
            found = self._deployed.pop(model_id, None)
        self._tell()
        return found

    def _found(self, model_id: str) -> str:
        with self._lock:
            return self._found_locked(model_id)

    def _found_locked(self, model_id: str) -> str:
        found = next((name for name in self._deployed if name.lower() == model_id.lower()), None)
        if found is None:
            raise DeploymentNotFound(model_id)
        return found

    def _behind(self, act: Callable[[], None]) -> None:
        """Do something in a thread of its own."""

        def run() -> None:
            try:
                act()
            except Exception:
                log.exception("something of the engines failed")

        threading.Thread(target=run, name="engines", daemon=True).start()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _check(options: Options) -> None:
    """Raises NotServable for options that no kind can have."""
    most = options.most_replicas or options.replicas
    if not 1 <= options.replicas <= most <= _MOST_REPLICAS:
        raise NotServable(
            f"replicas are {options.replicas} to {most}; 1 to {_MOST_REPLICAS} are expected, e.g. 2 or 1..4.",
            param="replicas",
        )
    if options.idle is not None and not 0 <= options.idle < 1e9:
        raise NotServable(f"idle is {options.idle:g}; seconds are expected, or 0 for never.", param="idle")


def _options(row: DeploymentRow) -> Options:
    try:
        return msgspec.convert(row.options, Options)
    except msgspec.ValidationError as error:
        log.warning("the options of %s are of another version (%s); it runs with the default ones", row.model, error)
        return Options()


def _copy(row: DeploymentRow) -> DeploymentRow:
    names = ("id", "model", "revision", "projects", "options", "actor", "created")
    return DeploymentRow(**{name: getattr(row, name) for name in names})
