"""sentence-similarity: the cosine between a sentence's vector and those of others."""

from collections.abc import Sequence
from typing import Any

import numpy

from ecotone.engines.server.encoding.engine import Known
from ecotone.engines.server.encoding.texts import Found, Head
from ecotone.engines.server.tasks.work import Asked, Work, bounded, flag, known, wrong


def prepare(asked: Asked, model: Known) -> Work:
    known(asked, "truncate")
    inputs = asked.inputs
    source = inputs.get("source_sentence") if isinstance(inputs, dict) else None
    others = inputs.get("sentences") if isinstance(inputs, dict) else None
    if not isinstance(source, str) or not isinstance(others, list) or not others:
        wrong("inputs", "an object with source_sentence (a string) and sentences (a list of strings)")
    if not all(isinstance(text, str) for text in others):
        wrong("inputs.sentences", "a list of strings")
    bounded(len(others) + 1, "inputs.sentences")
    cut = flag(asked.parameters, "truncate", model.cuts)
    texts = [model.pooling.prompt + text for text in (source, *others)]
    if model.pooling.lower_case:
        texts = [text.lower() for text in texts]

    def answer(results: Sequence[Found]) -> Any:
        rows = numpy.stack(results)
        rows = rows / numpy.maximum(numpy.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return (rows[1:] @ rows[0]).tolist()

    return Work([model.sequences.text(model.sequences.single(text, cut=cut), Head.VECTOR) for text in texts], answer)
