"""Bytes straight into a socket where it takes them, through its transport where it does not.

A transport queues what it is given until the turn of the loop ends; most messages here are one write that the socket
takes whole at once.
"""

import os
import socket
from typing import Any


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
