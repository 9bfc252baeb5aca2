"""A task's body: as strict as any other, forwarded as it came, as that is what was looked at."""

from typing import Final

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request, read_object
from ecotone.gateway.tasks.addresses import TASKS, Called

_FIELDS: Final = frozenset(
    [
        "inputs", "parameters", "stream", "normalize", "truncate", "truncation_direction", "prompt_name", "options",
        "dimensions", "encoding_format", "model", "user", "metadata",
    ]
)  # fmt: skip


class TaskRequest(Request, kw_only=True):
    """A task. `task` is `auto` where its address names none; `hub` is the client's own version, empty for others.

    `writes`: whether its answer is text that the model makes, which costs tokens of its own.
    """

    task: str
    hub: bytes = b""
    writes: bool = True

    def forwarded(self, model: str, *, ask_usage: bool = False, salt: str | None = None) -> bytes:
        """The body as it came: it names no model."""
        return self.raw


def parse_task(called: Called, body: bytes, hub: bytes = b"") -> TaskRequest:
    """A task from its body.

    Args:
        called: what its address names.
        body: as it came.
        hub: the client's version, as its `User-Agent` has it.

    Raises:
        Refusal: 400, naming what is wrong and what is expected.
    """
    if not body[:64].lstrip().startswith(b"{"):
        expected = "A task is sent as a JSON object with `inputs`; tasks on text are served, none on images or audio."
        raise _bad(expected, "inputs")
    value, canonical = read_object(body, _FIELDS)
    if "inputs" not in value:
        raise _bad("`inputs` is missing; a task is sent as a JSON object with `inputs` and its parameters.", "inputs")
    parameters = value.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise _bad("`parameters` must be an object.", "parameters")
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _bad("`stream` must be true or false.", "stream")
    return TaskRequest(
        face=TASKS,
        model=called.model,
        stream=bool(stream),
        wants_usage=True,
        value=value,
        raw=body,
        canonical=canonical,
        task=called.task,
        hub=hub,
    )


def _bad(message: str, param: str) -> Refusal:
    return Refusal(400, "invalid_request", message, param=param)
