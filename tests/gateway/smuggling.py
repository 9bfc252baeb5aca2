"""Requests that two programs could read in two ways, as raw bytes, and what must come of each.

After RFC 9112 (sections 2.2, 3.2, 5, 6, 7) and RFC 9110 (sections 7.6, 7.8). A vector that is refused ends its
connection, and nothing of it reaches the provider; behind it comes a second request whose text is `HIDDEN`.
"""

from dataclasses import dataclass

HIDDEN = b"the-hidden-request"
_CHAT = "POST /v1/chat/completions HTTP/1.1"


@dataclass(frozen=True)
class Vector:
    """Bytes of a client and the answer to them.

    Attributes:
        raw: what is sent; see `filled` for what stands in braces.
        statuses: for each answer in order, the statuses that it may have; 1xx answers are not counted.
        closes: the server ends the connection after the last answer.
        texts: what the messages say that the provider got, in order; nothing else may reach it.
        reset: the connection may be reset while bytes are on their way, without an answer.
        absent: bytes that no answer's head may hold.
        every: bytes of each write, with a pause after it; 0 for all at once.
        then: what is sent once the first answer has come.
    """

    name: str
    raw: bytes
    statuses: tuple[frozenset[int], ...]
    closes: bool = False
    texts: tuple[str, ...] = ()
    reset: bool = False
    absent: tuple[bytes, ...] = ()
    every: int = 0
    then: bytes = b""


def body(text: str = "hello") -> bytes:
    """A chat completion's body."""
    return b'{"model":"{model}","messages":[{"role":"user","content":"' + text.encode() + b'"}]}'


def head(*lines: str, first: str = _CHAT, host: bool = True, key: bool = True) -> bytes:
    told = [first, *(["Host: {host}"] if host else []), *(["Authorization: Bearer {key}"] if key else []), *lines]
    return "".join(f"{line}\r\n" for line in told).encode("latin-1") + b"\r\n"


def whole(*lines: str, text: str = "hello", first: str = _CHAT, host: bool = True, key: bool = True) -> bytes:
    """A request whose body has a Content-Length, `{length}` until it is known."""
    return head(*lines, "Content-Length: {length}", first=first, host=host, key=key) + body(text)


def chunked(*lines: str, data: bytes | None = None, text: str = "hello") -> bytes:
    """A request whose body comes in chunks: one that holds all and the last, unless `data` says otherwise."""
    return head(*lines, "Transfer-Encoding: chunked") + (data or b"{size}\r\n" + body(text) + b"\r\n0\r\n\r\n")


SECOND = whole(text=HIDDEN.decode())
_REFUSED = frozenset({400})
_OK = frozenset({200})
_TWO_KEYS = frozenset({400, 401})
_TOO_LARGE = frozenset({400, 413, 431})


def refused(name: str, raw: bytes, statuses: frozenset[int] = _REFUSED, *, reset: bool = False) -> Vector:
    """Ends the connection, whatever stands behind it."""
    return Vector(name, raw + SECOND, (statuses,), closes=True, reset=reset)


def taken(name: str, raw: bytes, texts: tuple[str, ...] = ("hello",), *, every: int = 0, then: bytes = b"") -> Vector:
    """Is answered like any other request, once for each text."""
    return Vector(name, raw, (_OK,) * len(texts), texts=texts, every=every, then=then)


