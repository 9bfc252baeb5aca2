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
