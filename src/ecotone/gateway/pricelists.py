"""Reads the dated price lists beside this module, one for each provider, written by `tests/gateway/write_prices.py`.

Runs in the server process. A list says where its figures come from and when; a name is found only as it is listed, or
as OpenAI's form of a fine-tuned model, `ft:BASE:...`, whose price is that of `ft:BASE`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ecotone.gateway.prices import Price, Rates

_FOLDER = Path(__file__).with_name("pricelists")
_PER_MILLION = 10**6  # 10^-12 USD per token, of 1 USD per million tokens


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices in USD per million tokens as decimal figures; `request` is per request.

    What is absent costs what it would without a cache: a cached token as much as another of the prompt, an hour's cache
    as much as one of five minutes, audio as much as text.
    """

    input: str
    output: str
    cache_read: str | None = None
    cache_write: str | None = None
    cache_write_1h: str | None = None
    input_audio: str | None = None
    output_audio: str | None = None
    request: str = "0"

    def rates(self, above: int = 0) -> Rates:
        """In 10^-12 USD per token, a fraction of that counting as one."""
        write = self.cache_write or self.input
        return Rates(
            units(self.input),
            units(self.output),
            units(self.cache_read or self.input),
            units(write),
            units(self.cache_write_1h or write),
            units(self.input_audio or self.input),
            units(self.output_audio or self.output),
            units(self.request, 10**12),
            above,
        )


class Longer(Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For prompts of more than `above` tokens."""

    above: int


class Scale(Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    longer: tuple[Longer, ...] = ()

    def all(self) -> tuple[Rates, ...]:
        return (self.rates(), *(each.rates(each.above) for each in self.longer))


class Dated(Scale, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price from a day on (absent: since before the list was made), or in some hours of each day (UTC)."""

    valid_from: str | None = None
    hours: tuple[str, str] | None = None
    tiers: dict[str, Scale] = {}

    def fits(self, at: datetime) -> bool:
        if self.valid_from is not None and f"{at:%Y-%m-%d}" < self.valid_from:
            return False
        if self.hours is None:
            return True
        begin, end = self.hours
        clock = f"{at:%H:%M}"
        return begin <= clock < end if begin < end else clock >= begin or clock < end


class Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of a list. `flag` tells where two sources differ, `sold_as` whose list the price was found in."""

    id: str
    names: tuple[str, ...]
    prices: tuple[Dated, ...]
    free: bool = False
    flag: str | None = None
    sold_as: str | None = msgspec.field(name="as", default=None)
    max_input: int | None = None
    max_output: int | None = None
    retires: str | None = None
    abilities: tuple[str, ...] = ()

    def in_force(self, at: datetime) -> Dated:
        """The last that fits the moment; the first where none does."""
        return next((dated for dated in reversed(self.prices) if dated.fits(at)), self.prices[0])


class PriceList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of one provider. `hosts` are patterns of its addresses, with the beginning of a path where it decides."""

    provider: str
    name: str
    hosts: tuple[str, ...]
    source_url: str
    source_package: str
    limits_from: str
    retrieved: str
    models: tuple[Listed, ...]

    def price(self, model: Listed, at: datetime) -> Price:
        """What a model of the list costs at a moment."""
        dated = model.in_force(at)
        since = dated.valid_from or self.retrieved
        hours = f" {dated.hours[0]}-{dated.hours[1]}" if dated.hours else ""
        return Price(
            version=f"{self.provider}/{model.id} {since}{hours} ({self.source_package})",
            free=model.free,
            scale=dated.all(),
            tiers={name: scale.all() for name, scale in dated.tiers.items()},
            max_input=model.max_input,
            max_output=model.max_output,
        )


def units(figure: str, each: int = _PER_MILLION) -> int:
    """A decimal figure in whole units, rounded up."""
    return int((Decimal(figure) * each).to_integral_value(ROUND_CEILING))


def provider_of(url: str) -> str | None:
    """The provider behind a backend's address, None when no list names its host."""
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), parts.path
    for pattern, provider in _hosts():
        wanted, slash, beginning = pattern.partition("/")
        if fnmatchcase(host, wanted) and (not slash or f"{path}/".startswith(f"/{beginning}/")):
            return provider
    return None


@cache
def price_list(provider: str) -> PriceList:
    """A provider's list. Raises FileNotFoundError where there is none."""
    return msgspec.json.decode((_FOLDER / f"{provider}.json").read_bytes(), type=PriceList)


def providers() -> list[str]:
    """All providers with a list."""
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


def listed(provider: str, at: float) -> Mapping[str, Price]:
    """All prices of a provider by the name that a request has, in lower case; at a moment of `time.time()`."""
    found = price_list(provider)
    moment = datetime.fromtimestamp(at, UTC)
    prices = {}
    for model in found.models:
        price = found.price(model, moment)
        prices.update(dict.fromkeys((name.lower() for name in model.names), price))
    return prices


@cache
def _hosts() -> tuple[tuple[str, str], ...]:
    """Patterns of all lists; read from their heads alone, as most lists are never needed."""
    found: list[tuple[str, str]] = []
    for file in sorted(_FOLDER.glob("*.json")):
        with file.open("rb") as opened:
            head: dict[str, Any] = msgspec.json.decode(opened.read(4096).partition(b',\n "models"')[0] + b"}")
        found += [(pattern, head["provider"]) for pattern in head["hosts"]]
    return tuple(sorted(found, key=lambda each: -len(each[0])))
