"""A client's connection: requests are parsed as they come, answered in order, and held back when they come too fast."""

import asyncio
import time
from collections import deque
from typing import Any, Final

import httptools

from ecotone.gateway.answers import Refusal
from ecotone.gateway.plane.callers import Desk, Work
from ecotone.gateway.plane.heads import (
    MOST_EXTENSIONS,
    MOST_FIELDS,
    MOST_HEAD,
    Head,
    SeenHead,
    bad,
    check,
    check_twice,
    repeatable,
)
from ecotone.gateway.plane.writing import FEW, LINES, ONE_WRITE, descriptor_of, write

MOST_PIPELINED: Final = 64
HEAD_SECONDS: Final = 30.0
BODY_SECONDS: Final = 300.0
KEEP_SECONDS: Final = 75.0
_LINGER_BYTES: Final = 64 * 1024 * 1024
_LINGER_SECONDS: Final = 5.0
_SLACK: Final = 512
STREAM: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)


class Connection:
    """One connection, a protocol of asyncio's. `since` is when it last made progress; the desk's sweep ends it when
    that is too long ago.

    Args:
        desk: what takes requests in.
        connections: holds this one while it is open.
    """

    __slots__ = (
        "_bare", "_beside", "_bodiless", "_busy", "_connections", "_descriptor", "_desk", "_ending", "_expected",
        "_fed", "_fields", "_first", "_head", "_head_since", "_in_head", "_last", "_lingering", "_missing", "_old",
        "_parser", "_parts", "_pieces", "_raw", "_refusal", "_seen", "_size", "_target", "_transport", "_upgrading",
        "_waiting", "_work", "address", "since", "slow",
    )  # fmt: skip

    def __init__(self, desk: Desk, connections: set[Any]) -> None:
        self._desk = desk
        self._connections = connections
        self._transport: Any = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Head, bytes, Refusal | None]] = deque()
        self._head: Head | None = None
        self._target: list[bytes] = []
        self._fields: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes | memoryview] = []
        self._refusal: Refusal | None = None
        self._raw: list[bytes] = []
        self._in_head = self._first = False
        self._seen: SeenHead[Head] | None = None
        self._expected: SeenHead[Head] | None = None
        self._missing = self._beside = 0
        self._descriptor = -1
        self._upgrading = False
        self._fed = self._size = self._pieces = 0
        self._work: Work | None = None
        self._busy = self._ending = self._lingering = self._old = self._bare = False
        self._last = self._bodiless = False
        self.slow = False
        self.address = ""
        self.since = self._head_since = 0.0

    # -- asyncio -----------------------------------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._descriptor = descriptor_of(transport)
        self._connections.add(self)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self.since = time.monotonic()
        transport.set_write_buffer_limits(high=256 * 1024)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._parser = None
        self._waiting.clear()
        work, self._work = self._work, None
        if work is not None:
            work.client_gone()

    def data_received(self, data: bytes) -> None:
        """What came. Between two requests that is most often one with the same head as the last: it begins at once, as
        all that a head decides stands from the last time. Its body may come in pieces."""
        seen, self._expected = self._expected, None
        if seen is not None:
            start, length = seen.begins(data)
            have = len(data) - start
            if start and have == length <= self._desk.most_body:
                self._busy = True
                work = self._desk.take(self, seen.meaning, data[start:], self.address)
                if self._busy:  # not answered yet
                    self._work = work
                return
            may_be_it = start and have < length <= self._desk.most_body
            if may_be_it and self._desk.refused_early(seen.meaning, self.address) is None:
                self.since = time.monotonic()
                self._parts = [memoryview(data)[start:]]
                self._missing = length - have
                return
        elif self._missing:
            self.since = time.monotonic()
            self._more(data)
            return
        self._received(data)

    def _received(self, data: bytes) -> None:
        """Anything that may come."""
        self.since = time.monotonic()
        if self._lingering:
            self._fed += len(data)
            if self._fed > _LINGER_BYTES:
                self._transport.abort()
            return
        if self._ending:
            return
        if self._head is None:
            self._raw = [data]
            self._first = True
            self._fed = 0
        elif self._in_head:
            self._raw.append(data)
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(upgrade)
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._broken(cause if isinstance(cause, Refusal) else bad("The request is not well-formed HTTP/1.1."))
            return
        if self._in_head:
            if self._fed > MOST_HEAD:
                self._broken(
                    Refusal(431, "head_too_large", f"The head of the request is larger than {MOST_HEAD} bytes.")
                )
            return
        if self._bare and self._head is not None and self._too_much_beside():
            self._broken(bad("The chunks of the body have too much besides the body."))

    def _more(self, data: bytes) -> None:
        """More of a body whose head was seen before; what follows it is for the parser."""
        parts = self._parts
        left = self._missing - len(data)
        parts.append(data if left >= 0 else data[: self._missing])
        self._missing = max(left, 0)
        if left > 0:
            return
        self._parts = []
        assert self._seen is not None
        self._start(self._seen.meaning, b"".join(parts), None)
        if left < 0 and not self._transport.is_closing():
            self._expected = None
            self._received(data[left:])

    def eof_received(self) -> bool:
        """A client that ends its side has gone, as far as can be seen: who gives up closes its socket, and nothing else
        would tell that before the next write. What was written is still delivered."""
        self._ending = True
        return False

    def pause_writing(self) -> None:
        self.slow = True
        self.since = time.monotonic()
        if self._work is not None:
            self._work.client_slow()

    def resume_writing(self) -> None:
        self.slow = False
        self.since = time.monotonic()
        if self._work is not None:
            self._work.client_ready()

    def shutdown(self) -> None:
        """End when the request that runs has its answer; at once when none does."""
        self._last = True
        under_way = self._busy or self._waiting or self._missing or self._head is not None
        if not under_way and not self._transport.is_closing():
            self._transport.close()

    def sweep(self, now: float, patience: float) -> None:
        """End what has waited too long: for a head, for a body, for a client that reads nothing, for nothing at all."""
        idle = now - self.since
        if self._lingering:
            if idle > _LINGER_SECONDS:
                self._transport.abort()
        elif self.slow:
            if idle > patience:
                self._transport.abort()
        elif self._busy:
            return
        elif self._in_head:
            if now - self._head_since > HEAD_SECONDS:
                self._broken(Refusal(408, "head_too_slow", "The head of the request did not arrive in 30 seconds."))
        elif self._head is not None or self._missing:
            if idle > BODY_SECONDS:
                self._broken(Refusal(408, "body_too_slow", "The body did not arrive in time; send it again."))
        elif idle > KEEP_SECONDS:
            self._transport.close()

    # -- httptools ---------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._expected = None
        self._head = Head()
        self._head_since = self.since
        self._target = []
        self._refusal = None
        self._in_head = True

    def on_url(self, part: bytes) -> None:
        self._target.append(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what follows a body are trailers, and replace nothing
            self._fields.append((name, value))
            if len(self._fields) > MOST_FIELDS:
                raise Refusal(431, "head_too_large", f"More than {MOST_FIELDS} headers were sent.")

    def on_headers_complete(self) -> None:
        head = self._head
        assert head is not None
        parser = self._parser
        told = self._fields
        fields = head.fields = {name.lower(): value for name, value in told}
        if len(fields) != len(told):
            check_twice([name.lower() for name, _ in told])
        self._fields = []
        if self._first and b"  " in self._raw[0][: self._raw[0].find(b"\r\n")]:
            raise bad("The request line has more than one space between its parts.")
        head.method = parser.get_method()
        target = self._target
        check(head, parser.get_http_version(), target[0] if len(target) == 1 else b"".join(target))
        head.close = not parser.should_keep_alive()
        self._upgrading = parser.should_upgrade()
        self._in_head = False
        length = head.length
        if length == 0:
            self._bare = False
            return
        self._bare = length is None
        self._pieces = self._size = 0
        if self._bare:  # what is fed beside the body is counted
            self._beside = sum(len(name) + len(value) + 4 for name, value in told) + len(head.path) + _SLACK
        refusal = self._desk.refused_early(head, self.address)
        if refusal is None and length is not None and length > self._desk.most_body:
            refusal = _too_large(length, self._desk.most_body)
        self._refusal = refusal
        if refusal is not None:
            if length is None or length > 64 * 1024:
                raise refusal
        elif b"expect" in head.fields and not self._busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_chunk_header(self) -> None:
        self._pieces += 1

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._desk.most_body:
            raise _too_large(self._size, self._desk.most_body)
        if self._refusal is None:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        head, parts = self._head, self._parts
        assert head is not None
        if self._upgrading:
            return  # the parser drops the body; the same bytes are parsed again
        if self._bare and self._too_much_beside():
            raise bad("The chunks of the body have too much besides the body.")
        self._head = None
        self._parts = []
        self._fed = 0
        may_repeat = self._first and len(self._raw) == 1 and self._refusal is None and repeatable(head)
        self._seen = SeenHead(self._raw[0], head) if may_repeat else None
        self._first = False
        body = b"".join(parts)
        if self._busy:
            if len(self._waiting) >= MOST_PIPELINED:
                raise bad("Too many requests were sent before their answers.")
            self._waiting.append((head, body, self._refusal))
            self._transport.pause_reading()
            return
        self._start(head, body, self._refusal)

    def _too_much_beside(self) -> bool:
        return self._fed - self._size - self._beside > MOST_EXTENSIONS + 64 * self._pieces

    # -- requests ----------------------------------------------------------------------------------------------------
    def _start(self, head: Head, body: bytes, refusal: Refusal | None) -> None:
        self._busy = True
        self._old = head.old
        self._bodiless = head.method == b"HEAD"
        if head.close or self._last:
            self._last = True
        if refusal is not None:
            self._desk.refuse(self, refusal, head)
            return
        work = self._desk.take(self, head, body, self.address)
        if self._busy:  # not answered yet
            self._work = work

    def _done(self) -> None:
        """The answer is written; the next request, if one waits."""
        self._work = None
        self._busy = False
        self.since = time.monotonic()
        transport = self._transport
        if transport.is_closing():
            return
        if self._last or (self._ending and not self._waiting):
            transport.close()
        elif self._waiting:
            head, body, refusal = self._waiting.popleft()
            if not self._waiting:
                transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._next, head, body, refusal)
            self._busy = True
        elif self._head is None:
            self._expected = self._seen
        else:
            self._head_since = self.since

    def _next(self, head: Head, body: bytes, refusal: Refusal | None) -> None:
        if not self._transport.is_closing():
            self._start(head, body, refusal)

    def _upgraded(self, upgrade: httptools.HttpParserUpgrade) -> None:
        """Another protocol was offered: a web socket is refused, any other offer is ignored (RFC 9110, section 7.8).

        The parser has dropped the body by now, so the same bytes are parsed again with the offer made harmless.
        """
        raw = b"".join(self._raw)
        head, blank, rest = raw.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        offers = [line for line in lines[1:] if line[:8].lower() == b"upgrade:"]
        if not blank or not offers or any(b"websocket" in line.lower() for line in offers):
            self._broken(Refusal(426, "no_upgrade", "This endpoint speaks HTTP/1.1 alone; send a plain request."))
            return
        if self._busy or self._waiting:
            self._broken(bad("An offer of another protocol was pipelined; send it alone."))
            return
        kept = [line for line in lines if line[:8].lower() != b"upgrade:"]
        self._parser = httptools.HttpRequestParser(self)
        self._head, self._in_head, self._upgrading = None, False, False
        self._fields = []
        self._received(b"\r\n".join(kept) + blank + rest)

    def _broken(self, refusal: Refusal) -> None:
        """Nothing that follows can be trusted: say why, once what came before is answered, and end."""
        self._last = self._ending = True
        self._missing = 0
        if self._busy:
            self._waiting.append((self._head or Head(), b"", refusal))
            return
        self._busy = True
        self._desk.refuse(self, refusal, self._head)

    # -- answering ---------------------------------------------------------------------------------------------------
    def whole(self, status: int, block: bytes, body: bytes) -> None:
        """Answer at once. `block` holds the header lines but Content-Length."""
        transport = self._transport
        if not transport.is_closing():
            last = b"connection: close\r\n" if self._last else b""
            line = LINES.get(status) or b"HTTP/1.1 %d Error\r\n" % status
            if self._bodiless:
                transport.write(b"%b%b%bcontent-length: %d\r\n\r\n" % (line, block, last, len(body)))
            elif len(body) < ONE_WRITE:
                data = b"%b%b%bcontent-length: %d\r\n\r\n%b" % (line, block, last, len(body), body)
                if len(self._desk.jobs) <= FEW:
                    write(transport, self._descriptor, data)
                else:
                    transport.write(data)
            else:
                transport.writelines((b"%b%b%bcontent-length: %d\r\n\r\n" % (line, block, last, len(body)), body))
        if self._ending and not self._waiting:
            self._linger()
        else:
            self._done()

    def begin(self, block: bytes) -> None:
        """Begin a stream."""
        if self._transport.is_closing():
            return
        if self._old:
            self._last = True
            self._transport.write(LINES[200] + block + STREAM + b"connection: close\r\n\r\n")
        else:
            end = b"connection: close\r\n" if self._last else b""
            self._transport.write(LINES[200] + block + STREAM + end + b"transfer-encoding: chunked\r\n\r\n")

    def write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._put(data if self._old else b"%x\r\n%b\r\n" % (len(data), data))

    def _put(self, data: bytes) -> None:
        if len(self._desk.jobs) <= FEW:
            write(self._transport, self._descriptor, data)
        else:
            self._transport.write(data)

    def end(self, data: bytes) -> None:
        if not self._transport.is_closing():
            if self._old:
                self._transport.write(data)
            elif data:
                self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            else:
                self._transport.write(b"0\r\n\r\n")
        self._done()

    def cut(self) -> None:
        """End without an end: the client must not take what it has for the whole."""
        self._work = None
        self._transport.abort()

    def _linger(self) -> None:
        """End, but read on for a while: a client that still sends would lose the answer to a reset."""
        self._work = None
        self._busy = False
        self._lingering = True
        self._fed = 0
        self.since = time.monotonic()
        transport = self._transport
        if not transport.is_closing():
            if transport.can_write_eof():
                transport.write_eof()
                transport.resume_reading()
            else:
                transport.close()


def _too_large(size: int, most: int) -> Refusal:
    return Refusal(413, "request_too_large", f"The body has {size} bytes or more; at most {most} are taken.")
