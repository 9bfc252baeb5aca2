"""Reasons for which a tuning run does not start."""

from collections.abc import Sequence

from ecotone.tuning.data import BrokenRow
from ecotone.vocabulary import Conflict, Invalid, Unavailable


class BrokenData(Invalid):
    """Training data with rows that cannot be used; `rows` names each by line, up to a limit."""

    code = "broken_data"

    def __init__(self, rows: Sequence[BrokenRow], *, more: int = 0) -> None:
        said = "; ".join(f"line {row.line}: {row.reason}" for row in rows)
        rest = f"; and {more} more" if more else ""
        what = "1 row" if len(rows) + more == 1 else f"{len(rows) + more} rows"
        super().__init__(
            f"The training data has {what} that cannot be used, nothing was started. {said}{rest}.", param="data"
        )
        self.rows = tuple(rows)


class NotTunable(Invalid):
    """The parent cannot be tuned by this method."""

    code = "not_tunable"


class TargetTaken(Conflict):
    """The model that should receive the result holds something else."""

    code = "target_taken"


class TuningNotInstalled(Unavailable):
    """The libraries of the extra `tune` are absent."""

    code = "extra_missing"

    def __init__(self, missing: str) -> None:
        super().__init__(
            f'Tuning needs {missing}, which is not installed here; run: pip install "ecotone[tune]"', retry_after=3600
        )
