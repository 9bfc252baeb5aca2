"""What is computed of a text, and the text as the computing thread takes it. Knows no model."""

import enum
from collections.abc import Sequence
from typing import Any

import numpy


class Head(enum.StrEnum):
    """Which of a model's outputs is wanted of a text; each gives one float32 array."""

    VECTOR = "vector"  # [width], normalised if the model does so
    POOLED = "pooled"  # [width], as it comes from pooling
    MASKS = "masks"  # [places, vocabulary]: logits at the text's places
    LABELS = "labels"  # [labels]: logits of the whole text
    TOKEN_LABELS = "token labels"  # [tokens, labels]
    SPANS = "spans"  # [tokens, 2]: logits of an answer's start and end


class Text:
    """One sequence: token ids, their types (None: all of the first), and what is wanted of it."""

    __slots__ = ("head", "ids", "places", "types")

    def __init__(
        self, ids: Sequence[int], head: Head, types: Sequence[int] | None = None, places: Sequence[int] = ()
    ) -> None:
        self.ids = ids
        self.types = types
        self.head = head
        self.places = places

    def __len__(self) -> int:
        return len(self.ids)


Found = numpy.ndarray[Any, Any]
