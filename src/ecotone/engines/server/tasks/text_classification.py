"""text-classification: the model's labels with their scores, the best first."""

from collections.abc import Sequence
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.tasks.scores import sigmoid, softmax
from ecotone.engines.server.tasks.work import Asked, Work, bounded, choice, flag, known, whole, wrong


def prepare(asked: Asked, model: Known) -> Work:
    """`[[{label, score}]]`, a list for each text; a text may be an object of text and text_pair."""
    known(asked, "top_k", "function_to_apply", "truncate")
    many = asked.inputs if isinstance(asked.inputs, list) else [asked.inputs]
    bounded(len(many), "inputs")
    if not many:
        wrong("inputs", "a text, or a list of at least one")
    top = whole(asked.parameters, "top_k", len(model.labels))
    how = choice(asked.parameters, "function_to_apply", ("softmax", "sigmoid", "none"), _usual(model))
    cut = flag(asked.parameters, "truncate", model.cuts)

    def answer(results: Sequence[Found]) -> Any:
        return [_labelled(scores_of(one, how), model.labels)[:top] for one in results]

    return Work([model.sequences.text(_encoded(one, model, cut=cut), Head.LABELS) for one in many], answer)


def scores_of(logits: Found, how: str) -> Found:
    """Logits under softmax, sigmoid or none."""
    return {"softmax": softmax, "sigmoid": sigmoid}.get(how, lambda same: same)(logits)


def _usual(model: Known) -> str:
    """What the model's problem type asks for."""
    if model.problem == "regression":
        return "none"
    return "sigmoid" if model.problem == "multi_label_classification" or len(model.labels) == 1 else "softmax"


def _encoded(one: Any, model: Known, *, cut: bool) -> Any:
    if isinstance(one, str):
        return model.sequences.single(one, cut=cut)
    if isinstance(one, dict) and isinstance(one.get("text"), str):
        pair = one.get("text_pair")
        if pair is None:
            return model.sequences.single(one["text"], cut=cut)
        if isinstance(pair, str):
            return model.sequences.pair(one["text"], pair, cut=cut)
    return wrong("inputs", "a string, or an object of text and text_pair, or a list of them")


def _labelled(scores: Found, labels: Sequence[str]) -> list[dict[str, Any]]:
    order = numpy.argsort(-scores, kind="stable")
    return [{"label": labels[i], "score": float(scores[i])} for i in order]
