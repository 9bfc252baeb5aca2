"""Builds the snapshot from catalogue, policy, accounts, engines and backends; the only module of the gateway that reads
them. Runs in the server process, at each change told to `notify` and every two seconds."""

import hashlib
import logging
import threading
import time
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from ecotone.accounts import ANONYMOUS, HOUSE, SYSTEM, Accounts, LivingSecret, Project
from ecotone.catalog import Catalog
from ecotone.gateway.backends import Backend, Backends
from ecotone.gateway.kept_limits import KeptLimits
from ecotone.gateway.pricebook import PriceBook
from ecotone.gateway.prices import Price
from ecotone.gateway.routing import Routes
from ecotone.gateway.snapshot import SUBJECT, Consumer, Key, Ruling, Snapshot, Target, save, still_holds
from ecotone.licences import Family, legal_class
from ecotone.policy import Action, Policy, Stance, may_call_private, node_names
from ecotone.settings import Settings
from ecotone.vocabulary import DeploymentState, EcotoneError, Location

log = logging.getLogger("ecotone.gateway")

_EVERY_SECONDS = 2.0
_LONGEST_WARNING = 300


class Deployments(Protocol):
    """What the builder needs of the engines."""

    def deployments(self) -> list[Any]: ...


class SnapshotBuilder:
    """Keeps `current` up to date in a thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        policy: Policy,
        accounts: Accounts,
        engines: Deployments,
        backends: Backends,
        routes: Routes,
        limits: KeptLimits,
        prices: PriceBook | None = None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._policy = policy
        self._accounts = accounts
        self._engines = engines
        self._backends = backends
        self._routes = routes
        self._limits = limits
        self._prices = prices
        self._folder = settings.folder("snapshot")
        self._changed = threading.Event()
        self._told = self._built = 0
        self._telling = threading.Lock()
        self._stopped = threading.Event()
        self._building = threading.Lock()
        self._content: bytes = b""
        self._ruled: dict[str, Ruling] = {}
        self._ruled_under: tuple[Any, ...] = ()
        self._thread: threading.Thread | None = None
        self._saving = True
        self.current = Snapshot(built=0.0)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep, name="snapshot", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(10)

    def notify(self, *_: object) -> None:
        """Something changed that decisions depend on."""
        with self._telling:
            self._told += 1
        self._changed.set()

    @property
    def told(self) -> int:
        """How many changes were told to `notify` so far."""
        return self._told

    def has_built(self, told: int) -> bool:
        """Whether that many changes are in force, or will not be: the build that was to bring them failed, or there is
        none any more because the server ends."""
        return self._built >= told or self._stopped.is_set()

    def keep_to_itself(self) -> None:
        """Save no more snapshots for other processes: another server does it now."""
        self._saving = False

    def build(self) -> Snapshot:
        """Build now; the new snapshot is in force when this returns."""
        with self._building:
            found = self._read()
            content = msgspec.msgpack.encode(found, order="sorted")
            version = self.current.version
            if content != self._content:
                found = msgspec.structs.replace(found, version=version + 1, built=time.time())
                if self._saving:
                    save(found, self._folder)
                self._content = content  # a change that could not be saved is one the next time, too
            else:
                found = msgspec.structs.replace(self.current, built=time.time())
                if self._saving:
                    still_holds(self._folder)
            self.current = found
            return found

    def _keep(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait(_EVERY_SECONDS)
            self._changed.clear()
            told = self._told
            if self._stopped.is_set():
                return
            try:
                self.build()
            except Exception:  # the last snapshot stays in force until its age forbids it
                log.exception("the gateway's snapshot could not be built")
            self._built = told

    # -- reading -----------------------------------------------------------------------------------------------------
    def _read(self) -> Snapshot:
        projects = {p.name: p for p in self._accounts.projects()}
        stance = self._policy.stance()
        consumers = {p.name: _consumer(p, stance) for p in projects.values()}
        targets: dict[str, Target] = {}
        families: dict[str, tuple[Family, dict[str, Any]]] = {}
        for deployment in self._engines.deployments():
            made = self._engine(deployment, stance)
            if made is not None:
                target, family = made
                targets[target.name] = target
                families.setdefault(target.legal, (family, {}))
        backends: dict[str, Target] = {}
        for backend in self._backends.list():
            target, family = self._backend(backend, stance)
            backends[target.name] = target
            families.setdefault(target.legal, (family, {"account.tier": backend.tier.value}))
        rulings = self._rulings(families, list(projects.values()), stance)
        keys = {s.hash: _key(s) for s in self._accounts.living_secrets()}
        keys |= {h: Key(id=f"token-{h[:8]}", project=HOUSE) for h in self._accounts.admin_token_hashes()}
        return Snapshot(
            keys=keys,
            consumers=consumers,
            targets=targets,
            backends=backends,
            routes={r.name: r.compiled() for r in self._routes.list()},
            limits=self._limits.in_force({key.id for key in keys.values()}),
            rulings=rulings,
            prices=self._priced(list(backends.values()), list(targets)),
        )

    def _priced(self, backends: list[Target], local: list[str]) -> dict[str, Price]:
        return self._prices.prices([(b.name, b.url or "") for b in backends], local) if self._prices else {}

    def _engine(self, deployment: Any, stance: Stance) -> tuple[Target, Family] | None:
        try:
            model = self._catalog.model(deployment.model, viewer=SYSTEM)
            revision = self._catalog.revision(model, deployment.revision)
            # as strangers see it: reasons reach whoever holds a key
            family = self._catalog.family(model, revision, viewer=ANONYMOUS, binding=True)
        except EcotoneError:
            log.warning("the deployment of %s has no revision any more; it is not callable", deployment.model)
            return None
        legal = _legal(family, stance)
        target = Target(
            name=model.id,
            legal=legal,
            location=_location(deployment),
            backend="local",
            revision=revision.id,
            socket=deployment.socket,
            sockets=deployment.sockets,
            engine_model=deployment.engine_model,
            url=deployment.url,
            key_env=deployment.key_env,
            dialect=deployment.dialect,
            private=model.private,
            ready=deployment.state == DeploymentState.READY,
            starting=_is_coming(deployment),
            wakes=deployment.loadable,
            note=note_of(deployment),
            projects=tuple(deployment.projects),
            task=deployment.task,
            base=deployment.base,
        )
        return target, family

    def _backend(self, backend: Backend, stance: Stance) -> tuple[Target, Family]:
        family = self._policy.api_family(backend.name, [backend.terms] if backend.terms else [])
        legal = _legal(family, stance) + f"/{backend.tier}"
        target = Target(
            name=backend.name,
            legal=legal,
            location=backend.location,
            backend=backend.name,
            url=backend.url,
            key_env=backend.key_env,
            dialect=backend.dialect,
            tier=backend.tier,
            terms=backend.terms or "unknown",
        )
        return target, family

    def _rulings(
        self, families: dict[str, tuple[Family, dict[str, Any]]], projects: list[Project], stance: Stance
    ) -> dict[str, Ruling]:
        """Decisions by legal class and use: known ones are kept until rules, profile or day change."""
        known = self._ruled if stance.mark == self._ruled_under else {}
        found: dict[str, Ruling] = {}
        for legal, (family, more) in families.items():
            for project in projects:
                key = f"{legal}|{_use_of(project)}"
                if key not in found:
                    found[key] = known.get(key) or self._rule(family, more, project, stance)
        self._ruled, self._ruled_under = found, stance.mark
        return found

    def _rule(self, family: Family, more: dict[str, Any], project: Project, stance: Stance) -> Ruling:
        use = project.use()
        decision = stance.judge_family(family, msgspec.structs.replace(use, variables=use.variables | more))
        outcome = stance.outcome(decision, Action.CALL, family)
        made = Ruling(
            allowed=outcome.allowed,
            verdict=outcome.verdict,
            message=outcome.message.replace(family.subject, SUBJECT),
            reasons=outcome.reasons,
            would_allow=outcome.would_allow,
            duties=tuple(outcome.decision.get("duties", ())),
            rules=outcome.rules,
            warning=_header(outcome.warning),
            knowledge_base=outcome.knowledge_base,
        )
        packed = msgspec.json.encode(made).replace(msgspec.json.encode(family.subject), b'"\\u0001"')
        return msgspec.json.decode(packed, type=Ruling)


def _is_coming(deployment: Any) -> bool:
    """Whether its engine starts, or will at the first call; one that found no memory is not waited for."""
    idle = deployment.state == DeploymentState.IDLE and not deployment.error
    return deployment.state == DeploymentState.STARTING or (idle and deployment.loadable)


def note_of(deployment: Any) -> str:
    """What whoever holds a key is told of an engine that does not answer. Why it failed, and the end of its log, is for
    those who see the deployment."""
    why = "there is no memory for it now" if deployment.state == DeploymentState.IDLE else "it failed"
    return "; ".join(filter(None, [deployment.state, deployment.progress, deployment.error and why]))


def _location(deployment: Any) -> Location:
    """Where its engine is: here, unless it was attached at another machine's address and nobody said whose that is."""
    url = deployment.url or deployment.options.url  # the latter where a relay of ours stands before it, on a socket
    if url is None or deployment.options.location == Location.LOCAL:
        return Location.LOCAL
    host = urlsplit(url).hostname or ""
    here = host in ("localhost", "::1") or host.startswith("127.")
    return Location.LOCAL if here and deployment.options.location is None else Location.EXTERNAL


