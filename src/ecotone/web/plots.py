"""Measurements with their plots and figures. Knows how a page holds them; `audits` knows what they mean."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ecotone.audits import plot
from ecotone.catalog import Measurement

_MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class Figure:
    """One test in numbers and in words."""

    name: str
    size: str
    interval: str
    p: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Plotted:
    """A measurement with its plot: trusted markup, made by `audits` from numbers and escaped names.

    `remarks` say how to read it, `criticism` holds (what is said, source) of the method's critics.
    """

    measurement: Measurement
    svg: Markup
    figures: list[Figure]
    unmeasured: list[str]
    remarks: list[str]
    criticism: list[tuple[str, str]]


def plotted(measurements: list[Measurement], most: int = 6) -> list[Plotted]:
    """The newest measurement of each suite and revision, drawn."""
    found: dict[tuple[str, str], Measurement] = {}
    for measurement in measurements:
        found.setdefault((measurement.suite, measurement.revision), measurement)
    return [_plotted(m) for m in list(found.values())[:most]]


def _plotted(measurement: Measurement) -> Plotted:
    result = measurement.result
    return Plotted(
        measurement=measurement,
        svg=Markup(plot(measurement)),  # noqa: S704
        figures=[_figure(test) for test in _dicts(result.get("tests"))[:_MOST_ROWS]],
        unmeasured=[f"{t.get('name', '')}: {t.get('reason', '')}" for t in _dicts(result.get("unmeasured"))],
        remarks=[note for note in result.get("notes") or [] if isinstance(note, str)],
        criticism=[(str(c.get("says", "")), str(c.get("source", ""))) for c in _dicts(result.get("criticism"))],
    )


def _figure(test: dict[str, Any]) -> Figure:
    bounds = test.get("interval")
    between = ""
    if isinstance(bounds, list | tuple) and len(bounds) == 2:
        between = f"{_number(bounds[0])} to {_number(bounds[1])}"
    return Figure(
        name=str(test.get("name") or test.get("id") or ""),
        size=_number(test.get("effect_size")),
        interval=between,
        p=_p(test.get("p_value")),
        meaning=str(test.get("meaning", "")),
    )


def _number(value: Any) -> str:
    return f"{value:+.2f}".replace("-", "\u2212") if isinstance(value, int | float) else ""


def _p(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
