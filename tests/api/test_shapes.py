"""The OpenAPI document and the server say the same of a body: what one refuses, the other does."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from ecotone.api.endpoint import PREFIX
from tests.running import Running, running

USE = {"mode": "serve_api", "purpose": "commercial"}
URL = "https://api.example.com/v1"
HASH = "0f" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("shapes")) as found:
        found.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        found.told("backend", "add", "far", "--url", URL)
        found.key = found.told("key", "create", "--project", "shop")["id"]  # type: ignore[attr-defined]
        yield found


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(server.url + PREFIX + "/openapi.json").json()
    return found


def fits(document: dict[str, Any], method: str, path: str, names: dict[str, str], body: Any) -> bool:
    """Whether the document lets a call pass: its path's parameters, and its body."""
    told = document["paths"][PREFIX + path][method.lower()]
    for parameter in told["parameters"]:
        if not jsonschema.Draft202012Validator(parameter["schema"]).is_valid(names[parameter["name"]]):
            return False
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    return bool(
        jsonschema.Draft202012Validator({"components": document["components"], **schema}).is_valid(body)
    )  # fmt: skip


WRONG = [
    ("POST", "/backends", {"name": "far2", "url": ""}),
    ("POST", "/backends", {"name": "Far", "url": URL}),
    ("POST", "/backends", {"name": "far2", "url": URL, "dialect": "klingon"}),
    ("PUT", "/backends/far", {"url": "ftp://example.com"}),
    ("PUT", "/backends/far", {"url": "https://user:pass@example.com"}),
    ("PUT", "/backends/far", {"url": "https://example.com:99999/v1"}),
    ("PUT", "/backends/far", {"url": "http://169.254.169.254/v1"}),
    ("PUT", "/backends/far", {"url": "http://[fe80::1]/v1"}),
    ("PUT", "/backends/far", {"url": "http://0.0.0.0/v1"}),
    ("PUT", "/backends/far", {"url": "https://example.com/v1?key=x"}),
    ("POST", "/keys", {"project": "shop", "models": [""]}),
    ("POST", "/keys", {"project": "shop", "models": ["-"]}),
    ("POST", "/keys", {"project": "shop", "tags": ["a b"]}),
    ("POST", "/keys", {"project": "shop", "sha256": "00"}),
    ("POST", "/keys", {"project": "shop", "note": "two\nlines"}),
    ("POST", "/keys", {"project": "shop", "requests": -1}),
    ("POST", "/keys", {"project": "shop", "budgets": ["50USD/year"]}),
    ("PUT", "/keys/KEY", {"expires": "tomorrow"}),
    ("PUT", "/keys/KEY", {"expires": "2027-01-31T00:00:00"}),
    ("POST", "/keys/KEY/rotate", {"overlap_seconds": 90 * 86400 + 1}),
    ("POST", "/ledger/datasets", {"dataset": "", "project": "shop"}),
    ("POST", "/ledger/datasets", {"dataset": "a/b--c", "project": "shop"}),
    ("POST", "/ledger/export", {"since": "yesterday"}),
    ("POST", "/ledger/export/received", {"sha256": ""}),
    ("POST", "/ledger/retire", {"older_than": 1.6e16}),
    ("POST", "/ledger/retire", {"older_than": 0.5}),
    ("POST", "/projects", USE | {"name": "Shop"}),
    ("POST", "/projects", USE | {"name": "more", "owners": ["\\"]}),
    ("POST", "/projects", USE | {"name": "more", "territory": ["Germany"]}),
    ("POST", "/projects", USE | {"name": "more", "users": -1}),
    ("PUT", "/projects/shop", USE | {"keep_days": 3651}),
    ("PUT", "/projects/-shop", USE),
    ("PUT", "/limits/0", {}),
    ("PUT", "/limits/project:shop", {"tokens": 10**13}),
    ("PUT", "/prices/0", {"free": True}),
    ("PUT", "/prices/far%2Fm", {}),
    ("PUT", "/prices/far%2Fm", {"input": "1"}),
    ("PUT", "/prices/far%2Fm", {"input": "1", "output": "-2"}),
    ("PUT", "/prices/far%2Fm", {"input": "1", "output": "2", "free": True}),
    ("PUT", "/routes/way", {"to": []}),
    ("PUT", "/routes/way", {"to": ["far/a", "far/a"]}),
    ("PUT", "/routes/way", {"to": ["far"]}),
    ("PUT", "/routes/way", {"to": ["far/a"], "strategy": "best"}),
    ("PUT", "/routes/way", {"to": ["far/a"], "shadow_share": 0}),
    ("PUT", "/routes/way", {"to": ["far/a"], "retries": 6}),
    ("PUT", "/routes/way", {"to": ["far/a"], "connect_seconds": 3601}),
]
RIGHT = [
    ("PUT", "/backends/far", {"url": "http://127.0.0.1:8000/v1"}),
    ("PUT", "/backends/far", {"url": "http://localhost", "dialect": "vllm"}),
    ("PUT", "/backends/far", {"url": "http://[::1]:8000/v1"}),
    ("PUT", "/backends/far", {"url": "http://192.168.178.200:8000/v1"}),
    ("PUT", "/backends/far", {"url": "https://203.0.113.7/v1"}),
    ("PUT", "/backends/far", {"url": "http://[fd12:3456:789a::5]:8000/v1"}),
    ("PUT", "/backends/far", {"url": "http://[2001:db8:0:1:2:3:4:5]/v1"}),
    ("PUT", "/backends/far", {"url": "http://my_vllm:8000/v1"}),
    ("PUT", "/backends/far", {"url": URL}),
    ("POST", "/keys", {"project": "shop", "sha256": HASH, "models": ["far/*", "*"], "budgets": ["5 USD/day"]}),
    ("PUT", "/keys/KEY", {"expires": "2099-01-31T00:00:00+01:00", "note": "für den Laden", "tags": ["web:1"]}),
    ("POST", "/keys/KEY/rotate", {"overlap_seconds": 90 * 86400}),
    ("POST", "/ledger/export", {"since": "2026-11-28", "until": "2026-11-28T07:00:00Z"}),
    ("POST", "/ledger/retire", {"older_than": 1}),
    ("PUT", "/projects/shop", USE | {"owners": ["ann.b"], "territory": ["DE", "EU"], "keep_days": 3650, "users": 0}),
    ("PUT", "/limits/project:shop%2Fuser:*", {"tokens": 10**12, "budgets": ["0.5USD/hour", "7/total"]}),
    ("PUT", "/prices/far%2Fm", {"input": "0.1", "output": "2.50"}),
    ("PUT", "/prices/far%2F*", {"free": True}),
    ("PUT", "/routes/way", {"to": ["far/a", "far/b"], "strategy": "weighted", "weights": [0, 1], "shadow": "far/c"}),
]  # fmt: skip


