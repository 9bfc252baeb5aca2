"""What a runner sees of its job: progress, log, cancel, a folder, and a way to run its child process to the end."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ecotone.database import utc_now
from ecotone.jobs.child import Child, Message, describe
from ecotone.jobs.entities import Job
from ecotone.jobs.errors import ChildFailed, JobCancelled

_LOOK_SECONDS = 0.1


class Notices(Protocol):
    """Where progress goes."""

    def __call__(self, job_id: str, fraction: float, text: str) -> None: ...


class JobContext:
    """One attempt at one job. Thread-safe."""

    def __init__(self, job: Job, folder: Path, notices: Notices, stopping: Callable[[], bool]) -> None:
        self.job = job
        self.folder = folder
        self._notices = notices
        self._stopping = stopping
        self._cancel = threading.Event()

    @property
    def log_file(self) -> Path:
        return self.folder / "log"

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the work is (0 to 1) and what it does, in a few words."""
        self._notices(self.job.id, min(max(float(fraction), 0.0), 1.0), text)

    def log(self, line: str) -> None:
        """Write a line to the job's log, with the time."""
        write_line(self.log_file, line)

    def cancel(self) -> None:
        self._cancel.set()

    def cancelled(self) -> bool:
        """Whether the job was cancelled, or the server stops: the runner should end soon."""
        return self._cancel.is_set() or self._stopping()

    @property
    def was_cancelled(self) -> bool:
        """Cancelled by somebody, not merely interrupted by the server's end."""
        return self._cancel.is_set()

    def check(self) -> None:
        """Raise `JobCancelled` when the job was cancelled."""
        if self.cancelled():
            raise JobCancelled

    def run(
        self,
        module: str,
        spec: Mapping[str, Any],
        *,
        env: Mapping[str, str] | None = None,
        on_message: Callable[[Message], None] | None = None,
        what: str = "The work failed",
    ) -> dict[str, Any]:
        """Run a child process to its end and return its result.

        Messages with these keys are understood, all others go to `on_message`: `progress` (with `text`), `log`,
        `result` (the JSON object to return), `error` (a sentence; the run failed).

        Raises:
            JobCancelled: the job was cancelled; the child was ended.
            ChildFailed: the child died, or said an error, or ended without a result.
        """
        said: dict[str, Any] = {}

        def hear(message: Message) -> None:
            try:
                if "progress" in message:
                    self.progress(message["progress"], str(message.get("text", "")))
                elif "log" in message:
                    self.log(str(message["log"]))
                elif "result" in message or "error" in message:
                    said.update(message)
                elif on_message is not None:
                    on_message(message)
            except Exception as error:
                said["error"] = f"a message of the child could not be taken: {error}"

        self.check()
        child = Child(module, spec, log=self.log_file, env=env, on_message=hear)
        try:
            while True:
                try:
                    status = child.wait(_LOOK_SECONDS)
                    break
                except TimeoutError:
                    self.check()
        finally:
            child.stop()
        if "error" in said:
            raise ChildFailed(f"{what}: {said['error']}", status=status, tail=child.tail())
        if status != 0:
            raise child.failure(what)
        if not isinstance(said.get("result"), dict):
            raise ChildFailed(f"{what}: {describe(status)} without a result.", status=status, tail=child.tail())
        result: dict[str, Any] = said["result"]
        return result


def write_line(file: Path, line: str) -> None:
    """Append a line with the time to a log, by one write."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8") as log:
        log.write(f"{utc_now():%Y-%m-%d %H:%M:%S} {line}\n")
