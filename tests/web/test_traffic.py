"""Plots and figures as a reader sees them: nothing that lies, nothing that runs."""

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecotone.web.explained import explained
from ecotone.web.time_plots import MOST_SERIES, nice, time_plot
from ecotone.web.traffic import number, seconds, share, usd

VALUES = st.lists(st.none() | st.floats(0, 1e12), min_size=1, max_size=60)


@given(st.lists(st.tuples(st.text(max_size=20), VALUES), max_size=9))
@example([("", [5e-324])])
def test_every_value_is_within_its_plot_and_no_name_is_markup(series: list[tuple[str, list[float | None]]]) -> None:
    plot = time_plot("x", "<b>", [1_800_000_000 + 60 * n for n in range(60)], series, number)
    assert "<b>" not in plot.svg and len(plot.names) <= MOST_SERIES
    points = re.findall(r'(?:points="([^"]+)"|cx="([^"]+)" cy="([^"]+)")', plot.svg)
    drawn = 0
    for line, x, y in points:
        for px, py in [p.split(",") for p in line.split()] if line else [(x, y)]:
            assert 0 <= float(px) <= 400 and 0 <= float(py) <= 190
            drawn += 1
    assert drawn == sum(value is not None for _, values in series[:MOST_SERIES] for value in values)


@given(st.floats(1e-12, 1e15))
def test_an_axis_ends_just_above_its_highest_value(value: float) -> None:
    assert value * (1 - 1e-9) <= nice(value) <= 2.51 * value
    assert nice(0) == nice(math.nan) == 1


@pytest.mark.parametrize(
    ("pico", "told"),
    [
        (None, "not known"),
        (0, "0"),
        (1, "0.000000000001"),
        (97_500_000, "0.000097"),
        (4_200_000_000, "0.0042"),
        (10**10, "0.0100"),
        (1234 * 10**12, "1,234.00"),
    ],
)
def test_money_is_told_as_what_it_is(pico: int | None, told: str) -> None:
    assert usd(pico) == told


def test_figures_are_short_and_never_claim_nothing_for_something() -> None:
    assert [share(0, 5), share(1, 100_000), share(1, 3), share(1, 30)] == ["0 %", "< 0.1 %", "33 %", "3.3 %"]
    assert [seconds(0.0123), seconds(2.34567), seconds(None)] == ["12.3 ms", "2.35 s", ""]
    assert [number(0), number(0.0002), number(12.345), number(3_400_000)] == ["0", "0.0002", "12.3", "3.4M"]


@pytest.mark.parametrize(
    ("told", "outcome", "failed"),
    [
        ({"status": "done", "settled_at": "2026-11-28T08:00:00Z", "cost": None}, "answered", False),
        ({"status": "client_gone"}, "the client left", False),
        ({"status": "upstream_died", "error": "upstream_died"}, "upstream died", True),
        ({"status": 451, "code": "policy_denied", "refused_at": "x"}, "refused (policy_denied)", True),
        ({"status": 451, "code": "refused_by_decision", "refused_at": "x"}, "refused (refused_by_decision)", True),
        ({"opened_at": "2026-11-28T08:00:00Z"}, "not ended yet", False),
        (
            {"decision": ["nonsense"], "failed": "x", "records": None, "kinds": 5, "status": "new word"},
            "new word",
            True,
        ),
    ],
)
def test_a_request_is_explained_however_its_records_look(told: dict[str, object], outcome: str, failed: bool) -> None:
    found = explained({"request_id": "r", "failed": [], "records": []} | told)
    assert (found.outcome, found.failed) == (outcome, failed)
    assert ("Cost", "not known") in found.used or "settled_at" not in told


