"""The gateway's own figures: what they must never hold, never lose, and never grow into."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.gateway import counters
from ecotone.gateway.counters import BOUNDS, MODELS, OTHER, SETS, Counters, Keeper, kept, load, save
from ecotone.gateway.gathering import Totals
from ecotone.gateway.history import SERIES, SPANS, Amount, History, quantile
from tests.app.gateways import gateways

NOW = 1_800_000_000.0


def bump(found: Counters, *, model: str = "far/gpt", status: str | int = "done", **more: Any) -> None:
    told = {"project": "shop", "route": "assistant", "backend": "far", "face": "chat"} | more
    found.done(
        told["project"],
        told["route"],
        told["backend"],
        model,
        told["face"],
        status,
        *(10, 20, 3_000_000, told.get("first", 0.2), told.get("seconds", 1.4)),
    )


def shown(history: History, span: str = "hour", now: float = NOW, **how: Any) -> Amount:
    total = Amount()
    for step in history.steps(span, now, **how):
        total.add(step.all.numbers)
    return total


def test_a_name_that_a_caller_made_up_is_no_label_until_a_model_has_answered_to_it() -> None:
    """A key that was pasted into the model's field would else stand in every scrape."""
    found = Counters()
    for number in range(50):
        bump(found, model=f"far/sk-secret-{number}", status="failed")
    assert {labels[3] for labels in found.cells} == {OTHER}
    bump(found, model="far/sk-proj-abcdEFGH1234567890abcdEFGH1234567890")  # some providers answer to any name
    assert {labels[3] for labels in found.cells} == {OTHER}
    bump(found, model="far/gpt")
    bump(found, model="far/gpt", status="failed")
    assert found.cells["shop", "assistant", "far", "far/gpt", "chat", "failed"][counters.REQUESTS] == 1
    assert sum(cell[counters.REQUESTS] for cell in found.cells.values()) == 53


def test_a_million_calls_with_names_made_up_keep_the_figures_small_and_whole() -> None:
    found, dice = Counters(), random.Random(7)
    for number in range(1_000_000):
        if number % 10:
            bump(found)
        else:
            bump(
                found,
                project=f"p{dice.randrange(400)}",
                model=f"far/{number}",
                route=None,
                status=dice.choice([200, 502]),
            )
    for number in range(5000):
        found.refused(f"code-{number}")
    assert len(found.cells) <= 2 * SETS + 1 and len(found.refusals) <= 101
    assert len(found._index) <= 2 * SETS + 1 and sum(map(len, found._models.values())) <= SETS * MODELS
    assert sum(cell[counters.REQUESTS] for cell in found.cells.values()) == 1_000_000
    assert sum(found.refusals.values()) == 5000
    cell = found.cells["shop", "assistant", "far", "far/gpt", "chat", "done"]
    assert (
        sum(cell[counters.FIRST : counters.WHOLE]) == sum(cell[counters.WHOLE :]) == cell[counters.REQUESTS] == 900_000
    )
    assert cell[counters.COST] == 900_000 * 3_000_000


def test_the_request_path_loads_nothing_heavy_for_its_figures() -> None:
    heavy = ("sqlalchemy", "starlette", "prometheus_client", "opentelemetry", "google.protobuf", "ecotone.database")
    code = f"import sys\nimport ecotone.gateway.counters\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_that_dies_takes_nothing_from_the_sums(tmp_path: Path) -> None:
    totals, first, second = Totals(), Counters(), Counters()
    bump(first)
    bump(first)
    first.refused("model_not_found")
    first.open = 3
    save(first, tmp_path, "worker1")
    totals.take(load(tmp_path))
    assert totals.open == 3
    bump(second)
    second.refused("model_not_found")
    save(second, tmp_path, "worker1")
    totals.take(load(tmp_path))
    totals.take(load(tmp_path))
    assert [cell[counters.REQUESTS] for cell in totals.cells.values()] == [3]
    assert totals.refusals == {"model_not_found": 2} and totals.open == 0


def test_calls_of_a_worker_that_is_silent_are_not_told_as_under_way(tmp_path: Path) -> None:
    found = Counters()
    found.open = 5
    save(found, tmp_path, "w")
    assert load(tmp_path)["w"].open == 5
    os.utime(tmp_path / "counters" / "w", (time.time() - 60, time.time() - 60))
    assert load(tmp_path)["w"].open == 0
    (tmp_path / "counters" / "x").write_bytes(b"torn")
    os.utime(tmp_path / "counters" / "w", (time.time() - 90_000, time.time() - 90_000))
    assert load(tmp_path) == {} and not (tmp_path / "counters" / "w").exists()


def test_what_a_process_counted_last_is_saved_when_it_ends(tmp_path: Path) -> None:
    found = Counters()
    keeper = Keeper(found, tmp_path, "w")
    keeper.start()
    bump(found)
    keeper.stop()
    assert [cell[counters.REQUESTS] for cell in load(tmp_path)["w"].cells.values()] == [1]


