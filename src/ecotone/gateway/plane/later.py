"""Requests that wait for something before they become jobs, and the client of those whose answers nobody sees."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane.callers import Client, Work
from ecotone.gateway.plane.heads import Head
from ecotone.gateway.plane.jobs import Job
from ecotone.gateway.plane.lanes import Lane
from ecotone.gateway.snapshot import Consumer, Key, Snapshot
from ecotone.privacy import Findings

if TYPE_CHECKING:
    from ecotone.gateway.plane.plane import Plane


class Who(msgspec.Struct, eq=False):
    """Who asks for what, by which snapshot, worked out once for each head.

    `face` is None where a head is no POST to one of them. `caller` is the caller's own id of the request as JSON,
    `lanes` are those of the face so far, by model.
    """

    hashed: str
    key: Key
    consumer: Consumer
    snapshot: Snapshot
    expires: float
    face: str | None
    caller: bytes
    has_tags: bool
    lanes: dict[str, Lane]


class Asked(msgspec.Struct, eq=False):
    """What a client asks for, from its head on; `findings` is None for a text that was not looked through."""

    makes: ClassVar[type[Job]] = Job

    client: Client
    head: Head
    who: Who
    request: Request
    findings: Findings | None = None
    waits: bool = False
    """For a slice of a limit."""


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
