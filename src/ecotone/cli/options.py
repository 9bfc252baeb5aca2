"""Options that many commands share, with one wording."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ecotone import vocabulary

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout")]
Mode = Annotated[vocabulary.Mode, typer.Option("--mode", help="What is done with the model")]
Purpose = Annotated[vocabulary.Purpose, typer.Option("--purpose", help="What it is done for")]
Users = Annotated[int | None, typer.Option("--users", help="Today's monthly users of organisation and product", min=0)]
Revenue = Annotated[float | None, typer.Option("--revenue", help="Annual revenue in USD", min=0)]
Territory = Annotated[
    list[str] | None, typer.Option("--territory", help="Country (DE), EU, EEA or worldwide; repeatable")
]
Variables = Annotated[
    list[str] | None, typer.Option("--set", metavar="VAR=VALUE", help="Another fact of the use, e.g. modified=true")
]

Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="PATTERN", help="A name, or the beginning of one and a star: openai/*; repeatable"),
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", metavar="CIDR", help="It may be used from, e.g. 10.0.0.0/8; repeatable")
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Stands on each of its requests; repeatable")]
Requests = Annotated[int | None, typer.Option("--requests", help="Requests in a minute", min=0)]
Tokens = Annotated[int | None, typer.Option("--tokens", help="Tokens in a minute, in and out", min=0)]
Concurrent = Annotated[int | None, typer.Option("--concurrent", help="Requests at once", min=0)]
Budgets = Annotated[
    list[str] | None, typer.Option("--budget", metavar="AMOUNT/WINDOW", help="e.g. 50USD/month; one for each window")
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def seconds_of(text: str) -> int:
    """Seconds of a duration such as 90s, 24h or 30d."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: a number and s, m, h, d or w is expected, e.g. 24h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def end_of(text: str | None) -> str | None:
    """The moment that a duration from now, a date or a date with time and zone names; None for `never`."""
    if text is None or text.strip().lower() == "never":
        return None
    if _DURATION.fullmatch(text.strip()):
        try:
            return (datetime.now(UTC) + timedelta(seconds=seconds_of(text))).isoformat(timespec="seconds")
        except OverflowError:
            raise typer.BadParameter(f"{text!r} ends after all calendars; say never") from None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no end: a duration (30d), a date (2027-01-31), or never is expected"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def variables_of(pairs: list[str] | None) -> dict[str, object]:
    """`VAR=VALUE` pairs; a value that is JSON (true, 3, ["DE"]) is taken as such, anything else as text."""
    import json

    found: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--set takes VAR=VALUE, e.g. org.mau=1000; got {pair!r}")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def lists_of(names: list[str] | None, known: tuple[str, ...]) -> list[str]:
    """Names of lists to empty."""
    for name in names or []:
        if name not in known:
            raise typer.BadParameter(f"--clear takes {', '.join(known)}; got {name!r}")
    return names or []
