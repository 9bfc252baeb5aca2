"""token-classification: a label for each token, or for each entity when tokens are aggregated.

The strategies are those of transformers' pipeline: `simple` joins neighbours of one label; `first`, `average` and `max`
first give each word one label. A long text is cut into windows that share `stride` tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.tasks.scores import softmax
from ecotone.engines.server.tasks.work import Asked, Work, bounded, choice, known, texts_of, whole, windows_of, wrong

_STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass
class _Token:
    word: str
    scores: Found
    start: int
    end: int
    index: int
    inside: bool  # of a word that began before it


def prepare(asked: Asked, model: Known) -> Work:
    """`[{entity, score, index, word, start, end}]`, or with a strategy `[{entity_group, score, word, start, end}]`."""
    known(asked, "aggregation_strategy", "ignore_labels", "stride")
    texts, listed = texts_of(asked.inputs)
    strategy = choice(asked.parameters, "aggregation_strategy", _STRATEGIES, "none")
    ignored = _ignored(asked.parameters)
    windows: list[list[Any]] = []
    count = 0
    for text in texts:
        windows.append(_windows(text, asked.parameters, strategy, model, count))
        count += len(windows[-1])
    bounded(count, "inputs")

    def answer(results: Sequence[Found]) -> Any:
        rest = iter(results)
        rows = []
        for text, parts in zip(texts, windows, strict=True):
            found = [_entities(text, part, next(rest), strategy, model) for part in parts]
            entities = [
                one for part in found for one in part if one.get("entity", one.get("entity_group")) not in ignored
            ]
            rows.append(_apart(entities) if len(parts) > 1 else entities)
        return rows if listed else rows[0]

    return Work([model.sequences.text(part, Head.TOKEN_LABELS) for parts in windows for part in parts], answer)


def _ignored(parameters: dict[str, Any]) -> list[str]:
    found = parameters.get("ignore_labels", ["O"])
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        wrong("ignore_labels", "a list of strings")
    return found


def _windows(text: str, parameters: dict[str, Any], strategy: str, model: Known, before: int) -> list[Any]:
    """The sequences that a text is read in; `before` were made of others."""
    sequences = model.sequences
    if "stride" not in parameters:
        try:
            return [sequences.single(text)]
        except RequestError as error:
            if error.code != "context_length_exceeded":
                raise
            said = error.message.partition("; shorten")[0]
            raise RequestError(
                f"{said}; shorten it, or send a stride with an aggregation_strategy to have it read in windows.",
                code=error.code,
                param="inputs",
            ) from None
    room = sequences.limit - sequences.specials()
    stride = whole(parameters, "stride", 0, low=0, high=max(room - 1, 0))
    if strategy == "none":
        wrong("aggregation_strategy", "simple, first, average or max where a stride is given")
    plain = model.sequences.backend.encode(_bounded(text, room - stride), add_special_tokens=False)
    bounded(before + windows_of(len(plain), room, stride), "inputs")
    plain.truncate(room, stride=stride)
    return [sequences.closed(part) for part in (plain, *plain.overflowing)]


def _bounded(text: str, step: int) -> str:
    """Refuses a text that is sure to make too many windows before it is tokenised: a megabyte of letters."""
    if len(text) > 1_000_000:
        raise RequestError(
            f"inputs has {len(text)} characters, and at most 1000000 are read in windows of {step} tokens.",
            status=413,
            code="request_too_large",
            param="inputs",
        )
    return text


def _entities(text: str, part: Any, logits: Found, strategy: str, model: Known) -> list[dict[str, Any]]:
    tokens = _tokens(text, part, softmax(logits), model)
    if strategy == "none":
        return [{**_labelled(token, model), "index": token.index} for token in tokens]
    if strategy == "simple":
        return _grouped([_labelled(token, model) for token in tokens], model)
    words: list[list[_Token]] = []
    for token in tokens:
        if words and token.inside:
            words[-1].append(token)
        else:
            words.append([token])
    return _grouped([_word(word, strategy, model) for word in words], model)


def _tokens(text: str, part: Any, scores: Found, model: Known) -> list[_Token]:
    backend = model.sequences.backend
    by_prefix = bool(getattr(backend.model, "continuing_subword_prefix", None))
    unknown = model.sequences.tokenizer.unk_token_id
    special, ids, spelled, offsets = part.special_tokens_mask, part.ids, part.tokens, part.offsets
    found = []
    for place, row in enumerate(scores):
        if special[place]:
            continue
        (start, end), word = offsets[place], spelled[place]
        inside = len(word) != end - start if by_prefix else start > 0 and " " not in text[start - 1 : start + 1]
        if ids[place] == unknown:
            word, inside = text[start:end], False
        found.append(_Token(word, row, start, end, place, inside))
    return found


def _labelled(token: _Token, model: Known) -> dict[str, Any]:
    best = int(token.scores.argmax())
    return {
        "entity": model.labels[best],
        "score": float(token.scores[best]),
        "word": token.word,
        "start": token.start,
        "end": token.end,
    }


def _word(tokens: Sequence[_Token], strategy: str, model: Known) -> dict[str, Any]:
    if strategy == "average":
        scores = numpy.mean([token.scores for token in tokens], axis=0)
    elif strategy == "max":
        scores = max(tokens, key=lambda token: token.scores.max()).scores
    else:
        scores = tokens[0].scores
    best = int(scores.argmax())
    return {
        "entity": model.labels[best],
        "score": float(scores[best]),
        "word": _spelled([token.word for token in tokens], model),
        "start": tokens[0].start,
        "end": tokens[-1].end,
    }


def _grouped(entities: Sequence[dict[str, Any]], model: Known) -> list[dict[str, Any]]:
    """Neighbours of one label joined; `B-` begins an entity even after one of the same."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        begins, label = _tag(entity["entity"])
        if groups and not begins and label == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [
        {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(numpy.mean([entity["score"] for entity in group])),
            "word": _spelled([entity["word"] for entity in group], model),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }
        for group in groups
    ]


def _tag(label: str) -> tuple[bool, str]:
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _spelled(tokens: Sequence[str], model: Known) -> str:
    spelled: str = model.sequences.tokenizer.convert_tokens_to_string(list(tokens))
    return spelled


def _apart(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that overlap, as windows find them twice, the longer one, or the surer one of two as long."""
    found: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda one: one["start"]):
        if found and found[-1]["start"] <= entity["start"] < found[-1]["end"]:
            if _weight(entity) > _weight(found[-1]):
                found[-1] = entity
        else:
            found.append(entity)
    return found


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