def called(server: Running, method: str, path: str, body: Any) -> tuple[httpx.Response, str, dict[str, str]]:
    """What the server says, the document's path, and its parameters."""
    own = path.replace("KEY", server.key)  # type: ignore[attr-defined]
    answer = server.http.request(method, PREFIX + own, json=body)
    noun, _, rest = own.strip("/").partition("/")
    one = {"keys": "id", "limits": "scope", "prices": "model"}.get(noun, "name")
    if noun == "ledger" or not rest:
        return answer, own, {}
    name, _, act = rest.partition("/")
    return answer, f"/{noun}/{{{one}}}" + (f"/{act}" if act else ""), {one: name.replace("%2F", "/")}


@pytest.mark.parametrize(("method", "path", "body"), WRONG, ids=str)
def test_what_the_server_refuses_the_document_does_not_allow(
    server: Running, document: dict[str, Any], method: str, path: str, body: Any
) -> None:
    answer, told, names = called(server, method, path, body)
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert not fits(document, method, told, names, body)
    assert "Expected `" not in error["message"], "the rule says it in its own words"


@pytest.mark.parametrize(("method", "path", "body"), RIGHT, ids=str)
def test_what_the_document_allows_the_server_takes(
    server: Running, document: dict[str, Any], method: str, path: str, body: Any
) -> None:
    answer, told, names = called(server, method, path, body)
    assert answer.is_success, answer.text
    assert fits(document, method, told, names, body)


def test_a_body_that_may_be_left_out_is_not_required(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert not paths[PREFIX + "/ledger/retire"]["post"]["requestBody"]["required"]
    assert paths[PREFIX + "/prices/{model}"]["put"]["requestBody"]["required"]
    assert "application/jsonl" in paths[PREFIX + "/ledger/export"]["post"]["responses"]["200"]["content"]
