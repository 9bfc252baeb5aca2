"""The counters of several processes brought together, each of which may end and begin anew at any time."""

from collections.abc import Iterator, Mapping

from ecotone.gateway.counters import OTHER, REQUESTS, SETS, WIDTH, Cell, Kept, Labels


def growth(seen: Mapping[str, Kept], found: Mapping[str, Kept]) -> Iterator[tuple[Labels, Cell]]:
    """By how much each label set has grown in each process since it was seen."""
    for name, told in found.items():
        before = _same(seen.get(name), told)
        known = before.cells if before is not None else {}
        for labels, cell in told.cells.items():
            past = known.get(labels)
            if past is None:
                yield labels, cell
            elif past != cell and past[REQUESTS] <= cell[REQUESTS]:  # less is an older copy of the same
                yield labels, [now - then for now, then in zip(cell, past, strict=True)]


class Totals:
    """Sums over all processes that only ever grow, so that a worker's new start looks like none."""

    def __init__(self) -> None:
        self.cells: dict[Labels, Cell] = {}
        self.refusals: dict[str, int] = {}
        self.open = self.retries = 0
        self._seen: dict[str, Kept] = {}

    def take(self, found: Mapping[str, Kept]) -> None:
        """Add what the processes, by name, have counted since the last time."""
        for labels, cell in growth(self._seen, found):
            if labels not in self.cells and len(self.cells) >= 2 * SETS:
                labels = (OTHER,) * 6
            total = self.cells.setdefault(labels, [0] * WIDTH)
            total[:] = map(sum, zip(total, cell, strict=True))
        for name, told in found.items():
            before = _same(self._seen.get(name), told)
            for code, number in told.refusals.items():
                past = before.refusals.get(code, 0) if before is not None else 0
                self.refusals[code] = self.refusals.get(code, 0) + number - past
            self.retries += max(0, told.retries - (before.retries if before is not None else 0))
        self.open = sum(told.open for told in found.values())
        self._seen = dict(found)


def _same(before: Kept | None, told: Kept) -> Kept | None:
    """What was seen of a process, if it is still the same."""
    return before if before is not None and before.boot == told.boot else None
