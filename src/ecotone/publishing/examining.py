"""The job that reads weights whole: fingerprints that are missing, then all checks against at most eight candidates.

Started when a revision with new weights became visible, and by hand. What it finds takes the place of what the commit
found, for each revision with these weights. It may end and begin again at any point: candidates that were compared are
not compared again.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import BY_WEIGHTS, Catalog, Kin, LineageEdge, Model, ModelNotFound, Revision, WeightSet, unsettled
from ecotone.jobs import Job, JobContext, JobNotFound, Jobs
from ecotone.ledger import LedgerFull, LedgerWriter
from ecotone.lineage import Fingerprint
from ecotone.lineage.arriving import Print
from ecotone.publishing.descent import (
    EXAMINED,
    FAILED,
    MOST_CANDIDATES,
    Descent,
    Looked,
    digest_of,
    name_of,
    placed,
    weight_files,
)
from ecotone.publishing.kinship import SEEN, Alarm, Match, compared, edges_with
from ecotone.storage import Content, ContentNotFound, Storage
from ecotone.vocabulary import EcotoneError, Invalid, RepoType

log = logging.getLogger("ecotone.publishing")

KIND: Final = "lineage"
CHILD: Final = "ecotone.publishing.examine_child"
_LEAST_SHARE: Final = 0.05
_MOST_BYTES: Final = 512 * 1024**3  # of all candidates together; they may lie beside each other as whole files
_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class NoWeights(Invalid):
    """A model without weights that could be examined."""

    code = "no_weights"


class Examining:
    """The service. Thread-safe."""

    def __init__(self, catalog: Catalog, storage: Storage, descent: Descent, jobs: Jobs, ledger: LedgerWriter) -> None:
        self._catalog = catalog
        self._storage = storage
        self._descent = descent
        self._jobs = jobs
        self._ledger = ledger
        self._listeners: list[Callable[[], None]] = []
        self._submitting = threading.Lock()
        self._open: dict[tuple[int, str], str] = {}
        jobs.register(KIND, self._run, watches=True)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Be told when an examination has changed what decisions depend on."""
        self._listeners.append(listener)

    def start(self, model_id: str, rev: str, *, actor: Actor) -> Job:
        """Queue the examination of a revision's weights; the job that does it already, where one waits or runs.

        Raises:
            ModelNotFound, RevisionNotFound: there is no such revision.
            NoWeights: it holds no safetensors or GGUF file.
        """
        model = self._catalog.model(model_id, viewer=actor)
        if model.head is None:
            raise NoWeights(f"{model.id} has no weights here, only its entry in the catalogue.", param="model")
        revision = self._catalog.revision(model, rev)
        if not weight_files(self._catalog.manifest(revision)):
            raise NoWeights(f"{model.id} holds no safetensors or GGUF file at {revision.id[:12]}.", param="model")
        return self._submit(model, revision.id, actor.name)

    def arrived(self, model: Model, sha: str, actor: Actor) -> None:
        """Examine the weights of a revision that became visible. The revision stands, whatever becomes of this."""
        try:
            self._submit(model, sha, actor.name)
        except Exception:  # `resume` gives the job at the next start
            log.exception("the weights of %s could not be given to a job", model.id)

    def resume(self) -> None:
        """Give the jobs that the end of a server came before."""
        for key, sha in self._catalog.waiting():
            try:
                self._submit(self._catalog.model_of(key), sha, SYSTEM.name)
            except ModelNotFound:
                continue

    def _submit(self, model: Model, sha: str, actor: str) -> Job:
        with self._submitting:
            under_way = self._under_way(model, sha)
            return under_way or self._given(model, sha, actor)

    def _under_way(self, model: Model, sha: str) -> Job | None:
        """The job that was given for a revision and has not ended: asking often must not fill the queue."""
        known = self._catalog.weights(model, sha)
        number = self._open.get((model.key, sha)) or (known.job if known is not None else None)
        try:
            job = self._jobs.get(number) if number else None
        except JobNotFound:
            return None
        same = job is not None and job.params.get("key") == model.key and job.params.get("revision") == sha
        return job if job is not None and same and not job.state.ended else None

    def _given(self, model: Model, sha: str, actor: str) -> Job:
        job = self._jobs.submit(KIND, {"model": model.id, "key": model.key, "revision": sha}, actor)
        self._open[model.key, sha] = job.id
        self._catalog.note_job(model, sha, job.id)
        return job

    # -- the job -------------------------------------------------------------------------------------------------------
    def _run(self, context: JobContext) -> dict[str, Any]:
        model = self._catalog.model_of(int(context.job.params["key"]))
        revision = self._catalog.revision(model, context.job.params["revision"])
        try:
            return self._examined(context, model, revision)
        except EcotoneError as error:
            if not context.cancelled():
                self._failed(model, revision, context.job.id, error.message)
            raise
        finally:
            self._open.pop((model.key, revision.id), None)

    def _examined(self, context: JobContext, model: Model, revision: Revision) -> dict[str, Any]:
        self._take_prints(context, model, revision)
        for parent in self._unread_parents(revision):
            self._take_prints(context, *parent)
        files = weight_files(self._catalog.manifest(revision))
        own, missing, findings = self._descent.fingerprint(files)
        if own is None:
            weights = placed(files, None, state=FAILED if missing else EXAMINED)
            self._record(context, model, revision, weights, None)
            return {"model": model.id, "revision": revision.id, "candidates": 0}
        named = [edge for edge in unsettled(revision.edges) if edge.asserted_by != BY_WEIGHTS]
        at = self._catalog.kin_of(model.id, revision.id)
        since = at.since if at is not None else None
        looked = self._descent.look(model, own, named, digest=digest_of(files), since=since, missing=bool(missing))
        matches = self._compare(context, files, own, looked.matches)
        alike = looked.alike | _now_alike(matches)
        final = self._descent.concluded(model, named, matches, looked.ids, alike, missing=bool(missing))
        final = msgspec.structs.replace(final, alarms=(*final.alarms, *_newer(final, since)))
        weights = self._descent.weight_set(files, own, final, findings, state=EXAMINED)
        shas = self._record(context, model, revision, weights, final)
        return {
            "model": model.id,
            "revision": revision.id,
            "revisions": len(shas),
            "candidates": len(matches),
            "related": sum(match.related for match in matches),
            "undeclared": len(final.parents),
            "alarms": sorted({alarm.code for alarm in final.alarms}),
        }

    def _record(
        self, context: JobContext, model: Model, revision: Revision, weights: WeightSet, looked: Looked | None
    ) -> list[str]:
        weights = msgspec.structs.replace(weights, job=context.job.id)

        def edges_of(sha: str, old: list[LineageEdge]) -> list[LineageEdge]:
            if looked is None:
                return old
            asserted = [edge for edge in old if edge.asserted_by != BY_WEIGHTS]
            made = edges_with(model.id, asserted, looked.matches, looked.parents, looked.ids)
            return [msgspec.structs.replace(edge, child=model.id, child_revision=sha) for edge in made]

        found = self._catalog.settled_edges(
            model, weights.digest, edges_of(revision.id, unsettled(revision.edges)), revision.id
        )
        told = {
            "act": "lineage.examined",
            "actor": context.job.actor,
            "job": context.job.id,
            "model": model.id,
            "revision": revision.id,
            "edges": [msgspec.to_builtins(edge) for edge in found],
        }
        context.check()
        shas = self._catalog.record_descent(
            model, weights.digest, weights, edges_of, before_visible=lambda: self._note(told)
        )
        for listener in self._listeners:
            listener()
        return shas

    def _note(self, told: dict[str, Any]) -> None:
        self._ledger.append("admin", told, flush=True)

    def _failed(self, model: Model, revision: Revision, job: str, reason: str) -> None:
        known = self._catalog.weights(model, revision.id)
        if known is None:
            return
        report = known.report | {"failed": reason[:500]}
        made = msgspec.structs.replace(known, state=FAILED, report=report, job=job)
        try:
            self._catalog.record_descent(model, known.digest, made, lambda _sha, old: old)
        except (ModelNotFound, LedgerFull):
            log.warning("the weights of %s could not be examined: %s", model.id, reason)

    # -- fingerprints that are missing ---------------------------------------------------------------------------------
    def _unread_parents(self, revision: Revision) -> list[tuple[Model, Revision]]:
        """Declared parents on this hub whose weights came before fingerprints were kept."""
        found: list[tuple[Model, Revision]] = []
        for edge in revision.edges:
            if edge.relation not in SEEN or len(found) >= MOST_CANDIDATES:
                continue
            try:
                parent = self._catalog.model(edge.parent, viewer=SYSTEM)
                at = self._catalog.revision(parent, edge.parent_revision or "main")
            except EcotoneError:
                continue
            if parent.repo_type is RepoType.MODEL and self._catalog.weights(parent, at.id) is None:
                found.append((parent, at))
        return found

    def _take_prints(self, context: JobContext, model: Model, revision: Revision) -> None:
        """Take the fingerprints of a revision's files that have none, and put the revision among the candidates."""
        files = weight_files(self._catalog.manifest(revision))
        lacking = {name_of(c): c for c in files.values() if self._descent.print_of(c) is None}
        if lacking:
            into = context.folder / "prints"
            into.mkdir(mode=0o700, parents=True, exist_ok=True)
            plain = {f"{name}{_ending(files, name)}": content for name, content in lacking.items()}
            with self._storage.materialise(f"unread-{digest_of(lacking)[:40]}", plain) as folder:
                wanted = [{"name": name, "path": str(folder / f"{name}{_ending(files, name)}")} for name in lacking]
                spec = {"prints": wanted, "into": str(into)}
                context.run(CHILD, spec, env=_ENVIRONMENT, what=f"The weights of {model.id} could not be read")
            for name in lacking:
                self._storage.prints.keep(name, msgspec.msgpack.decode((into / name).read_bytes(), type=Print))
        if files and self._catalog.weights(model, revision.id) is None:
            own, _, _ = self._descent.fingerprint(files)
            self._catalog.add_weights(model, revision.id, placed(files, own, state="done"))

    # -- all checks ----------------------------------------------------------------------------------------------------
    def _compare(
        self, context: JobContext, files: Mapping[str, Content], own: Fingerprint, matches: tuple[Match, ...]
    ) -> tuple[Match, ...]:
        """The matches, those whose weights can be read with what all checks say of them."""
        answers = _Answers(context.folder / "compared.json")
        with ExitStack() as held:
            child = self._opened(held, files)
            if child is None or not matches:
                return matches
            prints = context.folder / "prints"
            candidates = []
            room = _MOST_BYTES
            for match in matches:
                theirs = self._files_of(match.kin)
                room -= sum(content.size for content in theirs.values())
                place = self._opened(held, theirs) if room >= 0 else None
                if place is not None:
                    self._lay_out(prints, match.kin.weights.names)
                    names, key = list(match.kin.weights.names), match.kin.model.key
                    known = answers.get(key, match.kin.weights.digest)
                    candidates.append({"key": key, "path": str(place), "names": names, "answer": known})
            if not candidates:
                return matches
            names = list(dict.fromkeys(name_of(content) for content in files.values()))
            self._lay_out(prints, names)
            digests = {match.kin.model.key: match.kin.weights.digest for match in matches}

            def heard(message: dict[str, Any]) -> None:
                if "compared" in message:
                    key = int(message["compared"]["key"])
                    answers.keep(key, digests[key], message["compared"]["answer"])

            spec = {
                "child": {"path": str(child), "names": names},
                "candidates": candidates,
                "prints": str(prints),
            }
            result = context.run(
                CHILD, spec, env=_ENVIRONMENT, on_message=heard, what="The weights could not be compared"
            )
        shares = {int(key): float(share) for key, share in result["shares"].items() if share > _LEAST_SHARE}
        return tuple(
            match
            if (answer := answers.get(match.kin.model.key, match.kin.weights.digest)) is None
            else compared(match, answer, shares.get(match.kin.model.key))
            for match in matches
        )

    def _files_of(self, kin: Kin) -> dict[str, Content]:
        """The weight files of a candidate, also of a deleted one while its bytes are here."""
        try:
            return weight_files(self._catalog.manifest(self._catalog.revision(kin.model, kin.revision)))
        except EcotoneError:
            return {}

    def _opened(self, held: ExitStack, files: Mapping[str, Content]) -> Path | None:
        """A folder with the weights that are compared: all safetensors, else the largest GGUF file."""
        chosen = {path: content for path, content in files.items() if path.lower().endswith(".safetensors")}
        if not chosen and files:
            path = max(files, key=lambda one: files[one].size)
            chosen = {path: files[path]}
        if not chosen:
            return None
        plain = {f"{n:04d}-{path.rpartition('/')[2].lower()}": chosen[path] for n, path in enumerate(sorted(chosen))}
        key = f"weights-{digest_of(chosen)[:40]}-{len(plain)}"
        try:
            folder = held.enter_context(self._storage.materialise(key, plain))
        except ContentNotFound:
            return None
        return folder if len(plain) > 1 else folder / next(iter(plain))

    def _lay_out(self, folder: Path, names: tuple[str, ...] | list[str]) -> None:
        """Put fingerprints where the child reads them."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            target = folder / name
            found = None if target.exists() else self._storage.prints.of(name)
            if found is not None:
                draft = folder / f".{name}"
                draft.write_bytes(msgspec.msgpack.encode(found))
                draft.rename(target)  # a job that begins again takes what is there for whole


class _Answers:
    """What was compared, in a file, so that a job that begins again goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            self._kept = {}

    def get(self, key: int, digest: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._kept.get(f"{key} {digest}")
        return found

    def keep(self, key: int, digest: str, answer: dict[str, Any]) -> None:
        self._kept[f"{key} {digest}"] = answer
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._kept), "utf-8")
        draft.rename(self._path)


def _now_alike(matches: tuple[Match, ...]) -> dict[tuple[int, int], bool]:
    """Candidates that are the child, as permuted copies are, are alike too, though fingerprints do not show it."""
    keys = sorted(m.kin.model.key for m in matches if m.full and m.related and m.distance < _LEAST_SHARE)
    return {(one, other): True for at, one in enumerate(keys) for other in keys[at + 1 :]}


def _newer(looked: Looked, since: datetime | None) -> list[Alarm]:
    """Declared parents whose weights came here after the child's."""
    late = (m.kin.model.key for m in looked.matches if m.declared and since is not None and m.kin.since > since)
    return [Alarm(code="newer", key=key) for key in late]


def _ending(files: Mapping[str, Content], name: str) -> str:
    path = next(path for path, content in files.items() if name_of(content) == name)
    return ".gguf" if path.lower().endswith(".gguf") else ".safetensors"
