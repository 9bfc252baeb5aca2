"""What jobs hand out: frozen values, never rows."""

from datetime import datetime
from typing import Any

import msgspec

from ecotone.vocabulary import JobState


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of background work. `progress` runs from 0 to 1; `error` is a sentence for the person who asked."""

    id: str
    kind: str
    state: JobState
    progress: float = 0.0
    message: str = ""
    params: dict[str, Any] = {}
    result: dict[str, Any] | None = None
    error: str | None = None
    actor: str = ""
    project: str | None = None
    attempts: int = 0
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