def test_a_request_tells_who_was_tried_and_what_would_have_helped() -> None:
    found = explained(
        {
            "failed": [{"model": "a/x", "backend": "a", "error": "upstream_timeout", "seconds": 1.5}],
            "model": "b/x",
            "backend": "b",
            "status": "done",
            "settled_at": "2026-11-28T08:00:00Z",
            "cost": 1_500_000_000_000,
            "price": "2026-11-01",
            "face": "tasks",
            "task": "fill-mask",
            "decision": {
                "verdict": "deny",
                "would_allow": [{"change": "purpose research"}],
                "duties": [{"text": "name it"}],
            },
        }
    )
    assert [(a.model, a.outcome, a.took, a.failed) for a in found.attempts] == [
        ("a/x", "upstream timeout", "1.5 s", True),
        ("b/x", "answered", "", False),
    ]
    assert found.would_allow == ["purpose research"] and found.duties == ["name it"]
    assert ("Cost", "1.5 USD") in found.used and ("Price", "2026-11-01") in found.used
    assert found.verdict_word == "Not allowed" and ("Task", "fill-mask") in found.who


BUDGET = {
    "scope": "project:shop",
    "value": "50 USD",
    "window": "2026-11",
    "opens": "2026-12-01T00:00:00Z",
    "budget": "project:shop@month",
}


def test_a_request_that_a_budget_refused_has_a_verdict_and_names_the_budget_and_who_can_change_it() -> None:
    found = explained({"refused_at": "x", "status": 429, "code": "budget_exceeded", "decision": {}, "budget": BUDGET})
    assert (found.verdict, found.verdict_mark, found.verdict_word) == ("deny", "✕", "Refused by a budget")
    told = dict(found.budget)
    assert told["Budget of"] == "the project shop"
    assert told["It holds"] == "50 USD for the month 2026-11"
    assert told["Opens again"] == "2026-12-01 00:00:00 UTC"
    assert told["Who can change it"].startswith("an administrator, with `ecotone project set shop --budget")


@pytest.mark.parametrize(
    ("scope", "window", "named", "holds"),
    [
        ("key:4711", "2026-W48", "the key 4711", "50 USD for the week 2026-W48"),
        ("organisation", "total", "the organisation", "50 USD in total"),
        ("backend:openai", "2026-11-28", "the backend openai", "50 USD for the day 2026-11-28"),
        (
            "project:shop/user:ann",
            "2026-11-28T08",
            "the user 'ann' of the project shop",
            "50 USD for the hour 2026-11-28 at 08",
        ),
    ],
)
def test_whosever_the_budget_is_it_is_told(scope: str, window: str, named: str, holds: str) -> None:
    budget = BUDGET | {"scope": scope, "window": window, "opens": None}
    found = explained({"refused_at": "x", "status": 429, "code": "budget_exceeded", "budget": budget})
    told = dict(found.budget)
    assert (told["Budget of"], told["It holds"], told["Opens again"]) == (named, holds, "not by itself")


def test_refusals_without_a_verdict_say_what_refused_also_in_records_of_before() -> None:
    for code in ("personal_data", "privacy_denied"):
        found = explained({"refused_at": "x", "status": 403, "code": code, "decision": {}})
        assert (found.verdict_word, found.budget) == ("Refused for what the text holds", [])
    old = explained({"refused_at": "x", "status": 402, "code": "insufficient_quota", "decision": {}, "message": "The"})
    assert (old.verdict_word, old.message) == ("Refused by a budget", "The")
    assert [name for name, _ in old.budget] == ["Who can change it"]
    price = explained({"refused_at": "x", "status": 429, "code": "price_unknown", "model": "far/m", "budget": BUDGET})
    assert (
        "price is not known" in price.verdict_word
        and "`ecotone price set far/m" in dict(price.budget)["Who can change it"]
    )


def test_a_stream_that_its_budget_cut_keeps_its_verdict_and_names_the_budget() -> None:
    told = {"settled_at": "x", "status": "failed", "error": "budget_exceeded", "decision": {"verdict": "allow"}}
    found = explained(told | {"budget": BUDGET})
    assert (found.outcome, found.verdict) == ("failed (budget_exceeded)", "allow")
    assert dict(found.budget)["Budget of"] == "the project shop"
