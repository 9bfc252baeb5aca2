"""Searching long texts in steps, so that a thread that looks through megabytes lets others run in between.

One call of `re` holds the interpreter to its end; here none sees more than a window. Only for patterns whose matches,
with what they look ahead at, are no longer than `reach`.
"""

import re
from collections.abc import Iterator
from typing import AnyStr, Final

WINDOW: Final = 65_536


def first(pattern: re.Pattern[AnyStr], text: AnyStr, place: int, reach: int) -> re.Match[AnyStr] | None:
    """What `pattern.search(text, place)` gives."""
    length = len(text)
    while length - place > WINDOW:
        edge = place + WINDOW
        hit = pattern.search(text, place, edge + reach)
        if hit is not None and hit.start() < edge:
            return hit
        place = edge
    return pattern.search(text, place)


def each(pattern: re.Pattern[AnyStr], text: AnyStr, reach: int) -> Iterator[re.Match[AnyStr]]:
    """What `pattern.finditer(text)` gives, for a pattern that never matches nothing."""
    return pattern.finditer(text) if len(text) <= WINDOW else _each(pattern, text, reach)


def _each(pattern: re.Pattern[AnyStr], text: AnyStr, reach: int) -> Iterator[re.Match[AnyStr]]:
    hit = first(pattern, text, 0, reach)
    while hit is not None:
        yield hit
        hit = first(pattern, text, hit.end(), reach)


def onwards(pattern: re.Pattern[AnyStr], text: AnyStr, place: int) -> int:
    """Where the repeats of a pattern from a place on end; each match takes a bounded number of them."""
    while (more := pattern.match(text, place)) is not None and more.end() > place:
        place = more.end()
    return place
