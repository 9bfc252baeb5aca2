"""The composed services of one server: settings in, everything that the faces call out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ecotone.accounts import SYSTEM, Accounts, Actor, DeviceLogins
from ecotone.app.answers import AnswerSets
from ecotone.app.chains import open_chain
from ecotone.app.impact import Impact
from ecotone.app.keeping import Keeping
from ecotone.app.ledger_heads import LedgerHeads
from ecotone.app.upkeep import Upkeep
from ecotone.app.usage import Usage
from ecotone.app.watching import Watch
from ecotone.app.withdrawal_items import Inventory
from ecotone.app.withdrawals import CheckOff, Drill, Withdrawals
from ecotone.audits import Audits
from ecotone.catalog import Catalog
from ecotone.catalog.clones import Clones
from ecotone.catalog.copies import Copies
from ecotone.database import Database
from ecotone.engines import Engines, Served
from ecotone.gateway import Backend, Backends, KeptLimits, Plane, PriceBook, Route, Routes, SnapshotBuilder
from ecotone.gateway.counters import Counters
from ecotone.gateway.leasing import LeasedPlane
from ecotone.jobs import Jobs
from ecotone.ledger import Ledger, LedgerFull, LedgerWriter, Report, UsageLine, explain, public_key
from ecotone.ledger.texts import Texts, Unreadable
from ecotone.licences import KnowledgeBase
from ecotone.licences.versions import keep_version
from ecotone.policy import Outcome, Policy
from ecotone.publishing import Backfilling, Examining, Publishing, Reviews, RevisionDuties, Settling
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage.holding import Holdings
from ecotone.tuning import Tuning
from ecotone.vocabulary import Conflict, NotFound, Unavailable
from ecotone.webhooks import Courier, Targets, Webhooks

log = logging.getLogger("ecotone.app")

LEDGER_KEY = "ledger-key"


class DatabaseChanges(Unavailable):
    """The schema cannot change under a server that works with the old one."""

    code = "database_changes"

    def __init__(self) -> None:
        super().__init__(
            "This version of Ecotone changes the database, which a graceful restart cannot do; stop the server and "
            "start it again."
        )


@dataclass(slots=True)
class Services:
    """What faces find under `app.state.services`."""

    settings: Settings
    database: Database
    knowledge: KnowledgeBase
    accounts: Accounts
    storage: Storage
    catalog: Catalog
    clones: Clones
    policy: Policy
    jobs: Jobs
    ledger: Ledger
    ledger_writer: LedgerWriter
    ledger_heads: LedgerHeads
    usage_tables: Usage
    keeping: Keeping
    texts: Texts
    publishing: Publishing
    reviews: Reviews
    duties: RevisionDuties
    examining: Examining
    backfilling: Backfilling
    settling: Settling
    engines: Engines
    tuning: Tuning
    audits: Audits
    backends: Backends
    routes: Routes
    limits: KeptLimits
    pricebook: PriceBook
    builder: SnapshotBuilder
    gateway: Plane
    watch: Watch
    devices: DeviceLogins
    webhooks: Webhooks
    courier: Courier
    upkeep: Upkeep = field(init=False)
    impact: Impact = field(init=False)
    withdrawals: Withdrawals = field(init=False)
    answer_sets: AnswerSets = field(init=False)
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def intend(self, kind: str, actor: Actor, **what: Any) -> None:
        """Record, at once on disk, an act that is about to be done.

        Raises:
            LedgerFull: when it cannot be recorded; then it must not be done.
        """
        self.ledger_writer.append("intent", {"act": kind, "actor": actor.name, **what}, flush=True)

    def note(self, kind: str, actor: Actor, **what: Any) -> None:
        """Record an act that was done, and let the gateway see the change. That it was meant is recorded already, so
        the act stands even when this cannot be written."""
        try:
            self.ledger_writer.append("admin", {"act": kind, "actor": actor.name, **what}, flush=True)
        except LedgerFull:
            log.exception("%s by %s was done, but only its intent is in the ledger", kind, actor.name)
        self.changed()

    def changed(self) -> None:
        """Something that decisions depend on has changed: the snapshot is built anew."""
        for listener in self.listeners:
            listener()

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """The replay of one request from the ledger."""
        return explain(self.ledger, request_id)

    def usage(self) -> list[UsageLine]:
        """Sums by project and model."""
        self.usage_tables.project()
        rows = self.usage_tables.rows(("project", "model"))
        names = ("project", "model", "requests", "prompt_tokens", "completion_tokens", "unpriced", "estimates")
        found = [UsageLine(**{n: row[n] for n in names}, cost_usd=float(row["cost_usd"])) for row in rows]
        return sorted(found, key=lambda line: (line.project, line.model))

    def public_ledger_key(self) -> bytes:
        """With which checkpoints and exports are verified, 32 bytes (Ed25519)."""
        return public_key(self.settings.secret(LEDGER_KEY))

    def checkpoint(self) -> None:
        """Sign the heads of all chains, and keep them in the database."""
        self.ledger_heads.keep(self.ledger_writer.checkpoint(self.settings.secret(LEDGER_KEY)))

    def retire_segments(self, actor: Actor, *, older_than: float | None = None) -> list[str]:
        """Remove segments of the ledger that are due and were exported; returns their names."""
        removed = self.keeping.retire(
            older_than=older_than, intend=lambda names: self.intend("ledger.retired", actor, segments=names)
        )
        if removed:
            self.note("ledger.retired", actor, segments=removed)
        return removed

    def read_texts(self, request_id: str, actor: Actor) -> list[dict[str, Any]]:
        """A request's kept prompt and answer. That they were read is recorded before they are.

        Raises:
            LedgerFull: when it cannot be recorded.
            Conflict: they are there, and their key does not open them.
        """
        self.intend("text.read", actor, request_id=request_id)
        try:
            found = self.texts.read(request_id)
        except Unreadable as error:
            raise Conflict(str(error)) from None
        self.note("text.read", actor, request_id=request_id, found=len(found))
        return found

    def destroy_texts(self, project: str, actor: Actor) -> int:
        """Destroy a project's kept texts with their key; returns of how many days they were."""
        if project not in self.texts.projects():
            raise NotFound(f"No texts of a project {project!r} are kept.", param="name")
        days = self.texts.destroy(project)
        self.note("texts.destroyed", actor, project=project, days=days)
        return days

    def drill(self, model: str, actor: Actor, *, revision: str | None = None, reason: str = "") -> Drill:
        """Make a withdrawal drill, of which the ledger keeps the hash."""
        made = self.withdrawals.make(model, revision=revision, reason=reason, actor=actor)
        self.note("withdrawal.drilled", actor, **_of_drill(made), items=len(made.items), sha256=_proved(made))
        return made

    def check_drill(self, drill_id: str, actor: Actor) -> CheckOff:
        """Check a drill off, and record how it stands."""
        found = self.withdrawals.check(drill_id, actor=actor)
        told = {"drill": found.drill, "model": found.model, "drill_sha256": found.drill_sha256}
        counts = {"gone": found.gone, "there": found.there, "by_hand": found.by_hand, "new": len(found.new)}
        self.note("withdrawal.checked", actor, **told, **counts, done=found.done, sha256=_proved(found))
        return found

    def keep_times(self) -> None:
        """By the clock: delete texts whose days are over, and old segments that were exported; say which wait."""
        self.expire_texts()
        if self.settings.ledger_keep_days <= 0:
            return
        try:
            self.retire_segments(SYSTEM)
        except Conflict as error:
            log.warning("%s", error.message)

    def expire_texts(self) -> None:
        """Delete kept texts whose days are over."""
        days = {p.name: p.bounds.keep_days for p in self.accounts.projects()}
        removed = self.texts.expire(days)
        if removed:
            self.note("texts.expired", SYSTEM, projects=removed)

    def spent(self, since: datetime) -> dict[str, int]:
        """What each scope has spent since the beginning of an hour, in 10^-12 USD, as far as the ledger knows."""
        return self.usage_tables.spent(since)

    def verify_ledger(self) -> Report:
        """Every chain from disk, against the heads in the database and the installation's signing key."""
        key = public_key(self.settings.secret(LEDGER_KEY))
        return self.ledger.verify(self.ledger_heads.known(), key)

    def refuse_if_used(self, model_id: str) -> None:
        """Raises Conflict while a deployment or a route leads to the model."""
        if any(model_id in (d.model, d.on_base) for d in self.engines.deployments()):
            raise Served(model_id)
        for route in self.routes.list():
            if route.leads_to(model_id):
                raise Conflict(f"The route {route.name} leads to {model_id}; change the route first.", param="model")

    def is_known(self, model_id: str) -> bool:
        """Whether a route's candidate leads anywhere: a model of the catalogue, or a backend's."""
        if self.backend_of(model_id) is not None:
            return True
        try:
            self.catalog.model(model_id.partition("@")[0], viewer=SYSTEM)
        except NotFound:
            return False
        return True

    def route_warnings(self, route: Route) -> list[str]:
        """What whoever set a route should know: names that lead nowhere."""
        named = [*route.to, *([route.options.shadow] if route.options.shadow else [])]
        return [
            f"{name} is not in the catalogue and no backend has its name; requests pass it over until there is one"
            for name in named
            if not self.is_known(name)
        ]

    def backend_of(self, model_id: str) -> Backend | None:
        """The backend whose models are called `NAME/...`, when `model_id` is one of those."""
        name = model_id.partition("/")[0]
        return next((b for b in self.backends.list() if b.name == name), None)


