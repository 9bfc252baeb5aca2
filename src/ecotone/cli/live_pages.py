"""Fetches what stands at an address for a check: the text of a page, or the licence files of a repository of a hub.

The machine that asks is the user's own, so that addresses on it and in its network are allowed. Size, time and
redirects are bounded; no token is sent.
"""

import re
import time
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ecotone.vocabulary import Invalid

MOST_PAGE = 4 * 1024 * 1024
MOST_REDIRECTS = 5
MOST_FILES = 64
SECONDS = 30.0
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


def _client() -> httpx.Client:
    return httpx.Client(
        timeout=httpx.Timeout(10.0),
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        trust_env=False,
        headers={"user-agent": "ecotone", "accept-encoding": "identity"},
    )


def _get(client: httpx.Client, address: str) -> tuple[bytes, str]:
    """At most `MOST_PAGE` bytes in at most `SECONDS`, and their type. Raises Invalid."""
    end = time.monotonic() + SECONDS
    raw = bytearray()
    try:
        with client.stream("GET", address) as answer:
            if not answer.is_success:
                raise Invalid(f"{address} answers {answer.status_code}; a page that everybody may see is expected.")
            for piece in answer.iter_bytes(64 * 1024):
                raw += piece
                if len(raw) > MOST_PAGE:
                    raise Invalid(f"{address} is larger than {MOST_PAGE >> 20} MiB; a page is expected.")
                if time.monotonic() > end:
                    raise Invalid(f"{address} took longer than {SECONDS:.0f} s.")
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
    files = {p: _get(client, f"{origin}/{name}/resolve/{revision}/{quote(p)}")[0] for p in wanted}
    return Loose(files, tuple(p for p in paths if p not in files))


def _siblings(client: httpx.Client, address: str) -> list[str] | None:
    import msgspec

    try:
        raw, _ = _get(client, address)
        told = msgspec.json.decode(raw)
        return [str(s["rfilename"]) for s in told["siblings"]]
    except (Invalid, msgspec.DecodeError, KeyError, TypeError):
        return None