def test_a_call_that_is_saved_while_it_is_being_counted_is_counted_whole_in_the_end(tmp_path: Path) -> None:
    """The thread that saves comes in between any two of a call's numbers."""
    for step in range(8):
        found, totals, history = Counters(), Totals(), History()
        keeper = Keeper(found, tmp_path / str(step), "w")
        bump(found)
        left = [step]

        class Cell(list[float]):
            def __setitem__(self, place: Any, number: Any) -> None:
                super().__setitem__(place, number)
                left[0] -= 1  # noqa: B023
                if not left[0]:  # noqa: B023
                    look()

        def look() -> None:
            keeper._save()  # noqa: B023
            totals.take(load(tmp_path / str(step)))  # noqa: B023
            history.take(load(tmp_path / str(step)), NOW)  # noqa: B023

        look()
        (labels,) = found.cells
        found.cells[labels] = Cell(found.cells[labels])
        found._index.clear()
        bump(found)
        look()
        assert totals.cells == {labels: list(found.cells[labels])}
        assert shown(history).requests == 2 and shown(history).tokens_out == 40


def test_every_call_is_in_the_history_once_over_restarts_of_server_and_worker() -> None:
    history, server, worker = History(), Counters(), Counters()
    bump(server)
    bump(worker, status="failed")
    history.take({"server": kept(server), "worker": kept(worker)}, NOW)
    history.take({"server": kept(server), "worker": kept(worker)}, NOW)
    bump(worker)
    again = History.unpacked(history.packed())
    server, worker_began_anew = Counters(), Counters()
    bump(server)
    again.take({"server": kept(server), "worker": kept(worker)}, NOW + 61)
    bump(worker_began_anew)
    again.take({"server": kept(server), "worker": kept(worker_began_anew)}, NOW + 62)
    total = shown(again, now=NOW + 62)
    assert (total.requests, total.errors, total.tokens_in, total.tokens_out) == (5, 1, 50, 100)
    assert total.cost == 5 * 3_000_000
    assert [s.all.requests for s in again.steps("hour", NOW + 62)][-2:] == [2, 3]


def test_what_was_counted_long_before_is_no_peak_of_this_minute() -> None:
    """The history's file is gone, a worker has run for a day: its day is not this minute."""
    worker = Counters()
    worker.began = time.time() - 86_400
    bump(worker)
    history = History()
    history.take({"worker": kept(worker)}, NOW)
    assert shown(history).requests == 0
    bump(worker)
    history.take({"worker": kept(worker)}, NOW)
    assert shown(history).requests == 1


def test_a_history_that_cannot_be_read_begins_anew() -> None:
    for data in (b"", b"\x00", b"[]", History().packed()[:-1]):
        assert shown(History.unpacked(data)).requests == 0


def test_thirty_days_of_a_thousand_projects_stay_within_their_bounds() -> None:
    history = History()
    for day in range(32):
        found = Counters()
        for number in range(300):
            bump(found, project=f"p{number}")
        history.take({"server": kept(found)}, NOW + day * 86_400)
    now = NOW + 31 * 86_400
    for span, (_, most) in SPANS.items():
        steps = history._steps[span]
        assert len(steps) <= most and all(len(step) <= SERIES + 1 for step in steps.values())
    assert shown(history, "month", now).requests == 30 * 300 and shown(history, "hour", now).requests == 300
    assert len(history.packed()) < 500_000


def test_a_project_sees_its_own_calls_alone() -> None:
    history, found = History(), Counters()
    bump(found, project="shop")
    bump(found, project="secret-plans", backend="near")
    history.take({"server": kept(found)}, NOW)
    only = frozenset({"shop"})
    assert shown(history, projects=only).requests == 1
    assert history.names("hour", projects=only) == {"project": ["shop"], "route": ["assistant"], "backend": ["far"]}
    assert shown(history, only={"backend": "near"}).requests == 1
    assert shown(history, projects=only, only={"backend": "near"}).requests == 0


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_quantile_lies_within_the_bucket_of_the_true_one(share: float) -> None:
    dice = random.Random(3)
    values = sorted(dice.lognormvariate(0, 1.2) for _ in range(2000))
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[next((i for i, bound in enumerate(BOUNDS) if value <= bound), len(BOUNDS))] += 1
    true, told = values[int(share * 2000) - 1], quantile(counts, share)
    place = next(i for i, bound in enumerate(BOUNDS) if true <= bound)
    assert told is not None and BOUNDS[place - 1] <= told <= BOUNDS[place]
    assert quantile([0] * 26, share) is None and quantile([0] * 25 + [4], share) == BOUNDS[-1]


def test_calls_of_all_workers_add_up_and_are_kept_when_they_end(tmp_path: Path) -> None:
    with gateways(tmp_path, workers=2) as (found, _):
        for _ in range(20):  # each on a connection of its own, so that both workers get some
            body = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}]}
            answer = httpx.post(
                found.url + "/v1/chat/completions", json=body, headers={"authorization": "Bearer eck_shop"}, timeout=120
            )
            assert answer.status_code == 200, answer.text
        found.stop()
        told = load(found.data)
        assert len(told) == 2
        totals = Totals()
        totals.take(told)
        (labels,) = totals.cells
        assert labels == ("shop", "", "fake", "fake/gpt-test", "chat", "done")
        assert totals.cells[labels][counters.REQUESTS] == 20
        assert (totals.cells[labels][counters.TOKENS_IN], totals.open) == (220, 0)
