"""Hugging Face's tasks in the words of engines that speak OpenAI's dialect or TEI's. Pure.

Bodies and answers: huggingface_hub's inference types. TEI: its OpenAPI document (`/embed`, `/similarity`, `/predict`).
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ecotone.engines.kinds.relay.far import Fault

FEATURES, SIMILARITY = "feature-extraction", "sentence-similarity"
CLASSIFICATION, GENERATION = "text-classification", "text-generation"
_NEW_TOKENS = 100  # when the caller says nothing, as text-generation-inference has it
_SAMPLING = ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "repetition_penalty")

Usage = tuple[int, int]
Finish = Callable[[Any, Mapping[str, str]], tuple[Any, Usage]]


@dataclass(frozen=True)
class Asked:
    """A task as a call of the engine: its path and body, and how the answer becomes the task's, with its usage
    (prompt tokens, completion tokens). `whole` is set for a text that is streamed: what to say at its end."""

    path: str
    body: dict[str, Any]
    finish: Finish
    streams: bool = False


def task_of(task: str, body: Mapping[str, Any], tasks: tuple[str, ...]) -> str:
    """The task meant: the one named, else told by the body's shape, else the model's first.

    Raises:
        Fault: the engine has none of that name.
    """
    if task == "auto":
        inputs = body.get("inputs")
        shaped = SIMILARITY if isinstance(inputs, dict) and "source_sentence" in inputs else None
        task = shaped or (tasks[0] if tasks else task)
    if task not in tasks:
        raise Fault(
            f"This engine does not do {task!r}; it does {', '.join(tasks) or 'no task of this face'}.",
            status=400,
            code="unsupported_task",
        )
    return task


def by_openai(task: str, body: Mapping[str, Any], model: str) -> Asked:
    """A task for an engine with `/v1/embeddings` and `/v1/completions`."""
    if task == FEATURES:
        return Asked("/v1/embeddings", {"model": model, "input": _texts(body)}, _vectors)
    if task == SIMILARITY:
        source, sentences = _compared(body)
        return Asked("/v1/embeddings", {"model": model, "input": [source, *sentences]}, _likeness)
    return _written(body, model)


def by_tei(task: str, body: Mapping[str, Any], _model: str) -> Asked:
    """A task for text-embeddings-inference."""
    if task == FEATURES:
        kept = {n: body[n] for n in ("normalize", "truncate", "truncation_direction", "prompt_name") if n in body}
        if isinstance(kept.get("truncation_direction"), str):
            kept["truncation_direction"] = kept["truncation_direction"].capitalize()
        return Asked("/embed", {"inputs": _texts(body), **kept}, _told)
    if task == SIMILARITY:
        source, sentences = _compared(body)
        return Asked("/similarity", {"inputs": {"source_sentence": source, "sentences": sentences}}, _told)
    how = _parameters(body)
    texts = _texts(body)
    raw = {"raw_scores": True} if how.get("function_to_apply") == "none" else {}
    return Asked("/predict", {"inputs": [[text] for text in texts], **raw}, _best(how.get("top_k")))


def events(lines: Iterator[str], state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Completion chunks as text-generation's events; what the last one needs is gathered in `state`."""
    for line in lines:
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            state["error"] = chunk["error"]
            continue
        if isinstance(chunk.get("usage"), dict):
            state["usage"] = _usage(chunk)
        for choice in chunk.get("choices") or ():
            text = choice.get("text") or ""
            state["text"] = state.get("text", "") + text
            state["finish"] = choice.get("finish_reason") or state.get("finish")
            if text:
                state["index"] = state.get("index", 0) + 1
                token = {"id": 0, "text": text, "logprob": 0.0, "special": False}
                yield {"index": state["index"], "token": token, "generated_text": None, "details": None}


