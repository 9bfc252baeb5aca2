"""A hub that must not be overrun says so in the form its clients wait by; without the setting nothing is counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecotone.app import rate_limits as module
from ecotone.app.rate_limits import RateLimits, Unlimited, rate_limits
from ecotone.vocabulary import Invalid
from tests.hub.built import Built, bearer

WINDOW = 99_999 * 3600
RARE = "3 per 99999 hours"
"""All windows begin together, at multiples of their length since the machine began: none of these ends here."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    found = Built(tmp_path_factory.mktemp("limited"), rate_limit=RARE)
    yield found
    found.stop()


def test_one_call_too_many_is_told_when_to_come_again(limited: Built) -> None:
    for left in (2, 1, 0):
        answer = limited.http.get("/api/models")
        assert answer.status_code == 200 and answer.headers["ratelimit"].startswith(f'"api";r={left};t=')
    refused = limited.http.get("/api/models")
    assert refused.status_code == 429 and "3 requests" in refused.json()["error"]
    wait = int(refused.headers["retry-after"])
    assert 0 < wait <= WINDOW and refused.headers["ratelimit"] == f'"api";r=0;t={wait}'
    assert refused.headers["ratelimit-policy"] == f'"fixed window";"api";q=3;w={WINDOW}'
    assert refused.headers["x-request-id"]


def test_one_caller_does_not_use_up_what_another_has(limited: Built) -> None:
    for caller in ("owner", "other"):
        seen = [limited.http.get("/api/whoami-v2", headers=bearer(limited.tokens[caller])) for _ in range(4)]
        assert [answer.status_code for answer in seen] == [200, 200, 200, 429]
    assert limited.http.get("/a/b/resolve/main/x").headers["ratelimit"].startswith('"resolvers";r=2')
    assert limited.http.get("/health").status_code == 200 and "ratelimit" not in limited.http.get("/health").headers


def test_guessing_tokens_is_limited_too(tmp_path: Path) -> None:
    built = Built(tmp_path, rate_limit=RARE)
    try:
        seen = [built.http.get("/api/whoami-v2", headers=bearer(f"ect_guess{n}")).status_code for n in range(5)]
    finally:
        built.stop()
    assert seen == [401, 401, 401, 429, 429]


def test_windows_end_and_callers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    limits = RateLimits(1, 60, clock=lambda: now[0])
    first, second = limits.count("/api/x", "a"), limits.count("/api/x", "a")
    assert first and second and (first.left, second.left) == (0, -1) and second.seconds == 20
    now[0] += 20
    third = limits.count("/api/x", "a")
    assert third and third.left == 0
    monkeypatch.setattr(module, "MOST_CALLERS", 2)
    assert [c.left for n in range(4) if (c := limits.count("/api/x", f"new{n}"))] == [0, 0, -1, -1]
    assert limits.count("/models/x", "a") is None


def test_the_setting_is_read_or_named() -> None:
    assert type(rate_limits("")) is Unlimited
    made = rate_limits("500 per 5 minutes")
    counted = made.count("/api/models", "a")
    assert made.headers(counted)["ratelimit-policy"] == '"fixed window";"api";q=500;w=300'
    for wrong in ("many", "0 per minute", "5 per 0 seconds", "5 per day", "-1 per hour", "5"):
        with pytest.raises(Invalid, match="ECOTONE_RATE_LIMIT"):
            rate_limits(wrong)
