"""Takes the sampled cells of one tensor out of its bytes as they pass; holds those and at most one unit split by a
chunk's end. Bytes of rows that are not sampled are never looked at."""

from bisect import bisect_right
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ecotone.lineage.naming import file_rows
from ecotone.lineage.sampling import cells
from ecotone.lineage.units import Unit, unit


class Plan:
    """Where the sampled cells of a tensor of one shape and type lie in its bytes.

    Args:
        across: units in a row.
        heads: as in `naming.file_rows`.
    """

    def __init__(self, shape: tuple[int, ...], found: Unit, tensors: int, heads: int) -> None:
        chosen = cells(shape, tensors)
        assert chosen is not None
        self.unit = found
        self.across = int(np.prod(shape[1:], dtype=object)) // found.size
        rows = file_rows(chosen.rows, shape[0], heads)
        order = np.argsort(rows, kind="stable")
        self.rows = rows[order]
        self.canonical = np.argsort(order, kind="stable") if heads else None
        self.units, at = np.unique(chosen.columns // found.size, return_inverse=True)
        self.inner = at * found.size + chosen.columns % found.size
        self.starts: list[int] = (self.rows * self.across).tolist()
        self.ends = [start + self.across for start in self.starts]
        self.total = shape[0] * self.across
        # Where all of them lie, for a tensor that comes in one piece.
        self.places = self.rows[:, None] * self.across + self.units
        self.form = np.dtype(f"<u{found.width}" if found.width in (1, 2, 4, 8) else f"V{found.width}")


@lru_cache(maxsize=64)
def plan(shape: tuple[int, ...], dtype: str, tensors: int, heads: int = 0) -> Plan | None:
    """The plan for a tensor; None where nothing of it is sampled."""
    found = unit(dtype)
    if found is None or cells(shape, tensors) is None:
        return None
    return Plan(shape, found, tensors, heads)


class Sampler:
    """The sample of one tensor while its bytes arrive."""

    def __init__(self, made: Plan) -> None:
        self._plan = made
        self._raw = np.zeros((len(made.rows), len(made.units)), made.form)
        self._row = 0
        self._next = made.starts[0]
        self._passed = 0
        self._split = b""

    def feed(self, piece: memoryview) -> None:
        width = self._plan.unit.width
        if self._split:
            missing = width - len(self._split)
            self._split += bytes(piece[:missing])
            if len(self._split) < width:
                return
            self._take(np.frombuffer(self._split, self._plan.form))
            self._split, piece = b"", piece[missing:]
        count, rest = divmod(len(piece), width)
        if self._next < self._passed + count:
            self._take(np.frombuffer(piece, self._plan.form, count))
        else:
            self._passed += count
        if rest:
            self._split = bytes(piece[count * width :])

    def _take(self, found: npt.NDArray[np.generic]) -> None:
        """Copies what is sampled of the next units."""
        made, first = self._plan, self._passed
        self._passed = end = first + len(found)
        if end - first == made.total:
            self._raw, self._row = found.take(made.places), len(made.starts)
        while self._row < len(made.starts) and (start := made.starts[self._row]) < end:
            if start >= first and (last := bisect_right(made.ends, end, self._row)) > self._row:
                at = (made.rows[self._row : last] * made.across - first)[:, None] + made.units
                self._raw[self._row : last] = found[at]
                self._row = last
                continue
            i, j = np.searchsorted(made.units, (first - start, end - start))
            self._raw[self._row, i:j] = found[made.units[i:j] + (start - first)]
            if made.ends[self._row] > end:
                return
            self._row += 1
        self._next = made.starts[self._row] if self._row < len(made.starts) else 1 << 63

    def finish(self) -> tuple[bytes, int]:
        """The sample as little-endian float32, and how many of its values were NaN or infinite and stand as 0."""
        made = self._plan
        raw = self._raw.view(np.uint8).reshape(*self._raw.shape, made.unit.width)
        found = made.unit.decode(raw)
        if made.unit.size > 1:
            found = found.reshape(len(made.rows), -1)[:, made.inner]
        if made.canonical is not None:
            found = found[made.canonical]
        odd = found.size - int(np.count_nonzero(np.isfinite(found)))
        if odd:
            found = np.where(np.isfinite(found), found, np.float32(0))
        return found.astype("<f4", copy=False).tobytes(), odd
