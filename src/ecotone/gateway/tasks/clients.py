"""The client of an address of Hugging Face's inference: like any other, but for the form in which it is refused."""

from typing import TYPE_CHECKING

from ecotone.gateway.answers import Refusal
from ecotone.gateway.paths import is_task
from ecotone.gateway.tasks.errors import error_body, error_event

if TYPE_CHECKING:
    from ecotone.gateway.plane.callers import Client
    from ecotone.gateway.plane.heads import Head


class TaskClient:
    """Stands before a client of the plane."""

    __slots__ = ("_client", "begin", "cut", "end", "whole", "write")

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.whole = client.whole
        self.begin = client.begin
        self.write = client.write
        self.end = client.end
        self.cut = client.cut

    @property
    def slow(self) -> bool:
        return self._client.slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._client.slow = slow


def faced(client: "Client", head: "Head | None") -> "Client":
    """The client as one of the face that its request's head calls."""
    if head is None or isinstance(client, TaskClient) or not is_task(head.path.encode(), head.method):
        return client
    return TaskClient(client)


def body_of(client: "Client", refusal: Refusal) -> bytes:
    """A refusal as this client reads it."""
    return error_body(refusal) if isinstance(client, TaskClient) else refusal.body()


def event_of(client: "Client", refusal: Refusal) -> bytes:
    """A refusal as an event of this client's stream."""
    return error_event(refusal) if isinstance(client, TaskClient) else refusal.event()
