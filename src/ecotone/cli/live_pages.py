"""Fetches what stands at an address for a check: the text of a page, or the licence files of a repository of a hub.

The machine that asks is the user's own, so that addresses on it and in its network are allowed, but a page of the
public network leads to none of those, and nothing leads to link-local and metadata addresses. What counts is the
address that the connection is made to. Size, time and redirects are bounded; no token is sent.
"""

import re
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore
import httpx

from ecotone.settings.addresses import is_forbidden, is_public
from ecotone.vocabulary import Invalid

MOST_PAGE = 4 * 1024 * 1024
MOST_REDIRECTS = 5
MOST_FILES = 64
SECONDS = 30.0
_WHOLE_SECONDS = 120.0  # of all files of a repository
_REPOSITORY = re.compile(r"/([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})(?:/tree/([^/?#]{1,200}))?/?")


def fetched(address: str) -> Any:
    """The text that a page shows, or a bundle of the licence files of a repository.

    Raises:
        Invalid: it does not answer, answers with an error, or is too large.
    """
    from ecotone.licences.duties import shown_text

    with _client() as client:
        bundle = _repository(client, address)
        if bundle is not None:
            return bundle
        raw, kind = _get(client, address)
        if not kind.startswith(("text/", "application/xhtml", "application/json", "application/xml")):
            raise Invalid(f"{address} is {kind or 'of no type'}; a page of text is expected.", param="verify")
        return shown_text(raw.decode("utf-8", "replace"))


class Careful(httpcore.NetworkBackend):
    """Connects to addresses that were looked at, so that a name cannot lead elsewhere in between.

    Args:
        public: whether only the public network may be reached; None: what the first address says.
    """

    def __init__(self, public: bool | None = None) -> None:
        self._public = public
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known: {error.strerror or error}") from None
        allowed = [a for a in found if not is_forbidden(a) and (is_public(a) or not self._public)]
        if not allowed:
            raise httpcore.ConnectError(f"{host} leads to {found[0]}, which no page may lead to")
        for number, address in enumerate(allowed, 1):
            try:
                stream = self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
                break
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(allowed):
                    raise
        self._public = is_public(address) if self._public is None else self._public
        return stream


def _client() -> httpx.Client:
    transport = httpx.HTTPTransport(trust_env=False)
    transport._pool._network_backend = Careful()  # httpx offers no other way
    return httpx.Client(
        transport=transport,
        timeout=httpx.Timeout(10.0),
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        trust_env=False,
        headers={"user-agent": "ecotone", "accept-encoding": "identity"},
    )


def _get(client: httpx.Client, address: str, end: float | None = None) -> tuple[bytes, str]:
    """At most `MOST_PAGE` bytes in at most `SECONDS`, and their type; not packed, since a few bytes may unpack to any
    number. Raises Invalid."""
    end = min(time.monotonic() + SECONDS, end or float("inf"))
    raw = bytearray()
    try:
        with client.stream("GET", address) as answer:
            if not answer.is_success:
                raise Invalid(f"{address} answers {answer.status_code}; a page that everybody may see is expected.")
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise Invalid(f"{address} comes packed, which was not asked for; a page as it is is expected.")
            for piece in answer.iter_raw(64 * 1024):
                raw += piece
                if len(raw) > MOST_PAGE:
                    raise Invalid(f"{address} is larger than {MOST_PAGE >> 20} MiB; a page is expected.")
                if time.monotonic() > end:
                    raise Invalid(f"{address} took too long: {SECONDS:.0f} s are given to a page.")
            return bytes(raw), answer.headers.get("content-type", "").lower()
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Invalid(f"{address} cannot be fetched: {error or type(error).__name__}.", param="verify") from None


def _repository(client: httpx.Client, address: str) -> Any:
    """The licence files of a repository at a hub that speaks the Hub's API; None where there is none."""
    from ecotone.licences.duties import Loose, is_artefact

    parts = urlsplit(address)
    found = _REPOSITORY.fullmatch(parts.path)
    if found is None:
        return None
    origin = f"{parts.scheme}://{parts.netloc}"
    name, revision = f"{found[1]}/{found[2]}", quote(found[3] or "main", safe="")
    paths = _siblings(client, f"{origin}/api/models/{name}/revision/{revision}")
    if paths is None:
        return None
    wanted = [p for p in paths if is_artefact(p)][:MOST_FILES]
    end = time.monotonic() + _WHOLE_SECONDS
    files = {p: _get(client, f"{origin}/{name}/resolve/{revision}/{quote(p)}", end)[0] for p in wanted}
    return Loose(files, tuple(p for p in paths if p not in files))


def _siblings(client: httpx.Client, address: str) -> list[str] | None:
    import msgspec

    try:
        raw, _ = _get(client, address)
        told = msgspec.json.decode(raw)
        return [str(s["rfilename"]) for s in told["siblings"]]
    except (Invalid, msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return None
