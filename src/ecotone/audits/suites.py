"""The registry of suites: a suite is one decorated function from a way to embed texts to a JSON result. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecotone.vocabulary import Invalid


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors of texts, one a row, and the places of texts that the model's vocabulary cannot write."""

    vectors: NDArray[np.float64]
    lost: frozenset[int] = frozenset()


Embed = Callable[[Sequence[str]], Embedded]
Measure = Callable[[Embed, int], dict[str, Any]]


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """A way to measure. `measure(embed, seed)` gives the same result for the same vectors and seed."""

    name: str
    version: str
    title: str
    measure: Measure


_SUITES: dict[str, Suite] = {}


def suite(name: str, *, version: str, title: str) -> Callable[[Measure], Measure]:
    """Register a function as a suite.

    Args:
        version: changes with data or arithmetic: results of two versions are never drawn in one line.
    """

    def register(measure: Measure) -> Measure:
        _SUITES[name] = Suite(name=name, version=version, title=title, measure=measure)
        return measure

    return register


def find(name: str) -> Suite:
    """The suite of that name.

    Raises:
        Invalid: there is none; the message lists those there are.
    """
    if name not in _SUITES:
        raise Invalid(f"There is no suite {name!r}; expected one of {', '.join(sorted(_SUITES))}.", param="suite")
    return _SUITES[name]


def suites() -> list[Suite]:
    return [_SUITES[name] for name in sorted(_SUITES)]
