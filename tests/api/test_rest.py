"""The REST API over a running server: who may call what, what an error says, and what the document says."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from ecotone.api import ENDPOINTS, PREFIX
from ecotone.api.endpoint import Endpoint, Need
from tests.receiver import until
from tests.running import Running, in_time, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
USE = {"mode": "serve_api", "purpose": "commercial"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("api")) as found:
        found.publish("demo/plain", {"README.md": CARD, "config.json": b"{}"})
        yield found


def token(server: Running, user: str, role: str) -> str:
    made = server.http.post(PREFIX + "/tokens", json={"user": user, "role": role})
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


def call(server: Running, endpoint: Endpoint, secret: str | None) -> httpx.Response:
    path = re.sub(r"{\w+(:\w+)?}", "nothing", endpoint.path)
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    body = {} if endpoint.method in ("POST", "PUT") else None
    return httpx.request(endpoint.method, server.url + PREFIX + path, headers=headers, json=body, timeout=120)


def ids(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.need is not Need.READ], ids=ids)
def test_without_a_token_nothing_is_told(server: Running, endpoint: Endpoint) -> None:
    answer = call(server, endpoint, None)
    assert answer.status_code == 401
    assert "ECOTONE_TOKEN" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/usage", "GET"), ("PATCH", "/keys/x", "DELETE, GET, PUT"), ("OPTIONS", "/keys/x", "DELETE, GET, PUT"),
        ("DELETE", "/projects", "GET, POST"), ("PUT", "/nothing", None),
    ],
)  # fmt: skip
def test_a_method_that_an_address_does_not_take_is_told_with_those_it_takes(
    server: Running, method: str, path: str, allow: str | None
) -> None:
    answer = server.http.request(method, f"/api/ecotone/v1{path}")
    assert (answer.status_code, answer.headers.get("allow")) == (405 if allow else 404, allow)
    assert answer.json()["error"]["code"] == ("method_not_allowed" if allow else "not_found")


@pytest.fixture(scope="module")
def reader(server: Running) -> str:
    return token(server, "rita", "read")


@pytest.fixture(scope="module")
def writer(server: Running) -> str:
    return token(server, "will", "write")


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.need in (Need.WRITE, Need.ADMIN)], ids=ids)
def test_who_may_read_changes_nothing(server: Running, endpoint: Endpoint, reader: str) -> None:
    assert call(server, endpoint, reader).status_code == 403


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.need is Need.ADMIN], ids=ids)
def test_who_may_write_administers_nothing(server: Running, endpoint: Endpoint, writer: str) -> None:
    assert call(server, endpoint, writer).status_code == 403


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.body is not None], ids=ids)
@pytest.mark.parametrize("body", [b"{no json", b"[]", b'"text"', b'{"surprise": 1}', b"\xff\xfe", b"[" * 20000])
def test_a_body_that_does_not_fit_is_named(server: Running, endpoint: Endpoint, body: bytes) -> None:
    path = re.sub(r"{\w+(:\w+)?}", "nothing", endpoint.path)
    answer = server.http.request(endpoint.method, PREFIX + path, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert "Traceback" not in answer.text


def test_a_key_is_refused_and_named(server: Running) -> None:
    server.http.post(PREFIX + "/projects", json={"name": "keyed", **USE})
    key = server.http.post(PREFIX + "/keys", json={"project": "keyed"}).json()["key"]
    answer = httpx.get(server.url + PREFIX + "/projects", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert "eck_" in answer.json()["error"]["message"] and "ect_" in answer.json()["error"]["message"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ids)
def test_a_key_opens_nothing_here_not_even_what_all_may_read(server: Running, endpoint: Endpoint, key: str) -> None:
    answer = call(server, endpoint, key)
    assert answer.status_code == 401 and "eck_" in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def key(server: Running) -> str:
    server.http.post(PREFIX + "/projects", json={"name": "opens-nothing", **USE})
    return str(server.http.post(PREFIX + "/keys", json={"project": "opens-nothing"}).json()["key"])


def test_a_question_of_megabytes_is_refused_and_a_file_of_rows_is_not(server: Running, writer: str) -> None:
    """Anybody may ask; each such body would cost the server seconds and memory."""
    ask = {"model": "demo/plain", **USE, "variables": {f"k{n}": 1 for n in range(10_000)}}
    answer = httpx.post(server.url + PREFIX + "/licence/check", json=ask)
    assert answer.status_code == 413 and "65536" in answer.json()["error"]["message"]
    rows = {"model": "demo/plain", "to": "demo/tuned", "data": "no row\n" * 100_000}
    sent = httpx.post(server.url + PREFIX + "/tuning", json=rows, headers={"authorization": f"Bearer {writer}"})
    assert sent.status_code == 400 and "line 1" in sent.json()["error"]["message"]


def test_a_token_on_the_gateway_is_refused_and_named(server: Running, writer: str) -> None:
    answer = httpx.get(server.url + "/v1/models", headers={"authorization": f"Bearer {writer}"})
    assert answer.status_code == 401
    assert "eck_" in answer.json()["error"]["message"]


def test_a_revoked_token_is_worth_nothing_within_two_seconds(server: Running) -> None:
    def revoked(_: int) -> Callable[[], bool]:
        made = server.http.post(PREFIX + "/tokens", json={"user": "rob", "role": "admin"}).json()
        headers = {"authorization": f"Bearer {made['token']}"}
        assert httpx.get(server.url + PREFIX + "/me", headers=headers).json() == {"user": "rob", "role": "admin"}
        server.http.delete(f"{PREFIX}/tokens/{made['id']}")
        return lambda: asking.get("/me", headers=headers).status_code == 401

    with httpx.Client(
        base_url=server.url + PREFIX
    ) as asking:  # a client of its own for each look takes as long as the bar
        in_time(revoked, 2)


def test_a_user_who_lost_a_laptop_finds_and_revokes_its_token_alone(server: Running) -> None:
    """The device's page and the guide send users to their own tokens; only administrators could see any."""
    ids = {}
    for user, role in (("lea", "write"), ("lea", "read"), ("mia", "write")):
        made = server.http.post(PREFIX + "/tokens", json={"user": user, "role": role}).json()
        ids[user, role] = made["id"], {"authorization": f"Bearer {made['token']}"}
    laptop, writing = ids["lea", "write"]
    telephone, reading = ids["lea", "read"]
    strange, _ = ids["mia", "write"]

    def of(method: str, token_id: str, headers: dict[str, str]) -> int:
        return httpx.request(method, f"{server.url}{PREFIX}/tokens/{token_id}", headers=headers).status_code

    listed = httpx.get(server.url + PREFIX + "/tokens", headers=reading).json()
    assert {t["id"] for t in listed} == {laptop, telephone}
    assert of("GET", laptop, reading) == 200
    assert of("GET", strange, writing) == of("DELETE", strange, writing) == of("DELETE", "none", writing) == 404
    assert of("DELETE", laptop, reading) == 403, "a token that may only read ends none that may write"
    assert of("DELETE", telephone, writing) == 200
    assert of("DELETE", laptop, writing) == 200
    shown = server.http.get(f"{PREFIX}/tokens/{laptop}").json()
    assert shown["revoked"] is not None
    assert server.http.get(f"{PREFIX}/tokens/{strange}").json()["revoked"] is None


