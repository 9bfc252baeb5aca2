"""What a field may hold, as the OpenAPI document says it: told by the patterns and bounds of the rule that checks it.

The rule alone refuses, with its own words; here its pattern is only written as JSON Schema has patterns (ECMA-262).
"""

import re
from typing import Any

import msgspec

MOMENT = re.compile(
    r"(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""RFC 3339 with its zone, as msgspec reads it."""
DAY = re.compile(r"(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
_GROUP = re.compile(r"\(\?P<\w+>")


def schema(pattern: re.Pattern[str], *other: re.Pattern[str], but: str | None = None) -> dict[str, Any]:
    """The schema of a text that one of the patterns fits whole, and that is not `but`."""
    found = "|".join(_written(one) for one in (pattern, *other))
    return {"pattern": f"^(?:{found})$"} | ({} if but is None else {"not": {"const": but}})


def text(pattern: re.Pattern[str], *other: re.Pattern[str], but: str | None = None) -> msgspec.Meta:
    """For `Annotated[str, text(PATTERN)]`."""
    return msgspec.Meta(extra_json_schema=schema(pattern, *other, but=but))


def moment() -> msgspec.Meta:
    """A moment with its zone."""
    return msgspec.Meta(extra_json_schema={"format": "date-time"} | schema(MOMENT))


def word(words: Any) -> msgspec.Meta:
    """One of these words."""
    return msgspec.Meta(extra_json_schema={"enum": list(words)})


def within(least: float, most: float | None = None, *, above: bool = False, below: bool = False) -> msgspec.Meta:
    """A number from `least` to `most`; with `above` and `below` these two are left out."""
    found: dict[str, Any] = {"exclusiveMinimum" if above else "minimum": least}
    if most is not None:
        found["exclusiveMaximum" if below else "maximum"] = most
    return msgspec.Meta(extra_json_schema=found)


def many(most: int, *, least: int = 0, once: bool = False) -> msgspec.Meta:
    """A list of so many; with `once` each different."""
    found: dict[str, Any] = {"maxItems": most} | ({"minItems": least} if least else {})
    return msgspec.Meta(extra_json_schema=found | ({"uniqueItems": True} if once else {}))


def _written(pattern: re.Pattern[str]) -> str:
    found = _GROUP.sub("(?:", pattern.pattern).removesuffix(r"\Z")
    if pattern.flags & re.ASCII:
        found = found.replace(r"\w", "A-Za-z0-9_")
    return found
