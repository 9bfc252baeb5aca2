"""What a caller is told when a limit or a budget refuses: which scope, which limit, when it opens again."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ecotone.gateway.accounts import MONEY, Account, Bucket, is_backends
from ecotone.gateway.answers import Refusal
from ecotone.gateway.rates import rate_fields
from ecotone.gateway.windows import FOREVER

_UNIT = Decimal(10) ** 12
_SOON = 0.05
_RECORDED = ("scope", "value", "window", "opens", "budget")


class NotLeased(Refusal):
    """A slice of the limit is on its way from the coordinator; trying again in a moment may pass."""


def spent_up(account: Account, cost: int) -> Refusal:
    """429 that no waiting helps: the budget does not hold what the call may cost."""
    opens = _opens(account)
    held = account.held
    reserved = f", {usd(held)} are reserved by calls that run" if held > 0 else ""
    again = f"it opens again at {opens}" if opens else "it does not open again by itself"
    where = f"{usd(account.spent)} are spent{reserved}"
    if account.leased:
        where = "all is spent, or reserved by calls and gateway processes that run"
    text = (
        f"The budget of {named(account.scope)} has not enough left: of {usd(account.limit)} USD ({_window(account)}) "
        f"{where}, and this call may cost {usd(cost)} USD; {again}. "
        "Set a smaller max_tokens, or ask an administrator for a larger budget."
    )
    if cost > account.limit:
        text = (
            f"This call may cost {usd(cost)} USD, more than the whole budget of {named(account.scope)}: "
            f"{usd(account.limit)} USD ({_window(account)}). Set a smaller max_tokens, or ask an administrator for a "
            "larger budget."
        )
    return _exceeded(account, text, opens)


def outgrown(account: Account) -> Refusal:
    """429: an answer became longer than what was reserved for it, and its budget holds no more."""
    text = (
        f"The answer is longer than what was reserved for it, and the budget of {named(account.scope)} has nothing "
        f"left for the rest ({usd(account.limit)} USD, {_window(account)}): it is cut here. Set max_tokens, or ask an "
        "administrator for a larger budget."
    )
    return _exceeded(account, text, _opens(account))


def _exceeded(account: Account, text: str, opens: str | None) -> Refusal:
    told = _told(account.scope, "budget", account.limit, opens) | {"window": account.window, "budget": account.id}
    return Refusal(429, "budget_exceeded", text, ecotone=told, headers={"x-should-retry": "false"})


def _opens(account: Account) -> str | None:
    """When a budget opens again; None for never."""
    return None if account.ends == FOREVER else _time(account.ends)


def unpriced(account: Account) -> Refusal:
    """429: what the call costs is not known, so no budget can answer for it."""
    told = _told(account.scope, "budget", account.limit, None) | {"window": account.window, "price": "unknown"}
    text = _unpriced(account.scope, "this model", "BACKEND/MODEL")
    return Refusal(429, "price_unknown", text, ecotone=told, headers={"x-should-retry": "false"})


def about(refusal: Refusal, model: str) -> Refusal:
    """A refusal that names the model whose price is not known, which a route's name does not tell."""
    if refusal.code == "price_unknown":
        refusal.ecotone["model"] = model
        refusal.message = _unpriced(str(refusal.ecotone["scope"]), model, model)
    return refusal


def budget_of(refusal: Refusal) -> dict[str, Any]:
    """What a record tells of the budget that refused: its scope, amount, window, when it opens again (UTC, or None)."""
    return {name: refusal.ecotone[name] for name in _RECORDED if name in refusal.ecotone}


def _unpriced(scope: str, model: str, name: str) -> str:
    return (
        f"The price of {model} is not known, and {named(scope)} has a budget, which only calls with a known price may "
        f"draw on. An administrator sets it with `ecotone price set {name} --input USD --output USD`, or with `--free` "
        "in place of both for a server that takes no money."
    )


def too_fast(scope: str, kind: str, limit: int, wait: float, left: int = 0) -> Refusal:
    """429: the rate has no room yet; so many are left of it."""
    text = (
        f"{_capital(named(scope))} may use {limit} {kind} a minute, which are used; try again in {_seconds(wait)} "
        "seconds."
    )
    headers = _after(wait)
    if not is_backends(scope):
        headers |= rate_fields(kind, limit, min(left, limit))
    return Refusal(429, "rate_limit_exceeded", text, ecotone=_told(scope, kind, limit, None), headers=headers)


def never(counted: Bucket | Account) -> Refusal:
    """429 that no waiting helps: the limit is 0."""
    text = f"{_capital(named(counted.scope))} may use no {counted.kind}: its limit is {counted.limit} a minute."
    told = _told(counted.scope, counted.kind, counted.limit, None)
    return Refusal(429, "rate_limit_exceeded", text, ecotone=told, headers={"x-should-retry": "false"})


def too_many(scope: str, limit: int) -> Refusal:
    """429: all slots are taken."""
    text = f"{_capital(named(scope))} may have {limit} requests running at once, and has; try again when one has ended."
    told = _told(scope, "concurrent", limit, None)
    return Refusal(429, "concurrency_limit_exceeded", text, ecotone=told, headers=_after(1.0))


def closed(template: str, most: int) -> Refusal:
    """429: more users or tags than are counted apart."""
    scope = template[:-2]
    text = (
        f"More than {most} different values were used for {scope!r}, which has a limit for each of its own; no further "
        "one is taken until the windows of others end."
    )
    return Refusal(
        429, "too_many_individuals", text, ecotone=_told(scope, "individuals", most, None), headers=_after(60.0)
    )


def not_leased(account: Account) -> NotLeased:
    """429 for a moment: the slice is asked for."""
    text = f"A slice of the limit of {named(account.scope)} is being fetched; try again at once."
    told = _told(account.scope, account.kind, account.limit, None)
    return NotLeased(429, "rate_limit_exceeded", text, ecotone=told, headers=_after(_SOON))


def lost(account: Account) -> Refusal:
    """503: the slice is used and nobody can be asked for another."""
    text = (
        f"This gateway has used its slice of the limit of {named(account.scope)} and cannot reach the coordinator that "
        "hands out more; try again later."
    )
    told = _told(account.scope, account.kind, account.limit, None)
    return Refusal(503, "limits_unreachable", text, ecotone=told, headers=_after(5.0))


def named(scope: str) -> str:
    """A scope in words."""
    kind, _, name = scope.partition(":")
    for mark, word in (("/user:", "user"), ("/tag:", "tag")):
        project, found, one = name.partition(mark)
        if found:
            return f"the {word} {one!r} of the project {project}"
    return f"the {kind} {name}" if name else f"the {kind}"


def usd(amount: int) -> str:
    """10^-12 USD as a decimal figure in USD, exact."""
    text = f"{Decimal(amount) / _UNIT:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _told(scope: str, limit: str, value: int, opens: str | None) -> dict[str, Any]:
    return {
        "scope": scope,
        "limit": limit,
        "value": usd(value) + " USD" if limit == "budget" else value,
        "opens": opens,
    }


def _window(account: Account) -> str:
    return "in total" if account.ends == FOREVER or account.kind is not MONEY else account.window


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _after(wait: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(wait))), "retry-after-ms": str(max(1, math.ceil(wait * 1000)))}


def _seconds(wait: float) -> str:
    return f"{max(wait, 0.001):.3f}".rstrip("0").rstrip(".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