def test_each_noun_is_made_listed_shown_and_removed(server: Running) -> None:
    nouns: list[tuple[str, str, dict[str, Any], str]] = [
        ("projects", "POST", {"name": "whole", **USE}, "whole"),
        ("backends", "POST", {"name": "whole-backend", "url": "http://127.0.0.1:9/v1"}, "whole-backend"),
        ("routes", "PUT", {"to": ["demo/plain"]}, "whole-route"),
    ]
    for noun, method, body, name in nouns:
        at = f"{PREFIX}/{noun}" + (f"/{name}" if method == "PUT" else "")
        made = server.http.request(method, at, json=body)
        assert made.is_success, made.text
        assert name in [row["name"] for row in server.http.get(f"{PREFIX}/{noun}").json()]
        assert server.http.get(f"{PREFIX}/{noun}/{name}").json()["name"] == name
        assert server.http.delete(f"{PREFIX}/{noun}/{name}").is_success
        gone = server.http.get(f"{PREFIX}/{noun}/{name}")
        assert gone.status_code == 404 and name in gone.json()["error"]["message"]


def test_a_model_is_not_deleted_while_a_route_leads_to_it(server: Running) -> None:
    server.publish("demo/routed", {"README.md": CARD})
    server.http.put(PREFIX + "/routes/leads", json={"to": ["demo/routed"]})
    refused = server.http.delete(PREFIX + "/models/demo/routed")
    assert refused.status_code == 409 and "leads" in refused.json()["error"]["message"]
    server.http.delete(PREFIX + "/routes/leads")
    assert server.http.delete(PREFIX + "/models/demo/routed").is_success
    assert server.http.get(PREFIX + "/models/demo/routed").status_code == 404


