"""`kill -9` at 25 moments drawn from a seed: what was acknowledged is there, nothing is half there, retries succeed."""

import os
from pathlib import Path

import pytest

from tests.app.crashing import Crashing

ROUNDS = 25


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(tmp_path: Path) -> None:
    crashing = Crashing(tmp_path, int(os.environ.get("ECOTONE_TEST_SEED") or 7))  # `make bench-crash` draws anew
    try:
        for _ in range(ROUNDS):
            crashing.round()
        assert len(crashing.told.acknowledged) > ROUNDS
        orphans = crashing.settle()
        assert orphans["xorbs"] == orphans["lfs"] == orphans["git"] == 0, orphans
    finally:
        crashing.close()
