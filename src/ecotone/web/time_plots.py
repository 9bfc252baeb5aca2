"""Plots of figures over time as SVG text: no script, nothing fetched, in the page's own colours. Pure.

Series are told apart by colour and by dashes. What a plot shows is also told in its description.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from markupsafe import Markup

MOST_SERIES = 6
_WIDTH, _HEIGHT = 400, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 392, 14, 158
_LINES = 4
_NEXT_TO_NOTHING = 1e-300  # powers of ten below it lose their digits

Numbers = Sequence[float | None]
"""One value for each step; None where nothing was measured."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its heading and the names of its series, in the order of their marks."""

    id: str
    title: str
    svg: Markup
    names: tuple[str, ...]


def time_plot(
    name: str,
    title: str,
    times: Sequence[int],
    series: Sequence[tuple[str, Numbers]],
    told: Callable[[float], str],
) -> Plot:
    """Lines over time.

    Args:
        name: an id that no other plot of the page has.
        times: the begin of each step as `time.time()`.
        series: names with values from 0 up; those beyond `MOST_SERIES` are left out.
        told: a value as a reader reads it.
    """
    series = series[:MOST_SERIES]
    top = nice(max((v for _, values in series for v in values if v is not None), default=0.0))
    parts = [
        f'<svg class="plot over-time" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="t-{name} d-{name}" '
        'font-size="14" fill="currentColor">',
        f'<title id="t-{name}">{escape(title)}</title>',
        f'<desc id="d-{name}">{escape(_description(series, told))}</desc>',
        *_grid(top, told),
        *_clock(times),
    ]
    for number, (_, values) in enumerate(series):
        parts += _line(values, top, number)
    parts.append("</svg>")
    return Plot(name, title, Markup("".join(parts)), tuple(label for label, _ in series))  # noqa: S704


def nice(value: float) -> float:
    """The next of 1, 2, 4, 10, 20 ... that is not below a value; 1 for nothing, and for what is next to nothing."""
    if not value > _NEXT_TO_NOTHING:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 10) if factor * power >= value * (1 - 1e-9))


def _grid(top: float, told: Callable[[float], str]) -> list[str]:
    parts = []
    for number in range(_LINES + 1):
        y = round(_BOTTOM - (_BOTTOM - _TOP) * number / _LINES, 1)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}"/>')
        if number % 2 == 0:
            label = escape(told(top * number / _LINES))
            parts.append(f'<text class="faint" x="{_LEFT - 6}" y="{y + 5}" text-anchor="end">{label}</text>')
    return parts


def _clock(times: Sequence[int]) -> list[str]:
    """Times below the first, the middle and the last step; days when there are many of them."""
    if not times:
        return []
    form = "%d %b" if times[-1] - times[0] > 2 * 86_400 else "%H:%M"
    parts = []
    for place, anchor in ((0, "start"), (len(times) // 2, "middle"), (len(times) - 1, "end")):
        when = datetime.fromtimestamp(times[place], UTC).strftime(form)
        x = _x(place, len(times))
        parts.append(f'<text class="faint" x="{x}" y="{_BOTTOM + 22}" text-anchor="{anchor}">{when}</text>')
    return parts


def _line(values: Numbers, top: float, number: int) -> list[str]:
    parts, run = [], list[str]()
    for place, value in enumerate([*values, None]):
        if value is not None:
            y = _BOTTOM - (_BOTTOM - _TOP) * min(value / top, 1.0)
            run.append(f"{_x(place, len(values))},{round(y, 1)}")
        elif run:
            if len(run) == 1:
                x, y_text = run[0].split(",")
                parts.append(f'<circle class="series-{number}" cx="{x}" cy="{y_text}" r="2.5"/>')
            else:
                parts.append(f'<polyline class="series-{number}" points="{" ".join(run)}"/>')
            run = []
    return parts


def _x(place: int, count: int) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * place / max(1, count - 1), 1)


def _description(series: Sequence[tuple[str, Numbers]], told: Callable[[float], str]) -> str:
    said = []
    for label, values in series:
        known = [value for value in values if value is not None]
        if known:
            said.append(f"{label}: last {told(known[-1])}, highest {told(max(known))}.")
    return " ".join(said) or "Nothing was measured."
