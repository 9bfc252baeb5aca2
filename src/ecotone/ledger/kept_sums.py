"""Sums of whole segments and what they leave open, kept beside the ledger: a start that needs them reads the last
segment of each chain alone.

What is kept names the segment's size and last hash, and counts for that alone. It may be removed at any time. Those of
segments that are removed themselves lie in their place, in the chain's folder, and stay: what was spent stays spent.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ecotone.ledger.left_open import LeftOpen, left_open
from ecotone.ledger.reading import Ledger
from ecotone.ledger.retiring import closed
from ecotone.ledger.segments import last_head, replace_durably
from ecotone.ledger.usage import Sums, Who, summed

_LEFT = ".sums"
_DRAFT_SECONDS = 3600.0
Costs = list[tuple[Who, Sums]]


class _Kept(msgspec.Struct, array_like=True):
    size: int
    hash: str
    sums: Costs
    left: LeftOpen


class KeptSums:
    """What a ledger's segments add up to, and what they leave open.

    Args:
        folder: where they are kept; None to add up anew each time.
    """

    def __init__(self, ledger: Ledger, folder: Path | None = None) -> None:
        self._ledger = ledger
        self._folder = folder

    def newest_first(self, writer: str) -> Iterator[Costs]:
        """What the settled records of a chain add up to, segment by segment from its end, removed ones included.

        Raises:
            ValueError: what was left of a removed segment cannot be read.
        """
        chain = self._ledger.folder / writer
        told = set()
        for segment, lines, kept in self._pieces(chain):
            told.add(segment.stem)
            yield _added(lines) if kept is None else kept.sums
        # one that was removed since is among them, but for one that was told
        left = [f for f in chain.glob(f"*{_LEFT}") if f.stem.isdecimal() and f.stem not in told]
        left = [f for f in left if not f.with_suffix(".jsonl").exists()]
        for path in sorted(left, key=lambda f: int(f.stem), reverse=True):
            yield _read_left(path)

    def left_open(self, writer: str) -> Iterator[LeftOpen]:
        """What the parts of a chain leave open and end, from its end."""
        for _, lines, kept in self._pieces(self._ledger.folder / writer):
            yield left_open(lines) if kept is None else kept.left

    def missing(self) -> list[Path]:
        """Closed segments of which nothing is kept, oldest first in each chain."""
        return [s for chain in self._ledger.chains() for s in closed(chain) if not self._place(s).exists()]

    def keep(self, segment: Path) -> None:
        """Keep what a closed segment comes to, unless it is removed meanwhile."""
        with contextlib.suppress(FileNotFoundError), segment.open("rb") as lines:
            self._whole(segment, reversed(list(lines)))

    def tidy(self) -> None:
        """Remove what was kept of segments that are gone, and what was begun and never kept."""
        assert self._folder is not None
        for file in list(self._folder.iterdir()) if self._folder.is_dir() else ():
            chain, _, number = file.stem.rpartition("-")
            segment = self._ledger.folder / chain / f"{number}.jsonl"
            with contextlib.suppress(FileNotFoundError):
                if not segment.exists() or (file.suffix and file.stat().st_mtime < time.time() - _DRAFT_SECONDS):
                    file.unlink()

    def _pieces(self, chain: Path) -> Iterator[tuple[Path, Iterable[bytes], _Kept | None]]:
        """The files of a chain from its end, each with its lines, newest first, or with what it comes to."""
        whole = set(closed(chain)) if self._folder is not None else ()
        for segment, lines in self._ledger.pieces(chain, newest_first=True):
            kept = self._whole(segment, lines) if segment in whole else None
            yield segment, lines, kept

    def _place(self, segment: Path) -> Path:
        assert self._folder is not None
        return self._folder / f"{segment.parent.name}-{segment.stem}"

    def _whole(self, segment: Path, newest_first: Iterable[bytes]) -> _Kept | None:
        """Of a segment to which nothing is added any more; None when it is gone, and its lines are still to be read."""
        try:
            head, size = last_head(segment), segment.stat().st_size
        except FileNotFoundError:  # removed meanwhile
            return None
        path = self._place(segment)
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            kept = msgspec.msgpack.decode(path.read_bytes(), type=_Kept)
            if head is not None and (kept.size, kept.hash) == (size, head.hash):
                return kept
        lines = list(newest_first)
        kept = _Kept(size, head.hash if head is not None else "", _added(lines), left_open(lines))
        if head is not None:
            self._keep(path, kept)
        return kept

    def _keep(self, path: Path, kept: _Kept) -> None:
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk costs time at the next start
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(msgspec.msgpack.encode(kept))
            draft.replace(path)


def _added(lines: Iterable[bytes]) -> Costs:
    return list(summed(lines).items())


def leave(segment: Path) -> None:
    """Leave a closed segment's sums in its place, before it is removed. Raises OSError."""
    with segment.open("rb") as file:
        sums = _added(file)
    replace_durably(segment.with_suffix(_LEFT), msgspec.msgpack.encode(sums))


def _read_left(path: Path) -> Costs:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Costs)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValueError(
            f"{path.parent.name}/{path.name} of the ledger holds what a removed segment had spent and cannot be read "
            f"({error}); put it back from a backup, or remove it if budgets may forget that."
        ) from None
