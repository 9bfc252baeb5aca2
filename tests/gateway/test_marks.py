"""Whose request it was, what it is told to a backend of another dialect, and what is kept of it: at the wire."""

import asyncio
import http.server
import json
from typing import Any

import msgspec
import pytest

from ecotone.gateway.limits import Limiter
from ecotone.gateway.plane.listing import _asked
from ecotone.gateway.snapshot import Limit, Target
from ecotone.ledger.texts import Texts
from ecotone.settings.egress import Egress
from ecotone.vocabulary import Location
from tests.receiver import until
from tests.serving import Serving


def changed(house: Any, **fields: Any) -> None:
    """Another snapshot from now on."""
    house.snapshots.current = msgspec.structs.replace(house.snapshots.current, **fields)


def backend(house: Any, name: str, path: str, **more: Any) -> None:
    target = Target(
        name=name,
        legal="free",
        location=Location.EXTERNAL,
        backend=name,
        url=house.provider.url.removesuffix("/v1") + path,
        key_env="FAKE_API_KEY",
        **more,
    )
    changed(house, backends={**house.snapshots.current.backends, name: target})


def opened(house: Any, answer: Any) -> dict[str, Any]:
    return next(r for r in house.records(answer.headers["x-request-id"]) if r["kind"] == "opened")


def test_azure_gets_its_key_in_its_own_header_and_the_deployment_in_its_path(house: Any) -> None:
    backend(house, "az", "", dialect="azure")
    assert house.post("az/gpt 4").status_code == 200
    assert house.provider.paths[-1] == "/openai/deployments/gpt%204/chat/completions?api-version=2024-10-21"
    headers = house.provider.headers[-1]
    assert headers["api-key"] == "sk-upstream-secret"
    assert "authorization" not in headers


def test_azures_models_are_asked_for_with_its_own_header() -> None:
    told: list[dict[str, str]] = []

    class Listed(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            told.append({name.lower(): value for name, value in self.headers.items()})
            body = json.dumps({"data": [{"id": f"m{n}"} for n in range(900)]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.HTTPServer(("127.0.0.1", 0), Listed)
    with Serving(server), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZ_KEY", "sk-of-azure")
        target = Target(
            name="az", backend="az", legal="free", location=Location.EXTERNAL, key_env="AZ_KEY", dialect="azure",
            url=f"http://127.0.0.1:{server.server_port}/openai/v1",
        )  # fmt: skip
        found = until(lambda: asyncio.run(_asked(target, Egress())))  # which has three seconds to come
    assert len(found) == 900, "a provider of many models lists them all"
    assert told[0]["api-key"] == "sk-of-azure" and "authorization" not in told[0]


def test_azures_newer_address_has_no_deployment_in_its_path(house: Any) -> None:
    backend(house, "az", "/openai/v1", dialect="azure")
    assert house.post("az/gpt-4").status_code == 200
    assert house.provider.paths[-1] == "/openai/v1/chat/completions"


def test_the_salt_of_vllms_prefix_cache_is_ours_and_another_one_for_each_project(house: Any) -> None:
    backend(house, "engine", "/v1", dialect="vllm")
    salts = []
    for key in ("eck_shop", "eck_shop", "eck_house"):
        assert house.post("engine/m", key=key, cache_salt="that of another tenant").status_code == 200
        salts.append(house.provider.seen[-1]["cache_salt"])
    assert salts[0] == salts[1] != salts[2]
    assert "that of another tenant" not in salts


def test_no_salt_goes_to_a_backend_that_may_not_know_the_field(house: Any) -> None:
    house.post("fake/gpt-test")
    assert "cache_salt" not in house.provider.seen[-1]


def test_records_name_tags_and_a_hash_of_the_end_user_but_not_the_user(house: Any) -> None:
    key = "authorization"
    body = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hi"}], "user": "maria-77"}
    answer = house.client.post(
        "/v1/chat/completions", json=body, headers={key: "Bearer eck_shop", "x-ecotone-tags": "web, beta"}
    )
    record = opened(house, answer)
    assert record["tags"] == ["web", "beta"]
    assert len(record["user"]) == 32
    assert house.settled(answer)["user"] == record["user"]
    assert "maria-77" not in json.dumps(house.records(answer.headers["x-request-id"]))
    other = house.client.post("/v1/chat/completions", json=body | {"user": "tom"}, headers={key: "Bearer eck_shop"})
    assert opened(house, other)["user"] != record["user"]


@pytest.mark.parametrize("told", ["two words", "a\u00e4", "x" * 65, ",".join(f"t{n}" for n in range(11))])
def test_what_is_no_tag_is_named(house: Any, told: str) -> None:
    headers = [(b"authorization", b"Bearer eck_shop"), (b"x-ecotone-tags", told.encode("latin-1"))]
    body = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hi"}]}
    answer = house.client.post("/v1/chat/completions", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-ecotone-tags")
    assert house.provider.seen == []


def test_an_end_users_limit_is_his_own(house: Any) -> None:
    house.gateway.limiter = Limiter()
    changed(house, limits={"project:shop/user:*": Limit(requests=1)})
    assert [house.post("fake/gpt-test", user=user).status_code for user in ("a", "b", "a")] == [200, 200, 429]


@pytest.mark.parametrize("stream", [False, True])
def test_a_projects_texts_are_kept_where_it_asked_for_it_and_nowhere_else(house: Any, stream: bool) -> None:
    texts = Texts.of(house.gateway._settings)
    house.gateway._texts = texts
    shop = house.snapshots.current.consumers["shop"]
    assert "texts" not in house.settled(house.post("fake/gpt-test", "before"))
    changed(house, consumers={**house.snapshots.current.consumers, "shop": msgspec.structs.replace(shop, keep_days=3)})
    answer = house.post("fake/gpt-test", "kept words", stream=stream)
    assert house.settled(answer)["texts"] == "kept"
    texts.close()
    (found,) = texts.read(answer.headers["x-request-id"])
    told = json.dumps(found["text"])
    assert "kept words" in told
    assert ("You said" in told) or ('\\"Yo' in told)
    stored = b"".join(p.read_bytes() for p in (house.folder / "texts").rglob("*") if p.is_file())
    assert stored
    assert b"kept words" not in stored
