"""After a restart, and after a worker's death, budgets go on with what the ledger's own records say."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ecotone.gateway.limits import Limiter
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.gateway.spending import spent, totals
from ecotone.ledger import Ledger, LedgerWriter, kept_sums, settle_open
from ecotone.ledger.usage import Who

LIMITS = {
    "key:k1": Limit(budgets=(Budget(id="key", limit=10**13, window="hour"),)),
    "project:shop": Limit(
        budgets=(Budget(id="month", limit=10**13, window="month"), Budget(id="all", limit=10**14, window="total"))
    ),
    "organisation": Limit(budgets=(Budget(id="org", limit=10**13, window="day"),)),
    "project:shop/user:*": Limit(budgets=(Budget(id="each", limit=10**13, window="week"),)),
    "project:shop/tag:nightly": Limit(budgets=(Budget(id="tag", limit=10**13, window="month"),)),
}


def who(hour: str, **more: str) -> Who:
    told = {"project": "shop", "key": "k1", "user": "", "tags": "", "route": "", "backend": "openai", "model": "m"}
    return Who(hour=hour, **(told | {"face": "chat"} | more))


def test_each_window_takes_what_lies_in_it_and_each_scope_what_is_its_own() -> None:
    at = datetime(2026, 11, 28, 7, 30, tzinfo=UTC).timestamp()
    costs = [
        (who("2026-11-28T07"), 1),
        (who("2026-11-28T06", user="ann", tags=",nightly,other,"), 10),
        (who("2026-11-24T23", key="k2", user="bob"), 100),
        (who("2026-11-22T23", user="ann"), 1_000),
        (who("2026-10-31T23"), 10_000),
        (who("2026-11-28T07", project="other"), 100_000),
    ]
    assert spent(costs, LIMITS, at) == {
        "key": ("2026-11-28T07", 100_001),
        "month": ("2026-11", 1_111),
        "all": ("total", 11_111),
        "org": ("2026-11-28", 100_011),
        "each:project:shop/user:ann": ("2026-W48", 10),
        "each:project:shop/user:bob": ("2026-W48", 100),
        "tag": ("2026-11", 10),
    }


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LedgerWriter]:
    found = LedgerWriter(tmp_path / "ledger", "w1")
    yield found
    found.close()


def test_whole_segments_are_added_up_once_and_only_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that reads a month of calls again at each start answers nobody meanwhile."""
    ledger, kept, now = Ledger(tmp_path / "ledger"), tmp_path / "sums", datetime.now(UTC).timestamp()
    call: dict[str, Any] = {"project": "shop", "key": "k1", "model": "m", "backend": "openai", "face": "chat"}
    chain = LedgerWriter(tmp_path / "ledger", "w1", segment_bytes=2000)
    for number in range(40):
        chain.append("opened", {"request_id": f"req-w1-{number}", **call, "reserved_cost": 1000})
        chain.append("settled", {"request_id": f"req-w1-{number}", **call, "status": "done", "cost": number})
    chain.append("started", {"settled": 0}, flush=True)
    chain.close()
    files = sorted((tmp_path / "ledger" / "w1").glob("*.jsonl"))
    assert len(files) > 4
    plain = totals(ledger, LIMITS, now)
    assert plain["w1"]["all"][1] == sum(range(40))
    assert totals(ledger, LIMITS, now, kept=kept) == plain
    assert len(list(kept.iterdir())) == len(files) - 1  # the last one may still grow

    read: list[str] = []
    real = kept_sums.summed

    def noted(lines: Iterable[bytes]) -> Any:
        found = list(lines)
        read.append(next(str(file) for file in files if found[0] in file.read_bytes()))
        return real(found)

    monkeypatch.setattr(kept_sums, "summed", noted)
    assert totals(ledger, LIMITS, now, kept=kept) == plain
    assert read == [str(files[-1])]

    first, second = sorted(kept.iterdir())[:2]
    first.write_bytes(b"\x93damaged")
    second.write_bytes(first.with_name(sorted(kept.iterdir())[2].name).read_bytes())  # of another segment
    read.clear()
    assert totals(ledger, LIMITS, now, kept=kept) == plain
    assert read == [str(files[-1]), str(files[1]), str(files[0])]


def test_a_chain_s_open_requests_count_with_what_they_reserved(writer: LedgerWriter, tmp_path: Path) -> None:
    while time.time() % 3600 > 3570:  # the hour of a budget must not end in between
        time.sleep(1)
    call: dict[str, Any] = {"project": "shop", "key": "k1", "model": "m", "backend": "openai", "face": "chat"}
    for number, cost in enumerate((300, 500, None)):
        writer.append("opened", {"request_id": f"req-w1-{number}", **call, "reserved_cost": 1000})
        writer.append("settled", {"request_id": f"req-w1-{number}", **call, "status": "done", "cost": cost})
    writer.append("opened", {"request_id": "req-w1-9", **call, "reserved_cost": 1000})
    now = datetime.now(UTC).timestamp()
    found = totals(Ledger(tmp_path / "ledger"), LIMITS, now)
    assert {name: sum_ for name, (_, sum_) in found["w1"].items()} == dict.fromkeys(
        ("key", "month", "all", "org"), 1800
    )
    limiter = Limiter(spent=found["w1"])
    limiter.use(LIMITS)
    limiter.reserve(("key:k1", "project:shop", "organisation"), 1, 0, 0.0)
    assert limiter.spent()["month"][1:] == (1800, 0)
    assert limiter.spent()["all"][1:] == (1800, 0)


def test_what_is_settled_while_it_is_added_up_is_never_left_out(
    writer: LedgerWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor adds up what workers that are gone left, while a worker settles it."""
    call: dict[str, Any] = {"project": "shop", "key": "k1", "model": "m", "backend": "openai", "face": "chat"}
    writer.append("opened", {"request_id": "req-w1-1", **call, "reserved_cost": 1000})
    ledger = Ledger(tmp_path / "ledger")
    real, left = kept_sums.KeptSums.newest_first, [True]

    def settles_behind(sums: kept_sums.KeptSums, name: str) -> Any:
        yield from list(real(sums, name))
        if left.pop() if left else False:
            settle_open(ledger, writer)

    monkeypatch.setattr(kept_sums.KeptSums, "newest_first", settles_behind)
    assert totals(ledger, LIMITS, time.time())["w1"]["all"][1] == 1000
