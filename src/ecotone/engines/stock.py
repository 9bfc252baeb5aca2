"""What the parts of the engines' service share: the deployments there are, their fleets, files and memory."""

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Catalog, Model, Revision
from ecotone.database import Database
from ecotone.engines.bases import base_for
from ecotone.engines.deployed import Deployed, described
from ecotone.engines.entities import Deployment
from ecotone.engines.errors import DeploymentNotFound, EngineFailed
from ecotone.engines.fleets import Fleet, key_of
from ecotone.engines.kinds import check_installed, named
from ecotone.engines.kinds.kind import Options, Spec
from ecotone.engines.memory import SHARE, Memory, need_of, of_machine
from ecotone.engines.sockets import Sockets
from ecotone.engines.supervision import Files, Pace, Supervised
from ecotone.engines.tending import Tending
from ecotone.engines.verifying import Verified
from ecotone.engines.waking import Ear
from ecotone.policy import Outcome
from ecotone.settings import Settings
from ecotone.vocabulary import NotFound

log = logging.getLogger("ecotone.engines")

_TAIL_BYTES = 64 * 1024


class MayServe(Protocol):
    """Policy's answer to serving a revision to projects (none named: to any)."""

    def __call__(self, model_id: str, revision: str, projects: tuple[str, ...]) -> Outcome: ...


class Stock:
    """Deployments by model, and fleets by what runs in them. Thread-safe."""

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
        self._acts: set[threading.Thread] = set()
        """What is done behind the callers' backs."""
        self._ear: Ear | None = None
        self._tending = Tending(
            Memory(settings.engine_memory or int(of_machine() * SHARE)), self._tended, settings.engine_idle, self._pace
        )

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
        return "\n".join(f"--- replica {number} ---\n{text}" for number, text in enumerate(texts, 1))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of any deployment, in whatever thread it happens."""
        self._listeners.append(listener)

    def _use(self, model: str, revision: str, options: Options, user: str, viewer: Actor) -> Fleet:
        """The fleet of these engines, made when there is none; it stays as long as somebody uses it."""
        key = key_of(model, revision, options)
        with self._lock:
            fleet = self._fleets.get(key)
            if fleet is None or fleet.is_over:
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
            spec = Spec(
                model=fleet.model,
                revision=fleet.revision,
                options=fleet.options,
                replica=number,
                sockets=self._sockets,
                log_file=folder / (f"log-{number}" if number else "log"),
                root=self._root,
                info={"model": fleet.model, "revision": fleet.revision} | self._tagged(fleet),
            )
            return Supervised(
                spec,
                lambda: self._files(fleet, number, viewer),
                kind=named(fleet.options.kind),
                changed=self._tell,
                pace=self._pace,
                patient=patient,
                adapters=fleet.adapters,
            )

        return start

    def _tagged(self, fleet: Fleet) -> dict[str, str]:
        """The task that the revision's card names, which tells apart what the files cannot."""
        try:
            model = self._catalog.model(fleet.model, viewer=SYSTEM)
            tag = self._catalog.revision(model, fleet.revision).card.get("pipeline_tag")
        except NotFound:
            return {}
        return {"pipeline_tag": tag} if isinstance(tag, str) else {}

    @contextmanager
    def _files(self, fleet: Fleet, number: int, viewer: Actor) -> Iterator[Files]:
        """Whole and verified files of a fleet's model, and memory for one replica, for as long as it runs."""
        self._may_run.wait()
        if self._closing:
            raise EngineFailed(f"{fleet.model} is not started: the server ends.")
        if fleet.is_over:
            raise EngineFailed(f"{fleet.model} is not started: it was stopped meanwhile.")
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
            finally:
                with self._lock:
                    self._acts.discard(thread)

        thread = threading.Thread(target=run, name="engines", daemon=True)
        with self._lock:
            self._acts.add(thread)
            thread.start()  # none that has not begun is found at the end: such a thread cannot be waited for

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
