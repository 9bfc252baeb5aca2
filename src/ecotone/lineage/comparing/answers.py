"""What comparisons answer: checks with their figures, and what they say together."""

import math
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from ecotone.vocabulary import Relation

UNSEEN: Final = (
    "Weights do not show distillation or training on a model's outputs; such a model looks independent here."
)


class Related(StrEnum):
    """Whether one set of weights was made from the other, or both from a third."""

    YES = "yes"
    NO = "no"
    UNSURE = "unsure"


class Check(msgspec.Struct, frozen=True):
    """One check.

    Args:
        name: a word for it, `shared_tensors`.
        figure: what was measured; None when it was not computed, `means` says why.
        threshold: what the figure is held against; None when there is none.
        passed: whether the figure speaks for common descent, or for the kind that the check is about; None when it was
            not computed.
        means: a plain sentence.
    """

    name: str
    figure: float | None
    threshold: float | None
    passed: bool | None
    means: str


class Direction(msgspec.Struct, frozen=True):
    """Which of two was made from the other: `first` or `second` as they were given, and the reason."""

    child: Literal["first", "second"]
    why: str


class Likeness(msgspec.Struct, frozen=True):
    """What two fingerprints tell (checks 1 and 2).

    Args:
        related: yes, no or unsure; a permuted or rotated copy is a no here, and found by `compare`.
        shared: share of the child's bytes that lie in tensors which the parent has too, bit for bit.
        cosine: mean over the tensors of equal name, weighted by their size; 0.0 when none can be compared.
        tensors: cosine of each tensor that could be compared, by the child's name.
        grafted: tensors that are (nearly) the parent's, where the rest is not; empty unless that is the finding.
        missing_layers: layers of the parent that the child has not.
        evidence: the checks.
    """

    related: Related
    shared: float
    cosine: float
    tensors: dict[str, float]
    grafted: tuple[str, ...] = ()
    missing_layers: tuple[int, ...] = ()
    evidence: tuple[Check, ...] = ()


class Comparison(msgspec.Struct, frozen=True):
    """What two sets of weights tell (checks 1 to 4).

    Args:
        related: yes, no or unsure.
        relation: what the child is to its parent; None unless they are related and it can be told.
        also: further relations that the same pair shows, such as a fine-tune that was then quantised.
        direction: which one is the child, when the weights tell it.
        likeness: 0 to 1, to rank parents by: the mean cosine after the two were aligned.
        rank: of a merged adapter.
        bits: of a quantised model.
        weights: share of the parent in a merge whose other parent is not known.
        evidence: the checks in the order in which they were made.
    """

    related: Related
    relation: Relation | None = None
    also: tuple[Relation, ...] = ()
    direction: Direction | None = None
    likeness: float = 0.0
    rank: int | None = None
    bits: int | None = None
    weights: dict[str, float] = {}
    evidence: tuple[Check, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """It as plain mappings and lists; figures that are no numbers are null."""
        table: dict[str, Any] = msgspec.to_builtins(self)
        table["note"] = UNSEEN
        return table


class Finding(msgspec.Struct, frozen=True):
    """One explanation of a child: its parents among the candidates, best first.

    Args:
        parents: share of each parent by its id; a single parent has 1.0.
        related: yes or unsure.
        relation: what the child is to them.
        residual: of a merge, the part of the child that its parents leave unexplained, 0 to 1.
        comparison: of a single parent.
    """

    parents: dict[str, float]
    related: Related
    relation: Relation | None
    residual: float | None = None
    comparison: Comparison | None = None


def figure(value: float) -> float | None:
    """A figure for a check, rounded; None for what is no number."""
    return round(float(value), 6) if math.isfinite(value) else None
