"""Conditions as data, evaluated in Kleene's strong three-valued logic: True, False, or None for unknown.

`{all: [..]}`, `{any: [..]}`, `{not: ..}`, `{var, op, value}` are compiled once into functions. A comparison with a
variable that the use does not tell, or tells as something the text does not speak of (a word where a number stands, a
number of users below zero, a territory that is no country), is unknown, and the variable is remembered as missing.
Variables that only terminate (a suit, an ended licence) and the tags of special uses default to "no", a product is
taken to contain the model, and that assumption is remembered too.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
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
    "product.access": "contains",
}
_EUROPE = frozenset(
    "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE".split()  # noqa: SIM905
)
GROUPS: Mapping[str, frozenset[str]] = {"EU": _EUROPE, "EEA": _EUROPE | {"IS", "LI", "NO"}}
WORLDWIDE = "WORLDWIDE"
_PLACES = frozenset({"territory", "org.domicile", "org.principal_place"})
_ALIASES: Mapping[str, str] = {"UK": "GB", "WORLD": WORLDWIDE, "GLOBAL": WORLDWIDE}
_COUNTRY = re.compile("[A-Z]{2}")


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


Check = Callable[[Facts], bool | None]


def always(_: Facts) -> bool | None:
    """The absent condition: true."""
    return True


def compiled(condition: Any) -> Check:
    """The function that evaluates a condition; an absent condition is true."""
    if condition is None:
        return always
    if "var" in condition:
        return _comparison(condition["var"], condition["op"], condition["value"])
    if "not" in condition:
        inner = compiled(condition["not"])
        return lambda facts: None if (truth := inner(facts)) is None else not truth
    if "all" in condition:
        return _joined(conjunction, tuple(compiled(part) for part in condition["all"]))
    return _joined(disjunction, tuple(compiled(part) for part in condition["any"]))


def _joined(join: Callable[[Iterable[bool | None]], bool | None], parts: tuple[Check, ...]) -> Check:
    """All parts are looked at; where they decide, what some of them missed does not matter."""

    def check(facts: Facts) -> bool | None:
        known = len(facts.missing)
        truth = join([part(facts) for part in parts])
        if truth is not None and len(facts.missing) > known:
            for name in list(facts.missing)[known:]:
                del facts.missing[name]
        return truth

    return check


def holds(condition: Any, facts: Facts) -> bool | None:
    """The truth of a condition under the facts."""
    return compiled(condition)(facts)


def conjunction(values: Iterable[bool | None]) -> bool | None:
    """Kleene's and: false wins over unknown, unknown over true."""
    found: bool | None = True
    for value in values:
        if value is False:
            found = False
        elif value is None and found is not False:
            found = None
    return found


def disjunction(values: Iterable[bool | None]) -> bool | None:
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


def compared(condition: Any, name: str) -> set[Any]:
    """Every value with which a condition compares a variable."""
    if not condition:
        return set()
    if "var" in condition:
        return set(map(_fold, _list(condition["value"]))) if condition["var"] == name else set()
    inner = [condition["not"]] if "not" in condition else condition.get("all") or condition.get("any") or []
    return set().union(*(compared(part, name) for part in inner))


def _comparison(name: str, operator: str, wanted: Any) -> Check:
    if name in _PLACES:
        compare = _places(operator, wanted)
    elif operator in ("in", "not_in", "overlaps"):
        compare = _members(operator, frozenset(map(_fold, _list(wanted))))
    elif operator in ("before", "after"):
        compare = _dates(operator, wanted)
    elif operator in ("==", "!="):
        compare = _equal(operator, _fold(wanted))
    else:
        compare = _numbers(operator, wanted)

    def check(facts: Facts) -> bool | None:
        value = facts.values.get(name)
        if value is None and name in ASSUMED:
            value = facts.get(name)
        truth = None if value is None else compare(value)
        if truth is None:
            facts.missing[name] = None
        return truth

    return check


def _members(operator: str, wanted: frozenset[Any]) -> Callable[[Any], bool | None]:
    def compare(value: Any) -> bool | None:
        if isinstance(value, str):
            return (value.strip().casefold() in wanted) is not (operator == "not_in")
        try:
            shared = not wanted.isdisjoint(map(_fold, _list(value)))
        except TypeError:  # members that are no plain values
            return None
        return shared is not (operator == "not_in")

    return compare


def _equal(operator: str, wanted: Any) -> Callable[[Any], bool | None]:
    def compare(value: Any) -> bool | None:
        if isinstance(wanted, bool) is not isinstance(value, bool):
            return None
        return (_fold(value) == wanted) is (operator == "==")

    return compare


def _numbers(operator: str, wanted: Any) -> Callable[[Any], bool | None]:
    compare = _ORDER[operator]

    def numbers(value: Any) -> bool | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:  # not a number fails too
            return None
        return compare(value, wanted)

    return numbers


def _dates(operator: str, wanted: Any) -> Callable[[Any], bool | None]:
    limit = datetime.date.fromisoformat(str(wanted))

    def compare(value: Any) -> bool | None:
        try:
            day = datetime.date.fromisoformat(str(value)[:10])
        except ValueError:
            return None
        return day < limit if operator == "before" else day > limit

    return compare


def _places(operator: str, wanted: Any) -> Callable[[Any], bool | None]:
    """Sets of countries: a group stands for its members, worldwide for all; what is no country tells nothing."""
    limit = _expand(_place(item) for item in _list(wanted))

    def compare(value: Any) -> bool | None:
        told = [_place(item) for item in _list(value)]
        shared: bool | None = WORLDWIDE in told or not limit.isdisjoint(_expand(told))
        if not shared and not all(p in GROUPS or _COUNTRY.fullmatch(p) for p in told):
            return None
        return shared is not (operator in ("not_in", "!="))

    return compare


def _place(value: Any) -> str:
    text = str(value).strip().upper()
    return _ALIASES.get(text, text)


def _expand(places: Iterable[str]) -> frozenset[str]:
    found = set(places)
    return frozenset(found.union(*(GROUPS.get(p, frozenset()) for p in found)))


def _fold(value: Any) -> Any:
    return value.strip().casefold() if isinstance(value, str) else value


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}
