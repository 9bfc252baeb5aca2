"""Headers of sharded weights in the protocol's shape (section 1.4, safetensors-metadata)."""

from typing import Any

import msgspec

from ecotone.catalog import Catalog, File, Revision
from ecotone.lineage import read_safetensors
from ecotone.storage import Storage
from ecotone.vocabulary import Invalid, TooLarge

MOST_INDEX_BYTES = 32 * 1024 * 1024
MOST_SHARDS = 1000


def sharded_metadata(catalog: Catalog, storage: Storage, revision: Revision, index: File) -> dict[str, Any]:
    """Index metadata and the header of each shard that the index names.

    Raises:
        Invalid: when the index is not one, or a shard is broken.
        TooLarge: when it is beyond what is read here.
        EntryNotFound: when it names a shard that is not there.
    """
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
    for name in shards:
        file = catalog.file(revision, f"{folder}/{name}" if folder else name)
        read = read_safetensors(map(bytes, storage.read(file.content)), file.content.size)
        headers[name] = {
            "__metadata__": read.metadata,
            **{t.name: {"dtype": t.dtype, "shape": t.shape, "data_offsets": (t.begin, t.end)} for t in read.tensors},
        }
    metadata = table.get("metadata")
    return {"headers": headers, "index": {"metadata": metadata if isinstance(metadata, dict) else {}}}
