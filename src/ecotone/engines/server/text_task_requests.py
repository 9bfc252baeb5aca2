"""Bodies of Hugging Face's text tasks (text-generation, text2text-generation, translation, summarization) read.

What cannot be honoured is refused by name, never in the words by which `InferenceClient` asks again without it: that
client then takes every address of its process for one that can neither stream nor tell details. Defaults are those of
text-generation-inference: the likeliest tokens unless sampling is asked for, 100 new tokens of a model that goes on.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.requests import MOST_LOGPROBS, Prompt, Sampling, TextRequest, is_stop

GENERATION = "text-generation"
TEXT_TO_TEXT = "text2text-generation"
TRANSLATION = "translation"
SUMMARIZATION = "summarization"

TEXT_TASKS = (GENERATION, TEXT_TO_TEXT, TRANSLATION, SUMMARIZATION)

_NEW_TOKENS = 100
_MOST_STOPS = 16
_MOST_TEXTS = 128
_MOST_BEST_OF = 16
_FOR_PIPELINES = ("clean_up_tokenization_spaces", "generate_parameters", "src_lang", "tgt_lang", "truncation")
_FOR_GENERATION = (
    "adapter_id", "best_of", "decoder_input_details", "details", "do_sample", "frequency_penalty", "grammar",
    "max_new_tokens", "repetition_penalty", "return_full_text", "seed", "stop", "stop_sequences", "temperature",
    "top_k", "top_n_tokens", "top_p", "truncate", "typical_p", "watermark",
)  # fmt: skip
_NOT_DONE = ("watermark", "decoder_input_details", "typical_p")
_FOR_GENERATE = ("do_sample", "max_new_tokens", "max_length", "num_beams", "repetition_penalty", "temperature", "top_k",
                 "top_p")  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and what of its answer is shown. `truncate` keeps that many of the prompt's last tokens."""

    task: str
    request: TextRequest
    several: bool = False
    details: bool = False
    best_of: int = 1
    full_text: bool = False
    truncate: int | None = None
    cut: bool = False  # to the context, from the end
    top: int = 0
    regex: str | None = None


def read(task: str, body: Mapping[str, Any], model: str, settings: Mapping[str, Any], *, encodes: bool) -> Wanted:
    """A body for one of these tasks, or for `auto`.

    Args:
        settings: the model's `task_specific_params`.
        encodes: whether the model reads its prompt apart from its answer (T5), rather than continuing it.

    Raises:
        RequestError: naming the parameter and what was expected.
    """
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        _wrong("parameters", "an object")
    translates = any(parameters.get(name) is not None for name in ("src_lang", "tgt_lang"))
    if task == "auto":
        task = TRANSLATION if translates else TEXT_TO_TEXT if encodes else GENERATION
        named = translates
    else:
        named = True
    if task in (TRANSLATION, SUMMARIZATION) and not encodes:
        raise RequestError(
            f"This model continues text and has not been made for {task}; ask it by chat or text-generation.",
            code="unsupported_task",
        )
    texts = _texts(body.get("inputs"))
    if named and task in (TRANSLATION, SUMMARIZATION):
        prefix = _prefix(task, parameters, settings)
        texts = [text if text.startswith(prefix) else prefix + text for text in texts]
    stream = _flag(body, "stream")
    if stream and len(texts) > 1:
        _wrong("inputs", "one text when the answer is streamed")
    return _wanted(task, texts, parameters, model, encodes=encodes, stream=stream, several=len(texts) > 1)


def _wanted(
    task: str,
    texts: list[str],
    parameters: dict[str, Any],
    model: str,
    *,
    encodes: bool,
    stream: bool,
    several: bool,
) -> Wanted:
    _refuse(parameters, encodes=encodes)
    generate = parameters.get("generate_parameters") or {}
    if (
        not isinstance(generate, dict)
        or set(generate) - set(_FOR_GENERATE)
        or generate.get("num_beams") not in (None, 1)
    ):
        _wrong("generate_parameters", f"an object with {', '.join(_FOR_GENERATE)}; num_beams only 1")
    given = {**generate, **parameters}
    top = _integer(given, "top_n_tokens", 0, MOST_LOGPROBS) or 0
    best_of = _integer(given, "best_of", 1, _MOST_BEST_OF) or 1
    if stream and best_of > 1:
        _wrong("best_of", "1 when the answer is streamed")
    details = _flag(given, "details")
    schema, regex = _grammar(given.get("grammar"))
    prompts: tuple[Prompt, ...] = tuple(texts)
    sampling = _sampling(given, None if encodes else _NEW_TOKENS, details or stream or best_of > 1, top)
    if best_of > 1 and sampling.temperature == 0:
        _wrong("best_of", "1 unless do_sample is true: all answers would be the same")
    request = TextRequest(model=model, sampling=sampling, n=best_of, schema=schema, prompts=prompts, stream=stream)
    return Wanted(
        task=task,
        request=request,
        several=several,
        details=details,
        best_of=best_of,
        full_text=_flag(given, "return_full_text"),
        truncate=_integer(given, "truncate", 1, 1 << 31),
        cut=_cuts(given.get("truncation")),
        top=top,
        regex=regex,
    )