def _of_drill(drill: Drill) -> dict[str, Any]:
    return {"drill": drill.id, "model": drill.model, "revision": drill.revision, "reason": drill.reason}


def _proved(document: Drill | CheckOff) -> str:
    return document.proof.sha256 if document.proof is not None else ""


def compose(settings: Settings, *, successor: bool = False) -> Services:
    """Build every service and bring the database up to date.

    Args:
        successor: whether another server process of this installation is alive.

    Raises:
        DatabaseChanges: a successor's version needs another schema than the one that is in use.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.sql_url)
    if not successor:
        database.migrate()
    elif not database.at_head():
        raise DatabaseChanges
    knowledge = KnowledgeBase.load()
    keep_version(knowledge, settings.folder("knowledge"))
    accounts = Accounts(database, settings)
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    policy = Policy(database, catalog, knowledge, accounts, four_eyes=not settings.single_person_waivers)
    jobs = Jobs(database, settings)
    settings.secret(LEDGER_KEY)  # made now: verifying the ledger must not need room on the disk
    heads = LedgerHeads(database)
    writer = open_chain(settings, heads.known(), others=successor)
    ledger = Ledger(settings.folder("ledger"), spill=settings.spill)
    usage_tables = Usage(database, ledger)
    publishing = Publishing(catalog, storage, policy, knowledge, writer)

    def may_serve(model_id: str, revision: str, projects: tuple[str, ...] = ()) -> Outcome:
        return policy.may_serve(model_id, revision, projects)

    engines = Engines(database, catalog, settings, may_serve=may_serve)
    tuning = Tuning(catalog, publishing, jobs, storage, settings, may_tune=policy.may_tune, may_train=policy.may_train)
    audits = Audits(catalog, jobs, settings, may_audit=policy.may_audit)
    backends = Backends(database, settings, knowledge, policy, provider_terms=catalog.provider_terms)
    routes = Routes(database)
    limits = KeptLimits(database, accounts)
    accounts.on_project_removed(limits.forget_project)
    pricebook = PriceBook(database)
    builder = SnapshotBuilder(
        settings=settings,
        catalog=catalog,
        policy=policy,
        accounts=accounts,
        engines=engines,
        backends=backends,
        routes=routes,
        limits=limits,
        prices=pricebook,
    )
    counters = Counters()
    texts = Texts.of(settings)
    plane = LeasedPlane if settings.limits_url else Plane
    gateway = plane(settings, writer, counters=counters, texts=texts)
    gateway.wake = engines.wake
    targets = Targets(settings.webhook_allow)
    webhooks = Webhooks(database, settings, targets)
    catalog.events.listen(webhooks.enqueue)
    services = Services(
        settings=settings,
        database=database,
        knowledge=knowledge,
        accounts=accounts,
        storage=storage,
        catalog=catalog,
        clones=Clones(catalog, storage, settings),
        policy=policy,
        jobs=jobs,
        ledger=ledger,
        ledger_writer=writer,
        ledger_heads=heads,
        usage_tables=usage_tables,
        keeping=Keeping(
            database,
            ledger,
            usage_tables,
            seed=lambda: settings.secret(LEDGER_KEY),
            sign=lambda: heads.keep(writer.checkpoint(settings.secret(LEDGER_KEY))),
            keep_days=settings.ledger_keep_days,
        ),
        texts=texts,
        publishing=publishing,
        reviews=Reviews(catalog, publishing, writer),
        duties=RevisionDuties(catalog, storage, policy),
        settling=Settling(catalog, four_eyes=policy.four_eyes),
        backfilling=Backfilling(catalog, storage, publishing.descent, jobs),
        examining=Examining(catalog, storage, publishing.descent, jobs, writer),
        engines=engines,
        tuning=tuning,
        audits=audits,
        backends=backends,
        routes=routes,
        limits=limits,
        pricebook=pricebook,
        builder=builder,
        gateway=gateway,
        watch=Watch(counters, settings.data, writer.writer, lambda: len(gateway.jobs)),
        devices=DeviceLogins(database),
        webhooks=webhooks,
        courier=Courier(webhooks, targets),
    )
    publishing.on_weights(services.examining.arrived)
    services.examining.on_change(services.changed)
    services.upkeep = Upkeep(settings, database, storage, jobs, services.note)
    services.impact = Impact(
        catalog=catalog, policy=policy, accounts=accounts, engines=engines, backends=backends, routes=routes
    )
    services.withdrawals = Withdrawals(
        catalog=catalog,
        knowledge=knowledge,
        inventory=Inventory(
            copies=Copies(database),
            holdings=Holdings(database, settings.folder("materialised")),
            engines=engines,
            backends=backends,
            routes=routes,
            jobs=jobs,
            usage=usage_tables,
        ),
        folder=settings.folder("withdrawals"),
        seed=settings.secret(LEDGER_KEY),
    )
    services.answer_sets = AnswerSets(
        accounts=accounts,
        catalog=catalog,
        ledger=ledger,
        texts=texts,
        storage=storage,
        publishing=publishing,
        policy=policy,
        jobs=jobs,
        folder=settings.folder("jobs") / "answers",
        intend=services.intend,
        note=services.note,
    )
    catalog.on_delete(lambda model: services.refuse_if_used(model.id))
    catalog.on_delete(services.clones.forget)
    catalog.on_deleting(engines.check_unserved)
    return services


__all__ = ["SYSTEM", "Services", "compose"]
