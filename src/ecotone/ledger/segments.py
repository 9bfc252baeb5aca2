"""The segment files of a chain: their order, their last whole record, the place where a torn one begins."""

import os
from pathlib import Path

from ecotone.ledger import records
from ecotone.ledger.records import GENESIS, Head

_BLOCK = 65536


def segments(chain: Path) -> list[Path]:
    """The segment files of one chain in order."""
    return sorted(
        (f for f in chain.glob("*.jsonl") if f.stem.isdecimal() and f.is_file()), key=lambda f: (int(f.stem), f.name)
    )


def next_segment(segment: Path) -> Path:
    """The name of the segment after this one."""
    return segment.with_name(f"{int(segment.stem) + 1:06d}.jsonl")


def head_of_chain(chain: Path) -> Head:
    """Length and hash of the last whole record; of an empty chain, none and zeros.

    A last record that was changed, not torn, is passed over: it stays for `verify` to name.
    """
    for segment in reversed(segments(chain)):
        last = _last_whole_line(segment)
        head = records.head_of(last) if last is not None else None
        if head is None and last is not None:
            with segment.open("rb") as file:
                head = next((h for line in reversed(file.readlines()) if (h := records.head_of(line))), None)
        if head is not None:
            return head
    return Head(records=0, hash=GENESIS)


def last_head(segment: Path) -> Head | None:
    """Length and hash of the last record of a segment; None when it is no whole one."""
    last = _last_whole_line(segment)
    return records.head_of(last) if last is not None else None


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def replace_durably(path: Path, data: bytes) -> None:
    """Put a file in the place of the one before, whole and on disk. Raises OSError; that one is there then."""
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    flush_folder(path.parent)


def whole_bytes(segment: Path) -> int:
    """Bytes up to and with the last line end."""
    with segment.open("rb") as file:
        file.seek(0, os.SEEK_END)
        at = file.tell()
        while at > 0:
            step = min(_BLOCK, at)
            file.seek(at - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                return at - step + found + 1
            at -= step
    return 0


def _last_whole_line(segment: Path) -> bytes | None:
    end = whole_bytes(segment)
    if end == 0:
        return None
    with segment.open("rb") as file:
        size = _BLOCK
        while True:
            start = max(0, end - size)
            file.seek(start)
            block = file.read(end - start)
            cut = block[:-1].rfind(b"\n")
            if cut >= 0 or start == 0:
                return block[cut + 1 :]
            size *= 4
