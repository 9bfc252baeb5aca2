"""Makes and continues data sets of answers, as a job: read the ledger, write rows, publish them in one commit."""

import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from ecotone.accounts import Accounts, Actor
from ecotone.app.answers import card as cards
from ecotone.app.answers.plan import Plan, Sensitive
from ecotone.app.answers.rows import pair_digest, row_of
from ecotone.app.answers.shards import FOLDER, Known, Shard, Shards, next_number
from ecotone.app.answers.telling import told_makers, told_verdict
from ecotone.catalog import Catalog, File, LineageEdge, Model, ModelNotFound, Revision
from ecotone.catalog.cards import parse
from ecotone.catalog.errors import BadCard
from ecotone.catalog.names import split_id
from ecotone.jobs import Job, JobContext, Jobs
from ecotone.ledger import Ledger
from ecotone.ledger.answers import Answer, Answers
from ecotone.ledger.text_index import TextIndex
from ecotone.ledger.texts import Texts, Unreadable
from ecotone.policy import Policy
from ecotone.publishing import AddLarge, AddRegular, Commit, Operation, Publishing
from ecotone.storage import Storage
from ecotone.vocabulary import Conflict, Forbidden, Invalid, NotFound, RepoType, Role

KIND = "answers"
MOST_ROWS = 2_000_000
MOST_MAKERS = 150
_LOOK_EVERY = 1000
_FRESH = timedelta(seconds=60)
_WAIT_SECONDS = 2.0
_MOST_CARD = 1024 * 1024
_ATTRIBUTES = ".gitattributes"
_LARGE = b"data/*.jsonl filter=lfs diff=lfs merge=lfs -text\n"


class _Found(msgspec.Struct):
    """What one reading gave."""

    texts: Counter[str]
    makers: cards.Makers
    held: int = 0
    rows: int = 0
    duplicates: int = 0
    more: bool = False

    def take(self, answer: Answer, row: dict[str, Any], known: Known, writer: Shards) -> None:
        """Write a row unless its texts are known. Raises Invalid when too many models made them."""
        self.makers.add(answer)
        _check_makers(len(self.makers))
        if not known.add(pair_digest(row)):
            self.duplicates += 1
            return
        writer.add(row)
        self.rows += 1
        self.texts[row["texts"]] += 1