def _refuse(parameters: Mapping[str, Any], *, encodes: bool) -> None:
    if parameters.get("adapter_id") is not None:
        raise RequestError(
            "An adapter is a model of its own here: send the request to the adapter's own URL, "
            f"/models/{str(parameters['adapter_id'])[:100]}, and leave adapter_id out.",
            code="unsupported_parameter",
            param="adapter_id",
        )
    unused = [name for name in parameters if name not in _FOR_GENERATION and name not in _FOR_PIPELINES]
    unused += [
        name for name in _NOT_DONE if parameters.get(name) and not (name == "typical_p" and parameters[name] == 1)
    ]
    if encodes and parameters.get("return_full_text"):
        unused.append("return_full_text")
    if parameters.get("clean_up_tokenization_spaces"):
        unused.append("clean_up_tokenization_spaces")
    if unused:
        names = ", ".join(str(name)[:60] for name in unused[:20])
        known = ", ".join(name for name in _FOR_GENERATION if name not in ("adapter_id", *_NOT_DONE))
        raise RequestError(
            f"parameters: {names} cannot be honoured here; leave {'it' if len(unused) == 1 else 'them'} out. "
            f"Known are {known}.",
            code="unsupported_parameter",
            param=str(unused[0])[:60],
        )


def _sampling(given: Mapping[str, Any], new_tokens: int | None, logprobs: bool, top: int) -> Sampling:
    temperature = _number(given, "temperature", 0, 100)
    top_k, top_p = _integer(given, "top_k", 0, 1 << 31), _number(given, "top_p", 0, 1)
    warps = temperature not in (None, 1) or bool(top_k) or top_p not in (None, 1)
    samples = (_flag(given, "do_sample") or warps) and temperature != 0
    most = _integer(given, "max_new_tokens", 1, 1 << 31) or _integer(given, "max_length", 1, 1 << 31)
    return Sampling(
        max_tokens=most or new_tokens,
        temperature=(1.0 if temperature is None else temperature) if samples else 0.0,
        top_p=1.0 if top_p is None else top_p,
        top_k=top_k or 0,
        seed=_integer(given, "seed", 0, (1 << 64) - 1),
        frequency=_number(given, "frequency_penalty", -2, 2) or 0.0,
        repetition=_number(given, "repetition_penalty", 0.01, 100) or 1.0,
        stop=_stops(given),
        logprobs=top if logprobs else None,
    )


def _stops(given: Mapping[str, Any]) -> tuple[str, ...]:
    found = given.get("stop") if given.get("stop") is not None else given.get("stop_sequences")
    found = [found] if isinstance(found, str) else found or []
    if not isinstance(found, list) or len(found) > _MOST_STOPS or not all(s and is_stop(s) for s in found):
        _wrong("stop", f"a list of at most {_MOST_STOPS} strings, none of them empty or longer than 4096 characters")
    return tuple(found)


def _grammar(grammar: Any) -> tuple[str | None, str | None]:
    """The schema as JSON, or the regular expression."""
    if grammar is None:
        return None, None
    kind = grammar.get("type") if isinstance(grammar, dict) else None
    value = grammar.get("value") if isinstance(grammar, dict) else None
    if kind == "regex" and isinstance(value, str) and 0 < len(value) <= 4096:
        return None, value
    if kind == "json_schema" and isinstance(value, dict):
        value = value.get("schema", value)
    if kind in ("json", "json_schema") and isinstance(value, dict):
        from ecotone.engines.server import schemas

        return schemas.of_response_format({"type": "json_schema", "json_schema": {"name": "a", "schema": value}}), None
    _wrong("grammar", 'an object with type "json", "json_schema" (value: a schema) or "regex" (value: a string)')


def _prefix(task: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What a model wants to read before a text of this task, by its own configuration; nothing when it says nothing."""
    if task == SUMMARIZATION:
        return _prefix_of(settings.get(SUMMARIZATION))
    pairs = {
        name.removeprefix("translation_"): value for name, value in settings.items() if name[:12] == "translation_"
    }
    source, target = parameters.get("src_lang"), parameters.get("tgt_lang")
    if source is None and target is None:
        return _prefix_of(next(iter(pairs.values()))) if len(pairs) == 1 else ""
    if not pairs:
        raise RequestError(
            "This model's configuration names no languages; leave src_lang and tgt_lang out and say in the text what "
            "is to be done with it.",
            code="unsupported_parameter",
            param="tgt_lang",
        )
    fitting = [
        pair for pair in pairs if source in (None, pair.split("_to_")[0]) and target in (None, pair.split("_to_")[-1])
    ]
    if len(fitting) != 1:
        raise RequestError(
            f"src_lang {str(source)[:60]!r} and tgt_lang {str(target)[:60]!r} must name one of the pairs that this "
            f"model knows: {', '.join(sorted(pairs)[:20])}.",
            param="tgt_lang",
        )
    return _prefix_of(pairs[fitting[0]])


def _prefix_of(settings: Any) -> str:
    found = settings.get("prefix") if isinstance(settings, dict) else None
    return found if isinstance(found, str) else ""


def _texts(inputs: Any) -> list[str]:
    found = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_TEXTS or not all(isinstance(x, str) for x in found):
        _wrong("inputs", f"a text, or a list of at most {_MOST_TEXTS} texts")
    if not all(found):
        _wrong("inputs", "texts that are not empty")
    return list(found)


def _cuts(truncation: Any) -> bool:
    if truncation not in (None, "do_not_truncate", "longest_first", "only_first"):
        _wrong("truncation", '"do_not_truncate", "longest_first" or "only_first"')
    return truncation not in (None, "do_not_truncate")


def _number(given: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high:
        _wrong(name, f"a number from {low:g} to {high:g}")
    return float(value)


def _integer(given: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        _wrong(name, f"an integer from {low} to {high}")
    return int(value)


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        _wrong(name, "true or false")
    return bool(value)


def _wrong(name: str, expected: str) -> NoReturn:
    raise RequestError(f"{name} must be {expected}.", code="invalid_value", param=name)
