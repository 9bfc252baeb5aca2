"""Tuning runs: checked and judged before anything starts, run as a job, published whole or not at all.

The training itself is in the child (`lora_child`); this side never imports torch. Rows are kept, readable by the owner
alone, only until their run has ended.
"""

import contextlib
import hashlib
import importlib.util
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, LineageEdge, Model, ModelNotFound, ReservedId, Revision
from ecotone.catalog.names import key_of, split_id
from ecotone.database import utc_now
from ecotone.jobs import Job, JobContext, Jobs
from ecotone.licences import Family, KnowledgeBase, Node
from ecotone.policy import Outcome
from ecotone.publishing import AddLarge, AddRegular, Commit, Publishing
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.tuning import cards
from ecotone.tuning.data import check
from ecotone.tuning.datasets import Source, read_dataset
from ecotone.tuning.datasets import edge as trained_on
from ecotone.tuning.errors import BrokenData, NotTunable, TargetTaken, TuningNotInstalled
from ecotone.tuning.licensing import Terms, terms
from ecotone.tuning.plans import Plan, told
from ecotone.tuning.recipes import Recipe
from ecotone.vocabulary import EdgeStatus, Forbidden, Invalid, Refused, Relation

KIND = "tune"
CHILD = "ecotone.tuning.lora_child"
MayTune = Callable[[str, str, str | None], Outcome]
MayTrain = Callable[[Family, str | None], Outcome]

_NEEDS = ("torch", "transformers", "peft", "safetensors")
_OWN_FILES = {".gitattributes", "README.md", "LICENSE", "NOTICE"}
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the processor to those who serve
_SWEEP_AFTER = 600.0


