"""Who calls and who is called, as each sees the other: a client, the desk that takes its request, the work of it."""

from typing import Any, Protocol

from ecotone.gateway.answers import Refusal
from ecotone.gateway.plane.heads import Head


class Work(Protocol):
    """A request under way, as its client sees it."""

    def client_gone(self) -> None: ...

    def client_slow(self) -> None: ...

    def client_ready(self) -> None: ...


class Client(Protocol):
    """How a request is answered: once whole, or begun, written and ended. A client that has gone takes no harm."""

    slow: bool

    def whole(self, status: int, block: bytes, body: bytes) -> None: ...

    def begin(self, block: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end(self, data: bytes) -> None: ...

    def cut(self) -> None: ...


class Desk(Protocol):
    """What takes requests in."""

    most_body: int
    patience: float

    jobs: Any
    """Requests under way."""

    def refused_early(self, head: Head, address: str) -> Refusal | None: ...

    def take(self, client: Client, head: Head, body: bytes, address: str) -> Work | None: ...

    def refuse(self, client: Client, refusal: Refusal, head: Head | None) -> None: ...
