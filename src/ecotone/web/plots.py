"""Measurements with their plots. Knows how a page holds an SVG; `audits` knows how to draw it."""

from dataclasses import dataclass

from markupsafe import Markup

from ecotone.audits import plot
from ecotone.catalog import Measurement


@dataclass(frozen=True, slots=True)
class Plotted:
    """A measurement with its plot, trusted markup made by `audits` from numbers and escaped names."""

    measurement: Measurement
    svg: Markup


def plotted(measurements: list[Measurement], most: int = 12) -> list[Plotted]:
    """The newest measurements of each suite and revision, drawn."""
    found: dict[tuple[str, str], Measurement] = {}
    for measurement in measurements:
        found.setdefault((measurement.suite, measurement.revision), measurement)
    return [Plotted(m, Markup(plot(m))) for m in list(found.values())[:most]]  # noqa: S704
