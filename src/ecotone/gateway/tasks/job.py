"""A task under way: asked of a local engine by its own wire, `POST /tasks/TASK`, answered in Hugging Face's shapes.

The engine's name for the model goes in `x-ecotone-model`. Its answer's `x-ecotone-task` says which task it took it for,
`x-ecotone-usage` the tokens of the prompt and of the answer, as `PROMPT,COMPLETION`.
"""

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.metering import MOST_TOKENS
from ecotone.gateway.plane.callers import Client
from ecotone.gateway.plane.jobs import Job
from ecotone.gateway.plane.lanes import Lane, Option
from ecotone.gateway.plane.upstreams import Upstream
from ecotone.gateway.snapshot import Target
from ecotone.gateway.tasks.addresses import AUTO
from ecotone.gateway.tasks.bodies import TaskRequest
from ecotone.gateway.tasks.streams import TaskStream
from ecotone.ledger import LedgerFull

if TYPE_CHECKING:
    from ecotone.gateway.plane.ground import Ground

_WRITING: Final = frozenset({"text-generation", "text2text-generation", "summarization", "translation"})
_TASK: Final = re.compile(rb"[a-z][a-z0-9-]{0,63}")
_USAGE: Final = re.compile(rb"([0-9]{1,9}),([0-9]{1,9})")
_JSON: Final = b"content-type: application/json\r\n"
_EVENTS: Final = b"text/event-stream"
_MOST_READINGS: Final = 4096
_raw: Final = msgspec.json.Decoder(msgspec.Raw)


class TaskJob(Job):
    """A task from its admission on."""

    __slots__ = ("_asked", "_task", "readings")

    def __init__(
        self, plane: "Ground", client: Client, request: Any, lane: Lane, options: list[Option], caller_id: bytes
    ) -> None:
        super().__init__(plane, client, request, lane, suited(lane, options), caller_id)
        self._asked: TaskRequest = request
        self._task = b""
        task = request.task if request.task != AUTO else self.option.candidate.target.task
        request.writes = task is None or task in _WRITING
        self.completion = _longest(request)
        self.readings = min(request.readings, _MOST_READINGS)
        if request.task != AUTO:
            self.marks = b',"task":"%b"' % request.task.encode()

    def choose(self, options: list[Option]) -> None:
        """Try those of these that take tasks, in this order."""
        super().choose(suited(self.lane, options))

    def _send(self, upstream: Upstream, now: float) -> None:
        self._upstream = upstream
        self._sent = True
        self.deadline = now + self.lane.wait
        raw = self.request.raw
        upstream.send_parts(self, (b"%b%d\r\n\r\n" % (_head(self.option, self._asked), len(raw)), raw))

    # -- answers -----------------------------------------------------------------------------------------------------
    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None:
        super().answer_began(status, headers)
        if status != 200:
            return
        if not headers.get(b"content-type", b"").startswith(_EVENTS):
            self.request.stream = False  # a task that has no stream
        task = headers.get(b"x-ecotone-task", b"")
        if _TASK.fullmatch(task):
            self._task = task
            if self._asked.task == AUTO:
                self.marks += b',"task":"%b"' % task

    def answer_whole(self, headers: dict[bytes, bytes], body: bytes, now: float) -> None:
        self.answer_began(200, headers)
        self.answer_data([body], True)

    def _whole(self, data: bytes) -> None:
        try:
            _raw.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.fail(self.died("did not answer with JSON"))
            return
        found = _USAGE.fullmatch(self._headers.get(b"x-ecotone-usage", b""))
        if found is not None:
            self.usage.take({"prompt_tokens": int(found[1]), "completion_tokens": int(found[2])})
        self._told_ok()
        self._parts = [data]
        if self.texts is not None:
            self.texts.add(data)
        self._settle("done", self._deliver)

    def _deliver(self, wrong: LedgerFull | None) -> None:
        if not self.gone:
            self.client.whole(200, self._head_block() + _JSON, self._parts[0])

    def _refused_by_upstream(self) -> None:
        if self._status == 404 and not b"".join(self._parts).startswith(b"{"):
            task = "tasks" if self._asked.task == AUTO else f"task {self._asked.task}"
            text = f"The engine of {self.option.name} has no {task}; call it by chat_completion, or at /v1."
            self.fail(Refusal(404, "no_tasks", text, param="model"))
        else:
            super()._refused_by_upstream()

    def _head_block(self) -> bytes:
        block = super()._head_block()
        if self._task:
            block += b"x-ecotone-task: %b\r\n" % self._task
        if self._settled and not self.usage.estimate:
            block += b"x-ecotone-usage: %d,%d\r\n" % (self.usage.prompt_tokens, self.usage.completion_tokens)
        return block

    # -- streams -----------------------------------------------------------------------------------------------------
    def _follow(self) -> None:
        self._passing = TaskStream(self.usage)

    def _stream_ended(self, follower: Any) -> None:
        self._told_ok()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.finish()
        follower.estimate()
        self._parts = [follower.last]
        if self.texts is not None:
            self.texts.add(follower.last)
        self._settle("done", self._end_stream)


def suited(lane: Lane, options: list[Option]) -> list[Option]:
    """Those candidates that take tasks.

    Raises:
        Refusal: 503 while one of them starts, 403 for a text that would need placeholders, 400 when there is none.
    """
    able = [option for option in options if takes_tasks(option.candidate.target)]
    found = [option for option in able if not option.candidate.masked]
    if found:
        return found
    first = lane.options[0]
    if able:
        text = (
            f"The text holds personal data and {able[0].name} is outside of the house; a task is not sent with "
            "placeholders, as its places, scores and vectors would be another text's. Call a local model."
        )
        raise Refusal(403, "privacy_denied", text)
    if waiting := [option for option in lane.options if takes_tasks(option.candidate.target)]:
        text = f"The engine of {waiting[0].name} is not ready ({waiting[0].candidate.target.note})."
        raise Refusal(503, "engine_not_ready", text, param="model", headers={"retry-after": "5"})
    text = (
        f"{first.name} is called through {first.candidate.target.backend}, which speaks OpenAI's API and takes no "
        "tasks; call it by chat_completion, or name a model that has an engine of its own here."
    )
    raise Refusal(400, "no_tasks", text, param="model")


def takes_tasks(target: Target) -> bool:
    """Whether an engine of ours answers there; a server that was attached by its address speaks OpenAI's API alone."""
    return target.backend == "local" and (target.url is None or target.socket is not None)


def _longest(request: TaskRequest) -> int:
    """Tokens that the request allows at most over all of its answers, 0 where it sets no limit or none is written."""
    most = request.longest if request.writes else 0
    return min(most * request.answers, MOST_TOKENS)


def _head(option: Option, request: TaskRequest) -> bytes:
    """The head of the request to an engine, up to the value of Content-Length."""
    place, name = option.place, option.candidate.model
    lines = [
        f"POST {place.path.removesuffix('/v1')}/tasks/{request.task} HTTP/1.1",
        f"host: {place.authority}",
        f"x-ecotone-model: {name if name.isprintable() else '?'}",
        f"x-ecotone-party: {option.party}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        f"user-agent: {'; '.join(filter(None, ['ecotone', request.hub.decode('latin-1')]))}",
        "content-length: ",
    ]
    return "\r\n".join(lines).encode("latin-1", "replace")
