"""Headers of sharded weights in the protocol's shape (section 1.4, safetensors-metadata)."""

import threading
from collections import OrderedDict
from typing import Any

import msgspec

from ecotone.catalog import Catalog, File, Revision
from ecotone.lineage import MOST_INDEX_BYTES, read_safetensors
from ecotone.storage import Storage
from ecotone.vocabulary import Invalid, TooLarge, Unavailable

MOST_SHARDS = 1000
MOST_TENSORS = 200_000
MOST_ANSWER_BYTES = 32 * 1024 * 1024
MOST_HELD_BYTES = 64 * 1024 * 1024
_PATIENCE = 2.0


class ShardedMetadata:
    """Answers as JSON. One is made at a time, and kept: a revision never changes, and anybody may ask for it."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._held: OrderedDict[tuple[int, str, str], bytes] = OrderedDict()

    def answer(self, catalog: Catalog, storage: Storage, revision: Revision, index: File) -> bytes:
        """Index metadata and the header of each shard that the index names.

        Raises:
            Invalid: when the index is not one, or a shard is broken.
            TooLarge: when it is beyond what is read here.
            EntryNotFound: when it names a shard that is not there.
            Unavailable: when others ask for other models' just now.
        """
        key = (revision.model_key, revision.id, index.path)
        if not self._making.acquire(timeout=_PATIENCE):
            raise Unavailable("Headers of other weights are being read; try again soon.", retry_after=5)
        try:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = msgspec.json.encode(sharded_metadata(catalog, storage, revision, index))
                if len(held) > MOST_ANSWER_BYTES:
                    del self._held[key]
                    raise TooLarge(f"The headers are larger than {MOST_ANSWER_BYTES} bytes; read them from the files.")
            self._held.move_to_end(key)
            while sum(map(len, self._held.values())) > MOST_HELD_BYTES:
                self._held.popitem(last=False)
        finally:
            self._making.release()
        return held


def sharded_metadata(catalog: Catalog, storage: Storage, revision: Revision, index: File) -> dict[str, Any]:
    """The same as an object; see `ShardedMetadata.answer`."""
    if index.content.size > MOST_INDEX_BYTES:
        raise TooLarge(f"{index.path} is larger than {MOST_INDEX_BYTES} bytes, the most that is read here.")
    try:
        table = msgspec.json.decode(b"".join(storage.read(index.content)))
        shards = sorted({str(name) for name in table["weight_map"].values()})
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise Invalid(f"{index.path} is no index of sharded weights: it needs a `weight_map` of file names.") from None
    if len(shards) > MOST_SHARDS:
        raise TooLarge(f"{index.path} names more than {MOST_SHARDS} files.")
    folder = index.path.rpartition("/")[0]
    headers = {}
    tensors = 0
    for name in shards:
        file = catalog.file(revision, f"{folder}/{name}" if folder else name)
        read = read_safetensors(map(bytes, storage.read(file.content)), file.content.size)
        tensors += len(read.tensors)
        if tensors > MOST_TENSORS:
            raise TooLarge(f"{index.path} leads to more than {MOST_TENSORS} tensors; read the headers from the files.")
        headers[name] = {
            "__metadata__": read.metadata,
            **{t.name: {"dtype": t.dtype, "shape": t.shape, "data_offsets": (t.begin, t.end)} for t in read.tensors},
        }
    metadata = table.get("metadata")
    return {"headers": headers, "index": {"metadata": metadata if isinstance(metadata, dict) else {}}}
