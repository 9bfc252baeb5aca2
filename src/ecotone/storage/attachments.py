"""Pictures that people attach to discussions: kept by hash, told apart by their first bytes and nothing else."""

import re

from ecotone.storage.errors import ContentNotFound, UploadTooLarge
from ecotone.storage.objects import Objects, key
from ecotone.storage.signing import Signer
from ecotone.vocabulary import Invalid

KIND = "attachments"
MOST_BYTES = 10 * 1024 * 1024
MEDIA = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
_NAME = re.compile(r"([0-9a-f]{64})\.(png|jpg|gif|webp)\Z")


class Attachments:
    """Pictures among the objects. A name is a keyed hash: it cannot be found by whoever only has the picture."""

    def __init__(self, objects: Objects, signer: Signer) -> None:
        self._objects = objects
        self._signer = signer

    def put(self, data: bytes) -> str:
        """Keep a picture; returns its name, e.g. `<64 hex digits>.png`.

        Raises:
            UploadTooLarge, Invalid: when it is too large, or no PNG, JPEG, GIF or WebP.
        """
        if len(data) > MOST_BYTES:
            raise UploadTooLarge(f"An attachment has at most {MOST_BYTES} bytes.")
        suffix = suffix_of(data)
        if suffix is None:
            raise Invalid("An attachment is a picture: PNG, JPEG, GIF or WebP. This is none of them.")
        name = self._signer.name(data)
        self._objects.put(data, key(KIND, name))
        return f"{name}.{suffix}"

    def get(self, name: str) -> tuple[bytes, str]:
        """The bytes of a picture and their media type. Raises ContentNotFound."""
        found = _NAME.match(name)
        if found is None:
            raise ContentNotFound("There is no such attachment.")
        with self._objects.open(key(KIND, found[1])) as stored:
            data = stored.read(0, stored.size)
        if suffix_of(data) != found[2]:
            raise ContentNotFound("There is no such attachment.")
        return data, MEDIA[found[2]]


def suffix_of(data: bytes) -> str | None:
    """Which kind of picture the first bytes announce; None for any other."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None
