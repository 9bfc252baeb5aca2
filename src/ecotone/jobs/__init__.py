"""Background work: a queue of jobs with progress, logs, cancel and restart, and the child processes that do the work.

Knows nothing of what a job does: tuning and audits register their kinds. `child` starts and watches a process,
`child_side` is what such a process imports. Names are loaded when first used, because children import this package and
must not load the database.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecotone.jobs.child import Child, Message
    from ecotone.jobs.context import JobContext
    from ecotone.jobs.entities import Job
    from ecotone.jobs.environment import scrubbed
    from ecotone.jobs.errors import ChildFailed, JobCancelled, JobNotFound, JobStandsAside, UnknownKind
    from ecotone.jobs.services import Jobs

_ROOMS = {
    "Child": "child",
    "ChildFailed": "errors",
    "Job": "entities",
    "JobCancelled": "errors",
    "JobContext": "context",
    "JobNotFound": "errors",
    "JobStandsAside": "errors",
    "Jobs": "services",
    "Message": "child",
    "UnknownKind": "errors",
    "scrubbed": "environment",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


__all__ = [
    "Child",
    "ChildFailed",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobNotFound",
    "JobStandsAside",
    "Jobs",
    "Message",
    "UnknownKind",
    "scrubbed",
]