_LENGTHS = {
    "a length and chunks": ("Content-Length: {length}", "Transfer-Encoding: chunked"),
    "chunks and a length": ("Transfer-Encoding: chunked", "Content-Length: {length}"),
    "two equal lengths": ("Content-Length: {length}", "Content-Length: {length}"),
    "two different lengths": ("Content-Length: {length}", "Content-Length: 3"),
    "a list of equal lengths": ("Content-Length: {length}, {length}",),
    "a length with a plus": ("Content-Length: +{length}",),
    "a negative length": ("Content-Length: -1",),
    "a hexadecimal length": ("Content-Length: 0x10",),
    "a length with an underscore": ("Content-Length: 1_0",),
    "an empty length": ("Content-Length:",),
    "a length that begins with zero": ("Content-Length: 0{length}",),
    "a length beyond 64 bits": ("Content-Length: 18446744073709551617",),
    "a length in a fraction": ("Content-Length: {length}.0",),
}
_CODINGS = {
    "chunked before gzip": ("Transfer-Encoding: chunked, gzip",),
    "gzip before chunked": ("Transfer-Encoding: gzip, chunked",),
    "chunked twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked twice in a list": ("Transfer-Encoding: chunked, chunked",),
    "an unknown coding": ("Transfer-Encoding: xchunked",),
    "the identity coding": ("Transfer-Encoding: identity",),
    "chunked with a parameter": ("Transfer-Encoding: chunked;a=b",),
    "an empty coding": ("Transfer-Encoding:",),
    "a coding in quotes": ('Transfer-Encoding: "chunked"',),
    "a vertical tab before the coding": ("Transfer-Encoding: \x0bchunked",),
}
_FIELDS = {
    "a space before the colon of a length": ("Content-Length : {length}",),
    "a space before the colon of a coding": ("Transfer-Encoding : chunked",),
    "a tab before a colon": ("X-Other\t: 1", "Content-Length: {length}"),
    "a folded header": ("X-Other: 1", " 2", "Content-Length: {length}"),
    "a coding in a folded line": ("X-Other: 1", " Transfer-Encoding: chunked", "Content-Length: {length}"),
    "an empty name": (": 1", "Content-Length: {length}"),
    "a line without a colon": ("X-Other", "Content-Length: {length}"),
    "NUL in a value": ("X-Other: a\0b", "Content-Length: {length}"),
    "a bare CR in a value": ("X-Other: a\rTransfer-Encoding: chunked", "Content-Length: {length}"),
    "a bare LF at the end of a header": ("X-Other: a\nTransfer-Encoding: chunked", "Content-Length: {length}"),
    "a bracket in a name": ("X(Other): 1", "Content-Length: {length}"),
    "NUL in a name": ("X\0Other: 1", "Content-Length: {length}"),
}
_CHUNKS = {
    "a chunk's size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a negative chunk's size": b"-5\r\nhello\r\n0\r\n\r\n",
    "an empty chunk's size": b"\r\nhello\r\n0\r\n\r\n",
    "a chunk's size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size that ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "a bare LF in a chunk's extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a bare CR in a chunk's extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than its size": b"3\r\nhello\r\n0\r\n\r\n",
    "a chunk without an end": b"5\r\nhello0\r\n\r\n",
    "a chunk that ends in LF": b"5\r\nhello\n0\r\n\r\n",
}
_LINES = {
    "version 1.9": "POST /v1/chat/completions HTTP/1.9",
    "version 2.0": "POST /v1/chat/completions HTTP/2.0",
    "a version in small letters": "POST /v1/chat/completions http/1.1",
    "no version": "POST /v1/chat/completions",
    "a control byte in the path": "POST /v1/chat\x01/completions HTTP/1.1",
    "bytes beyond ASCII in the path": "POST /v1/chat/completions\xe9 HTTP/1.1",
    "an unknown method": "SMUGGLE /v1/chat/completions HTTP/1.1",
    "an absolute address as target": "POST http://{host}/v1/chat/completions HTTP/1.1",
    "another house's address as target": "POST http://other.example/v1/chat/completions HTTP/1.1",
    "a fragment in the target": "POST /v1/chat/completions#x HTTP/1.1",
    "a target that begins with no slash": "POST v1/chat/completions HTTP/1.1",
    "two spaces before the version": "POST /v1/chat/completions  HTTP/1.1",
    "two spaces before the target": "POST  /v1/chat/completions HTTP/1.1",
    "a tab before the target": "POST\t/v1/chat/completions HTTP/1.1",
    "a tunnel": "CONNECT other.example:443 HTTP/1.1",
}
_H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
_USUAL = head("Content-Length: {usual}")
_LATER = _USUAL + b"{pause}"
_LAST = b"{size}\r\n" + body() + b"\r\n0\r\n"


