"""The windows of budgets on the wall clock (UTC): which one a moment lies in, and when it ends."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

KINDS = ("total", "month", "week", "day", "hour")
FOREVER = float("inf")


class Window(NamedTuple):
    """`label` sorts by time among the labels of one kind; `ends` is `time.time()`, infinite for `total`."""

    label: str
    ends: float


def window_of(kind: str, at: float) -> Window:
    """The window of a kind that holds a moment. Weeks begin on Monday (ISO 8601).

    Raises:
        ValueError: for a kind that is none of `KINDS`.
    """
    if kind == "total":
        return Window("total", FOREVER)
    moment = datetime.fromtimestamp(at, UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "hour":
        begin = day.replace(hour=moment.hour)
        return Window(f"{begin:%Y-%m-%dT%H}", (begin + timedelta(hours=1)).timestamp())
    if kind == "day":
        return Window(f"{day:%Y-%m-%d}", (day + timedelta(days=1)).timestamp())
    if kind == "week":
        year, week, weekday = day.isocalendar()
        return Window(f"{year}-W{week:02d}", (day + timedelta(days=8 - weekday)).timestamp())
    if kind == "month":
        begin = day.replace(day=1)
        return Window(f"{begin:%Y-%m}", (begin + timedelta(days=32)).replace(day=1).timestamp())
    raise ValueError(f"{kind!r} is no window of a budget; known: {', '.join(KINDS)}")
