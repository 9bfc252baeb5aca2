"""The snapshot from a server on another machine into this machine's data folder, where the workers look for it."""

import http.client
import logging
import ssl
import threading
from pathlib import Path
from urllib.parse import urlsplit

from ecotone.gateway.sharing import NONCE, PATH, PROOF, SEAL, fresh_nonce, is_same, proof, seal
from ecotone.gateway.snapshot import place, still_holds, unpack

log = logging.getLogger("ecotone.gateway")

_EVERY_SECONDS = 0.75
_PATIENCE_SECONDS = 10.0
_MOST_BYTES = 512 * 1024 * 1024


class NotFetched(Exception):
    """Why there is no answer that can be used."""


class Fetcher:
    """Asks in a thread, over one connection that is kept.

    Args:
        url: address of the server, its prefix included.
        secret: what both share.
        folder: where the file goes.
    """

    def __init__(self, url: str, secret: str, folder: Path) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/") + PATH
        self._secret = secret
        self._folder = folder
        self._tag = ""
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = threading.Event()
        self._well = True

    def start(self) -> None:
        threading.Thread(target=self._keep, name="snapshot", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _keep(self) -> None:
        while True:
            try:
                self.fetch()
                if not self._well:
                    log.warning("contact with the server that decides is back")
                self._well = True
            except Exception as error:
                if self._well:
                    log.error("no contact with the server that decides: %s; the last snapshot is served", error)
                self._well = False
                self._forget()
            if self._stopped.wait(_EVERY_SECONDS):
                self._forget()
                return

    def fetch(self) -> None:
        """Ask once; a new snapshot is put into place, an unchanged one marked as seen.

        Raises:
            NotFetched: the server refuses, or the answer is not sealed by who shares the secret.
            OSError, http.client.HTTPException: it cannot be reached.
            ValueError: the snapshot is of another version of this program.
        """
        nonce = fresh_nonce()
        headers = {NONCE: nonce, PROOF: proof(self._secret, nonce)}
        if self._tag:
            headers["if-none-match"] = self._tag
        connection = self._connected()
        connection.request("GET", self._path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES + 1)
        tag = answer.headers.get("etag", "")
        if answer.status == 404:
            raise NotFetched("it does not know ECOTONE_SNAPSHOT_SECRET, or has another clock (404)")
        if answer.status not in (200, 304) or len(body) > _MOST_BYTES:
            raise NotFetched(f"it answered with {answer.status}")
        if not is_same(answer.headers.get(SEAL, ""), seal(self._secret, nonce, tag, body)):
            raise NotFetched("its answer does not bear the seal of ECOTONE_SNAPSHOT_SECRET")
        if answer.status == 200:
            unpack(body)
            place(body, self._folder)
            self._tag = tag
        elif tag == self._tag:
            still_holds(self._folder)

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._secure:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=_PATIENCE_SECONDS, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE_SECONDS)
        return self._connection

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
