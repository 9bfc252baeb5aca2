"""Reasons for which jobs and their children end otherwise than well."""

from ecotone.vocabulary import EcotoneError, Invalid, NotFound


class JobNotFound(NotFound):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}; `ecotone job list` shows those there are.", param="id")
        self.job_id = job_id


class UnknownKind(Invalid):
    code = "unknown_job_kind"

    def __init__(self, kind: str) -> None:
        super().__init__(f"No job of kind {kind!r} can be run here.", param="kind")
        self.kind = kind


class JobCancelled(Exception):  # not an error: somebody asked for it
    """Raised inside a runner when its job was cancelled or the server stops."""


class JobStandsAside(Exception):  # not an error: it lets others go first
    """Raised inside a runner that others wait behind: its job goes to the end of the queue and on from where it was."""


class ChildFailed(EcotoneError):
    """A child process ended without doing its work.

    `status` is the exit status, negative for a signal; `tail` holds the last lines of its log.
    """

    code = "child_failed"

    def __init__(self, message: str, *, status: int, tail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.tail = tail
