"""Usage: whoever is billed by it is billed once, for all of it, and can have it counted again."""

import functools
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecotone.app.keeping import Keeping
from ecotone.app.usage import Usage
from ecotone.database import Database
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.gateway.spending import totals
from ecotone.ledger import Ledger, LedgerWriter, public_key, settle_open
from ecotone.ledger.records import packed
from ecotone.ledger.segments import segments
from ecotone.ledger.usage import USD, piece
from ecotone.vocabulary import Conflict, Invalid
from tests.interleaving import overlapping

SEED = bytes(range(32))


def settled(number: int, **more: Any) -> dict[str, Any]:
    return {
        "request_id": f"req-server-{number}",
        "project": "shop" if number % 2 else "clinic",
        "key": f"k{number % 3}",
        "user": "",
        "tags": ["web", "team a"] if number % 5 == 0 else [],
        "route": "assistant",
        "model": f"m{number % 4}",
        "backend": "fake",
        "face": "chat",
        "status": "done",
        "prompt_tokens": number,
        "completion_tokens": 7,
        "cost": 1_000_003 * number,
        "estimate": number % 10 == 0,
        **more,
    }


def tables(database: Database, folder: Path) -> Usage:
    return Usage(database, Ledger(folder))


def test_a_server_that_ends_does_not_take_up_all_of_a_long_ledger_first(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told to stop in the first minutes of hours of work; the next one goes on where it was."""
    writer = LedgerWriter(tmp_path, "server", segment_bytes=20_000)
    for number in range(300):
        writer.append("settled", settled(number))
    writer.close()
    ended = tables(database, tmp_path)

    def piece_and_end(*args: Any) -> Any:
        ended.end()
        return piece(*args)

    with monkeypatch.context() as patching:
        patching.setattr("ecotone.app.usage.piece", piece_and_end)
        first = ended.project(rest=0)
    assert 0 < first < 300
    after = tables(database, tmp_path)
    assert first + after.project(rest=0) == 300
    assert after.total()["requests"] == 300


def test_sums_are_the_same_piece_by_piece_and_made_anew(database: Database, tmp_path: Path) -> None:
    usage = tables(database, tmp_path)
    for name in ("server", "gw1a"):
        writer = LedgerWriter(tmp_path, name, segment_bytes=20_000)
        for number in range(300):
            writer.append("settled", settled(number))
            if number % 70 == 0:
                usage.project(rest=0)
        writer.close()
    usage.project(rest=0)
    before = usage.rows(("project", "key", "tag", "model", "hour"))
    total = usage.total()
    assert total["requests"] == 600
    assert total["prompt_tokens"] == 2 * sum(range(300))
    assert total["cost"] == str(2 * 1_000_003 * sum(range(300)))
    assert total["estimates"] == 60
    assert usage.rebuild()["records"] == 600
    assert usage.rows(("project", "key", "tag", "model", "hour")) == before
    assert usage.total() == total


def test_money_beyond_what_a_machine_word_holds_is_summed_exactly(database: Database, tmp_path: Path) -> None:
    usage = tables(database, tmp_path)
    writer = LedgerWriter(tmp_path, "server")
    costs = [9_000_000 * USD + n for n in range(5)]  # each near 2^63 of 10^-12 USD
    for number, cost in enumerate(costs):
        writer.append("settled", settled(number, cost=cost))
        usage.project(rest=0)
    writer.close()
    assert int(usage.total()["cost"]) == sum(costs) > 2**63
    assert usage.total()["cost_usd"] == "45000000.00000000001"
    assert usage.spent(datetime.now(UTC) - timedelta(days=1))["organisation"] == sum(costs)


def test_an_unknown_price_is_counted_as_unknown_and_old_records_keep_theirs(database: Database, tmp_path: Path) -> None:
    usage = tables(database, tmp_path)
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", settled(1, cost=None))
    writer.append("settled", {"request_id": "a", "project": "old", "model": "m", "cost_usd": 0.1, "prompt_tokens": 3})
    writer.append("settled", {"request_id": "b", "project": "old", "model": "m", "cost_usd": None})
    writer.append("settled", {"request_id": "c", "project": 7, "model": None, "cost": "much", "prompt_tokens": -4})
    writer.close()
    usage.project(rest=0)
    rows = {row["project"]: row for row in usage.rows(("project",))}
    assert (rows["shop"]["unpriced"], rows["shop"]["cost"]) == (1, "0")
    assert (rows["old"]["unpriced"], rows["old"]["cost_usd"], rows["old"]["prompt_tokens"]) == (1, "0.1", 3)
    assert (rows[""]["requests"], rows[""]["prompt_tokens"], rows[""]["unpriced"]) == (1, 0, 1)


def test_two_servers_that_count_at_once_count_everything_once(database: Database, tmp_path: Path) -> None:
    one = tables(database, tmp_path)
    other = Usage(database, Ledger(tmp_path))
    writer = LedgerWriter(tmp_path, "server", segment_bytes=100_000)
    ended = threading.Event()

    def project(usage: Usage) -> None:
        while not ended.is_set():
            usage.project(rest=0)

    with ThreadPoolExecutor(2) as pool:
        counting = [pool.submit(project, usage) for usage in (one, other)]
        for number in range(2000):
            writer.append("settled", settled(number))
        writer.close()
        ended.set()
    for done in counting:
        done.result()
    one.project(rest=0)
    assert one.total()["requests"] == 2000
    assert int(one.total()["cost"]) == 1_000_003 * sum(range(2000))


def test_two_servers_that_count_the_same_rows_in_another_order_do_not_wait_in_a_circle(
    database: Database, tmp_path: Path
) -> None:
    """PostgreSQL ends such a circle after a second by ending one of the two."""
    there, back = list(range(400)), list(reversed(range(400)))
    for turn in range(3):
        both = []
        for name, users in (("a", there), ("b", back)):
            folder = tmp_path / f"{name}{turn}"
            with closing(LedgerWriter(folder, f"{name}{turn}")) as writer:
                for number in users:
                    writer.append("settled", settled(0, user=f"u{number:04}"))
            both.append(tables(database, folder))
        start = threading.Barrier(2)

        def project(usage: Usage, start: threading.Barrier = start) -> None:
            start.wait()
            usage.project(rest=0)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(project, both))
        assert both[0].total()["requests"] == 800 * (turn + 1)


def test_two_servers_that_set_the_same_segment_apart_do_it_once(database: Database, tmp_path: Path) -> None:
    with closing(LedgerWriter(tmp_path, "server", segment_bytes=20_000)) as writer:
        for number in range(300):
            writer.append("settled", settled(number))
    first, *_ = segments(tmp_path / "server")
    both = [tables(database, tmp_path) for _ in range(2)]
    both[0].project(rest=0)
    before = both[0].total()
    acts = [functools.partial(usage.set_apart, first) for usage in both]
    assert overlapping(database, *acts, behind="from usage_positions where") == ["done", "done"]
    assert both[0].total() == before
    first.unlink()
    both[1].rebuild()
    assert both[1].total() == before


def test_a_chain_that_grows_as_fast_as_it_is_read_holds_nobody_up(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, other = tables(database, tmp_path), LedgerWriter(tmp_path, "zz")
    writer = LedgerWriter(tmp_path, "server")
    read = 0

    def growing(*how: Any) -> Any:
        nonlocal read
        read += 1
        assert read < 500, "it reads for as long as the gateway is busy, and nobody else is counted"
        found = piece(*how)
        writer.append("settled", settled(read))
        return found

    for chain in (writer, other):
        chain.append("settled", settled(0))
    with monkeypatch.context() as patched:
        patched.setattr("ecotone.app.usage.piece", growing)
        assert usage.project(rest=0) == 2
    for chain in (writer, other):
        chain.close()
    assert usage.project(rest=0) == read
    assert usage.total()["prompt_tokens"] == sum(range(read + 1))


def test_rows_of_many_users_are_written_few_at_a_time(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = tables(database, tmp_path)
    written: list[int] = []
    add = usage._add
    monkeypatch.setattr(usage, "_add", lambda session, sums: written.append(len(sums)) or add(session, sums))
    writer = LedgerWriter(tmp_path, "server")
    users = 6000
    writer.append_all([("settled", packed(settled(n, user=f"{n:032x}"))) for n in range(users)])
    writer.append_all([("settled", packed(settled(n, user="one"))) for n in range(users)])
    writer.close()
    assert usage.project(rest=0) == 2 * users
    assert max(written) < 2000, "whoever else writes waits for all of them"
    assert len(written) < users // 400, "rows that come again are written again and again"
    assert usage.total()["requests"] == 2 * users
    assert int(usage.total()["cost"]) == 2 * 1_000_003 * sum(range(users))


def test_what_was_never_acknowledged_does_not_stay_counted(database: Database, tmp_path: Path) -> None:
    """A disk that fills in the middle of a write may show records for a moment that are taken back."""
    usage = tables(database, tmp_path)
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", settled(1))
    (segment,) = segments(tmp_path / "server")
    size = segment.stat().st_size
    writer.append("settled", settled(2))
    usage.project(rest=0)
    writer.close()
    os.truncate(segment, size)
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", settled(3))
    writer.append("settled", settled(5))
    writer.close()
    usage.project(rest=0)
    assert usage.total()["requests"] == 3
    assert usage.total()["prompt_tokens"] == 9


def test_filters_and_groups(database: Database, tmp_path: Path) -> None:
    usage = tables(database, tmp_path)
    writer = LedgerWriter(tmp_path, "server")
    for number in range(20):
        writer.append("settled", settled(number))
    writer.append("settled", settled(21, tags=["web%"], status="upstream_died"))
    writer.close()
    usage.project(rest=0)
    now = datetime.now(UTC)
    assert {r["tag"]: r["requests"] for r in usage.rows(("tag",))} == {"": 16, "web": 4, "team a": 4, "web%": 1}
    assert [r["requests"] for r in usage.rows(("tag",), tag="web")] == [4]
    assert usage.total(tag="web%")["requests"] == 1
    assert usage.total(tag="we")["requests"] == 0
    assert usage.total(project="shop", key="k1")["requests"] == len([n for n in range(20) if n % 2 and n % 3 == 1])
    assert usage.total(project="shop")["errors"] == 1
    days = {now.date().isoformat(), datetime.now(UTC).date().isoformat(), (now - timedelta(hours=1)).date().isoformat()}
    assert {r["day"] for r in usage.rows(("day",))} <= days
    assert usage.total(since=now + timedelta(hours=1))["requests"] == 0
    assert usage.total(until=now - timedelta(hours=2))["requests"] == 0
    assert usage.total(since=now - timedelta(hours=1), until=now + timedelta(hours=1))["requests"] == 21
    with pytest.raises(Invalid, match="is no group"):
        usage.rows(("secret",))


def test_budgets_begin_with_what_each_scope_has_spent(database: Database, tmp_path: Path) -> None:
    usage = tables(database, tmp_path)
    since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", settled(5, user="u1", cost=500))
    writer.append("settled", settled(6, cost=70))
    opened = settled(7, location="external", reserved_prompt_tokens=11, reserved_completion_tokens=20, reserved_cost=9)
    writer.append("opened", {k: v for k, v in opened.items() if k not in ("cost", "status", "prompt_tokens")})
    writer.close()
    dead = LedgerWriter(tmp_path, "server")  # the process died in the middle of request 7
    assert settle_open(Ledger(tmp_path), dead) == 1
    dead.close()
    assert usage.spent(since) == {
        "organisation": 579,
        "backend:fake": 579,
        "project:shop": 509,
        "project:clinic": 70,
        "key:k2": 500,
        "key:k0": 70,
        "key:k1": 9,
        "user:u1": 500,
        "tag:web": 500,
        "tag:team a": 500,
    }
    assert usage.spent(since + timedelta(hours=3)) == {"organisation": 0}
    row = usage.total(key="k1")
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimates"]) == (11, 20, 1)
    assert (row["estimated_tokens"], row["estimated_cost"], row["errors"]) == (31, "9", 1)


def keeping(database: Database, folder: Path, usage: Usage) -> Keeping:
    def sign() -> None:
        writer = LedgerWriter(folder, "server")
        writer.checkpoint(SEED)
        writer.close()

    return Keeping(database, Ledger(folder), usage, seed=lambda: SEED, sign=sign, keep_days=30)


def test_segments_leave_only_after_an_export_that_arrived_and_their_usage_stays(
    database: Database, tmp_path: Path
) -> None:
    usage = tables(database, tmp_path)
    writer = LedgerWriter(tmp_path, "server", segment_bytes=20_000)
    for number in range(300):
        writer.append("settled", settled(number))
    writer.close()
    usage.project(rest=0)
    kept = keeping(database, tmp_path, usage)
    before, total = usage.rows(("project", "model", "key")), usage.total()
    intended: list[list[str]] = []
    assert kept.retire(intend=intended.append) == [], "nothing is old"
    old = time.time() - 40 * 86_400
    files = segments(tmp_path / "server")
    for file in files[:4]:
        os.utime(file, (old, old))
    with pytest.raises(Conflict, match="none was exported"):
        kept.retire(intend=intended.append)
    lines = list(kept.export(since=None, until=None, project="shop"))
    (tmp_path / "part.jsonl").write_bytes(b"".join(lines))
    assert kept.confirm(hashlib.sha256(b"".join(lines)).hexdigest()) == 0, "a part is no export of the whole"
    sent = b"".join(kept.export(since=None, until=None, project=None))
    with pytest.raises(Conflict, match="none was exported"):
        kept.retire(intend=intended.append)  # it was sent; nobody said that it arrived
    assert kept.confirm(hashlib.sha256(sent).hexdigest()) == len(files) - 1
    assert all(file.is_file() for file in files)
    day = {"project:shop": Limit(budgets=(Budget(id="b", limit=10**15, window="total"),))}
    spent = totals(Ledger(tmp_path), day, time.time())
    removed = kept.retire(intend=intended.append)
    assert removed == [f"server/{file.name}" for file in files[:4]] == intended[0]
    assert not any(file.is_file() for file in files[:4])
    assert Ledger(tmp_path).verify({}, public_key(SEED)).ok
    assert spent["server"]["b"][1] > 0
    assert totals(Ledger(tmp_path), day, time.time()) == spent, "a budget forgot what removed segments had spent"
    assert usage.rows(("project", "model", "key")) == before
    usage.rebuild()
    assert usage.rows(("project", "model", "key")) == before
    assert usage.total() == total


def exported(database: Database, tmp_path: Path, usage: Usage) -> tuple[Keeping, list[Path]]:
    """A ledger with old segments that were exported, and which those are."""
    writer = LedgerWriter(tmp_path, "server", segment_bytes=20_000)
    for number in range(300):
        writer.append("settled", settled(number))
    writer.close()
    kept = keeping(database, tmp_path, usage)
    sent = b"".join(kept.export(since=None, until=None, project=None))
    kept.confirm(hashlib.sha256(sent).hexdigest())
    old = time.time() - 40 * 86_400
    files = segments(tmp_path / "server")[:4]
    for file in files:
        os.utime(file, (old, old))
    return kept, files


def test_usage_is_projected_while_segments_are_removed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = tables(database, tmp_path)
    kept, files = exported(database, tmp_path, usage)
    usage.project(rest=0)
    total = usage.total()
    other = tables(database, tmp_path)  # of the server that a graceful restart leaves beside this one
    kept._usage = other

    def removed_behind(chain: Path) -> list[Path]:
        found = segments(chain)
        monkeypatch.setattr("ecotone.app.usage.segments", segments)
        kept.retire(intend=lambda _: None)
        return found

    monkeypatch.setattr("ecotone.app.usage.segments", removed_behind)
    assert usage.project(rest=0) == 0
    assert not any(file.is_file() for file in files)
    assert usage.total() == total


def test_two_who_remove_old_segments_at_once_remove_them_once(database: Database, tmp_path: Path) -> None:
    usage = tables(database, tmp_path)
    kept, files = exported(database, tmp_path, usage)
    inside, done, failures = threading.Event(), [], []

    def intend(_: list[str]) -> None:
        inside.set()
        other.join(1.0)  # who comes second has the time to come in between

    def second() -> None:
        inside.wait(90)
        try:
            done.append(kept.retire(intend=lambda _: None))
        except Exception as error:
            failures.append(error)

    other = threading.Thread(target=second)
    other.start()
    done.insert(0, kept.retire(intend=intend))
    other.join(90)
    assert failures == []
    assert done == [[f"server/{file.name}" for file in files], []]