def _refusals() -> list[Vector]:
    found = [refused(name, head(*lines) + body()) for name, lines in _LENGTHS.items()]
    found += [
        refused(
            name, chunked(data=None).replace(b"Transfer-Encoding: chunked\r\n", _block(lines)), _coding_statuses(name)
        )
        for name, lines in _CODINGS.items()
    ]
    found += [refused(name, head(*lines) + body()) for name, lines in _FIELDS.items()]
    found += [refused(name, chunked(data=data)) for name, data in _CHUNKS.items()]
    found += [refused(name, whole(first=line), _line_statuses(name)) for name, line in _LINES.items()]
    return found


def _block(lines: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _coding_statuses(name: str) -> frozenset[int]:
    return frozenset({400, 501}) if name in ("gzip before chunked", "an unknown coding") else _REFUSED


def _line_statuses(name: str) -> frozenset[int]:
    told = {"version 1.9": {400, 505}, "version 2.0": {400, 505}, "an unknown method": {400, 404, 405, 501}}
    return frozenset(told.get(name, {400, 405} if name == "a tunnel" else {400}))


def _heads() -> list[Vector]:
    """Heads as a whole: hosts, keys, sizes, and what comes before and after."""
    first = _CHAT.encode() + b"\r\n"
    many = tuple(f"X-{i}: 1" for i in range(20_000))
    return [
        refused("no host", whole(host=False)),
        refused("two hosts", whole("Host: other.example")),
        refused("two equal hosts", whole("Host: {host}")),
        refused("a space before the first header", whole().replace(first, first + b" X-Other: 1\r\n")),
        Vector("two keys", whole("Authorization: Bearer eck_other"), (_TWO_KEYS,)),
        Vector("the same key twice", whole("Authorization: Bearer {key}"), (_TWO_KEYS,)),
        Vector("another key in x-api-key", whole("x-api-key: eck_other"), (_TWO_KEYS,)),
        refused("chunks in version 1.0", chunked().replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
        refused("a header of a megabyte", whole(f"X-Other: {'a' * 1_000_000}"), _TOO_LARGE, reset=True),
        refused("20,000 headers", whole(*many), _TOO_LARGE, reset=True),
        refused(
            "a header of a megabyte in the last chunk", _trailer("X-Other: " + "a" * 1_000_000), _TOO_LARGE, reset=True
        ),
        refused("a length in the trailers", _trailer("Content-Length: 3")),
        refused("a chunk's extension of 100 KB", _extension(b"a" * 100_000), _TOO_LARGE, reset=True),
        refused("a GET with a length", head("Content-Length: 5", first="GET /v1/models HTTP/1.1") + b"hello"),
        refused(
            "a GET with chunks", head("Transfer-Encoding: chunked", first="GET /v1/models HTTP/1.1") + b"0\r\n\r\n"
        ),
        refused("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frozenset({400, 405, 505})),
        refused(
            "a request that begins with bytes of TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 32
        ),
    ]


def _trailer(*lines: str) -> bytes:
    return chunked(data=_LAST + _block(lines) + b"\r\n")


def _extension(extension: bytes) -> bytes:
    return chunked(data=b"{size};" + extension + b"\r\n" + body() + b"\r\n0\r\n\r\n")


def _answers() -> list[Vector]:
    """What is odd and yet plain: it is answered, and reaches the provider as it was meant."""
    wrong_key = head("Transfer-Encoding: chunked", "Authorization: Bearer eck_wrong", key=False)
    injected = head(first="GET /v1/models/x%0d%0aset-cookie:%20a=b HTTP/1.1")
    upgraded = whole(*_H2C)
    return [
        taken("a plain request", whole()),
        taken("chunks", chunked()),
        taken("chunks with a small extension", _extension(b"a=b")),
        taken("two requests at once", whole(text="one") + whole(text="two"), texts=("one", "two")),
        taken("chunks and a request behind them", chunked(text="one") + whole(text="two"), texts=("one", "two")),
        taken("the same head again and its body later", _USUAL + body(), ("hello", "hello"), then=_LATER + body()),
        Vector(
            "the same head again and a body that looks like a request",
            _USUAL + body(),
            (_OK, frozenset({400})),
            texts=("hello",),
            then=_LATER + b"{disguise}",
        ),
        taken("an empty line before the request", b"\r\n" + whole()),
        taken("a request in pieces", whole(), every=40),
        taken("an upgrade to h2c with a length", upgraded),
        taken("an upgrade to h2c with chunks", chunked(*_H2C)),
        taken("an upgrade to h2c that comes byte by byte", upgraded, every=1),
        taken("an upgrade to h2c cut in its head", upgraded, every=60),
        taken("an upgrade to h2c cut before its body", head(*_H2C, "Content-Length: {length}") + b"{pause}" + body()),
        taken("an upgrade to h2c and a request behind it", upgraded + whole(text="two"), texts=("hello", "two")),
        taken(
            "two upgrades on one connection", whole(*_H2C, text="one"), ("one", "two"), then=whole(*_H2C, text="two")
        ),
        taken("an upgrade to what nobody knows", whole("Connection: upgrade", "Upgrade: carrier-pigeon/1.0")),
        Vector("an upgrade to a websocket", _websocket(), (frozenset({426}),), closes=True),
        taken("another key in the trailers", _trailer("Authorization: Bearer eck_wrong")),
        taken("another host in the trailers", _trailer("Host: other.example")),
        Vector(
            "the right key in the trailers",
            wrong_key + _LAST + b"Authorization: Bearer {key}\r\n\r\n",
            (frozenset({401}),),
        ),
        taken("a key named as one hop's", whole("Connection: keep-alive, authorization, content-length")),
        taken("what belongs to the client alone", whole("Cookie: a=b", "X-Forwarded-For: 10.0.0.1", "X-Other: 1")),
        Vector("a request behind the end", whole("Connection: close") + SECOND, (_OK,), closes=True, texts=("hello",)),
        Vector("a length that never comes", head("Content-Length: 5000") + body(), ()),
        Vector("chunks without an end", chunked(data=b"{size}\r\n" + body() + b"\r\n"), ()),
        Vector(
            "a refused request and half of the next, whose body goes on like a request",
            head("Content-Length: 2") + b"[]" + head("Content-Length: 5000") + b"[",
            (frozenset({400}),),
            then=SECOND,
        ),
        Vector("lines in the path", injected, (frozenset({400, 404}),), absent=(b"set-cookie",)),
    ]


def _websocket() -> bytes:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    return head(*lines, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", first="GET /v1/models HTTP/1.1") + SECOND


VECTORS = (*_refusals(), *_heads(), *_answers())


def filled(raw: bytes, *, key: str, model: str, host: str) -> bytes:
    """A request with what the server under test takes.

    `{key}`, `{model}` and `{host}` are replaced; `{length}` and `{size}` become the bytes of the body that follows
    next, in decimal and in hexadecimal. `{usual}` is the length of the usual body, and `{disguise}` a request for
    another face of just that length. At `{pause}` what comes before is sent alone.
    """
    usual = len(body().replace(b"{model}", model.encode()))
    disguise = f"GET /health HTTP/1.1\r\nHost: {host}\r\nX: ".encode()
    disguise += b"a" * (usual - len(disguise) - 4) + b"\r\n\r\n"
    raw = raw.replace(b"{usual}", b"%d" % usual).replace(b"{disguise}", disguise)
    raw = raw.replace(b"{key}", key.encode()).replace(b"{host}", host.encode()).replace(b"{model}", model.encode())
    for place, form in ((b"{length}", b"%d"), (b"{size}", b"%x")):
        while (at := raw.find(place)) >= 0:
            start = raw.index(b'{"model"', at)
            size = raw.index(b'"}]}', start) + 4 - start
            raw = raw[:at] + form % size + raw[at + len(place) :]
    return raw
