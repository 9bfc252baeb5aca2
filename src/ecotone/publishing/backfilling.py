"""The job that fingerprints weights from before fingerprints were kept, so that their models become candidates.

Files are read in a child of low priority, a batch at a time and each in one pass. What a batch gave is kept at once, so
a job that ends at any point goes on behind it. What cannot be read becomes a finding.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, Model, Revision
from ecotone.jobs import Job, JobContext, Jobs, JobStandsAside
from ecotone.lineage.arriving import Print
from ecotone.publishing.descent import DONE, Descent, digest_of, name_of, placed, weight_files
from ecotone.storage import Content, Storage
from ecotone.vocabulary import EcotoneError

KIND: Final = "fingerprint"
CHILD: Final = "ecotone.publishing.examine_child"
NICENESS: Final = 15
BATCH_FILES: Final = 64
BATCH_BYTES: Final = 4 * 1024**3
_MOST_FINDINGS: Final = 1000
_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Backfilling:
    """The service. Thread-safe."""

    def __init__(self, catalog: Catalog, storage: Storage, descent: Descent, jobs: Jobs) -> None:
        self._catalog = catalog
        self._storage = storage
        self._descent = descent
        self._jobs = jobs
        self._submitting = threading.Lock()
        jobs.register(KIND, self._run)

    def start(self, *, actor: Actor) -> Job:
        """Queue the job; the one that waits or runs already, when there is one."""
        with self._submitting:
            going = (job for job in self._jobs.list() if job.kind == KIND and not job.state.ended)
            return next(going, None) or self._jobs.submit(KIND, {}, actor.name)

    def _run(self, context: JobContext) -> dict[str, Any]:
        done = _Done(context.folder / "done.json")
        left = self._catalog.count_without_weights(after=done.after)
        total = done.seen + left
        for key, sha in self._each(done.after):
            context.check()
            if self._jobs.others_wait():
                raise JobStandsAside
            context.progress(done.seen / max(1, total), f"revision {done.seen + 1} of {total}")
            try:
                model = self._catalog.model_of(key)
                self._take(context, model, self._catalog.revision(model, sha), done)
            except EcotoneError as error:
                context.check()
                done.finding(f"{sha[:12]}: {error.message}")
            done.passed(key, sha)
        return done.told()

    def _each(self, after: tuple[int, str]) -> Iterator[tuple[int, str]]:
        while found := self._catalog.without_weights(after=after):
            yield from found
            after = found[-1]

    def _take(self, context: JobContext, model: Model, revision: Revision, done: "_Done") -> None:
        files = weight_files(self._catalog.manifest(revision))
        if not files:
            return
        lacking: dict[str, tuple[str, Content]] = {}
        for path, content in files.items():
            if self._storage.prints.of(name_of(content)) is None:
                lacking.setdefault(name_of(content), (path, content))
        at = f"{model.id}@{revision.id[:12]}"
        unread: set[str] = set()
        for batch in _batches(lacking):
            unread |= self._batch(context, at, batch, done)
        held = {path: content for path, content in files.items() if name_of(content) not in unread}
        if not held:
            return
        own, _, findings = self._descent.fingerprint(held)
        for path, content in held.items():
            found = self._storage.prints.of(name_of(content))
            if found is not None and found.fingerprint is None and path.endswith(".safetensors"):
                findings.append(f"{path} is not a whole weight file: {found.broken}")
        for finding in findings:
            done.finding(f"{at}: {finding}")
        weights = msgspec.structs.replace(placed(files, own, state=DONE), report={"findings": findings})
        if not unread:
            self._catalog.add_weights(model, revision.id, weights)
            done.revisions += 1

    def _batch(self, context: JobContext, at: str, batch: Mapping[str, tuple[str, Content]], done: "_Done") -> set[str]:
        """Read some files; returns the names of those that could not be."""
        into = context.folder / "prints"
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        contents = {name: content for name, (_, content) in batch.items()}
        try:
            with self._storage.materialise(f"batch-{digest_of(contents)[:40]}", contents) as folder:
                wanted = [{"name": name, "path": str(folder / name)} for name in batch]
                spec = {"prints": wanted, "into": str(into), "nice": NICENESS}
                context.run(CHILD, spec, env=_ENVIRONMENT, what="It could not be read")
        except EcotoneError as error:
            context.check()
            if len(batch) > 1:  # one of them; each is tried alone
                return {bad for name, one in batch.items() for bad in self._batch(context, at, {name: one}, done)}
            ((path, _),) = batch.values()
            done.finding(f"{at}: {path} could not be read: {error.message}")
            return set(batch)
        for name, (_, content) in batch.items():
            file = into / name
            self._storage.prints.keep(name, msgspec.msgpack.decode(file.read_bytes(), type=Print))
            file.unlink()
            done.files += 1
            done.bytes += content.size
        done.keep()
        return set()


class _Done:
    """How far a job is, in a file, so that it goes on there after a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            kept = {}
        key, sha = kept.get("after", (0, ""))
        self.after: tuple[int, str] = (key, sha)
        self.seen, self.revisions = int(kept.get("seen", 0)), int(kept.get("revisions", 0))
        self.files, self.bytes = int(kept.get("files", 0)), int(kept.get("bytes", 0))
        self.findings: list[str] = list(kept.get("findings", ()))

    def finding(self, text: str) -> None:
        if text not in self.findings and len(self.findings) < _MOST_FINDINGS:
            self.findings.append(text[:500])

    def passed(self, key: int, sha: str) -> None:
        self.after = (key, sha)
        self.seen += 1
        self.keep()

    def keep(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_text(json.dumps(self.told() | {"after": self.after}), "utf-8")
        draft.rename(self._path)

    def told(self) -> dict[str, Any]:
        """The job's result: revisions looked at and fingerprinted, files and bytes read, what was wrong."""
        names = ("seen", "revisions", "files", "bytes", "findings")
        return {name: getattr(self, name) for name in names}


def _batches(files: Mapping[str, tuple[str, Content]]) -> Iterator[dict[str, tuple[str, Content]]]:
    """Files a few at a time, so that little lies on the disk twice."""
    batch: dict[str, tuple[str, Content]] = {}
    size = 0
    for name, (path, content) in files.items():
        if batch and (len(batch) >= BATCH_FILES or size + content.size > BATCH_BYTES):
            yield batch
            batch, size = {}, 0
        batch[name] = (path, content)
        size += content.size
    if batch:
        yield batch
