"""Templates and how values look on a page. Everything is escaped; only `Markup` from `cards` and `plots` passes."""

import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ecotone.catalog import Model
from ecotone.vocabulary import ModelKind
from ecotone.web import static

FOLDER = Path(__file__).with_name("templates")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COUNTS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "size": size,
        "count": count,
        "day": lambda when: _time(when, day(when)),
        "moment": lambda when: _time(when, moment(when)),
        "words": words,
        "marks": marks,
        "quoted": lambda text: quote(str(text), safe="/"),
        "segment": lambda text: quote(str(text), safe=""),
    }
    made.globals |= {"static": static.address, "zone": zone, "zone_word": zone_word}
    return made


def render(template: str, **context: Any) -> str:
    """A template of `templates/` as text."""
    return _environment().get_template(template).render(**context)


def size(number: int) -> str:
    """Bytes in decimal units, as disks and networks count: 91234567 -> 91.2 MB."""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{number} bytes" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def count(number: int) -> str:
    """A number of parameters: 22713216 -> 22.7M."""
    for unit, letter in _COUNTS:
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)


def day(when: datetime | None) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d") if when else ""


def moment(when: datetime | None) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if when else ""


def _time(when: datetime | None, shown: str) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(), shown) if when else Markup("")


def marks(text: str) -> str:
    """Text with invisible marks of direction made visible, so that it reads in the order in which it stands."""
    return _DIRECTIONS.sub(lambda mark: f"[U+{ord(mark[0]):04X}]", text)


def words(name: Any) -> str:
    """A word of the vocabulary as people read it: `allow_with_duties` -> allow with duties."""
    return str(name).replace("_", " ")


def zone(model: Model) -> str:
    """On which side of the catalogue a model stands, in a word; a name without a model stands on neither."""
    if model.head is None and model.facts.get("availability") == "never_published":
        return "none"
    return "proprietary" if model.kind is ModelKind.API else "open"


def zone_word(model: Model) -> str:
    return {"none": "No model published", "proprietary": "Proprietary", "open": "Open weights"}[zone(model)]
