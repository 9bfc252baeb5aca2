"""The page of the gateway's traffic: plots and sums of the last hour, day and 30 days, as the gateways count them."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from starlette.responses import Response

from ecotone.accounts import Project, bears
from ecotone.gateway.history import SPANS, Amount, History, Step
from ecotone.vocabulary import Forbidden
from ecotone.web.endpoint import Visit
from ecotone.web.time_plots import MOST_SERIES, Numbers, Plot, time_plot

SPAN_WORDS = {"hour": "Last hour", "day": "Last day", "month": "Last 30 days"}
KINDS = ("project", "route", "backend")
_NOTHING = {"project": "no project", "route": "no route", "backend": "no backend"}
_PICO = 10**12
_MOST_ROWS = 60
_FRESH_SECONDS = 5.0
_REST = "all others"


@dataclass(frozen=True, slots=True)
class Row:
    """One project, route or backend: what was counted of it in the whole span."""

    name: str
    shown: str
    amount: Amount


def visible_projects(visit: Visit) -> frozenset[str] | None:
    """The projects whose traffic a visitor may see; None is all.

    Raises:
        Forbidden: for whoever may see none.
    """
    actor = visit.actor
    if actor.is_admin:
        return None
    projects: list[Project] = visit.services.accounts.projects() if actor.kind == "user" else []
    own = [p.name for p in projects if any(bears(actor, name) for name in (p.created_by, *p.bounds.owners))]
    if not own:
        raise Forbidden(
            "Traffic is shown to administrators, and to users the traffic of projects that they made or own."
        )
    return frozenset(own)


def show(visit: Visit) -> Response:
    """GET /ecotone/traffic?span=hour|day|month&by=project|route|backend&project=&route=&backend="""
    projects = visible_projects(visit)
    span = visit.query.get("span", "hour") if visit.query.get("span") in SPANS else "hour"
    by = visit.query.get("by", "project") if visit.query.get("by") in KINDS else "project"
    only = {kind: value for kind in KINDS if (value := visit.query.get(kind, "")[:200])}
    visit.services.watch.gather()
    history: History = visit.services.watch.history
    now = time.time()
    steps = list(history.steps(span, now, by=by, projects=projects, only=only))
    total = _sum(step.all for step in steps)
    rows = _rows(steps, by)
    return visit.page(
        "traffic.html",
        span=span,
        spans=SPAN_WORDS,
        by=by,
        kinds=KINDS,
        only=only,
        names=history.names(span, projects=projects),
        told={"span": span, "by": by, **only},
        total=total,
        rows=rows[:_MOST_ROWS],
        left_out=len(rows) - _MOST_ROWS,
        plots=_plots(steps, [row.name for row in rows], by, now) if total.requests else [],
        open_calls=visit.services.watch.totals.open if projects is None else None,
        share=share,
        both=both,
        usd=usd,
    )


def _rows(steps: Sequence[Step], by: str) -> list[Row]:
    found: dict[str, Amount] = {}
    for step in steps:
        for name, amount in step.by.items():
            found.setdefault(name, Amount()).add(amount.numbers)
    rows = [Row(name, name or _NOTHING[by], amount) for name, amount in found.items()]
    return sorted(rows, key=lambda row: (-row.amount.requests, row.name))


def _plots(steps: Sequence[Step], names: Sequence[str], by: str, now: float) -> list[Plot]:
    times = [step.at for step in steps]
    lasted = [max(_FRESH_SECONDS, min(step.seconds, now - step.at)) for step in steps]
    each = partial(_each, steps, names, _NOTHING[by], lasted)
    tokens: list[tuple[str, Numbers]] = [
        ("in", [step.all.tokens_in / t for step, t in zip(steps, lasted, strict=True)]),
        ("out", [step.all.tokens_out / t for step, t in zip(steps, lasted, strict=True)]),
    ]
    first: list[tuple[str, Numbers]] = [(f"p{p}", [s.all.first(p / 100) for s in steps]) for p in (50, 95)]
    whole: list[tuple[str, Numbers]] = [(f"p{p}", [s.all.whole(p / 100) for s in steps]) for p in (50, 95)]
    return [
        time_plot("requests", "Requests a second", times, each(lambda a: a.requests), number),
        time_plot("errors", "Errors a minute", times, each(lambda a: 60 * a.errors), number),
        time_plot("first", "Time to the first byte", times, first, seconds),
        time_plot("whole", "Time to the last byte", times, whole, seconds),
        time_plot("tokens", "Tokens a second", times, tokens, number),
        time_plot("spend", "Spend, USD an hour", times, each(lambda a: 3600 * a.cost / _PICO), number),
    ]


def _each(
    steps: Sequence[Step],
    names: Sequence[str],
    nothing: str,
    lasted: Sequence[float],
    of: Callable[[Amount], float],
) -> list[tuple[str, Numbers]]:
    """A figure a second for each of the largest names; what is left of the others in one line more."""
    shown = list(names) if len(names) <= MOST_SERIES else list(names[: MOST_SERIES - 1])
    lines: list[tuple[str, Numbers]] = []
    none = Amount()
    for name in shown:
        values = [of(step.by.get(name, none)) / t for step, t in zip(steps, lasted, strict=True)]
        lines.append((name or nothing, values))
    if len(shown) < len(names):
        kept = frozenset(shown)
        rest = [
            sum(of(amount) for name, amount in step.by.items() if name not in kept) / t
            for step, t in zip(steps, lasted, strict=True)
        ]
        lines.append((_REST, rest))
    return lines


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = Amount()
    for amount in amounts:
        total.add(amount.numbers)
    return total


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent."""
    if not whole or not part:
        return "0 %"
    found = 100 * part / whole
    return f"{found:.0f} %" if found >= 10 else f"{found:.1f} %" if found >= 0.1 else "< 0.1 %"


def seconds(value: float | None) -> str:
    """A time as people read it; nothing for none."""
    if value is None:
        return ""
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s"


def both(quantile: Callable[[float], float | None]) -> str:
    """p50 / p95 of an amount's times; nothing without any."""
    return f"{seconds(quantile(0.5))} / {seconds(quantile(0.95))}" if quantile(0.5) is not None else ""


def number(value: float) -> str:
    """A rate or a count in at most four letters or so: 0.25, 12, 3.4K."""
    for power, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= power:
            return f"{value / power:.3g}{letter}"
    return f"{value:.3g}" if value >= 0.01 or value == 0 else f"{value:.1g}"


def usd(pico: int | None) -> str:
    """10^-12 USD as dollars; what is below a cent keeps two digits."""
    if pico is None:
        return "not known"
    value = pico / _PICO
    if value == 0:
        return "0"
    if value >= 0.01:
        return f"{value:,.2f}" if value >= 1 else f"{value:.4f}"
    return f"{Decimal(f'{value:.2g}'):f}"
