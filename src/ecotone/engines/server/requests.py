"""Bodies of OpenAI's dialect (chat completions, completions, embeddings) read and checked. Knows no model.

What this engine cannot do is refused by name: a parameter that is silently ignored would be a wrong answer.
"""

import json
import math
from typing import Any, NoReturn

import msgspec

from ecotone.engines.server import messages, schemas
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.messages import Tools
from ecotone.engines.server.nesting import DEEPEST, is_deep

_MOST_STOPS = 16
_LONGEST_STOP = 4096  # characters: as many are held back while an answer grows
_MOST_BIASES = 1024
_MOST_INPUTS = 2048
MOST_LOGPROBS = 20

_GUIDING = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar")
_CHANGING = (
    *_GUIDING,
    "use_beam_search",
    "prompt_logprobs",
    "bad_words",
    "truncate_prompt_tokens",
    "add_special_tokens",
)

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
    stop_tokens: tuple[int, ...] = ()
    min_p: float = 0.0
    repetition: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None


class TextRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat (`messages`) or a completion (`prompts`), `n` answers to each prompt."""

    model: str
    sampling: Sampling
    n: int = 1
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    messages: tuple[dict[str, Any], ...] = ()
    prompts: tuple[Prompt, ...] = ()
    tools: Tools = Tools()
    schema: str | None = None
    template_settings: dict[str, Any] = {}


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    inputs: tuple[Prompt, ...]
    base64: bool = False
    dimensions: int | None = None


def body_of(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        found = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise RequestError("The body is not JSON in UTF-8.", code="invalid_json") from None
    if not isinstance(found, dict):
        raise RequestError("The body must be a JSON object.", code="invalid_json")
    if raw.count(b"{") + raw.count(b"[") > DEEPEST and is_deep(found):
        raise RequestError(f"The body is nested more than {DEEPEST} deep; send it flatter.", code="invalid_json")
    return found


def chat(body: dict[str, Any]) -> TextRequest:
    """A request to `/v1/chat/completions`."""
    for name in ("functions", "audio", "prediction", "web_search_options"):
        if body.get(name):
            _unsupported(name)
    _refuse_silent(body)
    if body.get("chat_template") is not None:
        raise RequestError(
            "chat_template is not taken from a request; the model's own is used.",
            code="unsupported_parameter",
            param="chat_template",
        )
    if body.get("modalities") not in (None, ["text"]):
        _unsupported("modalities")
    read = messages.read(body.get("messages"))
    tools = messages.tools(body)
    schema = schemas.of_response_format(body.get("response_format"))
    if schema is not None and tools.must is not None:
        raise RequestError(
            "response_format and a tool_choice that asks for a call cannot both hold; leave one out.",
            param="response_format",
        )
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return TextRequest(
        model=_model(body),
        sampling=_sampling(body, limit, _chat_logprobs(body)),
        n=_count(body),
        messages=read,
        tools=tools,
        schema=_with_schema(body, schema),
        template_settings=_template_settings(body),
        stream=_flag(body, "stream"),
        include_usage=_include_usage(body),
    )


def completion(body: dict[str, Any]) -> TextRequest:
    """A request to `/v1/completions`; without `max_tokens` the answer has at most 16 tokens, as OpenAI documents."""
    if body.get("suffix"):
        _unsupported("suffix")
    _refuse_silent(body)
    n = _count(body)
    if body.get("best_of") not in (None, n):
        _unsupported("best_of")
    logprobs = _integer(body, "logprobs", 0, MOST_LOGPROBS)
    echo = _flag(body, "echo")
    if echo and logprobs is not None:
        raise RequestError(
            "echo cannot be had together with logprobs here: the prompt's own are not computed; leave one out.",
            code="unsupported_parameter",
            param="echo",
        )
    sampling = _sampling(body, "max_tokens", logprobs)
    if sampling.max_tokens is None:
        sampling = msgspec.structs.replace(sampling, max_tokens=16)
    return TextRequest(
        model=_model(body),
        sampling=sampling,
        n=n,
        echo=echo,
        schema=_with_schema(body, schemas.of_response_format(body.get("response_format"))),
        prompts=_prompts(body, "prompt"),
        stream=_flag(body, "stream"),
        include_usage=_include_usage(body),
    )


def _refuse_silent(body: dict[str, Any]) -> None:
    """Fields of other servers that change the answer: taken in silence they would give a wrong one."""
    for name in _CHANGING:
        if body.get(name) or (name in _GUIDING and body.get(name) is not None):  # {} is a schema too
            instead = "; response_format holds an answer to a JSON schema" if name in _GUIDING else ""
            raise RequestError(
                f"{name} is not supported by this engine{instead}.", code="unsupported_parameter", param=name
            )


def embedding(body: dict[str, Any]) -> EmbeddingRequest:
    """A request to `/v1/embeddings`."""
    wanted = body.get("encoding_format")
    if wanted not in (None, "float", "base64"):
        _wrong("encoding_format", '"float" or "base64"')
    dimensions = _integer(body, "dimensions", 1, 1 << 20)
    inputs = _prompts(body, "input")
    return EmbeddingRequest(
        model=_model(body),
        inputs=inputs,
        base64=wanted == "base64",
        dimensions=dimensions,
    )


def _sampling(body: dict[str, Any], limit: str, logprobs: int | None) -> Sampling:
    max_tokens = _integer(body, limit, 1, 1 << 31)
    min_tokens = _integer(body, "min_tokens", 0, 1 << 31) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        _wrong("min_tokens", f"at most {limit} ({max_tokens})")
    return Sampling(
        max_tokens=max_tokens,
        temperature=_number(body, "temperature", 0, 2),
        top_p=_number(body, "top_p", 0, 1),
        top_k=_top_k(body),
        seed=_integer(body, "seed", -(1 << 63), (1 << 64) - 1),
        presence=_number(body, "presence_penalty", -2, 2) or 0.0,
        frequency=_number(body, "frequency_penalty", -2, 2) or 0.0,
        bias=_bias(body.get("logit_bias")),
        stop=_stop(body.get("stop")),
        stop_tokens=_stop_tokens(body.get("stop_token_ids")),
        min_p=_number(body, "min_p", 0, 1) or 0.0,
        repetition=_number(body, "repetition_penalty", 0.01, 100) or 1.0,
        min_tokens=min_tokens,
        ignore_eos=_flag(body, "ignore_eos"),
        logprobs=logprobs,
    )


def _with_schema(body: dict[str, Any], schema: str | None) -> str | None:
    if schema is not None and body.get("min_tokens"):
        _wrong("min_tokens", "left out: the schema says where the answer ends")
    return schema


def _template_settings(body: dict[str, Any]) -> dict[str, Any]:
    """Variables for the chat template, as vLLM takes them; not in place of ours."""
    given = body.get("chat_template_kwargs")
    if given is None:
        return {}
    if not isinstance(given, dict) or len(json.dumps(given)) > 4096:
        _wrong("chat_template_kwargs", "an object of at most 4096 bytes")
    return given


def _top_k(body: dict[str, Any]) -> int | None:
    """vLLM and others write 0 or -1 for all tokens."""
    found = _integer(body, "top_k", -1, 1 << 31)
    return None if found is None else max(found, 0)


def _count(body: dict[str, Any]) -> int:
    return _integer(body, "n", 1, 128) or 1


def _chat_logprobs(body: dict[str, Any]) -> int | None:
    asked = _flag(body, "logprobs")
    top = _integer(body, "top_logprobs", 0, MOST_LOGPROBS)
    if top and not asked:
        _wrong("top_logprobs", "left out, unless logprobs is true")
    return (top or 0) if asked else None


def _stop_tokens(given: Any) -> tuple[int, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > 128 or not _is_tokens(given):
        _wrong("stop_token_ids", "a list of at most 128 token ids")
    return tuple(given)


def _stop(stop: Any) -> tuple[str, ...]:
    found = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(found, list) or len(found) > _MOST_STOPS or not all(map(is_stop, found)):
        _wrong(
            "stop", f"a string or a list of at most {_MOST_STOPS} strings, each of at most {_LONGEST_STOP} characters"
        )
    return tuple(s for s in found if s)


def is_stop(given: Any) -> bool:
    return isinstance(given, str) and len(given) <= _LONGEST_STOP


def _bias(bias: Any) -> dict[int, float]:
    expected = f"an object of at most {_MOST_BIASES} token ids and numbers from -100 to 100"
    if bias is None:
        return {}
    if not isinstance(bias, dict) or len(bias) > _MOST_BIASES:
        _wrong("logit_bias", expected)
    try:
        found = {int(token): float(value) for token, value in bias.items()}
    except (OverflowError, TypeError, ValueError):
        _wrong("logit_bias", expected)
    if not all(-100 <= value <= 100 for value in found.values()):
        _wrong("logit_bias", expected)
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
        _wrong(name, _range(low, high) if integer else f"a number from {low:g} to {high:g}")
    return value  # type: ignore[no-any-return]


def _range(low: Any, high: Any) -> str:
    return f"an integer of at least {low:d}" if high == 1 << 31 else f"an integer from {low:d} to {high:d}"


def _integer(body: dict[str, Any], name: str, low: int, high: int) -> int | None:
    value = _number(body, name, low, high, integer=True)
    return None if value is None else int(value)


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
