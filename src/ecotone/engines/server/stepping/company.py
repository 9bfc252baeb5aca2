"""Which answer lies at which place: places are dense, so that a pass over the first ones looks at no other's."""

from collections.abc import Callable, Sequence

from ecotone.engines.server.stepping.stepper import Row


class Company:
    """Rows by place. Each row's `state` has a `place`, -1 until it is seated.

    Args:
        swap: exchanges what is held for two rows, both still at their old places.
        move: brings what is held for a row to another place.
    """

    def __init__(self, swap: Callable[[Row, Row], None], move: Callable[[Row, int], None]) -> None:
        self._swap, self._move = swap, move
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: slice) -> list[Row]:
        return self._rows[places]

    def seat(self, row: Row) -> None:
        """Give the row the next place."""
        row.state.place = len(self._rows)
        self._rows.append(row)

    def leave(self, row: Row) -> None:
        """Give a row's place to the last one; a row that has none yet leaves nothing."""
        place = row.state.place
        if place < 0:
            return
        last = self._rows.pop()
        if last is not row:
            self._move(last, place)
            self._rows[place] = last
            last.state.place = place

    def bring_to_front(self, rows: Sequence[Row]) -> None:
        """Give these rows the first places."""
        count = len(rows)
        behind = [row for row in rows if row.state.place >= count]
        if not behind:
            return
        wanted = set(map(id, rows))
        for place in range(count):
            other = self._rows[place]
            if id(other) in wanted:
                continue
            row = behind.pop()
            self._swap(row, other)
            self._rows[place], self._rows[row.state.place] = row, other
            row.state.place, other.state.place = place, row.state.place