def last_event(state: Mapping[str, Any]) -> dict[str, Any]:
    """What ends the events of a text."""
    if "error" in state:
        error = state["error"]
        told = error.get("message", "the engine failed") if isinstance(error, dict) else str(error)
        return {"error": told, "error_type": "generation"}
    prompt, made = state.get("usage", (0, state.get("index", 0)))
    return {
        "index": state.get("index", 0) + 1,
        "token": {"id": 0, "text": "", "logprob": 0.0, "special": True},
        "generated_text": state.get("text", ""),
        "details": {
            "finish_reason": _reason(state.get("finish")),
            "generated_tokens": made,
            "input_length": prompt,
            "seed": None,
        },
    }


# -- bodies ----------------------------------------------------------------------------------------------------------
def _written(body: Mapping[str, Any], model: str) -> Asked:
    prompt, how = body.get("inputs"), _parameters(body)
    if not isinstance(prompt, str) or not prompt:
        raise _invalid("inputs must be a text that is not empty")
    asked: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": how.get("max_new_tokens") or _NEW_TOKENS}
    asked |= {name: how[name] for name in _SAMPLING if how.get(name) is not None}
    if stops := how.get("stop") or how.get("stop_sequences"):
        asked["stop"] = stops
    if not how.get("do_sample") and how.get("temperature") is None:
        asked["temperature"] = 0
    streams = bool(body.get("stream"))
    if streams:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}

    def finish(value: Any, _headers: Mapping[str, str]) -> tuple[Any, Usage]:
        choice, usage = value["choices"][0], _usage(value)
        found: dict[str, Any] = {"generated_text": (prompt if how.get("return_full_text") else "") + choice["text"]}
        if how.get("details"):
            reason = _reason(choice.get("finish_reason"))
            found["details"] = {"finish_reason": reason, "generated_tokens": usage[1], "prefill": [], "tokens": []}
        return ([found] if not how.get("details") else found), usage

    return Asked("/v1/completions", asked, finish, streams)


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    found = body.get("parameters") or {}
    if not isinstance(found, dict):
        raise _invalid("parameters must be an object")
    return found


def _texts(body: Mapping[str, Any]) -> list[str]:
    found = body.get("inputs")
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _invalid("inputs must be a text or a list of texts")
    return texts


def _compared(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    inputs = body.get("inputs")
    if isinstance(inputs, dict):
        source, sentences = inputs.get("source_sentence"), inputs.get("sentences")
        if isinstance(source, str) and isinstance(sentences, list) and all(isinstance(s, str) for s in sentences):
            return source, sentences
    raise _invalid("inputs must be {source_sentence: text, sentences: [text]}")


def _invalid(what: str) -> Fault:
    return Fault(f"{what}.", status=422, code="invalid_value")


# -- answers ---------------------------------------------------------------------------------------------------------
def _usage(value: Mapping[str, Any]) -> Usage:
    found = value.get("usage") or {}
    return int(found.get("prompt_tokens") or 0), int(found.get("completion_tokens") or 0)


def _vectors(value: Any, _headers: Mapping[str, str]) -> tuple[Any, Usage]:
    rows = sorted(value["data"], key=lambda row: int(row["index"]))
    return [row["embedding"] for row in rows], _usage(value)


def _likeness(value: Any, headers: Mapping[str, str]) -> tuple[Any, Usage]:
    (source, *others), usage = _vectors(value, headers)
    return [_cosine(source, other) for other in others], usage


def _cosine(one: list[float], other: list[float]) -> float:
    length = math.sqrt(math.fsum(x * x for x in one) * math.fsum(y * y for y in other))
    return math.fsum(x * y for x, y in zip(one, other, strict=True)) / length if length else 0.0


def _told(value: Any, headers: Mapping[str, str]) -> tuple[Any, Usage]:
    return value, (_counted(headers), 0)


def _best(top_k: Any) -> Finish:
    def finish(value: Any, headers: Mapping[str, str]) -> tuple[Any, Usage]:
        rows = [sorted(row, key=lambda label: -label["score"])[: top_k or None] for row in value]
        return rows, (_counted(headers), 0)

    return finish


def _counted(headers: Mapping[str, str]) -> int:
    said = headers.get("x-compute-tokens", "")
    return int(said) if said.isdigit() else 0


def _reason(finish: Any) -> str:
    return "length" if finish == "length" else "eos_token"
