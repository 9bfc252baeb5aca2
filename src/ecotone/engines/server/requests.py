"""Bodies of OpenAI's dialect (chat completions, completions, embeddings) read and checked. Knows no model.

What this engine cannot do is refused by name: a parameter that is silently ignored would be a wrong answer.
"""

import json
import math
from typing import Any, NoReturn

import msgspec

from ecotone.engines.server.errors import RequestError

_ROLES = ("system", "developer", "user", "assistant", "tool")
_MOST_STOPS = 16
_MOST_INPUTS = 2048

Prompt = str | tuple[int, ...]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen. None stands for the model's own setting."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence: float = 0.0
    frequency: float = 0.0
    bias: dict[int, float] = {}
    stop: tuple[str, ...] = ()


class TextRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat (`messages`) or a completion (`prompts`)."""

    model: str
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False
    messages: tuple[dict[str, Any], ...] = ()
    prompts: tuple[Prompt, ...] = ()


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    inputs: tuple[Prompt, ...]
    base64: bool = False
    dimensions: int | None = None


def body_of(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise RequestError("The body is not JSON.", code="invalid_json") from None
    if not isinstance(found, dict):
        raise RequestError("The body must be a JSON object.", code="invalid_json")
    return found


def chat(body: dict[str, Any]) -> TextRequest:
    """A request to `/v1/chat/completions`."""
    for name in ("tools", "functions", "audio", "prediction", "web_search_options", "top_logprobs"):
        if body.get(name):
            _unsupported(name)
    if body.get("logprobs"):
        _unsupported("logprobs")
    if body.get("modalities") not in (None, ["text"]):
        _unsupported("modalities")
    kind = body.get("response_format")
    if kind is not None and (not isinstance(kind, dict) or kind.get("type") != "text"):
        _unsupported("response_format")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _wrong("messages", "a list of at least one message")
    read = tuple(_message(message, place) for place, message in enumerate(messages))
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return TextRequest(
        model=_model(body),
        sampling=_sampling(body, limit),
        messages=read,
        stream=_flag(body, "stream"),
        include_usage=_include_usage(body),
    )


def completion(body: dict[str, Any]) -> TextRequest:
    """A request to `/v1/completions`; without `max_tokens` the answer has at most 16 tokens, as OpenAI documents."""
    for name in ("logprobs", "echo", "suffix"):
        if body.get(name):
            _unsupported(name)
    if body.get("best_of") not in (None, 1):
        _unsupported("best_of")
    sampling = _sampling(body, "max_tokens")
    if sampling.max_tokens is None:
        sampling = msgspec.structs.replace(sampling, max_tokens=16)
    return TextRequest(
        model=_model(body),
        sampling=sampling,
        prompts=_prompts(body, "prompt"),
        stream=_flag(body, "stream"),
        include_usage=_include_usage(body),
    )


def embedding(body: dict[str, Any]) -> EmbeddingRequest:
    """A request to `/v1/embeddings`."""
    wanted = body.get("encoding_format")
    if wanted not in (None, "float", "base64"):
        _wrong("encoding_format", '"float" or "base64"')
    dimensions = _number(body, "dimensions", 1, 1 << 20)
    inputs = _prompts(body, "input")
    return EmbeddingRequest(
        model=_model(body),
        inputs=inputs,
        base64=wanted == "base64",
        dimensions=None if dimensions is None else int(dimensions),
    )


def _message(message: Any, place: int) -> dict[str, Any]:
    where = f"messages[{place}]"
    if not isinstance(message, dict):
        _wrong(where, "an object with role and content")
    role = message.get("role")
    if role not in _ROLES:
        _wrong(f"{where}.role", f"one of {', '.join(_ROLES)}")
    if message.get("tool_calls"):
        _unsupported(f"{where}.tool_calls")
    return {"role": "system" if role == "developer" else role, "content": _content(message.get("content"), where)}


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        _wrong(f"{where}.content", "a string or a list of text parts")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RequestError(
                f"{where}.content: this engine reads text parts only; send text.",
                code="unsupported_content",
                param=f"{where}.content",
            )
        texts.append(part["text"])
    return "".join(texts)


def _sampling(body: dict[str, Any], limit: str) -> Sampling:
    if body.get("n") not in (None, 1):
        _unsupported("n")
    max_tokens = _number(body, limit, 1, 1 << 31, integer=True)
    seed = _number(body, "seed", -(1 << 63), (1 << 64) - 1, integer=True)
    top_k = _number(body, "top_k", 1, 1 << 31, integer=True)
    return Sampling(
        max_tokens=None if max_tokens is None else int(max_tokens),
        temperature=_number(body, "temperature", 0, 2),
        top_p=_number(body, "top_p", 0, 1),
        top_k=None if top_k is None else int(top_k),
        seed=None if seed is None else int(seed),
        presence=_number(body, "presence_penalty", -2, 2) or 0.0,
        frequency=_number(body, "frequency_penalty", -2, 2) or 0.0,
        bias=_bias(body.get("logit_bias")),
        stop=_stop(body.get("stop")),
    )


def _stop(stop: Any) -> tuple[str, ...]:
    found = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(found, list) or len(found) > _MOST_STOPS or not all(isinstance(s, str) for s in found):
        _wrong("stop", f"a string or a list of at most {_MOST_STOPS} strings")
    return tuple(s for s in found if s)


def _bias(bias: Any) -> dict[int, float]:
    if bias is None:
        return {}
    try:
        found = {int(token): float(value) for token, value in bias.items()}
    except (AttributeError, TypeError, ValueError):
        _wrong("logit_bias", "an object of token ids and numbers from -100 to 100")
    if not all(-100 <= value <= 100 for value in found.values()):
        _wrong("logit_bias", "an object of token ids and numbers from -100 to 100")
    return found


def _prompts(body: dict[str, Any], name: str) -> tuple[Prompt, ...]:
    expected = "a string, a list of strings, a list of token ids, or a list of such lists; none of them empty"
    given = body.get(name)
    if isinstance(given, str):
        return (given,) if given else _wrong(name, expected)
    if not isinstance(given, list) or not given:
        _wrong(name, expected)
    if len(given) > _MOST_INPUTS and not _is_tokens(given):
        _wrong(name, f"at most {_MOST_INPUTS} entries")
    if all(isinstance(item, str) and item for item in given):
        return tuple(given)
    if _is_tokens(given):
        return (tuple(given),)
    if all(isinstance(item, list) and item and _is_tokens(item) for item in given):
        return tuple(tuple(item) for item in given)
    _wrong(name, expected)


def _is_tokens(items: list[Any]) -> bool:
    return all(type(item) is int and item >= 0 for item in items)


def _number(body: dict[str, Any], name: str, low: float, high: float, *, integer: bool = False) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    good = type(value) is int or (type(value) is float and not integer and math.isfinite(value))
    if not good or not low <= value <= high:
        _wrong(name, f"{'an integer' if integer else 'a number'} from {low:g} to {high:g}")
    return value  # type: ignore[no-any-return]


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        _wrong(name, "true or false")
    return bool(value)


def _include_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict) or not body.get("stream"):
        _wrong("stream_options", "an object, and only together with stream: true")
    return bool(options.get("include_usage"))


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    return model if isinstance(model, str) and model else _wrong("model", "the name of a model")


def _wrong(name: str, expected: str) -> NoReturn:
    raise RequestError(f"{name} must be {expected}.", code="invalid_value", param=name)


def _unsupported(name: str) -> NoReturn:
    raise RequestError(
        f"{name} is not supported by this engine; leave it out.", code="unsupported_parameter", param=name
    )
