"""Addresses of the object store itself, for clients that reach it: each for one object or one range of it, short-lived.

A xorb may hold chunks of files that the asker must not read, so its addresses sign the Range header too: the store
refuses every other range. What a client puts there directly goes to a place of its own and is read back, verified and
copied to its key by this server; until then nothing names it.
"""

import secrets
from datetime import timedelta
from urllib.parse import quote

from ecotone.database import utc_now
from ecotone.storage.bucket import Keys
from ecotone.storage.errors import BadToken, BrokenXorb, ContentNotFound
from ecotone.storage.objects import key, pieces
from ecotone.storage.s3 import S3Objects
from ecotone.storage.signing import Signer
from ecotone.storage.xet import URL_SECONDS, XetStore
from ecotone.storage.xorbs import MOST_SENT

STAGING = "staging"
GRANT_SECONDS = 3600
ABANDONED = timedelta(days=1)
_ONCE = {"if-none-match": "*"}


class Direct:
    """Addresses for loading and for putting xorbs. Made only when clients reach the store."""

    def __init__(self, objects: S3Objects, keys: Keys, xet: XetStore, signer: Signer) -> None:
        self._objects = objects
        self._keys = keys
        self._xet = xet
        self._signer = signer

    # -- loading -----------------------------------------------------------------------------------------------------
    def xorb_range(self, xorb: str, first: int, last: int) -> str:
        """For GET with exactly `Range: bytes=FIRST-LAST` on a xorb."""
        sent = {"range": f"bytes={first}-{last}"}
        return self._objects.bucket.signed(self._keys, "GET", key("xorbs", xorb), seconds=URL_SECONDS, headers=sent)

    def whole_file(self, sha256: str, name: str = "") -> str:
        """For GET of an LFS object, whole or by range; `name` is the file name a browser saves it under."""
        query = {"response-content-type": "application/octet-stream"}
        if name:
            query["response-content-disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return self._objects.bucket.signed(self._keys, "GET", key("lfs", sha256), seconds=URL_SECONDS, query=query)

    # -- putting xorbs -----------------------------------------------------------------------------------------------
    def grant(self, tenant: str, xorb: str, length: int) -> tuple[str, str, dict[str, str]] | None:
        """Id, address and headers for one PUT of `length` bytes; None when the store cannot write only once.

        Raises:
            BrokenXorb: when no xorb has that length.
        """
        if not self._objects.writes_once:
            return None
        if not 0 < length <= MOST_SENT:
            raise BrokenXorb(f"A xorb has from 1 to {MOST_SENT} bytes, not {length}.")
        place = key(STAGING, secrets.token_hex(16))
        claims = {"purpose": "xorb-grant", "t": tenant, "x": xorb, "k": place, "n": length}
        sent = {**_ONCE, "content-length": str(length)}
        address = self._objects.bucket.signed(self._keys, "PUT", place, seconds=GRANT_SECONDS, headers=sent)
        return self._signer.sign(claims, seconds=GRANT_SECONDS), address, dict(_ONCE)

    def commit(self, tenant: str, xorb: str, grant: str) -> None:
        """Read back what was put under a grant, verify it and keep it as a xorb of the namespace.

        Raises:
            ContentNotFound: when nothing was put there.
            BrokenXorb: when the bytes are not that xorb; they are removed.
            BadToken: when the grant is for something else.
        """
        claims = self._signer.verify(grant, purpose="xorb-grant", grace=GRANT_SECONDS)
        if claims["t"] != tenant or claims["x"] != xorb:
            raise BadToken("for something else")
        try:
            with self._objects.open(claims["k"]) as stored, self._xet.receiving(tenant, xorb) as upload:
                for piece in pieces(stored, 0, stored.size):
                    upload.write(piece)
                upload.finish()
        except ContentNotFound:
            if self._xet.xorb_size(tenant, xorb) is None:  # else the same call, sent twice
                raise
            return
        except BrokenXorb:
            self._objects.remove(claims["k"])
            raise
        self._objects.remove(claims["k"])

    def sweep(self) -> None:
        """Remove what was put under grants that nobody committed."""
        old = utc_now() - ABANDONED
        for found in list(self._objects.listed(STAGING)):
            if found.placed < old:
                self._objects.remove(found.key)
