"""The queue of jobs: rows in the database, runner threads, one log folder for each job.

A job that ran when the server went down is queued again at the next start; one that took the server down three times is
given up.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError

from ecotone.accounts import Actor
from ecotone.database import Database, utc_now
from ecotone.jobs.context import JobContext, write_line
from ecotone.jobs.entities import Job
from ecotone.jobs.errors import JobCancelled, JobNotFound, JobStandsAside, UnknownKind
from ecotone.jobs.models import JobRow
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, EcotoneError, Forbidden, JobState, Unavailable

log = logging.getLogger("ecotone.jobs")

Runner = Callable[[JobContext], dict[str, Any]]
Ended = Callable[[dict[str, Any]], None]

_MOST_ATTEMPTS = 3
_PERSIST_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
_LONGEST_LOG = 1024 * 1024
_AWAY = (OperationalError, InterfaceError, Unavailable)
"""What passes by itself: the database cannot be reached, is locked, or has no room."""


class Jobs:
    """Submits, runs and shows jobs. Thread-safe."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._runners: dict[str, Runner] = {}
        self._ended: dict[str, Ended] = {}
        self._watching: set[str] = set()
        self._turn = threading.Condition()
        self._waiting: deque[str] = deque()
        self._running: dict[str, JobContext] = {}
        self._live: dict[str, tuple[float, str]] = {}
        self._persisted: dict[str, float] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = False

    # -- for rooms that bring work -----------------------------------------------------------------------------------
    def register(self, kind: str, runner: Runner, ended: Ended | None = None, *, watches: bool = False) -> None:
        """Name the function that does jobs of a kind; its JSON result is kept with the job.

        Args:
            ended: called with the parameters of each job that ends, also of one that never began, before its end is
                seen.
            watches: the jobs look at what somebody did, who must not end them.
        """
        self._runners[kind] = runner
        if watches:
            self._watching.add(kind)
        if ended is not None:
            self._ended[kind] = ended

    def submit(self, kind: str, params: dict[str, Any], actor: str, project: str | None = None) -> Job:
        """Put work in the queue; it is on disk when this returns.

        Raises:
            UnknownKind: nobody registered the kind.
        """
        if kind not in self._runners:
            raise UnknownKind(kind)
        row = JobRow(
            id=f"job-{secrets.token_hex(6)}",
            kind=kind,
            state=JobState.QUEUED,
            progress=0.0,
            message="waiting for its turn",
            params=params,
            actor=actor[:96],
            project=project,
            attempts=0,
            created=utc_now(),
        )
        with self._turn:  # from before it can be seen, so that it is neither cancelled nor collected in between
            with self._database.writing() as session:
                session.add(row)
            self._waiting.append(row.id)
            self._turn.notify()
        return self._job(row)

    # -- for people --------------------------------------------------------------------------------------------------
    def get(self, job_id: str) -> Job:
        with self._database.reading() as session:
            row = session.get(JobRow, job_id)
        if row is None:
            raise JobNotFound(job_id)
        return self._job(row)

    def log(self, job_id: str) -> str:
        """What the job and its child wrote, at most the last MiB."""
        file = self.folder(self.get(job_id).id) / "log"
        if not file.exists():
            return ""
        with open(file, "rb") as opened:
            opened.seek(max(0, file.stat().st_size - _LONGEST_LOG))
            return opened.read().decode("utf-8", "replace")

    def check_log(self, job: Job, actor: Actor) -> None:
        """Whether the caller may read a job's log, which quotes what it worked on: who began it, and administrators.

        Raises:
            Forbidden: naming whom to ask.
        """
        self._check_own(job, actor, "read the log of")

    def check_cancel(self, job: Job, actor: Actor) -> None:
        """Whether the caller may end a job: who began it may, and administrators.

        Raises:
            Forbidden: naming whom to ask.
        """
        self._check_own(job, actor, "cancel")

    def _check_own(self, job: Job, actor: Actor, deed: str) -> None:
        if actor.is_admin:
            return
        if job.kind in self._watching:
            raise Forbidden(f"Only an administrator may {deed} a job of kind {job.kind}; ask one.")
        if actor.name != job.actor:
            raise Forbidden(
                f"Job {job.id} is {job.actor!r}'s; only they or an administrator may {deed} it, so ask one of them."
            )

    def cancel(self, job_id: str) -> Job:
        """End a job. One that waits never starts; one that runs loses its child process and publishes nothing.

        Raises:
            Conflict: it has ended already.
        """
        with self._turn:
            context = self._running.get(job_id)
            if job_id in self._waiting:
                self._waiting.remove(job_id)
                self._end(job_id, JobState.CANCELLED, message="cancelled before it began")
            elif context is not None:
                context.cancel()
                context.log("cancel was asked for")
            found = self.get(job_id)
        if found.state != JobState.CANCELLED and (context is None or found.state.ended):
            raise Conflict(f"Job {job_id} is {found.state} already; there is nothing to cancel.", param="id")
        return found

    def folder(self, job_id: str) -> Path:
        return self._settings.folder("jobs") / job_id

    # -- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to work; jobs left over from the last run of the server come first, in the order they were given."""
        self._stopping = False
        with self._turn:
            self._waiting = deque(self._left_over())
        for number in range(max(1, self._settings.job_workers)):
            thread = threading.Thread(target=self._work, name=f"jobs-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def collect(self) -> None:
        """Take up what another process of this installation put in the queue before it ended."""
        with self._turn:
            with self._database.reading() as session:
                query = sa.select(JobRow.id).where(JobRow.state == JobState.QUEUED).order_by(JobRow.created, JobRow.id)
                found = session.scalars(query).all()
            self._waiting.extend(job for job in found if job not in self._waiting and job not in self._running)
            self._turn.notify_all()

    def others_wait(self) -> bool:
        """Whether a job waits for its turn."""
        with self._turn:
            return bool(self._waiting)

    def counts(self) -> dict[str, int]:
        """How many jobs there are by state."""
        with self._database.reading() as session:
            query = sa.select(JobRow.state, sa.func.count()).group_by(JobRow.state)
            return {str(state): number for state, number in session.execute(query)}

    def _left_over(self) -> Sequence[str]:
        with self._database.writing() as session:
            for row in session.scalars(sa.select(JobRow).where(JobRow.state == JobState.RUNNING)):
                row.state, row.message = JobState.QUEUED, "queued again after an interruption"
                self._note(row.id, "the server ended while this job ran; it is queued again")
            session.flush()
            query = sa.select(JobRow.id).where(JobRow.state == JobState.QUEUED).order_by(JobRow.created, JobRow.id)
            return session.scalars(query).all()

    def stop(self, seconds: float | None = 15.0) -> None:
        """End the running jobs; they are queued again at the next start.

        Args:
            seconds: how long to wait for each runner; None for as long as it takes.
        """
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        for thread in self._threads:
            thread.join(seconds)
        self._threads.clear()

    def _work(self) -> None:
        while True:
            with self._turn:
                while not self._waiting and not self._stopping:
                    self._turn.wait()
                if self._stopping:
                    return
                job_id = self._waiting.popleft()
                try:
                    context = self._begin(job_id)
                except Exception:  # the database is away, or the disk is full: it has another turn
                    log.exception("job %s could not be begun; it is tried again", job_id)
                    self._waiting.append(job_id)
                    self._turn.wait(_AGAIN_SECONDS)
                    continue
                if context is None:
                    continue
                self._running[job_id] = context
            queued = False
            try:
                queued = self._run(context)
            except Exception:
                log.exception("the end of job %s could not be recorded", job_id)
            finally:
                with self._turn:
                    self._running.pop(job_id, None)
                    self._live.pop(job_id, None)
                    self._persisted.pop(job_id, None)
                    if queued:
                        self._wait_again(context)

    def _begin(self, job_id: str) -> JobContext | None:
        with self._database.writing() as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None or row.state != JobState.QUEUED:
                return None
            row.attempts += 1
            row.started = utc_now()
            row.state, row.message, row.progress = JobState.RUNNING, "", 0.0
            reason = None
            if row.kind not in self._runners:
                reason = UnknownKind(row.kind).message
            elif row.attempts > _MOST_ATTEMPTS:
                reason = f"The server ended {_MOST_ATTEMPTS} times while this job ran; it is not tried again."
            job, folder = self._job(row), self.folder(job_id)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason is not None:
            self._note(job_id, reason)
            self._end(job_id, JobState.FAILED, error=reason, message="")
            return None
        return JobContext(job, folder, self._progress, lambda: self._stopping)

    def _wait_again(self, context: JobContext) -> None:
        """Let a job have another turn that was queued again, unless somebody cancelled it meanwhile."""
        if context.was_cancelled:
            try:
                self._end(context.job.id, JobState.CANCELLED, message="cancelled")
            except Exception:
                log.exception("the end of job %s could not be recorded", context.job.id)
        elif not self._stopping:
            self._waiting.append(context.job.id)
            self._turn.notify()

    def _run(self, context: JobContext) -> bool:
        """Work at a job; returns whether it is queued again."""
        job = context.job
        context.log(f"{job.kind} begins, attempt {job.attempts}")
        try:
            result = self._runners[job.kind](context)
        except Exception as error:
            if isinstance(error, JobStandsAside) and not context.cancelled():
                self._queued_again(context, "lets others go first", "stands aside: other jobs wait")
                return True
            if isinstance(error, JobCancelled) or context.cancelled():
                return self._interrupted(context)
            if isinstance(error, EcotoneError):
                reason = error.message
            else:
                log.exception("job %s failed by a fault of its runner", job.id)
                reason = f"{type(error).__name__}: {error}"
            context.log(f"failed: {reason}")
            self._record(partial(self._end, job.id, JobState.FAILED, error=reason, message="failed"))
            return False
        context.log("done")
        self._record(partial(self._end, job.id, JobState.DONE, result=result, message="done"))
        return False

    def _record(self, end: Callable[[], None]) -> None:
        """Record an end. While the database is away it is tried again: a job must not seem to run for ever."""
        while True:
            try:
                return end()
            except _AWAY:
                if self._stopping:
                    raise
                log.exception("the end of a job could not be recorded; it is tried again")
            with self._turn:
                self._turn.wait_for(lambda: self._stopping, _AGAIN_SECONDS)

    def _interrupted(self, context: JobContext) -> bool:
        if context.was_cancelled:
            context.log("cancelled")
            self._record(partial(self._end, context.job.id, JobState.CANCELLED, message="cancelled"))
            return False
        self._queued_again(
            context, "waiting for the server", "interrupted: the server stops; it is queued again at the next start"
        )
        return True

    def _queued_again(self, context: JobContext, message: str, line: str) -> None:
        context.log(line)
        with self._database.writing() as session:
            row = session.get_one(JobRow, context.job.id)
            row.state, row.attempts, row.message = JobState.QUEUED, row.attempts - 1, message

    def _end(
        self,
        job_id: str,
        state: JobState,
        *,
        message: str,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        job = self.get(job_id)
        self._clear(job.kind, job.params)  # before anybody can see that it has ended
        with self._database.writing() as session:
            row = session.get_one(JobRow, job_id)
            row.state, row.message, row.error, row.ended = state, message, error, utc_now()
            row.progress = 1.0 if state == JobState.DONE else self._live.get(job_id, (row.progress, ""))[0]
            if result is not None:
                row.result = result

    def _clear(self, kind: str, params: dict[str, Any]) -> None:
        """Let the room that brought a job drop what it kept for it."""
        try:
            if kind in self._ended:
                self._ended[kind](params)
        except Exception:
            log.exception("what a %s job left behind could not be cleared", kind)

    def _progress(self, job_id: str, fraction: float, text: str) -> None:
        self._live[job_id] = (fraction, text[:300])
        now = time.monotonic()
        if now - self._persisted.get(job_id, 0.0) < _PERSIST_SECONDS:
            return
        self._persisted[job_id] = now
        try:
            with self._database.writing() as session:
                row = session.get_one(JobRow, job_id)
                row.progress, row.message = fraction, text[:300]
        except _AWAY:  # no reason to end the work
            log.exception("how far job %s is could not be recorded", job_id)

    def _note(self, job_id: str, line: str) -> None:
        write_line(self.folder(job_id) / "log", line)

    def _job(self, row: JobRow) -> Job:
        live = self._live.get(row.id) if row.state == JobState.RUNNING else None
        return Job(
            id=row.id,
            kind=row.kind,
            state=JobState(row.state),
            progress=live[0] if live else row.progress,
            message=live[1] if live else row.message,
            params=row.params,
            result=row.result,
            error=row.error,
            actor=row.actor,
            project=row.project,
            attempts=row.attempts,
            created=row.created,
            started=row.started,
            ended=row.ended,
        )

    def list(self, limit: int = 500) -> list[Job]:
        """Jobs, newest first."""
        with self._database.reading() as session:
            rows = session.scalars(sa.select(JobRow).order_by(JobRow.created.desc(), JobRow.id).limit(limit)).all()
        return [self._job(row) for row in rows]
