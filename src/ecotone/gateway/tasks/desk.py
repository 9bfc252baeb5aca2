"""Takes requests at the addresses of Hugging Face's inference in: chat goes the ordinary course, tasks their own."""

import re
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from ecotone.gateway.admission import look_into
from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import HEAVY, Request, named
from ecotone.gateway.plane.callers import Client, Work
from ecotone.gateway.plane.ground import Ground
from ecotone.gateway.plane.heads import Head
from ecotone.gateway.plane.jobs import Job
from ecotone.gateway.plane.lanes import Lane
from ecotone.gateway.plane.later import Asked, Later, Who
from ecotone.gateway.plane.reviving import Reviving
from ecotone.gateway.snapshot import Snapshot
from ecotone.gateway.tasks.addresses import HEALTH, INFO, TASKS, Called, called
from ecotone.gateway.tasks.bodies import TaskRequest, parse_task
from ecotone.gateway.tasks.clients import faced
from ecotone.gateway.tasks.job import TaskJob
from ecotone.privacy import Findings, find, quick

_HUB: Final = re.compile(rb"hf_hub/[0-9][0-9A-Za-z.+-]{0,31}")
_SHORTEST_REVISION: Final = 7
_SCAN_HERE: Final = 4 * 1024
_JSON: Final = b"content-type: application/json\r\n"


class AskedTask(Asked):
    """A task that a client asks for."""

    def job(self, plane: Ground, lane: Lane) -> Job:
        return TaskJob(plane, self.client, self.request, lane, lane.ready, self.who.caller)


class TaskDesk(Reviving):
    """The part of the plane that knows these addresses."""

    @abstractmethod
    def _admitted(self, asked: Asked) -> Work | None:
        """Go on with a request that was looked through. Raises Refusal."""

    @abstractmethod
    def _later(self, client: Client, work: Coroutine[Any, Any, Any]) -> Later:
        """Go on in a task of the event loop."""

    def _at_model(self, client: Client, head: Head, who: Who, body: bytes) -> Work | None:
        """Answer a request at a model's address, now or later. Raises Refusal."""
        client = faced(client, head)
        what = called(head.method, head.path)
        what = msgspec.structs.replace(what, model=_served(self._snapshot, what.model))
        if what.face in (INFO, HEALTH):
            self._told_of(client, what, who)
            return None
        made = AskedTask if what.face == TASKS else Asked
        if len(body) <= HEAVY:
            request, findings = _read(what, head, body, who.consumer.scan, here=True)
            if findings is not None or not who.consumer.scan:
                return self._admitted(made(client, head, who, request, findings))
        return self._later(client, self._away(made, client, head, who, what, body))

    async def _away(
        self, made: type[Asked], client: Client, head: Head, who: Who, what: Called, body: bytes
    ) -> Work | None:
        """A body that takes long to look through is looked through in a thread."""
        request, findings = await self.in_thread(_read, what, head, body, who.consumer.scan)
        return self._admitted(made(client, head, who, request, findings))

    def _told_of(self, client: Client, what: Called, who: Who) -> None:
        """What `get_endpoint_info` and `health_check` want to know of a model that may be called. Raises Refusal."""
        request = parse_task(Called(TASKS, what.model), b'{"inputs":null}')
        target = self._lanes.lane(who.hashed, who.key, who.consumer, request).options[0].candidate.target
        if what.face == HEALTH and not target.ready:
            text = f"The engine of {what.model} is not ready ({target.note})."
            raise Refusal(503, "engine_not_ready", text, headers={"retry-after": "5"})
        told = {
            "model_id": what.model,
            "model_sha": target.revision,
            "model_pipeline_tag": target.task,
            "backend": target.backend,
            "ready": target.ready,
        }
        block = b"x-request-id: %b\r\n%b" % (self.new_id(), _JSON)
        client.whole(200, block, msgspec.json.encode(told))


def _served(snapshot: Snapshot, model: str) -> str:
    """The name of a model without the revision behind it, where that is the one that is served."""
    name, mark, revision = model.partition("@")
    target = snapshot.targets.get(name) if mark and model not in snapshot.targets else None
    known = target.revision if target is not None else None
    if known is not None and len(revision) >= _SHORTEST_REVISION and known.startswith(revision):
        return name
    return model


def _read(
    what: Called, head: Head, body: bytes, scan: bool, *, here: bool = False
) -> tuple[Request | TaskRequest, Findings | None]:
    """The request, and what its text holds.

    Args:
        here: on the event loop: what cannot be told quickly is left out.
    """
    if what.face != TASKS:
        request = named(what.face, body, what.model)
    else:
        told = _HUB.search(head.fields.get(b"user-agent", b"")[:1024])
        request = parse_task(what, body, told[0] if told is not None else b"")
    if not scan:
        return request, None
    findings = quick(request.value) if here and not find(request.model) else None
    if findings is None and (not here or request.size < _SCAN_HERE):
        findings = look_into(request)
    return request, findings
