"""Which models are served: rows that survive the server, and the fleets of engines that serve them.

Serving is decided before anything starts; each call is decided again by the gateway.
"""

import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Model, Revision
from ecotone.database import alone, utc_now
from ecotone.engines.adapting import Adapting
from ecotone.engines.deployed import Deployed
from ecotone.engines.entities import Deployment
from ecotone.engines.errors import NotServable, Served
from ecotone.engines.fleets import Fleet
from ecotone.engines.kinds import check_installed, named
from ecotone.engines.kinds.kind import Options
from ecotone.engines.models import DeploymentRow
from ecotone.engines.waking import Ear
from ecotone.vocabulary import ModelKind, Refused, RepoType

log = logging.getLogger("ecotone.engines")

_MOST_REPLICAS = 64
_LAST_SECONDS = 15.0
_OF_ROW = ("id", "model", "revision", "projects", "options")


class Engines(Adapting):
    """Starts, shows, loads, unloads and stops engines. Thread-safe."""

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
            ModelNotFound: it was deleted meanwhile.
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
        try:
            self._write(row, model)
        except BaseException:
            self._undo(old, new)
            raise
        self._keep(new)
        if new.adapter is None and new.fleet is not None:
            self._gather(new.fleet)
        if old is not None and old is not new:
            self._replace(old, new)
        return self._described(new)

    def _write(self, row: DeploymentRow, model: Model) -> None:
        """Keep a deployment. Over a restart another server may deploy or stop it too in this moment, and any may delete
        the model."""
        with self._database.writing() as session:
            self._catalog.hold(session, model)
            alone(session, "deployments")
            session.execute(sa.delete(DeploymentRow).where(DeploymentRow.model == row.model))
            session.add(_copy(row))

    def _undo(self, old: Deployed | None, new: Deployed) -> None:
        """End what was begun for a deployment that could not be kept; what served the model before goes on."""
        if old is None:
            self._forget(new.model)
        if old is None or old.fleet is not new.fleet:
            self._end(new)
            return
        if new.fleet is not None and new.adapter is not None and new.adapter != old.adapter:
            new.fleet.remove(new.adapter)
        new.held.close()

    def check_unserved(self, session: Session, model: Model) -> None:
        """Raises Served where a deployment of a model is kept, by whichever server."""
        if (
            model.repo_type is RepoType.MODEL
            and session.scalars(sa.select(DeploymentRow.id).where(DeploymentRow.model == model.id)).first()
        ):
            raise Served(model.id)

    def _replace(self, old: Deployed, new: Deployed) -> None:
        """Let what served a model before end once its last answers are over."""
        old.over = True
        fleet = old.fleet
        if fleet is None:
            old.held.close()
        elif old.adapter is not None and (fleet is not new.fleet or old.adapter != new.adapter):
            self._behind(lambda: self._drop(old, fleet, keep=fleet is new.fleet))
        elif old.adapter is not None:
            old.held.close()
        elif fleet is not new.fleet:
            self._release(fleet, old.model)

    def stop(self, model_id: str) -> None:
        """End a deployment for good.

        Raises:
            DeploymentNotFound: none serves it.
        """
        with self._lock:
            found = self._found_locked(model_id)
            starting = self._deployed[found]
            starting.over = True
            fleet = starting.fleet
            is_alone = fleet is not None and fleet.users <= {found}
            if fleet is not None and is_alone:
                fleet.close()  # whoever wants the same engines from now on gets others
        if fleet is not None and is_alone:
            fleet.stop()  # also one that somebody waits for
        with self._serving_of(found):
            with self._database.writing() as session:
                alone(session, "deployments")
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

    def wake(self, model_id: str) -> None:
        """Have a deployed model loaded, if it is not. Returns at once; a model that is not deployed is no error."""
        with self._lock:
            found = self._deployed.get(model_id)
        if found is not None and found.fleet is not None and not self._closing:
            found.fleet.may_evict = True
            found.fleet.load(patient=True)

    # -- life --------------------------------------------------------------------------------------------------------
    def restore(self) -> None:
        """Bring back what was served before: seen as starting at once, whether held or not."""
        with self._database.reading() as session:
            rows = session.scalars(sa.select(DeploymentRow).order_by(DeploymentRow.created)).all()
        for row in rows:
            self._restore(row)

    def _restore(self, row: DeploymentRow) -> None:
        options = _options(row)
        if options.kind == "builtin" and self._holds_adapter(row):
            deployed = Deployed(row, options, None)
            self._keep(deployed)
            self._behind(lambda: self._attach(deployed))
            return
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
        gone = [] if self._may_run.is_set() else self._caught_up()
        self._may_run.set()
        for old in gone:
            now = self._deployed.get(old.model)
            if now is None or now.fleet is not old.fleet:
                self._end(old)
        if self._ear is None:
            self._ear = Ear(self._folder, self._sockets.new(), self.wake)

    def _caught_up(self) -> list[Deployed]:
        """Follow what the process that had the engines deployed, changed and stopped after `restore` had read the rows;
        returns what is served no longer."""
        with self._database.reading() as session:
            rows = session.scalars(sa.select(DeploymentRow.model).order_by(DeploymentRow.created)).all()
        with self._lock:
            models = dict.fromkeys([*rows, *self._deployed])
        gone = []
        for model in models:
            serving = self._serving_of(model)
            if not serving.acquire(blocking=False):  # a request here serves it or stops it, and has the last word
                continue
            try:
                gone.extend(self._follow(model))
            finally:
                serving.release()
        return gone

    def _follow(self, model: str) -> list[Deployed]:
        with self._database.reading() as session:
            row = session.scalars(sa.select(DeploymentRow).where(DeploymentRow.model == model)).one_or_none()
        old = self._deployed.get(model)
        if old is not None and row is not None and _told(old.row) == _told(row):
            return []
        if old is not None:
            with self._lock:
                old.over = True
                if old.fleet is not None and old.fleet.users <= {model}:
                    old.fleet.close()
            self._forget(model)
        if row is not None:
            self._restore(row)
        return [] if old is None else [old]

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
        end = time.monotonic() + _LAST_SECONDS
        with self._lock:
            acts = list(self._acts)
        for act in acts:  # so that none of them has files, or asks the database, behind the end
            act.join(max(0.0, end - time.monotonic()))

    # -- adapters at the start ---------------------------------------------------------------------------------------


def _check(options: Options) -> None:
    """Raises NotServable for options that no kind can have."""
    most = options.most_replicas or options.replicas
    if not 1 <= options.replicas <= most <= _MOST_REPLICAS:
        raise NotServable(
            f"replicas are {options.replicas} to {most}; 1 to {_MOST_REPLICAS} are expected, the smaller number first, "
            "e.g. 2 or 1..4.",
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
    return DeploymentRow(**{name: getattr(row, name) for name in (*_OF_ROW, "actor", "created")})


def _told(row: DeploymentRow) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _OF_ROW)
