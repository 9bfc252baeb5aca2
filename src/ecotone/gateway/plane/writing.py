"""Bytes straight into a socket, or through its transport.

A transport queues what it is given until the turn of the loop ends: that is best where many requests have their turn
together, and costs another round of the loop where few do.
"""

import os
import socket
from typing import Any, Final

from ecotone.gateway.budgets import PER_USD

FEW: Final = 8
"""Requests under way up to which bytes go straight out."""
ONE_WRITE: Final = 16 * 1024
"""Bytes below which it is cheaper to copy parts together than to hand them over one by one."""

_REASONS: Final = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Content",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    451: b"Unavailable For Legal Reasons",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
LINES: Final = {status: b"HTTP/1.1 %d %b\r\n" % (status, reason) for status, reason in _REASONS.items()}


def cost_line(cost: int) -> bytes:
    """The header line that tells what a call cost, exact."""
    return b"x-ecotone-cost-usd: %d.%012d\r\n" % divmod(cost, PER_USD)


def descriptor_of(transport: Any) -> int:
    """The descriptor that plain bytes may be written to; -1 where only the transport can (TLS)."""
    plain = transport.get_extra_info("socket")
    if plain is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    if plain.family in (socket.AF_INET, socket.AF_INET6):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return int(plain.fileno())


def write(transport: Any, descriptor: int, data: bytes) -> None:
    """Write all of the data, in order with what was written before."""
    if descriptor < 0 or transport.get_write_buffer_size():
        transport.write(data)
        return
    try:
        written = os.write(descriptor, data)
    except BlockingIOError:
        written = 0
    except OSError:  # the other side has gone: the transport finds it too, and says so
        transport.abort()
        return
    if written < len(data):
        transport.write(data[written:])
