"""Puts models on engines: of their own, or, when they are adapters, on one copy of their base.

An adapter on its base's engine is a deployment of its own, and no way to its base: that one is called by nobody unless
it is deployed too, and started only for whoever may see it.
"""

import logging
from contextlib import ExitStack

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Model, Revision
from ecotone.engines.bases import base_for, is_adapter, may_share
from ecotone.engines.deployed import Deployed
from ecotone.engines.errors import NotServable, NotSupported
from ecotone.engines.fleets import Fleet, engine_options
from ecotone.engines.kinds.kind import Options
from ecotone.engines.models import DeploymentRow
from ecotone.engines.stock import Stock
from ecotone.vocabulary import EcotoneError, NotFound

log = logging.getLogger("ecotone.engines")

_ATTACH_PAUSES = (1.0, 5.0, 30.0)


class Adapting(Stock):
    """The part of the service that finds a model its engines."""

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
        with self._lock:
            others = list(self._deployed.values())
        for other in others:
            serving = self._serving_of(other.model)
            if not serving.acquire(blocking=False):  # it is being changed itself
                continue
            try:
                self._move(other, fleet)
            finally:
                serving.release()

    def _move(self, other: Deployed, fleet: Fleet) -> None:
        apart = other.fleet
        if other.adapter is None or apart is None or apart is fleet or other.over:
            return
        if self._deployed.get(other.model) is not other:
            return
        is_same = (apart.model, apart.revision) == (fleet.model, fleet.revision)
        if not is_same or engine_options(other.options) != Options():
            return
        try:
            fleet.add(other.adapter, apart.adapters[other.adapter])
        except (EcotoneError, KeyError) as error:
            log.warning("%s stays on its own copy of %s: %s", other.model, fleet.model, error)
            return
        with self._lock:
            is_over = fleet.is_over
            if not is_over:
                fleet.users.add(other.model)
                other.fleet = fleet
        if is_over:  # it was stopped meanwhile
            fleet.remove(other.adapter)
            return
        self._tell()
        self._release(apart, other.model)

    def _drop(self, old: Deployed, fleet: Fleet, *, keep: bool) -> None:
        """Take an adapter from an engine when every gateway knows of its successor; not where it is served there again
        by then."""
        fleet.rest(self._pace.settle)
        with self._serving_of(old.model):
            now = self._deployed.get(old.model)
            back = now if now is not None and now.fleet is fleet else None
            if old.adapter is not None and (back is None or back.adapter != old.adapter):
                fleet.remove(old.adapter)
            old.held.close()
            if not keep and back is None:
                self._release(fleet, old.model)

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