class Tuning:
    """The service. Thread-safe.

    Args:
        may_tune: policy's answer for (model, revision, project).
        may_train: its answer for the family of a model with the data that it is to be trained on, and the project.
    """

    def __init__(
        self,
        catalog: Catalog,
        publishing: Publishing,
        jobs: Jobs,
        storage: Storage,
        settings: Settings,
        *,
        may_tune: MayTune,
        may_train: MayTrain | None = None,
        knowledge: KnowledgeBase | None = None,
    ) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._jobs = jobs
        self._storage = storage
        self._settings = settings
        self._may_tune = may_tune
        self._may_train = may_train
        self._knowledge = knowledge or KnowledgeBase.load()
        jobs.register(KIND, self._run, self._forget)

    # -- before the start --------------------------------------------------------------------------------------------
    def start(
        self,
        model_id: str,
        rev: str,
        data: Path | bytes | None,
        *,
        dataset: str | None = None,
        method: str = "lora",
        to: str,
        epochs: int = 3,
        learning_rate: float = 2e-4,
        seed: int = 0,
        actor: Actor,
        project: str | None = None,
    ) -> Job:
        """Queue a run; nothing is stored before every check has passed.

        Args:
            data: JSONL rows, or the file that holds them; None where they come from `dataset`.
            dataset: a data set of the hub, `NAMESPACE/NAME[@REVISION]`: what made it is judged with the parent.
            to: the model that receives the result; made, private, when absent.
            project: under whose use the run is judged; the house project when None.

        Raises:
            BrokenData: rows cannot be used; each is named by line.
            Refused: the decision forbids it; the message names licence and clause.
            NotTunable: the parent has no causal weights here, or is an adapter.
            TargetTaken, ReservedId, Forbidden, BadName: `to` cannot receive the result.
            TuningNotInstalled: names the extra to install.
            ModelNotFound, RevisionNotFound: there is no such parent.
        """
        recipe = Recipe(method=method, epochs=epochs, learning_rate=learning_rate, seed=seed)
        if (data is None) == (dataset is None):
            raise Invalid("Give rows, or a data set of the hub that holds them: one of both.", param="data")
        source = read_dataset(self._catalog, self._storage, dataset, actor) if dataset is not None else None
        if source is not None:
            rows = source.rows
        else:
            assert data is not None
            rows = data if isinstance(data, bytes) else data.read_bytes()
        checked = check(rows)
        if checked.broken:
            raise BrokenData(checked.broken, more=checked.more)
        parent = self._catalog.model(model_id, viewer=actor)
        revision = self._parent_revision(parent, rev)
        self._check_target(to, parent, actor)
        outcome = self._may_tune(parent.id, revision.id, project)
        if not outcome.allowed:
            raise Refused(outcome.message, decision=outcome.to_json())
        if source is not None:
            outcome = self._judged_on_data(parent, revision, source, project) or outcome
        missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
        if missing:
            raise TuningNotInstalled(" and ".join(missing))
        plan = Plan(
            model=parent.id,
            revision=revision.id,
            to=to,
            recipe=recipe,
            rows_file=f"{secrets.token_hex(12)}.jsonl",
            rows=checked.rows,
            rows_sha256=checked.sha256,
            rows_bytes=checked.size,
            actor=told(actor),
            project=project,
            dataset=source.dataset if source is not None else None,
            dataset_revision=source.revision if source is not None else None,
            warnings=(*checked.warnings, *_of_source(source), *([outcome.warning] if outcome.warning else [])),
        )
        self._check_publishable(plan, outcome)
        self._sweep()
        place = self._keep(plan, rows)
        try:
            return self._jobs.submit(KIND, plan.to_json(), actor.name, project)
        except BaseException:
            place.unlink(missing_ok=True)
            raise

    def _judged_on_data(self, parent: Model, revision: Revision, source: Source, project: str | None) -> Outcome | None:
        """Policy's answer for the parent trained on a data set. Raises Refused."""
        if self._may_train is None:
            return None
        family = self._catalog.family(parent, revision)
        edges = [*revision.edges, trained_on(parent.id, source.dataset, source.revision)]
        outcome = self._may_train(self._catalog.compose_family(family.node(parent.id), edges), project)
        if not outcome.allowed:
            raise Refused(outcome.message, decision=outcome.to_json())
        return outcome

    def _parent_revision(self, parent: Model, rev: str) -> Revision:
        if parent.head is None:
            raise NotTunable(
                f"{parent.id} has no weights here, only its entry in the catalogue; upload them first.", param="model"
            )
        revision = self._catalog.revision(parent, rev)
        files = self._catalog.manifest(revision)
        if "adapter_config.json" in files and "config.json" not in files:
            base = next((e.parent for e in revision.edges if e.relation is Relation.ADAPTER), "its base model")
            raise NotTunable(f"{parent.id} is an adapter itself; tune {base} instead.", param="model")
        kinds = revision.config.get("architectures") or []
        if "config.json" not in files or not any(path.endswith(".safetensors") for path in files):
            raise NotTunable(
                f"{parent.id} holds no config.json with safetensors weights at {revision.id[:12]}; tuning reads no "
                "other form.",
                param="model",
            )
        if not any(str(k).endswith(("ForCausalLM", "LMHeadModel")) for k in kinds):
            raise NotTunable(
                f"{parent.id} is a {', '.join(map(str, kinds)) or 'model of no known kind'}; LoRA on chat rows needs a "
                "causal language model.",
                param="model",
            )
        return revision

    def _check_target(self, to: str, parent: Model, actor: Actor) -> None:
        """The target must be free, or a private adapter of the same parent that the actor may write."""
        namespace, _ = split_id(to, self._catalog.reserved_segments)
        if not actor.may_write:
            raise Forbidden("This token may only read; tuning needs one that may write.")
        if key_of(to) == key_of(parent.id):
            raise TargetTaken(f"{to} is the parent itself; name another model for the result.", param="to")
        try:
            target = self._catalog.model(to, viewer=actor)
        except ModelNotFound:
            self._catalog.check_new(namespace, actor)
            return
        if (not target.key or target.reserved) and not actor.is_admin:
            raise ReservedId(f"{to!r} is reserved by the starter catalogue; choose another name.")
        if not target.key:
            return
        self._catalog.check_writer(target, actor)
        if not target.private:
            raise TargetTaken(
                f"{to} is public, and what was learned from private data must not be; make it private, or name another "
                "model for the result.",
                param="to",
            )
        revision = self._catalog.revision(target)
        files = set(self._catalog.manifest(revision)) - _OWN_FILES
        ours = any(e.relation is Relation.ADAPTER and key_of(e.parent) == key_of(parent.id) for e in revision.edges)
        if files and not ours:
            raise TargetTaken(
                f"{to} exists and is no adapter of {parent.id}; name another model for the result.", param="to"
            )

    def _check_publishable(self, plan: Plan, outcome: Outcome) -> None:
        """Whether the result could become a revision at all: found out before the work, not after it."""
        errors, _ = self._publishing.check_card(cards.card(plan, self._terms(plan)), model_id=plan.to)
        if errors:
            raise Refused(
                f"The result could not be published, nothing was started. {errors[0]}", decision=outcome.decision
            )

    def _terms(self, plan: Plan) -> Terms:
        node = Node(id=plan.to, instruments=("none",))
        family = self._catalog.compose_family(node, _edges(plan, "to be made"))
        return terms(self._knowledge, family, utc_now().date())

    # -- rows --------------------------------------------------------------------------------------------------------
    @property
    def _rows_folder(self) -> Path:
        folder = self._settings.folder("jobs") / "rows"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _keep(self, plan: Plan, rows: bytes) -> Path:
        place = self._rows_folder / plan.rows_file
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(rows)
            file.flush()
            os.fsync(file.fileno())
        return place

    def _forget(self, params: dict[str, Any]) -> None:
        """Remove the rows of a run that has ended, however it did."""
        (self._rows_folder / Path(str(params.get("rows_file"))).name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove rows whose run was never queued: the server ended in between."""
        waiting = {job.params.get("rows_file") for job in self._jobs.list() if job.kind == KIND and not job.state.ended}
        for file in self._rows_folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its run has just ended, or another one sweeps too
                if file.name not in waiting and time.time() - file.stat().st_mtime > _SWEEP_AFTER:
                    file.unlink()

    # -- the run -----------------------------------------------------------------------------------------------------
    def _run(self, context: JobContext) -> dict[str, Any]:
        plan = msgspec.convert(context.job.params, Plan)
        published = self._published_by(context.job.id, plan)
        if published is not None:  # the server ended between publishing and noting it
            return {"model": plan.to, "revision": published, "parent": plan.model}
        return self._train_and_publish(context, plan, self._rows_folder / plan.rows_file)

    def _train_and_publish(self, context: JobContext, plan: Plan, rows: Path) -> dict[str, Any]:
        if not rows.exists():
            raise NotTunable("The training data of this run is gone; start it again.")
        parent = self._catalog.model(plan.model, viewer=plan.asked_by)
        revision = self._catalog.revision(parent, plan.revision)
        out = context.folder / "out"
        out.mkdir(mode=0o700, exist_ok=True)
        with self._catalog.materialise(parent, revision) as folder:
            spec = {
                "parent": str(folder),
                "parent_id": parent.id,
                "parent_revision": revision.id,
                "data": str(rows),
                "out": str(out),
                "recipe": msgspec.to_builtins(plan.recipe),
            }
            figures = context.run(CHILD, spec, env=_ENVIRONMENT, what=f"Tuning {parent.id} failed")
        context.check()
        context.progress(0.97, "publishing")
        weights = {p: f.content.sha256 or f.content.git_oid for p, f in self._catalog.manifest(revision).items()}
        run = cards.Run(
            job=context.job.id,
            plan=plan,
            figures=figures,
            adapter_sha256=_sha256(out / "adapter_model.safetensors"),
            parent_weights={p: h for p, h in weights.items() if p.endswith(".safetensors")},
            date=utc_now().date().isoformat(),
        )
        result = self._publish(run, out)
        for file in out.iterdir():
            file.unlink()
        return result

    def _publish(self, run: cards.Run, out: Path) -> dict[str, Any]:
        """Make the revision visible, and the model when it is new; when that fails the model goes again."""
        plan = run.plan
        actor = plan.asked_by
        made: Model | None = None
        try:
            target = self._catalog.model(plan.to, viewer=actor)
        except ModelNotFound:
            target = made = self._catalog.create(plan.to, private=True, actor=actor)
        else:
            self._check_target(plan.to, self._catalog.model(plan.model, viewer=actor), actor)
            if not target.key:
                target = made = self._catalog.create(plan.to, private=True, actor=actor)
        try:
            result_terms = self._terms(plan)
            content = self._storage.import_file(target.namespace, out / "adapter_model.safetensors")
            published = self._publishing.commit(
                target.id,
                "main",
                Commit(
                    message=f"Tune {plan.model} with LoRA",
                    description=_mark(run.job),
                    operations=(
                        AddRegular("README.md", cards.card(plan, result_terms, run).encode()),
                        AddRegular("adapter_config.json", (out / "adapter_config.json").read_bytes()),
                        AddRegular(cards.RECORD, cards.record_text(run, result_terms).encode()),
                        AddLarge("adapter_model.safetensors", content.sha256 or "", content.size),
                    ),
                ),
                actor=actor,
                asserted_edges=_edges(plan, run.job),
            )
        except BaseException:
            if made is not None:
                self._catalog.delete(made, actor)
            raise
        return {
            "model": target.id,
            "revision": published.revision_id,
            "parent": plan.model,
            "parent_revision": plan.revision,
            "licence": result_terms.label,
            "rows": plan.rows,
            "steps": run.figures["steps"],
            "trained_tokens": run.figures["trained_tokens"],
            "loss_before": run.figures["loss_before"],
            "loss_after": run.figures["loss_after"],
            "adapter_sha256": run.adapter_sha256,
            "warnings": [*plan.warnings, *run.figures["warnings"], *published.warnings],
        }

    def _published_by(self, job_id: str, plan: Plan) -> str | None:
        """The target's head, when this very job has made it already."""
        try:
            target = self._catalog.model(plan.to, viewer=plan.asked_by)
        except ModelNotFound:
            return None
        if not target.key or target.head is None:
            return None
        head = self._catalog.revision(target)
        return head.id if _mark(job_id) in head.message else None


def _edges(plan: Plan, job_id: str) -> tuple[LineageEdge, ...]:
    """The lineage of the result: verified, since we made it."""
    parent = LineageEdge(
        child=plan.to,
        parent=plan.model,
        relation=Relation.ADAPTER,
        status=EdgeStatus.VERIFIED,
        asserted_by="ecotone tuning",
        evidence=f"tuning run {job_id} on revision {plan.revision}",
    )
    if plan.dataset is None or plan.dataset_revision is None:
        return (parent,)
    return (parent, trained_on(plan.to, plan.dataset, plan.dataset_revision))


def _of_source(source: Source | None) -> tuple[str, ...]:
    count = source.passed_over if source is not None else 0
    return (f"{count} row{'s' * (count > 1)} of the data set cannot be learned from and were left out",) * (count > 0)


def _mark(job_id: str) -> str:
    return f"Tuning run {job_id}"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
