"""How a budget is written, such as `50USD/month`, and what it is in whole 10^-12 USD. Pure."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ecotone.vocabulary import Invalid

WINDOWS = ("hour", "day", "week", "month", "total")
"""Calendar windows in UTC, a week from Monday; `total` never opens again."""
PER_USD = 10**12
MOST_USD = 9_000_000
"""What fits a signed number of 64 bits, 9.2 * 10^18."""
WRITTEN = re.compile(
    rf"\s*([0-9]{{1,7}}(?:\.[0-9]{{1,12}})?)\s*(USD)?\s*/\s*({'|'.join(WINDOWS)})\s*", re.ASCII | re.IGNORECASE
)


def read_budget(text: str) -> tuple[int, str]:
    """Amount in 10^-12 USD, and window.

    Raises:
        Invalid: saying how a budget is written.
    """
    found = WRITTEN.fullmatch(text)
    if found is None:
        raise Invalid(
            f"{text!r} is no budget: an amount in US dollars and a window are expected, such as 50USD/month; windows "
            f"are {', '.join(WINDOWS)}.",
            param="budgets",
        )
    amount, window = Decimal(found[1]), found[3].lower()
    if amount > MOST_USD:
        raise Invalid(f"A budget is at most {MOST_USD} USD; got {text!r}.", param="budgets")
    return int(amount * PER_USD), window


def written_budget(amount: int, window: str) -> str:
    """The shortest writing of a budget."""
    return f"{usd(amount)}USD/{window}"


def usd(amount: int) -> str:
    """An amount of 10^-12 USD in dollars, exact, without zeros that say nothing."""
    whole, rest = divmod(amount, PER_USD)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")


def began(window: str, now: datetime) -> datetime:
    """When the window that holds a moment began; for `total` the beginning of time."""
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return {
        "hour": hour,
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "total": datetime(1970, 1, 1, tzinfo=UTC),
    }[window]
