"""Indexes of sharded weights in a commit: refused when they lead out of their folder, told when shards are missing.

Clients send large folders in several commits, the index often before its shards, so a shard that is not there yet is a
finding and no reason to refuse; engines refuse it when they load.
"""

from collections.abc import Collection, Mapping

from ecotone.catalog import File
from ecotone.lineage import MOST_INDEX_BYTES, BrokenIndex, files_of_index
from ecotone.storage import Storage
from ecotone.vocabulary import Invalid

MOST_INDEXES = 16


def check_indexes(files: Mapping[str, File], changed: Collection[str], storage: Storage) -> list[str]:
    """Findings on the indexes of a revision.

    Raises:
        Invalid: a file that the commit changes is an index that names anything but files beside it.
    """
    findings = []
    found = [path for path in files if path.endswith(".index.json") and files[path].content.size <= MOST_INDEX_BYTES]
    for path in dict.fromkeys([*(p for p in found if p in changed), *found[:MOST_INDEXES]]):
        try:
            named = files_of_index(b"".join(storage.read(files[path].content)))
        except BrokenIndex as error:
            if path in changed:
                raise Invalid(f"{path} is refused: {error.message}", code="broken_index", param="path") from None
            findings.append(f"{path} cannot be loaded: {error.message}")
            continue
        folder = path.rpartition("/")[0]
        missing = sorted(n for n in named or () if (f"{folder}/{n}" if folder else n) not in files)
        if missing:
            findings.append(f"{path} names {len(missing)} files that are not here yet, {missing[0][:200]} among them.")
    return findings
