"""Requests that wait for something before they become jobs, and the client of those whose answers nobody sees."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane.callers import Client, Work
from ecotone.gateway.plane.heads import Head
from ecotone.gateway.plane.jobs import Job
from ecotone.gateway.plane.lanes import Lane
from ecotone.gateway.snapshot import Consumer, Key, Snapshot
from ecotone.privacy import Findings

if TYPE_CHECKING:
    from ecotone.gateway.plane.ground import Ground
    from ecotone.gateway.plane.plane import Plane


class Who:
    """Who asks for what, by which snapshot, worked out once for each head.

    `face` is None where a head is no POST to one of them. `repeats`: the client says that it asks again. `caller` is
    the caller's own id of the request as JSON, `trace` its `traceparent`, empty for none, `lanes` are those of the face
    so far, by model.
    """

    __slots__ = (
        "caller",
        "consumer",
        "expires",
        "face",
        "has_tags",
        "hashed",
        "key",
        "lanes",
        "repeats",
        "snapshot",
        "trace",
    )

    def __init__(
        self,
        hashed: str,
        key: Key,
        consumer: Consumer,
        snapshot: Snapshot,
        face: str | None,
        caller: bytes,
        has_tags: bool,
        trace: bytes,
        repeats: bool,
    ) -> None:
        self.hashed = hashed
        self.key = key
        self.consumer = consumer
        self.snapshot = snapshot
        self.expires: float = key.expires
        self.face = face
        self.caller = caller
        self.has_tags = has_tags
        self.trace = trace
        self.repeats = repeats
        self.lanes: dict[str, Lane] = {}


class Asked:
    """What a client asks for, from its head on; `findings` is None for a text that was not looked through, `waits` says
    that it does so for a slice of a limit."""

    __slots__ = ("client", "findings", "head", "request", "waits", "who")

    def __init__(
        self, client: Client, head: Head, who: Who, request: Request, findings: Findings | None = None
    ) -> None:
        self.client = client
        self.head = head
        self.who = who
        self.request = request
        self.findings = findings
        self.waits = False

    def job(self, plane: "Ground", lane: Lane) -> Job:
        """What answers it."""
        return Job(plane, self.client, self.request, lane, lane.ready, self.who.caller)


class Dropped:
    """Nobody: who gets the answers of shadows."""

    slow = False

    def whole(self, status: int, block: bytes, body: bytes) -> None: ...

    def begin(self, block: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end(self, data: bytes) -> None: ...

    def cut(self) -> None: ...


class Later:
    """A request that waits for something before it becomes a job."""

    def __init__(self, plane: "Plane", client: Client) -> None:
        self._plane = plane
        self._client = client
        self._work: Work | None = None
        self._gone = False
        self.task: asyncio.Task[None]

    async def run(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self._work = await work
            if self._gone and self._work is not None:
                self._work.client_gone()
        except Refusal as refusal:
            self._plane.refuse(self._client, refusal, None)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self._plane.broke(self._client, error)

    def client_gone(self) -> None:
        self._gone = True
        if self._work is not None:
            self._work.client_gone()
        else:
            self.task.cancel()

    def client_slow(self) -> None:
        if self._work is not None:
            self._work.client_slow()

    def client_ready(self) -> None:
        if self._work is not None:
            self._work.client_ready()