def _key(secret: LivingSecret) -> Key:
    return Key(
        id=secret.key_id,
        project=secret.project,
        models=secret.models,
        networks=secret.networks,
        expires=secret.expires.timestamp() if secret.expires is not None else 0.0,
        tags=secret.tags,
    )


def _use_of(project: Project) -> str:
    """The name of a declared use among the decisions."""
    return hashlib.sha256(msgspec.json.encode(project.use(), order="sorted")).hexdigest()[:16]


def _consumer(project: Project, stance: Stance) -> Consumer:
    granted = may_call_private(project.name, project.may_call_private, stance.rules, stance.today)
    return Consumer(
        name=project.name,
        use=_use_of(project),
        personal_data=project.personal_data,
        may_call_private=granted,
        scan=project.bounds.scan,
        keep_days=project.bounds.keep_days,
    )


def _legal(family: Family, stance: Stance) -> str:
    """The legal class, with rules that speak of the subject by its name, which part it from others of its class."""
    legal = legal_class(stance.knowledge, stance.family(family), positions=stance.positions)
    names = node_names(family.node(family.subject))
    found = [r.id for r in stance.rules if r.subject != "*" and r.speaks_of(names)]
    # reasons name ancestors, so models that share a ruling have the same ones, and hide the same ones
    others = sorted(
        (n.id if n.visible else "hidden", n.visible) for n in family.nodes.values() if n.id != family.subject
    )
    parted = hashlib.sha256(msgspec.json.encode(others)).hexdigest()[:8] if others else ""
    return legal + ("~" + parted if parted else "") + ("+" + "+".join(found) if found else "")


def _header(warning: str | None) -> str | None:
    """A warning as it may stand in a header: one line of plain letters."""
    return " ".join(warning.split()).encode("ascii", "replace").decode()[:_LONGEST_WARNING] if warning else None