class AnswerSets:
    """The service.

    Args:
        folder: for rows on their way, readable by the owner alone; they go when their job has ended, however it did.
        intend: writes an act to the ledger before it is done, `note` after it.
    """

    def __init__(
        self,
        *,
        accounts: Accounts,
        catalog: Catalog,
        ledger: Ledger,
        texts: Texts,
        storage: Storage,
        publishing: Publishing,
        policy: Policy,
        jobs: Jobs,
        folder: Path,
        intend: Any,
        note: Any,
    ) -> None:
        self._accounts = accounts
        self._catalog = catalog
        self._ledger = ledger
        self._texts = texts
        self._storage = storage
        self._publishing = publishing
        self._policy = policy
        self._jobs = jobs
        self._folder = folder
        self._intend = intend
        self._note = note
        jobs.register(KIND, self._run, self._forget)

    def start(
        self,
        *,
        dataset: str,
        project: str,
        since: datetime | None = None,
        until: datetime | None = None,
        route: str | None = None,
        model: str | None = None,
        private: bool = True,
        sensitive: str = Sensitive.LEAVE_OUT,
        actor: Actor,
    ) -> Job:
        """Queue the work.

        Args:
            dataset: made when absent.
            since: answers from then on; `until`: those before.
            private: whether the data set is; rows go into a public one only when this is False.
            sensitive: what becomes of personal, confidential and secret texts, see `Sensitive`.

        Raises:
            Forbidden: for anybody but an administrator, who alone may read kept texts.
            NotFound, Invalid, BadName: no such project, or no name of a data set.
            Conflict: the data set is public, and nobody said that these rows may be.
        """
        if sensitive not in set(Sensitive):
            raise Invalid(f"sensitive is {sensitive[:40]!r}; {', '.join(Sensitive)} are known.", param="sensitive")
        plan = Plan(
            dataset=dataset,
            project=project,
            since=since,
            until=until,
            route=route,
            model=model,
            private=private,
            sensitive=Sensitive(sensitive),
            actor={"kind": actor.kind, "name": actor.name, "role": actor.role},
            token=actor.token,
            work=secrets.token_hex(12),
        )
        self._check(plan, actor)
        return self._jobs.submit(KIND, msgspec.to_builtins(plan), actor.name, plan.project)

    def _check(self, plan: Plan, actor: Actor) -> Model | None:
        """The data set, None when it has to be made."""
        if not actor.is_admin:
            raise Forbidden("Only administrators may make data of a project's answers.")
        self._accounts.project(plan.project)
        namespace, _ = split_id(plan.dataset, self._catalog.reserved_segments)
        try:
            target = self._catalog.model(plan.dataset, viewer=actor, repo_type=RepoType.DATASET)
        except ModelNotFound:
            self._catalog.check_new(namespace, actor)
            return None
        self._catalog.check_writer(target, actor)
        if plan.private and not target.private:
            raise Conflict(
                f"The data set {target.id} is public; make it private, name another one, or say --public.",
                param="dataset",
            )
        return target

    # -- the job -----------------------------------------------------------------------------------------------------
    def _run(self, context: JobContext) -> dict[str, Any]:
        plan = msgspec.convert(context.job.params, Plan)
        actor = self._asked_by(plan)
        target = self._check(plan, actor)
        base = self._catalog.revision(target) if target is not None else None
        files = self._catalog.manifest(base) if base is not None else {}
        record = cards.read_record(self._content(files, cards.RECORD)) or cards.Record()
        read = Answers(self._ledger, plan.wants, after=record.read.get(plan.selection))
        place = self._place(plan)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found, shards = self._rows(context, plan, actor, read, files, place)
        context.check()
        if found.rows:
            record.rows = found.held + found.rows
            record.selections[plan.selection] = plan.shown()
            record.read[plan.selection] = read.places
            target, revision, edges = self._publish(context, plan, actor, target, base, files, record, found, shards)
        elif target is not None and base is not None:
            revision, edges = base.id, base.edges
        else:
            raise NotFound(
                f"The ledger has no complete answers of the project {plan.project} that were asked for; nothing was "
                "made.",
                param="project",
            )
        return {
            "dataset": target.id,
            "revision": revision,
            "rows": record.rows,
            "new_rows": found.rows,
            "duplicates": found.duplicates,
            "texts": dict(found.texts),
            "damaged_records": read.damaged,
            "generated_by": told_makers(edges),
            "trained_on_it": told_verdict(self._catalog, self._policy, target.id, actor),
            **self._notes(plan, found),
        }

    def _place(self, plan: Plan) -> Path:
        return self._folder / Path(plan.work or "none").name

    def _forget(self, params: dict[str, Any]) -> None:
        """Remove what a job that has ended left lying."""
        shutil.rmtree(self._folder / Path(str(params.get("work") or "none")).name, ignore_errors=True)

    def _notes(self, plan: Plan, found: _Found) -> dict[str, str]:
        told = {}
        if not self._accounts.project(plan.project).bounds.keep_days:
            told["note"] = f"The project {plan.project} keeps no texts: rows say what answered, not what was said."
        if found.more:
            told["more"] = f"{MOST_ROWS} rows are the most of one run; run it again for the rest."
        return told

    def _asked_by(self, plan: Plan) -> Actor:
        """Who asked, with the rights of now."""
        told = plan.actor
        now = self._accounts.actor_of(plan.token) if plan.token else None
        if plan.token and (now is None or not now.is_admin):
            raise Forbidden(f"{told.get('name')} may no longer read a project's texts; nothing was made.")
        role = told.get("role")
        return now or Actor(kind=told["kind"], name=told["name"], role=Role(role) if role else None)

    def _rows(
        self,
        context: JobContext,
        plan: Plan,
        actor: Actor,
        read: Answers,
        files: Mapping[str, File],
        place: Path,
    ) -> tuple[_Found, list[Shard]]:
        """Write what is new to files; what the data set holds is read once there is something new."""
        found = _Found(texts=Counter(), makers=cards.Makers())
        held = [p for p in files if p.startswith(f"{FOLDER}/") and p.endswith(".jsonl")]
        known, writer = Known(place / "known.sqlite"), Shards(place, next_number(held))
        keeps = plan.project in self._texts.projects()
        if keeps:
            self._intend("texts.read", actor, project=plan.project, dataset=plan.dataset)
        since = min((at.at.date() for at in read.places.values()), default=None)
        first = since - timedelta(days=1) if since is not None else None
        index = TextIndex(self._texts, plan.project, place / "texts.sqlite", since=first) if keeps else None
        try:
            for number, (answer, text) in enumerate(self._with_texts(read, index)):
                if number == 0:
                    found.held = sum(known.take_in(self._storage.read(files[path].content)) for path in held)
                if number % _LOOK_EVERY == 0:
                    context.check()
                    context.progress(0.9 * (1 - 1 / (1 + number / 50_000)), f"{found.rows} rows")
                if found.rows >= MOST_ROWS:
                    found.more = True
                    break
                if known.add(answer.request_id):
                    found.take(answer, row_of(answer, text, plan.sensitive), known, writer)
        finally:
            shards = writer.close()
            known.close()
            if index is not None:
                index.close()
        return found, shards

    def _with_texts(self, read: Answers, index: TextIndex | None) -> Iterator[tuple[Answer, Any]]:
        """Each answer with its text: None for nothing kept, False for what cannot be opened."""
        for answer in read:
            text: Any = None
            if index is not None:
                try:
                    text = index.text(answer.request_id)
                    if text is None and answer.texts == "kept" and datetime.now(UTC) - answer.at < _FRESH:
                        text = _awaited(index, answer.request_id)
                except Unreadable:
                    text = False
            yield answer, text

    def _publish(
        self,
        context: JobContext,
        plan: Plan,
        actor: Actor,
        target: Model | None,
        base: Revision | None,
        files: Mapping[str, File],
        record: cards.Record,
        found: _Found,
        shards: list[Shard],
    ) -> tuple[Model, str, tuple[LineageEdge, ...]]:
        """One commit with the rows, the card and the record; a data set that was made for it goes again if it fails."""
        context.progress(0.92, "publishing")
        made = None
        if target is None:
            target = made = self._catalog.create(
                plan.dataset, repo_type=RepoType.DATASET, private=plan.private, actor=actor
            )
            base = self._catalog.revision(target)
            files = self._catalog.manifest(base)
        assert base is not None
        try:
            edges = found.makers.edges(target.id, base.edges)
            _check_makers(len(edges))
            self._catalog.keep_generated(target, [d for s in shards for d in (s.sha256, s.blob)])
            operations: list[Operation] = []
            for shard in shards:
                self._storage.import_file(target.namespace, shard.path)
                operations.append(AddLarge(shard.name, shard.sha256, shard.size))
            operations += self._texts_of(target, files, edges, record)
            published = self._publishing.commit(
                target.id,
                "main",
                Commit(
                    message=f"{found.rows} answers of {plan.project}",
                    parent=base.id,
                    operations=tuple(operations),
                ),
                actor=actor,
                repo_type=RepoType.DATASET,
                asserted_edges=edges,
            )
        except BaseException:
            if made is not None:
                self._catalog.delete(made, actor)
            raise
        self._note(
            "answers.published",
            actor,
            dataset=target.id,
            revision=published.revision_id,
            project=plan.project,
            rows=found.rows,
            texts=dict(found.texts),
            sensitive=plan.sensitive,
        )
        return target, published.revision_id, edges

    def _texts_of(
        self, target: Model, files: Mapping[str, File], edges: tuple[LineageEdge, ...], record: cards.Record
    ) -> list[Operation]:
        """Card, record and attributes as they shall be."""
        raw = (self._content(files, "README.md") or b"").decode("utf-8", "replace")
        try:
            front, text = parse(raw)
        except BadCard:
            front, text = {}, raw
        told = cards.card(target.name, text, front, edges, record)
        attributes = self._content(files, _ATTRIBUTES) or b""
        found: list[Operation] = [
            AddRegular("README.md", told.encode()),
            AddRegular(cards.RECORD, cards.packed(record)),
        ]
        if _LARGE not in attributes:
            found.append(AddRegular(_ATTRIBUTES, attributes + _LARGE))
        return found

    def _content(self, files: Mapping[str, File], path: str) -> bytes | None:
        file = files.get(path)
        if file is None or file.content.size > _MOST_CARD:
            return None
        return b"".join(self._storage.read(file.content))


def _check_makers(count: int) -> None:
    if count > MOST_MAKERS:
        raise Invalid(
            f"More than {MOST_MAKERS} models made these answers; make a data set for each with --model or --route.",
            param="model",
        )


def _awaited(index: TextIndex, request_id: str) -> Any:
    """The text of a request that has just ended: texts are written a moment after its record."""
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        index.refresh()
        text = index.text(request_id)
        if text is not None or time.monotonic() > end:
            return text
        time.sleep(0.05)
