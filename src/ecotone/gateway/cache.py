"""Exact responses, kept in memory for routes that ask for it, never shared across project, key scope or data class.

A route opts in by its `cache_seconds`; then sampled answers (temperature above 0, n above 1) are kept too: the route
said that the same question may get the same answer. The caller looks here only after key, decision, data class and
limits let the request pass, with the candidate that would be called first, and puts back what came complete with
status 200.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec
from blake3 import blake3

from ecotone.gateway.replaying import Kept

__all__ = ["Cache", "Kept", "Recording", "key_of"]

# Fields that change how an answer is delivered or booked, not what it says. `model` is told apart by what was chosen.
_NO_MATTER: Final = frozenset({"stream", "stream_options", "user", "metadata", "model"})
_LARGEST: Final = 8  # no answer takes more than this part of the cache
_MOST_SECONDS: Final = 7 * 86_400


def key_of(
    secret: bytes,
    *,
    project: str,
    scope: str,
    route: str,
    model: str,
    revision: str | None,
    legal: str,
    face: str,
    data_class: str,
    fields: Mapping[str, msgspec.Raw],
    alias: bool = False,
) -> bytes:
    """The name under which an answer is kept: 32 bytes that tell nothing about the prompt.

    Args:
        secret: 32 bytes of this installation.
        scope: which keys of the project share answers: a key's id, or one word for all of them.
        model: the candidate's name, `BACKEND/model` or a local model's id.
        revision: of a local model.
        legal: the candidate's legal class, so that an answer under former terms is not used under new ones.
        data_class: of the prompt.
        fields: the body's top level; values count by their exact bytes, whatever order the fields came in.
        alias: whether answers carry the route's name for the model.
    """
    place = repr((project, scope, route, model, revision, legal, face, data_class, alias))
    pieces: list[bytes | msgspec.Raw] = [place.encode()]
    for name in sorted(fields):
        if name not in _NO_MATTER:
            pieces.append(name.encode("utf-8", "surrogatepass"))
            pieces.append(fields[name])
    lengths = repr([len(memoryview(piece)) for piece in pieces]).encode()
    return blake3(b"".join([lengths, *pieces]), key=secret).digest()


class Cache:
    """Answers by key, the least used one leaves first. One for each worker.

    Args:
        most_bytes: that all kept answers take together.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[bytes, tuple[Kept, float]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now: float) -> Kept | None:
        """The answer under a key, None when there is none or its time is over. `now` is of a monotonic clock."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[1] <= now:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: bytes, kept: Kept | None, seconds: float, now: float) -> None:
        """Keep an answer for some seconds. None, which stands for an answer that is not complete, is not kept."""
        if kept is None or not seconds > 0 or kept.size * _LARGEST > self.most_bytes:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (kept, now + min(seconds, _MOST_SECONDS))
        self.bytes += kept.size
        while self.bytes > self.most_bytes:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        self.bytes -= self._kept.pop(key)[0].size


class Recording:
    """What went to a client, gathered to be kept at the end; given up once it is too large.

    Args:
        most_bytes: after which nothing is kept; a part of what the cache holds.
    """

    __slots__ = ("_left", "_pieces")

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        if self._left >= 0:
            self._left -= len(piece)
            self._pieces.append(piece)
            if self._left < 0:
                self._pieces.clear()

    def text(self) -> bytes:
        """What was recorded; nothing when it was too large."""
        return b"".join(self._pieces)

    def stream(self, face: str, usage: Mapping[str, object] | None = None) -> Kept | None:
        """The stream that was recorded, to be kept; None when it was too large or is not complete.

        Args:
            usage: the provider's own usage object, where its event was hidden from the client.
        """
        return Kept.of_stream(face, b"".join(self._pieces), usage) if self._left >= 0 else None

    def whole(self, face: str) -> Kept | None:
        """The answer that was recorded, to be kept; None when it was too large or is not complete."""
        return Kept.of_whole(face, b"".join(self._pieces)) if self._left >= 0 else None
