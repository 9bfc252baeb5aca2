"""Plots of measurements as SVG text: no script, nothing fetched, in the page's own colours. Pure.

A forest plot: one line for each test with effect size and interval around a line at 0. What it shows is also told in
its description, for readers who do not see it.
"""

import hashlib
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from ecotone.catalog import Measurement

WIDTH = 690
_LEFT, _RIGHT = 16, 530
_ROW = 46
_TOP = 58
_LIMIT = 2.0
_ALPHA = 0.05
_FAINT = 'fill="currentColor" opacity="0.72"'
_MARKS = {  # attributes, not a style sheet: a page's security policy need not allow one
    "line": 'stroke="currentColor" stroke-width="2"',
    "grid": 'stroke="currentColor" stroke-width="1" opacity="0.25"',
    "zero": 'stroke="currentColor" stroke-width="1" opacity="0.8"',
    "clear": 'fill="currentColor" stroke="currentColor" stroke-width="1.5"',
    "open": 'fill="none" stroke="currentColor" stroke-width="1.5"',
}


def plot(measurement: Measurement | Mapping[str, Any]) -> str:
    """The plot of a measurement, an `<svg>` element.

    Args:
        measurement: of any suite whose result lists `tests` with an effect size each, or such a result itself.

    Returns:
        The empty text when there is nothing to draw.
    """
    result = measurement.result if isinstance(measurement, Measurement) else measurement
    tests = [test for test in result.get("tests") or [] if isinstance(test.get("effect_size"), int | float)]
    if not tests:
        return ""
    key = hashlib.sha256(repr([result.get("suite"), result.get("revision"), tests]).encode()).hexdigest()[:10]
    height = _TOP + _ROW * len(tests) + 58
    name = str(result.get("suite", "")).upper()
    title = f"{name} effect sizes with {_percent(result)} intervals"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot forest" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="t-{key} d-{key}" width="{WIDTH}" height="{height}" fill="currentColor" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<title id="t-{key}">{escape(title)}</title>',
        f'<desc id="d-{key}">{escape(_description(tests))}</desc>',
        *_axis(height),
    ]
    for number, test in enumerate(tests):
        parts += _row(test, _TOP + _ROW * number)
    parts += _legend(height, result)
    parts.append("</svg>")
    return "".join(parts)


def _axis(height: int) -> list[str]:
    bottom = height - 52
    parts = [
        f'<text x="{_LEFT}" y="16" {_FAINT}>\u2190 second attribute</text>',
        f'<text x="{_RIGHT}" y="16" text-anchor="end" {_FAINT}>first attribute \u2192</text>',
        f'<text x="{WIDTH - 12}" y="16" text-anchor="end" {_FAINT}>d, p</text>',
    ]
    for value in (-2, -1, 0, 1, 2):
        at = _x(value)
        kind = "zero" if value == 0 else "grid"
        parts.append(f'<line x1="{at}" y1="40" x2="{at}" y2="{bottom}" {_MARKS[kind]}/>')
        parts.append(f'<text x="{at}" y="34" text-anchor="middle">{_signed(value)}</text>')
    return parts


def _row(test: Mapping[str, Any], top: int) -> list[str]:
    size = float(test["effect_size"])
    label = str(test.get("name", ""))
    if test.get("targets") and test.get("attributes"):
        told = re.findall(r"\(([^()]+)\)", label)  # what tells tests on the same words apart stands in brackets
        label = f"{_pair(test['targets'])}: {_pair(test['attributes'])}" + (f" ({', '.join(told)})" if told else "")
    label = " \u00b7 ".join(part for part in (str(test.get("id", "")), label) if part)
    y, at = top + 26, _x(size)
    parts = [f'<text x="{_LEFT}" y="{top + 10}">{escape(label)}</text>']
    bounds = test.get("interval")
    if isinstance(bounds, list | tuple) and len(bounds) == 2:
        low, high = _x(float(bounds[0])), _x(float(bounds[1]))
        parts.append(f'<line x1="{low}" y1="{y}" x2="{high}" y2="{y}" {_MARKS["line"]}/>')
        parts += [f'<line x1="{end}" y1="{y - 4}" x2="{end}" y2="{y + 4}" {_MARKS["line"]}/>' for end in (low, high)]
    kind = "clear" if _is_clear(test) else "open"
    parts.append(f'<path d="M{at} {y - 6}L{at + 6} {y}L{at} {y + 6}L{round(at - 6, 1)} {y}Z" {_MARKS[kind]}/>')
    parts.append(f'<text x="{WIDTH - 12}" y="{y + 4}" text-anchor="end">{_signed(size, 2)}, {escape(_p(test))}</text>')
    return parts


def _legend(height: int, result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Filled: p below {_ALPHA} after Holm's correction for all tests. Line: {_percent(result)} interval.",
        "Right of 0: the first of two targets lies nearer to the first attribute; left: to the second.",
    ]
    return [f'<text x="{_LEFT}" y="{height - 32 + 18 * i}" {_FAINT}>{escape(t)}</text>' for i, t in enumerate(lines)]


def _description(tests: list[Mapping[str, Any]]) -> str:
    said = []
    for test in tests:
        bounds = list(test.get("interval") or [])
        between = f", interval {_signed(bounds[0], 2)} to {_signed(bounds[1], 2)}" if len(bounds) == 2 else ""
        name = test.get("name", test.get("id", ""))
        said.append(f"{name}: {_signed(test['effect_size'], 2)}{between}, {_p(test)}.")
    return " ".join(said)


def _is_clear(test: Mapping[str, Any]) -> bool:
    p = test.get("p_holm", test.get("p_value"))
    return isinstance(p, int | float) and p < _ALPHA


def _p(test: Mapping[str, Any]) -> str:
    p = test.get("p_value")
    if not isinstance(p, int | float):
        return "p not known"
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def _pair(names: Any) -> str:
    return " / ".join(str(name) for name in names) if isinstance(names, list | tuple) else ""


def _percent(result: Mapping[str, Any]) -> str:
    level = result.get("level", 0.95)
    return f"{100 * level:g} %" if isinstance(level, int | float) else "95 %"


def _x(value: float) -> float:
    inside = min(max(float(value), -_LIMIT), _LIMIT)
    return round(_LEFT + (inside + _LIMIT) / (2 * _LIMIT) * (_RIGHT - _LEFT), 1)


def _signed(value: float, digits: int = 0) -> str:
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "\u2212") + text
