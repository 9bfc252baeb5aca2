"""What the pages have in common on which administrators manage projects, keys, routes and backends."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from ecotone.gateway import Allowance
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid
from ecotone.web.endpoint import Visit, refuse_keys
from ecotone.web.failures import failure_page
from ecotone.web.sessions import posted

Fields = dict[str, str]
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_LIFETIMES = {"": None, "30": 30, "90": 90, "365": 365}


def managed(
    show: Callable[[Visit], Response], act: Callable[[Visit, Fields], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """An ASGI endpoint that shows a page on GET and takes its forms on POST; administrators only."""

    async def endpoint(request: Request) -> Response:
        try:
            refuse_keys(request.state.actor)
            if request.method == "POST":
                request.state.actor, fields = await posted(request)
                _check(request)
                return await run_in_threadpool(act, Visit(request), fields)
            _check(request)
            return await run_in_threadpool(show, Visit(request))
        except EcotoneError as error:
            return await run_in_threadpool(failure_page, request, error)

    return endpoint


def _check(request: Request) -> None:
    if not request.state.actor.is_admin:
        raise Forbidden("This page is for administrators. Log in with an administrator's token.")


def words_of(text: str) -> tuple[str, ...]:
    """What stands in a field one after another, parted by spaces or commas."""
    return tuple(text.replace(",", " ").split())


def number_of(fields: Fields, name: str, label: str) -> int | None:
    """A whole number; None for an empty field. Raises Invalid."""
    text = fields.get(name, "").replace(",", "").replace(" ", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise Invalid(f"{label} is {fields[name]!r}; a whole number is expected, or nothing.", param=name)
    return int(text)


def decimal_of(fields: Fields, name: str, label: str, usual: float) -> float:
    """A number; what is usual for an empty field. Raises Invalid."""
    text = fields.get(name, "").strip()
    if not text:
        return usual
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{label} is {text!r}; a number is expected, e.g. 2 or 0.5.", param=name)
    return float(text)


def allowance_of(fields: Fields, prefix: str = "") -> Allowance:
    """Limits and budgets as a form tells them."""
    return Allowance(
        requests=number_of(fields, prefix + "requests", "Requests a minute"),
        tokens=number_of(fields, prefix + "tokens", "Tokens a minute"),
        concurrent=number_of(fields, prefix + "concurrent", "Requests at once"),
        budgets=words_of(fields.get(prefix + "budgets", "")),
    )


def told_of(allowance: Allowance, prefix: str = "") -> dict[str, str]:
    """Limits and budgets as the fields of a form hold them."""
    numbers = {name: getattr(allowance, name) for name in ("requests", "tokens", "concurrent")}
    found = {prefix + name: "" if value is None else str(value) for name, value in numbers.items()}
    return found | {prefix + "budgets": ", ".join(allowance.budgets)}


def end_of(fields: Fields) -> datetime | None:
    """When a new key ends: days from now, a date, or never. Raises Invalid."""
    text = fields.get("expires", "").strip()
    if text in _LIFETIMES:
        days = _LIFETIMES[text]
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise Invalid(f"{text!r} is no end; write a date such as 2027-01-31, or nothing for never.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def summary_of(allowance: Allowance) -> str:
    """Limits and budgets in a line."""
    parts: list[Any] = [
        f"{allowance.requests:,} requests/min" if allowance.requests is not None else "",
        f"{allowance.tokens:,} tokens/min" if allowance.tokens is not None else "",
        f"{allowance.concurrent:,} at once" if allowance.concurrent is not None else "",
        *allowance.budgets,
    ]
    return ", ".join(filter(None, parts))
