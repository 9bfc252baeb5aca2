"""Builds the snapshot from catalogue, policy, accounts, engines and backends; the only module of the gateway that reads
them. Runs in the server process, at each change told to `notify` and every two seconds."""

import hashlib
import logging
import threading
import time
from datetime import date
from typing import Any, Protocol

import msgspec

from ecotone.accounts import HOUSE, SYSTEM, Accounts, Project
from ecotone.catalog import Catalog
from ecotone.database import utc_now
from ecotone.gateway.backends import Backend, Backends
from ecotone.gateway.routing import Routes
from ecotone.gateway.snapshot import SUBJECT, Consumer, Ruling, Snapshot, Target, save
from ecotone.licences import Family, KnowledgeBase, legal_class
from ecotone.policy import Action, Policy, Rule, decide, may_call_private
from ecotone.settings import Settings
from ecotone.vocabulary import DeploymentState, EcotoneError, Location

log = logging.getLogger("ecotone.gateway")

_EVERY_SECONDS = 2.0


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
        knowledge: KnowledgeBase,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._policy = policy
        self._accounts = accounts
        self._engines = engines
        self._backends = backends
        self._routes = routes
        self._knowledge = knowledge
        self._folder = settings.folder("snapshot")
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._building = threading.Lock()
        self._content: bytes = b""
        self._ruled: dict[str, Ruling] = {}
        self._ruled_under: bytes = b""
        self._thread: threading.Thread | None = None
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
        self._changed.set()

    def build(self) -> Snapshot:
        """Build now; the new snapshot is in force when this returns."""
        with self._building:
            found = self._read()
            content = msgspec.msgpack.encode(found, order="sorted")
            version = self.current.version
            if content != self._content:
                self._content, version = content, version + 1
                found = msgspec.structs.replace(found, version=version, built=time.time())
                save(found, self._folder)
            else:
                found = msgspec.structs.replace(self.current, built=time.time())
            self.current = found
            return found

    def _keep(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait(_EVERY_SECONDS)
            self._changed.clear()
            if self._stopped.is_set():
                return
            try:
                self.build()
            except Exception:  # the last snapshot stays in force until its age forbids it
                log.exception("the gateway's snapshot could not be built")

    # -- reading -----------------------------------------------------------------------------------------------------
    def _read(self) -> Snapshot:
        projects = {p.name: p for p in self._accounts.projects()}
        rules = self._policy.rules()
        today = utc_now().date()
        consumers = {p.name: _consumer(p, rules, today) for p in projects.values()}
        positions = dict(self._policy.positions())
        targets: dict[str, Target] = {}
        families: dict[str, tuple[Family, tuple[str, ...], dict[str, Any]]] = {}
        for deployment in self._engines.deployments():
            made = self._engine(deployment, rules, positions)
            if made is not None:
                target, family = made
                targets[target.name] = target
                families.setdefault(target.legal, (family, (target.name,), {}))
        backends: dict[str, Target] = {}
        for backend in self._backends.list():
            target, family = self._backend(backend, rules, positions)
            backends[target.name] = target
            families.setdefault(
                target.legal, (family, (f"backend:{backend.name}",), {"account.tier": backend.tier.value})
            )
        rulings = self._rulings(families, list(projects.values()), rules, positions)
        return Snapshot(
            keys={
                k.hash: k.project
                for k in self._accounts.keys()  # noqa: SIM118
                if k.revoked is None
            }
            | dict.fromkeys(self._accounts.admin_token_hashes(), HOUSE),
            consumers=consumers,
            targets=targets,
            backends=backends,
            routes={r.name: r.to for r in self._routes.list()},
            rulings=rulings,
        )

    def _engine(self, deployment: Any, rules: list[Rule], positions: dict[str, str]) -> tuple[Target, Family] | None:
        try:
            model = self._catalog.model(deployment.model, viewer=SYSTEM)
            revision = self._catalog.revision(model, deployment.revision)
            family = self._catalog.family(model, revision, viewer=SYSTEM)
        except EcotoneError:
            log.warning("the deployment of %s has no revision any more; it is not callable", deployment.model)
            return None
        legal = legal_class(self._knowledge, family, positions=positions) + _rule_mark(rules, (model.id,))
        target = Target(
            name=model.id,
            legal=legal,
            location=Location.LOCAL,
            backend="local",
            revision=revision.id,
            socket=deployment.socket,
            private=model.private,
            ready=deployment.state == DeploymentState.READY,
            starting=deployment.state == DeploymentState.STARTING,
            note=deployment.error or str(deployment.state),
            projects=tuple(deployment.projects),
            task=deployment.task,
        )
        return target, family

    def _backend(self, backend: Backend, rules: list[Rule], positions: dict[str, str]) -> tuple[Target, Family]:
        family = self._policy.api_family(backend.name, [backend.terms] if backend.terms else [])
        legal = legal_class(self._knowledge, family, positions=positions)
        legal += _rule_mark(rules, (f"backend:{backend.name}",)) + f"/{backend.tier}"
        target = Target(
            name=backend.name,
            legal=legal,
            location=backend.location,
            backend=backend.name,
            url=backend.url,
            key_env=backend.key_env,
            tier=backend.tier,
        )
        return target, family

    def _rulings(
        self,
        families: dict[str, tuple[Family, tuple[str, ...], dict[str, Any]]],
        projects: list[Project],
        rules: list[Rule],
        positions: dict[str, str],
    ) -> dict[str, Ruling]:
        """Decisions by legal class and use: those known since rules, positions or day last changed are kept."""
        today = utc_now().date()
        under = msgspec.msgpack.encode((rules, positions, today, self._knowledge.version))
        known = self._ruled if under == self._ruled_under else {}
        found: dict[str, Ruling] = {}
        for legal, (family, subjects, more) in families.items():
            for project in projects:
                key = f"{legal}|{_use_of(project)}"
                if key not in found:
                    found[key] = known.get(key) or self._rule(family, subjects, more, project, rules)
        self._ruled, self._ruled_under = found, under
        return found

    def _rule(
        self, family: Family, subjects: tuple[str, ...], more: dict[str, Any], project: Project, rules: list[Rule]
    ) -> Ruling:
        use = project.use()
        decision = self._policy.judge_family(family, msgspec.structs.replace(use, variables=use.variables | more))
        outcome = decide(decision.to_json(), Action.CALL, rules, subjects=subjects, today=utc_now().date())
        made = Ruling(
            allowed=outcome.allowed,
            verdict=outcome.verdict,
            message=outcome.message.replace(family.subject, SUBJECT),
            reasons=outcome.reasons,
            would_allow=outcome.would_allow,
            duties=tuple(outcome.decision.get("duties", ())),
            rules=outcome.rules,
            knowledge_base=outcome.knowledge_base,
        )
        packed = msgspec.json.encode(made).replace(msgspec.json.encode(family.subject), b'"\\u0001"')
        return msgspec.json.decode(packed, type=Ruling)


def _use_of(project: Project) -> str:
    """The name of a declared use among the decisions."""
    return hashlib.sha256(msgspec.json.encode(project.use(), order="sorted")).hexdigest()[:16]


def _consumer(project: Project, rules: list[Rule], today: date) -> Consumer:
    return Consumer(
        name=project.name,
        use=_use_of(project),
        personal_data=project.personal_data,
        may_call_private=may_call_private(project.name, project.may_call_private, rules, today),
    )


def _rule_mark(rules: list[Rule], subjects: tuple[str, ...]) -> str:
    """Rules that speak of the subject part it from its legal class."""
    found = [r.id for r in rules if r.subject in subjects]
    return "+" + "+".join(found) if found else ""
