"""A task's body: as strict as any other, forwarded as it came, as that is what was looked at."""

from typing import Any, Final, TypeGuard

from ecotone.gateway.parsing import Request, read_object
from ecotone.gateway.structure import bad, bad_value
from ecotone.gateway.tasks.addresses import TASKS, Called

_FIELDS: Final = frozenset(
    [
        "inputs", "parameters", "stream", "normalize", "truncate", "truncation_direction", "prompt_name", "options",
        "dimensions", "encoding_format", "model", "user", "metadata",
    ]
)  # fmt: skip


_LIMITS: Final = ("max_new_tokens", "max_length")


class TaskRequest(Request):
    """A task. `task` is `auto` where its address names none; `hub` is the client's own version, empty for others.

    `writes`: whether its answer is text that the model makes, which costs tokens of its own.
    """

    __slots__ = ("hub", "task", "writes")

    def __init__(
        self, called: Called, stream: bool, value: dict[str, Any], raw: bytes, canonical: bool, hub: bytes = b""
    ) -> None:
        super().__init__(TASKS, called.model, stream, True, value, raw, canonical)
        self.task: str = called.task
        self.hub = hub
        self.writes = True

    @property
    def answers(self) -> int:
        """How many answers are written at most: those that the best of is chosen from count, for each text."""
        inputs = self.value.get("inputs")
        best = self._parameters.get("best_of")
        return max(len(inputs) if isinstance(inputs, list) else 1, 1) * (best if _is_positive(best) else 1)

    @property
    def longest(self) -> int:
        """Tokens of one answer that the request allows at most, 0 where it sets no limit."""
        generate = self._parameters.get("generate_parameters")
        places = (self._parameters, generate if isinstance(generate, dict) else {})
        told = [found for place in places for name in _LIMITS if _is_positive(found := place.get(name))]
        return max(told, default=0)

    @property
    def readings(self) -> int:
        """How often its text is read: zero-shot classification reads it once with each label."""
        labels = self._parameters.get("candidate_labels", self.value.get("candidate_labels"))
        if isinstance(labels, str):
            return labels.count(",") + 1
        return max(len(labels), 1) if isinstance(labels, list) else 1

    @property
    def _parameters(self) -> dict[str, Any]:
        return self.value.get("parameters") or {}

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
        raise bad(expected, "inputs")
    value, canonical = read_object(body, _FIELDS)
    if "inputs" not in value:
        raise bad("`inputs` is missing; a task is sent as a JSON object with `inputs` and its parameters.", "inputs")
    parameters = value.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise bad_value("`parameters` must be an object.", "parameters")
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise bad_value("`stream` must be true or false.", "stream")
    return TaskRequest(called, bool(stream), value, body, canonical, hub)


def _is_positive(told: Any) -> TypeGuard[int]:
    return type(told) is int and told > 0
