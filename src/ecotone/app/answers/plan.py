"""What is asked for: which answers, into which data set, and what becomes of sensitive texts."""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from ecotone.ledger.answers import Answer


class Sensitive(StrEnum):
    """What becomes of texts of a higher data class than asked for: the row stays without them, or placeholders take the
    place of what was found, or they go in as they are."""

    LEAVE_OUT = "leave-out"
    MASK = "mask"
    KEEP = "keep"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A request to make or continue a data set. `since` is included, `until` is not; `actor` and `token` who asked,
    `work` the folder for rows on their way."""

    dataset: str
    project: str
    since: datetime | None = None
    until: datetime | None = None
    route: str | None = None
    model: str | None = None
    private: bool = True
    sensitive: Sensitive = Sensitive.LEAVE_OUT
    actor: dict[str, Any] = {}
    token: str = ""
    work: str = ""

    def wants(self, answer: Answer) -> bool:
        return (
            answer.project == self.project
            and (self.route is None or answer.route == self.route)
            and (self.model is None or answer.model == self.model)
            and (self.since is None or answer.at >= self.since)
            and (self.until is None or answer.at < self.until)
        )

    @property
    def selection(self) -> str:
        """Names which answers are meant: a reading goes on only where one of the same selection ended."""
        told = msgspec.json.encode([self.project, self.since, self.until, self.route, self.model])
        return hashlib.sha256(told).hexdigest()[:16]

    def shown(self) -> dict[str, Any]:
        """The selection, for the data set's own record."""
        told = {"since": self.since, "until": self.until, "route": self.route, "model": self.model}
        return {"project": self.project, **{k: str(v) for k, v in told.items() if v is not None}}
