"""The form that asks "may I?": what a visitor chose, and the use that it means. Pure; decides nothing.

The form is a plain GET form. What a verdict lacks, the form asks for, each by the name of its variable.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

from ecotone.licences import Decision
from ecotone.vocabulary import Mode, Purpose, Tier

_Closed = TypeVar("_Closed", Mode, Purpose)

MODES = (
    (Mode.RUN, "run it"),
    (Mode.SERVE_API, "serve it to others"),
    (Mode.EMBED_PRODUCT, "ship it in a product"),
    (Mode.FINETUNE, "fine-tune it"),
    (Mode.QUANTISE, "quantise it"),
    (Mode.PUBLISH_WEIGHTS, "publish a fine-tune of it"),
    (Mode.TRAIN_ON_OUTPUTS, "train on its outputs"),
    (Mode.PUBLISH_OUTPUTS, "publish its outputs"),
)
PURPOSES = (
    (Purpose.COMMERCIAL, "commercially"),
    (Purpose.INTERNAL_COMMERCIAL, "inside a company"),
    (Purpose.NONCOMMERCIAL, "without commerce"),
    (Purpose.RESEARCH, "for research"),
)
_CHOICES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "account.tier": tuple((tier.value, tier.value.replace("_", " ")) for tier in Tier),
    "target_model": (
        ("same_family", "of the same family"),
        ("other_llm", "another language model"),
        ("similar", "a similar model"),
        ("classifier_internal", "a classifier for use inside"),
    ),
    "actor": (
        ("company", "a company"),
        ("individual", "a person"),
        ("recipient_of_integrated_product", "who got it inside a product"),
    ),
}
_PLACES = {
    "territory": "Countries (DE, FR)",
    "org.domicile": "Domicile (DE)",
    "org.principal_place": "Main place of business",
}
_NUMBERS = {
    "org.annual_revenue": "Revenue, USD a year",
    "product.monthly_revenue": "Product's revenue, USD a month",
}
_LABELS = {"account.tier": "Account", "target_model": "To make", "actor": "I am"}
_MONTH = re.compile(r"org\.mau_at\.(\d{4})-(\d{2})\Z")
_COUNTED = re.compile(r"(?:org|product)\.[a-z_]{1,40}\Z")
_PLACE = re.compile(r"[A-Za-z]{2}|EEA|eea|worldwide")
_MOST_FIELDS = 6
_MOST_QUERY = 30
_ALWAYS = ("territory",)
_TOLD_AS_USERS = ("org.mau", "product.mau")


@dataclass(frozen=True, slots=True)
class Field:
    """A further variable that the form asks for. `options` are its choices; without any it is written."""

    name: str
    label: str
    value: str
    numeric: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen in the form; `mode` and `purpose` are None while nothing was asked."""

    mode: Mode | None
    purpose: Purpose | None
    users: str
    variables: dict[str, Any]
    told: dict[str, str]
    modes: tuple[tuple[str, str], ...] = MODES
    purposes: tuple[tuple[str, str], ...] = PURPOSES

    @property
    def use(self) -> tuple[Mode, Purpose] | None:
        return (self.mode, self.purpose) if self.mode is not None and self.purpose is not None else None


def chosen(query: Mapping[str, str]) -> Choices:
    """What the query of a page asks; nonsense counts as not told."""
    users = query.get("users", "").strip()[:15]
    count = _number(users)
    variables: dict[str, Any] = {} if count is None else dict.fromkeys(_TOLD_AS_USERS, count)
    told: dict[str, str] = {}
    for name, text in list(query.items())[:_MOST_QUERY]:
        value = _value(name, text.strip()[:60])
        if value is not None:
            variables[name], told[name] = value, text.strip()[:60]
    return Choices(_member(Mode, query.get("mode")), _member(Purpose, query.get("purpose")), users, variables, told)


def fields(choices: Choices, decisions: Iterable[Decision]) -> list[Field]:
    """What the form asks beside mode, purpose and users: what was told, and what verdicts lack."""
    missing = (m.what for decision in decisions for m in decision.missing)
    names = [n for n in dict.fromkeys([*_ALWAYS, *choices.told, *missing]) if n not in _TOLD_AS_USERS]
    found = [_field(name, choices.told.get(name, "")) for name in names if _is_askable(name)]
    return found[:_MOST_FIELDS]


def _field(name: str, value: str) -> Field:
    if name in _CHOICES:
        return Field(name, _LABELS[name], value, options=_CHOICES[name])
    if name in _PLACES:
        return Field(name, _PLACES[name], value)
    month = _MONTH.match(name)
    if month:
        return Field(name, f"Users in {_month(month)}", value, numeric=True)
    return Field(name, _NUMBERS.get(name, name), value, numeric=True)


def _month(found: re.Match[str]) -> str:
    year, month = int(found[1]), int(found[2])
    return date(max(year, 1), month, 1).strftime("%b %Y") if 1 <= month <= 12 else f"{found[1]}-{found[2]}"


def _is_askable(name: str) -> bool:
    return name in _CHOICES or name in _PLACES or bool(_MONTH.match(name) or _COUNTED.match(name))


def _value(name: str, text: str) -> Any:
    """The value of a variable as told, None for anything that tells nothing."""
    if name in _CHOICES:
        return text if any(text == value for value, _ in _CHOICES[name]) else None
    if name in _PLACES:
        places = [p.upper() if len(p) < 4 else p for p in re.split(r"[\s,;]+", text) if _PLACE.fullmatch(p)]
        if name == "territory":
            return places or None
        return places[0] if places else None
    return _number(text) if _is_askable(name) else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _member(closed: type[_Closed], text: str | None) -> _Closed | None:
    try:
        return closed(text or "")
    except ValueError:
        return None
