"""The index of weights in several files: a table from tensors to names of files beside it.

Loaders open whatever it names: a name that climbs out of the folder would load another model's weights as this one's.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from ecotone.lineage.errors import BrokenIndex

SUFFIX: Final = ".index.json"
MOST_INDEX_BYTES: Final = 32 * 1024 * 1024


def is_plain(name: object) -> bool:
    """Whether this is the name of a file in a folder, and no path to somewhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def files_of_index(raw: bytes) -> frozenset[str] | None:
    """The files that an index names; None when it is JSON of another kind.

    Raises:
        BrokenIndex: it names something that is no plain file name.
    """
    try:
        table: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(table, dict) or "weight_map" not in table:
        return None
    named = table["weight_map"].values() if isinstance(table["weight_map"], dict) else [table["weight_map"]]
    for name in named:
        if not is_plain(name):
            raise BrokenIndex(
                f"it names {str(name)[:200]!r} in its weight_map, where the plain name of a file beside it is "
                "expected; write the names without folders."
            )
    return frozenset(named)


def check_folder(folder: Path) -> None:
    """Whether every index of a folder names only files that lie beside it.

    Raises:
        BrokenIndex: naming the index and what is wrong.
    """
    root = folder.resolve()
    for index in sorted(folder.rglob(f"*{SUFFIX}")):
        shown = index.relative_to(folder)
        if index.stat().st_size > MOST_INDEX_BYTES:
            raise BrokenIndex(f"{shown} is larger than {MOST_INDEX_BYTES} bytes, the most an index may have.")
        try:
            named = files_of_index(index.read_bytes()) or ()
        except BrokenIndex as error:
            raise BrokenIndex(f"{shown}: {error.message}") from None
        for name in sorted(named):
            file = index.parent / name
            if not file.is_file():
                raise BrokenIndex(f"{shown} names {name!r}, which is not there; upload it.")
            if root not in file.resolve().parents:
                raise BrokenIndex(f"{shown} names {name!r}, a link that leads out of the folder.")
