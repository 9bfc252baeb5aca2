"""What a model's head makes of the hidden states: logits over the vocabulary, of labels, of an answer's ends.

The head's own modules compute; here stands which of them in which order, for the families that `packed` knows
(transformers, `modeling_bert.py`, `modeling_roberta.py`, `modeling_distilbert.py`).
"""

from collections.abc import Callable
from typing import Any

import torch

from ecotone.engines.server.encoding.texts import Head

Compute = Callable[[Any], Any]


def heads_of(model: Any) -> dict[Head, Compute]:
    """The heads that a loaded model has, by what they give.

    MASKS, TOKEN_LABELS and SPANS take rows of hidden states `[rows, width]`, LABELS the first one of each text.
    """
    named = type(model).__name__
    if named.endswith("ForMaskedLM"):
        return {Head.MASKS: _masked(model)}
    if named.endswith("ForSequenceClassification"):
        return {Head.LABELS: _labels(model)}
    if named.endswith("ForTokenClassification"):
        return {Head.TOKEN_LABELS: model.classifier}
    if named.endswith("ForQuestionAnswering"):
        return {Head.SPANS: model.qa_outputs}
    return {}


def _masked(model: Any) -> Compute:
    if hasattr(model, "vocab_projector"):
        return lambda rows: model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(rows))))
    found: Compute = model.cls if hasattr(model, "cls") else model.lm_head
    return found


def _labels(model: Any) -> Compute:
    if hasattr(model, "pre_classifier"):
        return lambda rows: model.classifier(torch.relu(model.pre_classifier(rows)))
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is not None:
        return lambda rows: model.classifier(pooler(rows.unsqueeze(1)))
    return lambda rows: model.classifier(rows.unsqueeze(1))
