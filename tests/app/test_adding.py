"""Sums of closed segments are kept while a gateway runs, so that its next start does not read all that it wrote."""

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ecotone.app import adding
from ecotone.app.adding import Adder
from ecotone.gateway.chains import sums_folder
from ecotone.ledger import Ledger, LedgerWriter, kept_sums
from ecotone.ledger.kept_sums import KeptSums
from ecotone.ledger.retiring import closed
from ecotone.settings import Settings
from tests.receiver import until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def chain(settings: Settings) -> Iterator[LedgerWriter]:
    made = LedgerWriter(settings.folder("ledger"), "w1", segment_bytes=2000)
    yield made
    made.close()


@pytest.fixture
def adder(settings: Settings) -> Iterator[Adder]:
    made = Adder(settings, seconds=0.05)
    made.start()
    yield made
    made.stop()


def write(chain: LedgerWriter, calls: int) -> None:
    for number in range(calls):
        told = {"request_id": f"req-w1-{number}", "project": "shop", "key": "k1", "model": "m", "face": "chat"}
        chain.append("settled", {**told, "status": "done", "cost": 10}, flush=True)


def is_kept(place: Path, names: set[str]) -> bool:
    return place.exists() and {file.name for file in place.iterdir()} == names


def test_what_is_closed_while_it_runs_is_added_up_by_the_time_of_the_next_start(
    settings: Settings, chain: LedgerWriter, adder: Adder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, place = Ledger(settings.folder("ledger")), sums_folder(settings)
    for _ in range(2):
        write(chain, 40)
        whole = {f"w1-{segment.stem}" for segment in closed(settings.folder("ledger") / "w1")}
        assert len(whole) > 4
        until(partial(is_kept, place, whole))
    read: list[Any] = []
    real = kept_sums.summed
    monkeypatch.setattr(kept_sums, "summed", lambda lines: read.append(lines) or real(lines))
    told = [sums for costs in KeptSums(ledger, place).newest_first("w1") for _, sums in costs]
    assert (sum(sums.requests for sums in told), sum(sums.cost for sums in told)) == (80, 800)
    assert len(read) == 1, "all but the segment that may still grow was kept"


def test_a_segment_that_cannot_be_kept_is_tried_once(
    settings: Settings, chain: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(chain, 40)
    whole = closed(settings.folder("ledger") / "w1")
    whole[0].write_bytes(b"no record\n")
    begun: list[list[str]] = []
    real = subprocess.Popen

    def noted(command: list[str], **how: Any) -> Any:
        begun.append(command)
        return real(command, **how)

    monkeypatch.setattr(adding.subprocess, "Popen", noted)
    adder = Adder(settings, seconds=0.05)
    adder._look()
    adder._look()
    assert len(begun) == 1 and len(list(sums_folder(settings).iterdir())) == len(whole) - 1
    write(chain, 40)
    adder._look()
    adder._look()
    assert len(begun) == 2
    whole = closed(settings.folder("ledger") / "w1")
    assert len(list(sums_folder(settings).iterdir())) == len(whole) - 1


def test_a_gateway_that_ends_waits_for_no_sums(
    settings: Settings, chain: LedgerWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o700)
    monkeypatch.setattr(adding.sys, "executable", str(slow))
    write(chain, 40)
    adder = Adder(settings, seconds=0.05)
    adder.start()
    child = until(lambda: adder._child)
    assert child.poll() is None
    adder.stop()
    adder._thread.join(90)
    assert not adder._thread.is_alive() and child.wait(90) == -9
