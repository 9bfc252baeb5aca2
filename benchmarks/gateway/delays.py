"""How much later things arrive: answers, first tokens and chunks of a stream, and `/health` under large bodies.

The provider writes the time into each chunk, so a chunk's way is known to whoever reads it on the same machine. What
is told of a place is without what the provider called directly takes.
"""

import contextlib
import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ground import LOAD_CORE, Place, headers_text, load
from rounds import awake, median
from texts import chat, long_conversation

_STAMP = re.compile(rb"@(\d{19}) ")
_END = b"0\r\n\r\n"

Delays = dict[str, dict[str, list[float]]]


def measure(places: Sequence[Place], rounds: int, seconds: float, folder: Path) -> Delays:
    """Microseconds by kind (answer, first, chunk) and place, one value for each round."""
    found: Delays = {kind: {place.name: [] for place in places} for kind in ("answer", "first", "chunk")}
    for turn in range(rounds):
        first = turn % len(places)
        for place in (*places[first:], *places[:first]):
            with awake(place), on_the_load_core():
                load(place, chat(place.model), 1, 1, folder)
                answer = load(place, chat(place.model), 1, seconds, folder)
                firsts, _ = stream(place, "chunks=2 every=1", times=50)
                _, chunks = stream(place, "chunks=200 every=5", usage=True)
            values = {"answer": answer.p50, "first": median(firsts), "chunk": median(chunks)}
            for kind, value in values.items():
                found[kind][place.name].append(value)
            shown = "  ".join(f"{kind} {value:,.0f} us" for kind, value in values.items())
            print(f"  {turn + 1}. {place.name:<18}{shown}", flush=True)
    return found


def added(found: dict[str, list[float]], name: str) -> float:
    """What a place adds to the direct way, from the medians over the rounds."""
    return median(found[name]) - median(found["direct"])


def added_ratio(found: dict[str, list[float]], name: str, against: str) -> float | None:
    """What one place adds over what another adds; None when the other adds nothing that can be measured."""
    theirs = added(found, against)
    return added(found, name) / theirs if theirs > 0 else None


def stream(place: Place, directive: str, *, usage: bool = False, times: int = 1) -> tuple[list[float], list[float]]:
    """Streams one after another on one connection, and one before them that does not count.

    Returns:
        Microseconds to the first chunk of each stream, and of each chunk from provider to here.

    Raises:
        SystemExit: chunks are missing.
    """
    wanted = int(directive.split("chunks=")[1].split()[0])
    request = asking(place, directive, usage=usage)
    firsts: list[float] = []
    chunks: list[float] = []
    with connected(place) as client:
        for turn in range(times + 1):
            began = time.monotonic_ns()
            client.sendall(request)
            delays, first, rest = _read_stream(client)
            if len(delays) != wanted:
                raise SystemExit(f"{place.name}: {len(delays)} of {wanted} chunks arrived: {rest!r}")
            if turn:
                firsts.append((first - began) / 1e3)
                chunks += delays
    return firsts, chunks


def _read_stream(client: socket.socket) -> tuple[list[float], int, bytes]:
    """Delays of the chunks in microseconds, when the first came (monotonic nanoseconds), and the last bytes."""
    delays: list[float] = []
    first, held = 0, b""
    while not held.endswith(_END):
        piece = client.recv(65536)
        now = time.monotonic_ns()
        if not piece:
            break
        held += piece
        read = 0
        for stamp in _STAMP.finditer(held):
            first = first or now
            delays.append((now - int(stamp[1])) / 1e3)
            read = stamp.end()
        held = held[read:][-4096:]
    return delays, first, held[-300:]


def cut(place: Place, streams: int, threads: int = 16) -> None:
    """Open streams and leave each at its first chunk, without a word."""

    request = asking(place, "chunks=200 every=5")

    def leave() -> None:
        for _ in range(streams // threads):
            with connected(place) as client:
                client.sendall(request)
                held = b""
                while not _STAMP.search(held):
                    piece = client.recv(65536)
                    if not piece:
                        raise SystemExit(f"{place.name}: a stream ended before its first chunk: {held[-500:]!r}")
                    held += piece

    leaving = [threading.Thread(target=leave) for _ in range(threads)]
    for thread in leaving:
        thread.start()
    for thread in leaving:
        thread.join()


def asking(place: Place, directive: str, *, usage: bool = False) -> bytes:
    """A request for a stream, head and body."""
    body = chat(place.model, stream=True, usage=usage, directive=directive)
    head = f"POST {place.path} HTTP/1.1\r\nhost: 127.0.0.1:{place.port}\r\ncontent-type: application/json\r\n"
    return (head + f"content-length: {len(body)}\r\n{headers_text(place.headers)}\r\n").encode() + body


@contextlib.contextmanager
def connected(place: Place) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", place.port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


@contextlib.contextmanager
def on_the_load_core() -> Iterator[None]:
    """This process on the core of the load, as far as possible ahead of what else runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def health(place: Place, model: str, seconds: float, folder: Path) -> float:
    """The 99th percentile of `/health` in milliseconds while eight clients post 10 MB each, again and again."""
    times: list[float] = []
    over = threading.Event()

    def look() -> None:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=60)
        while not over.wait(0.005):
            began = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            times.append((time.perf_counter() - began) * 1e3)
        connection.close()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        window = load(place, long_conversation(model, 10_000_000), 8, seconds, folder)
    finally:
        over.set()
        looking.join()
    if window.requests == 0 or window.failed:
        raise SystemExit(f"{place.name}: {window.failed} of {window.requests} posts of 10 MB failed")
    worst = sorted(times)[int(len(times) * 0.99)]
    shown = f"/health p50 {median(times):.1f} ms, p99 {worst:.1f} ms, most {max(times):.1f} ms of {len(times)}"
    print(f"  {place.name:<18}{shown}; {window.rate:.1f} posts of 10 MB/s", flush=True)
    return worst