def test_a_private_model_looks_absent_to_those_who_may_not_see_it(server: Running) -> None:
    from huggingface_hub import HfApi

    HfApi(endpoint=server.url, token=server.env["ECOTONE_TOKEN"]).create_repo("demo/hidden", private=True)
    for path in ("/models/demo/{}", "/audits?model=demo/{}"):
        hidden = httpx.get(server.url + PREFIX + path.format("hidden"))
        absent = httpx.get(server.url + PREFIX + path.format("absent"))
        assert hidden.status_code == absent.status_code == 404
        assert hidden.text.replace("hidden", "absent") == absent.text
    listed = httpx.get(server.url + PREFIX + "/models", params={"search": "hidden"}).json()
    assert listed == []


def test_the_document_is_openapi_and_names_every_endpoint(server: Running) -> None:
    document = httpx.get(server.url + PREFIX + "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    served = {(m.upper(), p) for p, methods in document["paths"].items() for m in methods}
    assert served == {(e.method, PREFIX + re.sub(r":\w+}", "}", e.path)) for e in ENDPOINTS}
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_a_licence_question_is_answered_with_clauses(server: Running) -> None:
    ask = {"model": "demo/plain", **USE}
    answer = httpx.post(server.url + PREFIX + "/licence/check", json=ask).json()
    assert answer["verdict"] in ("allow", "allow_with_duties")
    assert answer["reasons"] and all(r["clause"] for r in answer["reasons"])
    entries = httpx.get(server.url + PREFIX + "/licences").json()
    assert {"Apache-2.0", "MIT"} <= {e["id"] for e in entries}
    wrong = httpx.post(server.url + PREFIX + "/licence/check", json={**ask, "mode": "wish"})
    assert wrong.status_code == 400 and "mode" in wrong.json()["error"]["message"]


def test_why_of_an_unknown_request_says_where_to_find_one(server: Running) -> None:
    answer = server.http.get(PREFIX + "/why/req-nothing")
    assert answer.status_code == 404 and "x-request-id" in answer.json()["error"]["message"]


def test_a_body_without_end_is_cut(server: Running, tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(70):
            yield b" " * 1024 * 1024

    answer = server.http.post(PREFIX + "/projects", content=parts())
    assert answer.status_code == 413


def test_a_waiver_needs_two_administrators_and_the_ledger_tells_both(server: Running) -> None:
    day = (datetime.now(UTC) + timedelta(days=20)).date().isoformat()
    ask = {"kind": "waiver", "subject": "demo/plain", "reason": "counsel said so"}
    assert "expires" in server.http.post(PREFIX + "/rules", json=ask).json()["error"]["message"]
    made = server.http.post(PREFIX + "/rules", json={**ask, "expires": day}).json()
    assert made["state"] == "waiting for approval" and made["approved_by"] is None
    at = f"{PREFIX}/rules/{made['id']}/approve"
    own = server.http.post(at)
    assert own.status_code == 403 and "another administrator" in own.json()["error"]["message"]
    second = {"authorization": f"Bearer {token(server, 'dora', 'admin')}"}
    approved = httpx.post(server.url + at, headers=second).json()
    assert (approved["by"], approved["approved_by"], approved["state"]) == ("admin", "dora", "in force")
    assert httpx.post(server.url + at, headers=second).status_code == 409
    written = b"".join(f.read_bytes() for f in server.data.glob("ledger/**/*") if f.is_file())
    assert b"rule.proposed" in written and b"rule.approved" in written and b"dora" in written
    answer = server.http.post(PREFIX + "/licence/check", json={"model": "demo/plain", **USE}).json()
    assert answer["policy"]["allowed"]
    server.http.delete(f"{PREFIX}/rules/{made['id']}")


def test_the_profile_is_told_once_kept_whole_and_noted(server: Running, reader: str) -> None:
    before = server.http.get(PREFIX + "/profile").json()
    assert not before["told"] and "2024-06" in before["asked_months"]
    ask = {"model": "meta-llama/Llama-3.1-8B", **USE}
    assert server.http.post(PREFIX + "/licence/check", json=ask).json()["verdict"] == "unknown"
    told = {
        "users": 987_654_321,
        "mau_at": {"2024-06": 123_456_789},
        "domicile": "de",
        "positions": {"nc_internal": "deny"},
    }
    kept = server.http.put(PREFIX + "/profile", json=told).json()
    assert (kept["profile"]["domicile"], kept["updated_by"], kept["told"]) == ("DE", "admin", True)
    answer = httpx.post(server.url + PREFIX + "/licence/check", json=ask)
    assert answer.json()["verdict"] == "allow_with_duties"
    figures = ("987654321", "123456789")  # so long that no hash in the answer has them by chance
    assert not [word for word in figures if word in answer.text], "who has no account learns no figure"
    assert "policy" not in answer.json()
    more = httpx.post(server.url + PREFIX + "/licence/check", json={**ask, "variables": {"org.mau_at.2024-06": 8e8}})
    assert more.json()["verdict"] == "ask_licence"
    assert httpx.get(server.url + PREFIX + "/profile").status_code == 401
    seen = httpx.get(server.url + PREFIX + "/profile", headers={"authorization": f"Bearer {reader}"})
    assert seen.json()["profile"]["users"] == 987_654_321
    assert server.http.put(PREFIX + "/profile", json={"users": -4}).status_code == 400
    assert b"profile.set" in b"".join(f.read_bytes() for f in server.data.glob("ledger/**/*") if f.is_file())


def test_a_question_may_tell_the_day_the_licence_declared_and_that_it_was_changed(server: Running) -> None:
    ask = {"model": "demo/plain", "mode": "publish_weights", "purpose": "noncommercial", "modified": True}
    answer = httpx.post(
        server.url + PREFIX + "/licence/check", json={**ask, "declared_licence": "mit", "date": "2026-01-02"}
    ).json()
    assert answer["use"]["declared_licence"] == "mit" and answer["use"]["date"] == "2026-01-02"
    assert answer["use"]["modified"]


def test_a_writer_cancels_no_job_of_somebody_else(server: Running, writer: str) -> None:
    job = server.http.post(PREFIX + "/store/check", json={}).json()
    path = f"{PREFIX}/jobs/{job['id']}/cancel"
    refused = httpx.post(server.url + path, headers={"authorization": f"Bearer {writer}"})
    assert refused.status_code == 403 and job["actor"] in refused.json()["error"]["message"]
    assert server.http.post(path).status_code in (200, 409)  # 409 once it is done


def test_a_writer_reads_no_log_of_somebody_elses_job_but_sees_that_it_runs(server: Running, writer: str) -> None:
    """A log quotes what the job worked on: rows of a data set, names of private models."""
    job = server.http.post(PREFIX + "/store/check", json={}).json()
    headers = {"authorization": f"Bearer {writer}"}
    path = f"{PREFIX}/jobs/{job['id']}"
    refused = httpx.get(f"{server.url}{path}/log", headers=headers)
    assert refused.status_code == 403 and "read the log" in refused.json()["error"]["message"]
    assert httpx.get(server.url + path, headers=headers).json()["kind"] == job["kind"]
    assert "attempt 1" in until(lambda: server.http.get(f"{path}/log").json()["log"], 90)
