"""The list of files of a revision as one value in the database, and a cache of those read lately."""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from ecotone.catalog.entities import File

_DECODER = msgspec.msgpack.Decoder(list[File])
MOST_FILES_CACHED = 400_000


def encode(files: Mapping[str, File]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode([files[path] for path in sorted(files)]), 1)


def decode(data: bytes) -> dict[str, File]:
    return {file.path: file for file in _DECODER.decode(zlib.decompress(data))}


class ManifestCache:
    """Manifests by revision. They change only when large files are deleted for good and history stays as it was."""

    def __init__(self, most_files: int = MOST_FILES_CACHED) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, str], dict[str, File]] = OrderedDict()
        self._files = 0
        self._most = most_files
        self._dropped = 0

    def drop(self, key: tuple[int, str]) -> None:
        """Forget a manifest that was written anew."""
        with self._lock:
            self._dropped += 1
            self._files -= len(self._held.pop(key, ()))

    def get(self, key: tuple[int, str], load: Callable[[], bytes]) -> dict[str, File]:
        """The files of a revision; the caller must not change the dictionary."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
            dropped = self._dropped
        found = decode(load())
        with self._lock:
            if self._dropped != dropped:  # what was read may be older than what was written anew meanwhile
                return found
            if key not in self._held:
                self._held[key] = found
                self._files += len(found)
            while self._files > self._most and len(self._held) > 1:
                self._files -= len(self._held.popitem(last=False)[1])
        return found
