"""The prices in force: those that the organisation set itself, else those of the provider's list. In the server."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from ecotone.accounts import Actor
from ecotone.database import Database, alone, utc_now
from ecotone.gateway.price_rows import PriceRow
from ecotone.gateway.pricelists import Figures, listed, price_list, provider_of
from ecotone.gateway.prices import FREE, Price
from ecotone.vocabulary import Forbidden, Invalid, NotFound

MODEL = re.compile(r"[\w.-]{1,96}/(\*|[\w./:@+-]{1,200})")
FIGURE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
_MOST = 10_000


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A price that an administrator set, for `BACKEND/model`, for all of a backend (`BACKEND/*`), or a local model.

    `figures` are USD per million tokens as decimal figures, `request` USD per request. `ended` when another version, or
    none, followed.
    """

    model: str
    version: int
    free: bool
    figures: dict[str, str]
    created: str
    created_by: str
    ended: str | None = None
    ended_by: str | None = None

    def price(self) -> Price:
        name = f"own {self.model} v{self.version}"
        if self.free:
            return Price(version=name, free=True)
        return Price(version=name, scale=(msgspec.convert(self.figures, Figures).rates(),))


class PriceUnknown(NotFound):
    code = "price_unknown"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"No price is known for {model!r}. Under a budget it is refused; `ecotone price set {model}` sets one.",
            param="model",
        )


class PriceBook:
    """Prices of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._made: tuple[Any, dict[str, Price]] = (None, {})

    def set(self, model: str, figures: Mapping[str, str], *, free: bool = False, actor: Actor) -> Override:
        """Set a price; the one before it stays in the history. One that is in force already changes nothing.

        Args:
            model: `BACKEND/model`, `BACKEND/*`, or a local model's id.
            figures: as in `Figures`; `input` and `output` at least, unless it is free.
            free: that it costs nothing; a figure of 0 alone does not say so.

        Raises:
            Forbidden: when the caller is no administrator.
            Invalid: for a bad name or figure.
        """
        if not actor.is_admin:
            raise Forbidden("Only administrators set prices.")
        if not MODEL.fullmatch(model):
            raise Invalid(f"{model!r} is no model: BACKEND/model, BACKEND/*, or namespace/name.", param="model")
        kept = _checked(figures, free=free)
        now = utc_now()
        with self._database.writing() as session:
            alone(session, "prices")
            newest = session.scalars(_rows_of(model)).first()
            if newest is not None and newest.ended is None and (newest.free, newest.figures) == (free, kept):
                return _override(newest)
            count = session.scalar(sa.select(sa.func.count()).select_from(PriceRow)) or 0
            if count >= _MOST:
                raise Invalid(f"There are {_MOST} versions of prices, the most that are kept.")
            before = self._end(session, model, actor, now)
            row = PriceRow(
                model=model,
                version=before + 1,
                free=free,
                figures=kept,
                created=now,
                created_by=actor.name,
                ended=None,
                ended_by=None,
            )
            session.add(row)
        return _override(row)

    def remove(self, model: str, *, actor: Actor) -> None:
        """Go back to the provider's list. Raises PriceUnknown when none was set."""
        if not actor.is_admin:
            raise Forbidden("Only administrators remove prices.")
        with self._database.writing() as session:
            alone(session, "prices")
            if not any(row.ended is None for row in session.scalars(_rows_of(model))):
                raise NotFound(f"No price was set for {model!r}; `ecotone price list` shows all.", param="model")
            self._end(session, model, actor, utc_now())

    def history(self, model: str) -> list[Override]:
        """All versions that were set for a model, newest first."""
        with self._database.reading() as session:
            return [_override(row) for row in session.scalars(_rows_of(model))]

    def list(self) -> list[Override]:
        """What is set and in force."""
        with self._database.reading() as session:
            query = sa.select(PriceRow).where(PriceRow.ended.is_(None)).order_by(PriceRow.model)
            return [_override(row) for row in session.scalars(query)]

    @staticmethod
    def _end(session: Any, model: str, actor: Actor, now: datetime) -> int:
        """End the version that is in force; returns the number of the last one."""
        rows = list(session.scalars(_rows_of(model)))
        for row in rows:
            if row.ended is None:
                row.ended, row.ended_by = now, actor.name
        session.flush()
        return rows[0].version if rows else 0

    # -- for the snapshot --------------------------------------------------------------------------------------------
    def prices(
        self, backends: Sequence[tuple[str, str]], local: Sequence[str], at: float | None = None
    ) -> dict[str, Price]:
        """Every known price by the candidate's name, as `Snapshot.price` looks it up.

        Args:
            backends: names and addresses.
            local: models of local engines, which are free unless a price was set.
            at: `time.time()` of the prices; now.
        """
        at = time.time() if at is None else at
        own = self.list()
        mark = (int(at // 60), tuple(backends), tuple(local), tuple((o.model, o.version) for o in own))
        if mark == self._made[0]:
            return self._made[1]
        found: dict[str, Price] = dict.fromkeys(local, FREE)
        whole = {override.model[:-2] for override in own if override.model.endswith("/*")}
        for name, url in backends:
            provider = provider_of(url)
            if provider is not None and name not in whole:
                found |= {f"{name}/{model}": price for model, price in listed(provider, at).items()}
        for override in own:
            price = override.price()
            found[override.model] = price
            found[override.model.lower()] = price
        self._made = (mark, found)
        return found

    def told(self, model: str, price: Price | None, url: str | None) -> dict[str, Any]:
        """A price with its source, and what was set before; figures that were set for this model as they were written.

        Raises:
            PriceUnknown: when there is none, and never was.
        """
        history = self.history(model)
        if price is None and not history:
            raise PriceUnknown(model)
        shown = described(model, price, url) if price is not None else {"model": model, "known": False}
        own = next((one.figures for one in history if one.ended is None), {})
        return {**shown, **own, "history": history}


def described(model: str, price: Price, url: str | None) -> dict[str, Any]:
    """A price in figures, with where it comes from.

    Args:
        url: of the backend, None for a local model.
    """
    found: dict[str, Any] = {"model": model, "known": True, "version": price.version, "free": price.free}
    found |= _shown(price)
    if price.version.startswith("own "):
        found["source"] = "set by an administrator"
    elif url is not None and (provider := provider_of(url)) is not None:
        book = price_list(provider)
        found |= {"source": book.source_url, "source_package": book.source_package, "retrieved": book.retrieved}
    return found


def _shown(price: Price) -> dict[str, Any]:
    """Figures in USD per million tokens."""
    if price.free:
        return {}
    rates = price.scale[0]
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "input_audio", "output_audio")
    shown: dict[str, Any] = {name: _usd(getattr(rates, name), 6) for name in names}
    shown["request"] = _usd(rates.request, 12)
    shown["longer"] = [
        {"above": r.above, "input": _usd(r.input, 6), "output": _usd(r.output, 6)} for r in price.scale[1:]
    ]
    shown["tiers"] = [
        {"tier": tier, "input": _usd(scale[0].input, 6), "output": _usd(scale[0].output, 6)}
        for tier, scale in sorted(price.tiers.items())
    ]
    return shown


def _usd(units: int, digits: int) -> str:
    whole, rest = divmod(units, 10**digits)
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".")


