"""Audits: judged before they start, run as a job in a child process, stored with the revision that was measured."""

import hashlib
import importlib.util
from collections.abc import Callable
from typing import Any

from ecotone.accounts import SYSTEM, Actor
from ecotone.audits import weat_suite as weat_suite  # registers its suite
from ecotone.audits.errors import AuditNotInstalled, NotAuditable
from ecotone.audits.suites import Suite, find
from ecotone.catalog import Catalog, Model, Revision
from ecotone.database import utc_now
from ecotone.jobs import Job, JobContext, Jobs
from ecotone.policy import Outcome
from ecotone.settings import Settings
from ecotone.vocabulary import Refused

KIND = "audit"
CHILD = "ecotone.audits.suite_child"
MayAudit = Callable[[str, str, str | None], Outcome]

_NEEDS = ("torch", "transformers", "safetensors")
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the processor to those who serve


class Audits:
    """The service. Thread-safe.

    Args:
        may_audit: policy's answer for (model, revision, project).
    """

    def __init__(self, catalog: Catalog, jobs: Jobs, settings: Settings, *, may_audit: MayAudit) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._settings = settings
        self._may_audit = may_audit
        jobs.register(KIND, self._run)

    def start(self, model_id: str, rev: str, suite: str, *, actor: Actor, project: str | None = None) -> Job:
        """Queue an audit of a revision by a suite.

        Args:
            project: under whose use it is judged; the house project when None.

        Raises:
            Refused: the decision forbids it; the message names licence and clause.
            NotAuditable: the model has no weights here, or is an adapter.
            Invalid: there is no such suite.
            AuditNotInstalled: names the extra to install.
            ModelNotFound, RevisionNotFound: there is no such model.
        """
        found = find(suite)
        model = self._catalog.model(model_id, viewer=actor)
        revision = self._revision(model, rev)
        outcome = self._may_audit(model.id, revision.id, project)
        if not outcome.allowed:
            raise Refused(outcome.message, decision=outcome.to_json())
        missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
        if missing:
            raise AuditNotInstalled(" and ".join(missing))
        params = {
            "model": model.id,
            "revision": revision.id,
            "suite": found.name,
            "seed": seed_of(found, revision.id),
            "warnings": [outcome.warning] if outcome.warning else [],
        }
        return self._jobs.submit(KIND, params, actor.name, project)

    def _revision(self, model: Model, rev: str) -> Revision:
        if model.head is None:
            raise NotAuditable(f"{model.id} has no weights here, only its entry in the catalogue.", param="model")
        revision = self._catalog.revision(model, rev)
        files = self._catalog.manifest(revision)
        if "config.json" in files and any(path.endswith(".safetensors") for path in files):
            return revision
        if "adapter_config.json" in files:
            raise NotAuditable(
                f"{model.id} is an adapter, which gives no vectors of its own; audit the model that it adapts.",
                param="model",
            )
        raise NotAuditable(
            f"{model.id} holds no config.json with safetensors weights at {revision.id[:12]}; audits read no other "
            "form.",
            param="model",
        )

    def _run(self, context: JobContext) -> dict[str, Any]:
        params = context.job.params
        model = self._catalog.model(params["model"], viewer=SYSTEM)
        revision = self._catalog.revision(model, params["revision"])
        suite = find(params["suite"])
        for kept in self._catalog.measurements(model.id, revision.id):
            if kept.result.get("job") == context.job.id:  # the server ended between keeping it and noting that
                return kept.result
        with self._catalog.materialise(model, revision) as folder:
            spec = {"suite": suite.name, "folder": str(folder), "seed": params["seed"]}
            measured = context.run(CHILD, spec, env=_ENVIRONMENT, what=f"The audit of {model.id} failed")
        context.check()
        result = {
            "suite": suite.name,
            "suite_version": suite.version,
            "title": suite.title,
            "model": model.id,
            "revision": revision.id,
            "date": utc_now().date().isoformat(),
            "job": context.job.id,
            "seed": params["seed"],
            **measured,
        }
        self._catalog.add_measurement(model.id, revision.id, suite.name, result, context.job.actor)
        return result


def seed_of(suite: Suite, revision: str) -> int:
    """The seed of an audit: fixed for suite and revision, so that the same audit twice gives the same figures."""
    return int.from_bytes(hashlib.sha256(f"{suite.name} {suite.version} {revision}".encode()).digest()[:4], "big")
