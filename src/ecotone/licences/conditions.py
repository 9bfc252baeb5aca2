"""Conditions as data, evaluated in Kleene's strong three-valued logic: True, False, or None for unknown.

`{all: [..]}`, `{any: [..]}`, `{not: ..}`, `{var, op, value}`. A comparison with a variable that the use does not tell
is unknown, and the variable is remembered as missing. Variables that only terminate (a suit, an ended licence) and the
tags of special uses default to "no", and that assumption is remembered too.
"""

from collections.abc import Mapping
from typing import Any

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not_in", "overlaps", "before", "after")

ASSUMED: Mapping[str, Any] = {
    "ip_suit_over_materials_or_outputs": False,
    "patent_suit_over_work": False,
    "copyright_suit_over_work": False,
    "licence_ended": False,
    "use_tags": [],
    "trademark_use": "none",
    "actor": "licensee",
}
_EUROPE = frozenset(
    "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE".split()  # noqa: SIM905
)
GROUPS: Mapping[str, frozenset[str]] = {"EU": _EUROPE, "EEA": _EUROPE | {"IS", "LI", "NO"}}


class Facts:
    """The variables of one evaluation; remembers which were missing and which assumed."""

    __slots__ = ("assumed", "missing", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.missing: dict[str, None] = {}
        self.assumed: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The value, or None when unknown."""
        found = self.values.get(name)
        if found is None and name in ASSUMED:
            found = self.assumed[name] = ASSUMED[name]
        return found


def holds(condition: Any, facts: Facts) -> bool | None:
    """The truth of a condition under the facts; an absent condition is true."""
    if condition is None:
        return True
    if "var" in condition:
        return _compare(condition, facts)
    if "not" in condition:
        inner = holds(condition["not"], facts)
        return None if inner is None else not inner
    if "all" in condition:
        return conjunction(holds(part, facts) for part in condition["all"])
    return disjunction(holds(part, facts) for part in condition["any"])


def conjunction(values: Any) -> bool | None:
    """Kleene's and: false wins over unknown, unknown over true. All parts are looked at, so none missing is lost."""
    found: bool | None = True
    for value in values:
        if value is False:
            found = False
        elif value is None and found is not False:
            found = None
    return found


def disjunction(values: Any) -> bool | None:
    """Kleene's or: true wins over unknown, unknown over false."""
    found: bool | None = False
    for value in values:
        if value is True:
            found = True
        elif value is None and found is not True:
            found = None
    return found


def variables(condition: Any) -> set[str]:
    """Every variable that a condition reads."""
    if not condition:
        return set()
    if "var" in condition:
        return {condition["var"]}
    inner = [condition["not"]] if "not" in condition else condition.get("all") or condition.get("any") or []
    return set().union(*(variables(part) for part in inner))


def _compare(condition: Any, facts: Facts) -> bool | None:
    name, operator, wanted = condition["var"], condition["op"], condition["value"]
    value = facts.get(name)
    if value is None:
        facts.missing[name] = None
        return None
    try:
        return bool(_OPERATIONS[operator](value, wanted))
    except TypeError:  # a value of another kind than the text speaks of tells nothing
        facts.missing[name] = None
        return None


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _overlaps(value: Any, wanted: Any) -> bool:
    """Whether two sets share a member; a country group contains its countries and overlaps them."""
    return bool(_expand(_list(value)) & _expand(_list(wanted)))


def _expand(items: list[Any]) -> set[Any]:
    found = set(items)
    for item in items:
        found |= GROUPS.get(item, frozenset()) if isinstance(item, str) else frozenset()
    return found


_OPERATIONS: Mapping[str, Any] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: bool(_expand(_list(a)) & _expand(_list(b))),
    "not_in": lambda a, b: not _expand(_list(a)) & _expand(_list(b)),
    "overlaps": _overlaps,
    "before": lambda a, b: str(a) < str(b),
    "after": lambda a, b: str(a) > str(b),
}