def _checked(figures: Mapping[str, str], *, free: bool) -> dict[str, str]:
    known = set(Figures.__struct_fields__)
    kept = {name: value for name, value in figures.items() if value is not None}
    for name, value in kept.items():
        if name not in known:
            raise Invalid(f"{name!r} is no part of a price; known: {', '.join(sorted(known))}.", param=name)
        if not isinstance(value, str) or not FIGURE.fullmatch(value):
            raise Invalid(f"{name} is a decimal figure in USD such as '2.50', as text; not {value!r}.", param=name)
    if free and kept:
        raise Invalid("A free model has no figures.", param="free")
    if not free and not {"input", "output"} <= kept.keys():
        raise Invalid("A price has `input` and `output` at least, in USD per million tokens, or is `free`.")
    if not free and not any(float(value) for value in kept.values()):
        raise Invalid("All figures are 0; say `free` when the model costs nothing.", param="free")
    return kept


def _rows_of(model: str) -> Any:
    return sa.select(PriceRow).where(PriceRow.model == model).order_by(PriceRow.version.desc())


def _override(row: PriceRow) -> Override:
    def day(moment: datetime | None) -> str | None:
        return moment.astimezone(UTC).isoformat(timespec="seconds") if moment is not None else None

    return Override(
        model=row.model,
        version=row.version,
        free=row.free,
        figures=dict(row.figures),
        created=day(row.created) or "",
        created_by=row.created_by,
        ended=day(row.ended),
        ended_by=row.ended_by,
    )
