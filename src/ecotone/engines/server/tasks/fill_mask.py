"""fill-mask: the likeliest tokens in place of the mask. A text with several masks gets a list for each."""

from collections.abc import Sequence
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.tasks.scores import softmax
from ecotone.engines.server.tasks.work import Asked, Work, known, strings, texts_of, whole, wrong

_MOST_MASKS = 64
_MOST_SHOWN = 1000
_MOST_TARGETS = 1000
_MOST_CANDIDATES = 20_000  # of one request: each holds its text once more


def prepare(asked: Asked, model: Known) -> Work:
    """Raises RequestError for a text without a mask."""
    known(asked, "top_k", "targets")
    mask = model.mask
    if mask is None:
        raise RequestError("This model's tokenizer has no mask token.", code="unsupported_task")
    texts, listed = texts_of(asked.inputs)
    top = whole(asked.parameters, "top_k", 5, high=_MOST_SHOWN)
    targets = _targets(strings(asked.parameters, "targets"), model)
    encodings = [model.sequences.single(text) for text in texts]
    places = [[i for i, token in enumerate(one.ids) if token == mask[0]] for one in encodings]
    for found in places:
        if not 1 <= len(found) <= _MOST_MASKS:
            raise RequestError(
                f"inputs has {len(found)} masks; write 1 to {_MOST_MASKS} of {mask[1]} where the model is to fill in, "
                "or ask for feature-extraction to get a vector.",
                code="no_mask",
                param="inputs",
            )

    shown = sum(map(len, places)) * min(top, len(targets) if targets is not None else top)
    if shown > _MOST_CANDIDATES:
        raise RequestError(
            f"inputs and top_k ask for {shown} candidates, and a request may have at most {_MOST_CANDIDATES}; send "
            "several requests, or a smaller top_k.",
            status=413,
            code="request_too_large",
            param="top_k",
        )

    def answer(results: Sequence[Found]) -> Any:
        rows = [
            _filled(logits, one.ids, where, top, targets, model.sequences.tokenizer)
            for logits, one, where in zip(results, encodings, places, strict=True)
        ]
        return rows if listed and len(rows) > 1 else rows[0]

    return Work(
        [model.sequences.text(one, Head.MASKS, where) for one, where in zip(encodings, places, strict=True)], answer
    )


def _targets(names: list[str] | None, model: Known) -> list[int] | None:
    """Token ids of the words to choose from; of a word that is no token, its first one."""
    if names is None:
        return None
    if len(names) > _MOST_TARGETS:
        wrong("targets", f"a list of at most {_MOST_TARGETS} words")
    backend = model.sequences.backend
    found: list[int] = []
    for name in names:
        token = backend.token_to_id(name)
        ids = [token] if token is not None else model.sequences.plain(name, field="targets").ids[:1]
        found += ids
    if not found:
        raise RequestError("None of the targets is a token of this model.", param="targets")
    return list(dict.fromkeys(found))


def _filled(
    logits: Found, ids: Sequence[int], places: Sequence[int], top: int, targets: list[int] | None, tokenizer: Any
) -> Any:
    rows = []
    for row, place in zip(softmax(logits), places, strict=True):
        chosen = numpy.arange(len(row)) if targets is None else numpy.array(targets)
        best = chosen[numpy.argsort(-row[chosen], kind="stable")[:top]]
        rows.append(
            [_candidate(int(token), float(row[token]), ids, place, len(places) == 1, tokenizer) for token in best]
        )
    return rows[0] if len(rows) == 1 else rows


def _candidate(
    token: int, score: float, ids: Sequence[int], place: int, single: bool, tokenizer: Any
) -> dict[str, Any]:
    filled = [token if i == place else other for i, other in enumerate(ids)]
    return {
        "score": score,
        "token": token,
        "token_str": tokenizer.decode([token]),
        "sequence": tokenizer.decode(filled, skip_special_tokens=single),  # the other masks are to be seen
    }
