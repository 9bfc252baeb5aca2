"""What programs tell refusals apart by: status, type, code, and whether the client tries again by itself."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ecotone.gateway.snapshot import Budget, Limit
from ecotone.ledger import Ledger, explain
from tests.gateway.wires import Scene, whole


@pytest.fixture
def through() -> str:
    return "connections"


def post(scene: Scene, model: str = "wire/m", **body: Any) -> tuple[int, str, str, dict[str, str]]:
    answer = scene.house.post(model, **body)
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"], dict(answer.headers)


def broke(scene: Scene) -> None:
    scene.place(limits={"project:shop": Limit(budgets=(Budget(id="p", limit=1, window="month"),))})


def test_a_spent_budget_is_a_rate_limit_error_at_once_and_openai_python_does_not_try_it_again(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    broke(scene)
    got = scene.call(retries=2)
    assert (got["error"], got["status"], got["code"]) == ("RateLimitError", 429, "budget_exceeded")
    assert got["retry_after"] is None, "there is nothing to wait for"
    assert "the project shop" in got["message"] and "an administrator" in got["message"]
    assert len([r for r in scene.records if r["kind"] == "refused"]) == 1, "the client asked once"


def test_a_rate_is_tried_again_by_the_client_as_nothing_says_that_it_does_not_help(scene: Scene) -> None:
    """The other 429, which the same client waits for: so it is the header that keeps it from a budget."""
    scene.wire(lambda s, _: s.sendall(whole()))
    scene.place(limits={"project:shop": Limit(requests=120)})
    statuses = set()
    for _ in range(2000):  # more than the two a second that come back, however slow the machine
        statuses.add(scene.house.post("wire/m").status_code)
        if 429 in statuses:
            break
    assert 429 in statuses
    assert scene.call(retries=2)["error"] is None


def test_budget_and_price_have_the_type_of_money_and_no_time_to_wait_for(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    broke(scene)
    status, kind, code, headers = post(scene)
    assert (status, kind, code) == (429, "insufficient_quota", "budget_exceeded")
    assert headers["x-should-retry"] == "false" and not {"retry-after", "retry-after-ms"} & headers.keys()
    scene.place(prices={})
    status, kind, code, headers = post(scene)
    assert (status, kind, code) == (429, "insufficient_quota", "price_unknown")
    assert headers["x-should-retry"] == "false" and not {"retry-after", "retry-after-ms"} & headers.keys()
    scene.place(limits={"project:shop": Limit(requests=0)})
    assert post(scene)[:3] == (429, "rate_limit_error", "rate_limit_exceeded")
    assert not scene.rests(), "a budget says nothing about the backend"


def test_why_tells_which_budget_refused_how_much_it_holds_and_when_it_opens_again(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    broke(scene)
    before = datetime.now(UTC)
    answer = scene.house.post("wire/m")
    told = explain(Ledger(scene.house.folder / "ledger"), answer.headers["x-request-id"])
    assert told is not None
    budget, months = told["budget"], {at.strftime("%Y-%m") for at in (before, datetime.now(UTC))}
    assert (budget["scope"], budget["budget"]) == ("project:shop", "p") and budget["window"] in months
    assert budget["value"] == "0.000000000001 USD"
    assert budget["opens"] == answer.json()["ecotone"]["opens"] and budget["opens"] > before.strftime("%Y-%m-%d")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (b"429 Too Many Requests", {"message": "no quota", "type": "insufficient_quota", "code": "insufficient_quota"}),
        (b"429 Too Many Requests", {"message": "no quota", "type": "insufficient_quota", "code": "budget_exceeded"}),
        (b"402 Payment Required", {"message": "no quota", "code": "balance"}),
    ],
    ids=["openai", "ecotone", "402"],
)
def test_an_account_at_a_provider_that_is_empty_is_not_the_callers_rate(
    scene: Scene, status: bytes, error: dict[str, Any]
) -> None:
    """Telling it as a rate had every client wait, and try again, for a bill that somebody else has to pay."""
    wire = scene.wire(lambda s, _: s.sendall(whole({"error": error}, status=status)))
    other = scene.wire(lambda s, _: s.sendall(whole()), name="other")
    got = scene.call(retries=2)
    assert (got["status"], got["code"], wire.requests) == (502, "backend_unpaid", 1)
    assert "wire" in got["message"] and "no quota" in got["message"] and "administrator" in got["message"]
    scene.route("either", "wire/m", "other/m")
    assert scene.call("either")["error"] is None and other.requests == 1, "the next candidate of a route is asked"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"stream": "yes"}, "invalid_value", "stream"),
        ({"Model": "x"}, "invalid_request", "Model"),
    ],
    ids=str,
)
def test_a_bad_value_of_a_known_field_has_a_code_of_its_own(
    house: Any, body: dict[str, Any], code: str, param: str
) -> None:
    answer = house.post("fake/gpt-test", **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (
        400, "invalid_request_error", code, param
    )  # fmt: skip
