"""What those who call are told of their rates: OpenAI's header names and its way to write a time. Pure."""

import math
from typing import Final

from ecotone.gateway.accounts import MINUTE, REQUESTS, TOKENS

_LINES: Final = {
    kind: (
        f"x-ratelimit-limit-{kind}: %d\r\nx-ratelimit-remaining-{kind}: %d\r\nx-ratelimit-reset-{kind}: %d%bs\r\n"
    ).encode()
    for kind in (REQUESTS, TOKENS)
}


def rate_lines(rates: list[tuple[str, int, int]]) -> bytes:
    """Header lines of rates: kind, limit a minute, how many are left (`Plan.rates`). After `reset` all are back."""
    lines = b""
    for kind, limit, left in rates:
        reset = math.ceil((limit - left) * MINUTE * 1000 / limit)
        shown = left if left > 0 else 0
        if reset < 1000:
            lines += _LINES[kind] % (limit, shown, reset, b"m")
        else:
            lines += _LINES[kind] % (limit, shown, -(-reset // 1000), b"")
    return lines


def rate_fields(kind: str, limit: int, left: int) -> dict[str, str]:
    """The same, for one rate, as headers of a refusal."""
    lines = rate_lines([(kind, limit, left)]).decode().splitlines()
    return dict(line.split(": ", 1) for line in lines)
