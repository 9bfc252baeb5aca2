"""Heads of requests, strict where parsers differ: what two programs could read in two ways is refused (RFC 9112).

llhttp refuses most of it already; what it lets through is refused here: trailers that replace a header, no or several
`Host`, a target that is no path, unlimited heads, `Content-Length: 01`, another coding before `chunked`.
"""

from typing import Any, Final, Generic, TypeVar

from ecotone.gateway.answers import Refusal

MOST_HEAD: Final = 32 * 1024
MOST_FIELDS: Final = 100
MOST_EXTENSIONS: Final = 1024

_ONCE: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
    }
)
_KEYS: Final = (b"x-api-key", b"api-key", b"x-goog-api-key")
_ZERO: Final = ord("0")
_DIGITS: Final = 11
M = TypeVar("M")

_paths: dict[bytes, str] = {}


class Head:
    """Request line and headers of one request; names in lower case, the last value of each."""

    __slots__ = ("close", "fields", "length", "method", "old", "path", "query", "who")

    def __init__(self) -> None:
        self.method = b""
        self.path = ""
        self.query = b""
        self.fields: dict[bytes, bytes] = {}
        self.length: int | None = 0
        self.close = False
        self.old = False
        self.who: Any = None
        """Who asks, once that was looked up."""

    def secret(self) -> bytes | None:
        """The key that was sent, None when there is none.

        Raises:
            Refusal: 401 when two different ones were sent: which of them would be meant?
        """
        told = self.fields.get(b"authorization")
        found = None
        if told is not None and told[:7].lower() == b"bearer ":
            found = told[7:].strip() or None
        for name in _KEYS:
            other = self.fields.get(name)
            if other is not None:
                other = other.strip()
                if found is not None and other != found:
                    raise Refusal(401, "several_keys", "Several different keys were sent; send one.")
                found = other or None
        return found


def bad(message: str) -> Refusal:
    """What no HTTP/1.1 client sends."""
    return Refusal(400, "bad_request", message)


def check_twice(names: list[bytes]) -> None:
    """Refuse headers that may stand only once and came again."""
    for name in _ONCE:
        if names.count(name) > 1:
            if name == b"authorization":
                raise Refusal(401, "several_keys", "More than one Authorization header was sent; send one key.")
            raise bad(f"The header {name.decode('latin-1')} was sent twice; send it once.")


def check(head: Head, version: str, target: bytes) -> None:
    """The head as a whole, once its end has come.

    Raises:
        Refusal: 400, naming what is wrong.
    """
    fields = head.fields
    if version != "1.1":
        if version != "1.0":
            raise bad("This server speaks HTTP/1.1.")
        head.old = True
    if b"host" not in fields and not head.old:
        raise bad("The Host header is missing.")
    if target[:1] != b"/" or b"#" in target:
        raise bad("The target of the request must be a path that begins with '/'.")
    known = _paths.get(target)
    if known is None:
        path, _, head.query = target.partition(b"?")
        try:
            head.path = path.decode("ascii")
        except UnicodeDecodeError:
            raise bad("The path holds bytes that are no ASCII; percent-encode them.") from None
        if not head.query and len(target) < 64 and len(_paths) < 64:
            _paths[target] = head.path
    else:
        head.path = known
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if head.old or length is not None or coding.strip().lower() != b"chunked":
            raise bad("The framing of the body is not plain: send Content-Length, or Transfer-Encoding: chunked alone.")
        head.length = None
    elif length is not None:
        if not length.isdigit() or (length[:1] == b"0" and length != b"0") or len(length) > 15:
            raise bad("Content-Length is no plain decimal number.")
        head.length = int(length)
    if head.length != 0 and head.method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE"):
        raise bad(f"A {head.method.decode('latin-1')} request has a body; send none.")


class SeenHead(Generic[M]):
    """A head that came on a connection before: the same one comes again and again, but for the body's length.

    One that has the same bytes around a plain number needs no parser: what was checked once holds again.

    Args:
        raw: begins with the head, whole, in which Content-Length stands once.
        meaning: what it was parsed into.
    """

    __slots__ = ("after", "before", "meaning", "most", "rest", "start")

    def __init__(self, raw: bytes, meaning: M) -> None:
        end = raw.index(b"\r\n\r\n") + 4
        name = raw[:end].lower().index(b"\r\ncontent-length:")
        start = name + len(b"\r\ncontent-length:")
        start += len(raw[start:end]) - len(raw[start:end].lstrip(b" "))
        self.before = raw[:start]
        self.after = raw[raw.index(b"\r", start) : end]
        self.start = start
        self.rest = len(self.after)
        self.most = _DIGITS + self.rest
        self.meaning = meaning

    def begins(self, data: bytes) -> tuple[int, int]:
        """Where the body begins when the data begins with this head, and how long it is; (0, 0) when it is anything
        else."""
        if data.startswith(self.before):
            start = self.start
            end = data.find(self.after, start, start + self.most)
            if end < 0:  # and no slice with it: a compiled one must not end before it begins
                return 0, 0
            digits = data[start:end]
            if digits.isdigit() and digits[0] != _ZERO:
                return end + self.rest, int(digits)
        return 0, 0


def repeatable(head: Head) -> bool:
    """Whether the same head may come again and mean the same."""
    fields = head.fields
    return bool(head.length) and not head.close and b"expect" not in fields and b"upgrade" not in fields
