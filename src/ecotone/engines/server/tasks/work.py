"""A request to a task as it came, what is to be computed for it, and how its parameters are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ecotone.engines.server.encoding.texts import Found, Text
from ecotone.engines.server.errors import RequestError

MOST_TEXTS = 2048  # sequences of one request


@dataclass(frozen=True)
class Asked:
    """The body of a request: `inputs`, `parameters`, and the whole of it for options at its root."""

    inputs: Any
    parameters: dict[str, Any]
    body: dict[str, Any]
    agent: str = ""
    task: str = "this task"


@dataclass(frozen=True)
class Work:
    """Sequences to compute, and the answer that their results make, given in the same order."""

    texts: Sequence[Text]
    answer: Callable[[Sequence[Found]], Any]


def asked(body: dict[str, Any], agent: str, task: str) -> Asked:
    """A task's body.

    Raises:
        RequestError: there are no inputs, or the parameters are no object.
    """
    if body.get("inputs") is None:
        wrong("inputs", "there; the body is a JSON object with inputs and parameters")
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        wrong("parameters", "an object")
    return Asked(body["inputs"], {k: v for k, v in parameters.items() if v is not None}, body, agent, task)


def known(asked: Asked, *names: str) -> None:
    """Refuse parameters that the task has not, by name."""
    if unknown := sorted(set(asked.parameters) - set(names)):
        raise RequestError(
            f"parameters: {', '.join(name[:60] for name in unknown[:20])} cannot be honoured by {asked.task}, which "
            f"knows {', '.join(names)}; leave {'it' if len(unknown) == 1 else 'them'} out.",
            code="unsupported_parameter",
            param=unknown[0],
        )


def texts_of(inputs: Any) -> tuple[list[str], bool]:
    """The texts of a request, and whether they came as a list."""
    if isinstance(inputs, str):
        return [inputs], False
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
        wrong("inputs", "a string or a list of strings")
    bounded(len(inputs), "inputs")
    return inputs, True


def windows_of(tokens: int, room: int, stride: int) -> int:
    """How many windows of `room` tokens a text is read in, of which neighbours share `stride`."""
    return 1 + max(0, -(-(tokens - room) // (room - stride)))


def bounded(count: int, name: str) -> None:
    """Refuse more sequences than a request may have."""
    if count > MOST_TEXTS:
        raise RequestError(
            f"{name} makes {count} sequences, and a request may have at most {MOST_TEXTS}; send several requests.",
            status=413,
            code="request_too_large",
            param=name,
        )


def whole(parameters: dict[str, Any], name: str, default: int, low: int = 1, high: int = 1 << 20) -> int:
    value = parameters.get(name, default)
    if type(value) is not int or not low <= value <= high:
        wrong(name, f"an integer from {low} to {high}")
    return value


def flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    return value if isinstance(value, bool) else wrong(name, "true or false")


def choice(parameters: dict[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    value = parameters.get(name, default)
    value = value.lower() if isinstance(value, str) else value
    return value if value in choices else wrong(name, f"one of {', '.join(choices)}")


def strings(parameters: dict[str, Any], name: str) -> list[str] | None:
    """A string, or a list of strings that is not empty."""
    value = parameters.get(name)
    if value is None:
        return None
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(item, str) and item for item in found):
        wrong(name, "a list of strings, none of them empty")
    return found


def wrong(name: str, expected: str) -> NoReturn:
    raise RequestError(f"{name} must be {expected}.", code="invalid_value", param=name)
