"""Logits to probabilities, over the last axis."""

import numpy

from ecotone.engines.server.encoding.texts import Found


def softmax(logits: Found) -> Found:
    grown: Found = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Found = grown / grown.sum(axis=-1, keepdims=True)
    return found


def sigmoid(logits: Found) -> Found:
    found: Found = 1.0 / (1.0 + numpy.exp(-logits))
    return found
