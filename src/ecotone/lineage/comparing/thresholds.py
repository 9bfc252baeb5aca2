"""The thresholds of the comparison: data with the calibration run that gave them, `thresholds.yaml`."""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `thresholds.yaml` for what each is held against and why."""

    shared: float
    cosine_related: float
    cosine_suspected: float
    graft_same: float
    graft_other: float
    realign_share: float
    qk_related: float
    qk_suspected: float
    rows_excess: float
    realigned: float
    converted_l2: float
    flat_l2: float
    continued_l2: float
    flat_ratio: float
    low_rank: float
    zeros: float
    grid: float
    merge_residual: float
    merge_weight: float
    merge_gain: float
    merge_spread: float
    merge_share: float
    growth: float


@cache
def thresholds() -> Thresholds:
    """Those that ship with the program."""
    table: Any = yaml.safe_load(Path(__file__).with_name("thresholds.yaml").read_text("utf-8"))
    return msgspec.convert(table["thresholds"], Thresholds)
