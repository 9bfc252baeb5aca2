"""question-answering: the part of a context that answers a question (Devlin et al. 2018, section 4.2).

A context that does not fit is read in windows that share `doc_stride` tokens. In each window the probabilities of start
and end are taken over its part of the context and the first token, which stands for no answer; a span's score is the
product of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.tasks.scores import softmax
from ecotone.engines.server.tasks.work import Asked, Work, bounded, flag, known, whole, windows_of, wrong

_NAMES = (
    "top_k",
    "doc_stride",
    "max_answer_len",
    "max_seq_len",
    "max_question_len",
    "handle_impossible_answer",
    "align_to_words",
)
_MOST_ANSWERS = 1000
_MOST_SPANS = 50_000  # that are weighed for one request
_LONGEST_CONTEXT = 1_000_000  # characters
_USUAL_LENGTH, _USUAL_STRIDE, _USUAL_ANSWER = 384, 128, 15


@dataclass(frozen=True)
class _How:
    top: int
    longest: int
    impossible: bool
    words: bool


def prepare(asked: Asked, model: Known) -> Work:
    """`{answer, score, start, end}`, or a list of up to `top_k` of them."""
    known(asked, *_NAMES)
    question, context = _inputs(asked)
    given = asked.parameters
    top = whole(given, "top_k", 1, high=_MOST_ANSWERS)
    how = _How(
        top=top,
        longest=whole(given, "max_answer_len", _USUAL_ANSWER),
        impossible=flag(given, "handle_impossible_answer"),
        words=flag(given, "align_to_words", True),
    )
    windows = _windows(question, context, given, model)
    if len(windows) * top > _MOST_SPANS:
        raise RequestError(
            f"inputs.context is read in {len(windows)} windows, which with top_k {top} is more than is weighed for one "
            f"request; ask for a top_k of at most {_MOST_SPANS // len(windows)}, or send a shorter context.",
            status=413,
            code="request_too_large",
            param="top_k",
        )

    def answer(results: Sequence[Found]) -> Any:
        found = [
            one for part, logits in zip(windows, results, strict=True) for one in _spans(part, logits, context, how)
        ]
        if how.impossible:
            least = min(_no_answer(part, logits) for part, logits in zip(windows, results, strict=True))
            found.append({"answer": "", "score": least, "start": 0, "end": 0})
        best = _distinct(sorted(found, key=lambda one: -one["score"]))[: how.top]
        return best[0] if top == 1 and best else best

    return Work([model.sequences.text(part, Head.SPANS) for part in windows], answer)


def _inputs(asked: Asked) -> tuple[str, str]:
    inputs = asked.inputs if isinstance(asked.inputs, dict) else {}
    question, context = inputs.get("question"), inputs.get("context")
    if not isinstance(question, str) or not isinstance(context, str) or not question.strip() or not context.strip():
        wrong("inputs", "an object with question and context, two strings that are not empty")
    if len(context) > _LONGEST_CONTEXT:
        raise RequestError(
            f"inputs.context has {len(context)} characters, and at most {_LONGEST_CONTEXT} are read; send a part.",
            status=413,
            code="request_too_large",
            param="inputs.context",
        )
    return question, context


def _windows(question: str, context: str, given: dict[str, Any], model: Known) -> list[Any]:
    sequences = model.sequences
    length = whole(given, "max_seq_len", min(_USUAL_LENGTH, sequences.limit), high=sequences.limit)
    asked = sequences.plain(question, field="inputs.question")
    if "max_question_len" in given:
        asked.truncate(whole(given, "max_question_len", 64))
    room = length - len(asked) - sequences.specials(pair=True)
    if room < 1:
        raise RequestError(
            f"inputs.question has {len(asked)} tokens, which leaves the context no room in {length}; shorten the "
            "question, or cut it by max_question_len.",
            code="context_length_exceeded",
            param="inputs.question",
        )
    stride = whole(given, "doc_stride", min(_USUAL_STRIDE, room // 2), low=0, high=room - 1)
    text = sequences.backend.encode(context, add_special_tokens=False)
    bounded(windows_of(len(text), room, stride), "inputs.context")
    text.truncate(room, stride=stride)
    return [sequences.closed(asked, part) for part in (text, *text.overflowing)]


def _probabilities(part: Any, logits: Found) -> Found:
    """Of start and end, `[tokens, 2]`: zero but for the context and the first token."""
    open_ = numpy.array([part_of == 1 for part_of in part.sequence_ids])
    open_[0] = True
    return softmax(numpy.where(open_[:, None], logits, -10000.0).T).T


def _no_answer(part: Any, logits: Found) -> float:
    scores = _probabilities(part, logits)
    return float(scores[0, 0] * scores[0, 1])


def _spans(part: Any, logits: Found, context: str, how: _How) -> list[dict[str, Any]]:
    scores = _probabilities(part, logits)
    scores[0] = 0.0
    places = [i for i, part_of in enumerate(part.sequence_ids) if part_of == 1]
    first, last = places[0], places[-1] + 1
    starts, ends = scores[first:last, 0], scores[first:last, 1]
    band = min(how.longest, len(starts))
    # a row for each length: spans of no more than `longest` tokens, without the square of the window
    grid = numpy.zeros((band, len(starts)), dtype=starts.dtype)
    for more in range(band):
        grid[more, : len(starts) - more] = starts[: len(starts) - more] * ends[more:]
    best = numpy.argsort(-grid, axis=None, kind="stable")[: how.top * 4]
    offsets, words = part.offsets, part.word_ids  # each makes a new list
    found = []
    for flat in best:
        more, start = divmod(int(flat), len(starts))
        score = float(grid[more, start])
        if score > 0.0:
            begin, end = _letters(
                offsets, words if how.words else None, first + start, first + start + more, first, last
            )
            found.append({"answer": context[begin:end], "score": score, "start": begin, "end": end})
    return found


def _letters(
    offsets: Sequence[tuple[int, int]], words: Sequence[int | None] | None, start: int, end: int, first: int, last: int
) -> tuple[int, int]:
    """The letters of the tokens from start to end, of whole words where `words` tells each token's; the context has
    the tokens from `first` to before `last`."""
    if words is not None:
        while start > first and words[start] is not None and words[start - 1] == words[start]:
            start -= 1
        while end + 1 < last and words[end] is not None and words[end + 1] == words[end]:
            end += 1
    return offsets[start][0], offsets[end][1]


def _distinct(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each place once, with its best score: windows share tokens, and a word has several."""
    seen: set[tuple[int, int]] = set()
    found = []
    for one in answers:
        if (one["start"], one["end"]) not in seen:
            seen.add((one["start"], one["end"]))
            found.append(one)
    return found
