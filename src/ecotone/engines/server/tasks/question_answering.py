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
from ecotone.engines.server.tasks.work import Asked, Work, bounded, flag, known, whole, wrong

_NAMES = (
    "top_k",
    "doc_stride",
    "max_answer_len",
    "max_seq_len",
    "max_question_len",
    "handle_impossible_answer",
    "align_to_words",
)
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
    top = whole(given, "top_k", 1, high=1000)
    how = _How(
        top=top,
        longest=whole(given, "max_answer_len", _USUAL_ANSWER),
        impossible=flag(given, "handle_impossible_answer"),
        words=flag(given, "align_to_words", True),
    )
    windows = _windows(question, context, given, model)
    bounded(len(windows), "inputs.context")

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
    found = []
    for flat in best:
        more, start = divmod(int(flat), len(starts))
        score = float(grid[more, start])
        if score > 0.0:
            begin, end = _letters(part, first + start, first + start + more, how.words)
            found.append({"answer": context[begin:end], "score": score, "start": begin, "end": end})
    return found


def _letters(part: Any, start: int, end: int, words: bool) -> tuple[int, int]:
    offsets = part.offsets
    if not words:
        return offsets[start][0], offsets[end][1]
    ids, whose = part.word_ids, part.sequence_ids
    while start > 0 and ids[start] is not None and ids[start - 1] == ids[start] and whose[start - 1] == 1:
        start -= 1
    while end + 1 < len(ids) and ids[end] is not None and ids[end + 1] == ids[end] and whose[end + 1] == 1:
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
