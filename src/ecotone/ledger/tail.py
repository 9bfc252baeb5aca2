"""Reading on in a ledger that is being written, chain by chain, from where the last reading ended."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ecotone.ledger.reading import Ledger
from ecotone.ledger.segments import segments, whole_bytes

_BLOCK = 1024 * 1024
_MOST_LINE = 64 * _BLOCK


class Position(msgspec.Struct, frozen=True):
    """A place in a chain: the name of a segment and the bytes of it that were read, whole lines only."""

    segment: str
    offset: int


class Tail:
    """Whole lines as they come, each once.

    Args:
        folder: the ledger's folder.
        positions: where to go on, by chain; None is the present end of all.
    """

    def __init__(self, folder: Path, positions: Mapping[str, Position] | None = None) -> None:
        self._ledger = Ledger(folder)
        self._positions = dict(positions) if positions is not None else dict(self._ends())

    @property
    def positions(self) -> dict[str, Position]:
        """Where the next reading begins, by chain; a chain that is not here is read from its beginning."""
        return dict(self._positions)

    def lines(self) -> Iterator[bytes]:
        """The next lines of each chain, about a megabyte of each at most; nothing when all was read."""
        for chain in self._ledger.chains():
            yield from self._of(chain)

    def _ends(self) -> Iterator[tuple[str, Position]]:
        for chain in self._ledger.chains():
            if files := segments(chain):
                yield chain.name, Position(files[-1].name, whole_bytes(files[-1]))

    def _of(self, chain: Path) -> Iterator[bytes]:
        files = segments(chain)
        place = self._positions.get(chain.name)
        if place is not None:
            number = int(Path(place.segment).stem)
            files = [file for file in files if int(file.stem) >= number]
        for file in files:
            start = place.offset if place is not None and place.segment == file.name else 0
            try:
                start, found = _whole_lines(file, start)
            except FileNotFoundError:  # removed after its export
                continue
            self._positions[chain.name] = Position(file.name, start + len(found))
            if found:
                yield from found.splitlines()
                return


def _whole_lines(file: Path, start: int) -> tuple[int, bytes]:
    """Where reading began, and bytes from there to the last line end within a block; more when a line is longer."""
    with file.open("rb") as opened:
        start = opened.seek(min(start, file.stat().st_size))  # what a full disk cut off again was no record
        found = b""
        while len(found) < _MOST_LINE:
            piece = opened.read(_BLOCK)
            found += piece
            end = found.rfind(b"\n")
            if end >= 0:
                return start, found[: end + 1]
            if len(piece) < _BLOCK:
                break
        return start, b""
