"""What crosses from one side to the other: strange secrets get one answer, a provider's headers get nowhere."""

import socket
import statistics
import time
from typing import Any

import msgspec
import pytest

from ecotone.gateway.answers import Refusal
from ecotone.gateway.plane.heads import Head
from tests.gateway.wires import ANSWER, DONE, STREAM, Wire, chunked, delta, last, whole
from tests.receiver import until

STRANGE = (
    "' OR '1'='1",
    '"; DROP TABLE keys; --',
    "\x80\xff",
    "a" * 20_000,
    "eck_shop eck_house",
    "{{7*7}}",
    "eck_",
    "%00",
)
PLACES = (
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"), ("GET", "/v1/models"),
    ("GET", "/v1/models/demo/local"), ("GET", "/v1/nothing"), ("POST", "/models/demo/local"),
    ("POST", "/models/demo/local/v1/chat/completions"), ("POST", "/models/demo/local/pipeline/fill-mask"),
    ("GET", "/models/demo/local/info"), ("POST", "/hf-inference/models/demo/local"),
)  # fmt: skip
GIVEN_AWAY = (
    b"set-cookie: session=of-the-provider", b"server: cloudflare", b'alt-svc: h3=":443"', b"x-should-retry: true",
    b"openai-organization: org-of-the-house", b"openai-project: proj-of-the-house", b"x-ratelimit-limit-requests: 7",
    b"x-request-id: theirs", b"strict-transport-security: max-age=1", b"access-control-allow-origin: *",
    b"content-disposition: attachment", b"x-ecotone-model: forged", b"link: <https://evil.example>; rel=preload",
)  # fmt: skip
OURS = {
    "x-request-id", "content-type", "content-length", "transfer-encoding", "cache-control", "x-accel-buffering",
    "connection", "date", "retry-after", "retry-after-ms",
}  # fmt: skip


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
@pytest.mark.parametrize(("method", "path"), PLACES)
def test_cve_2026_42208_a_strange_key_is_401_at_every_address_with_one_body(
    house: Any, method: str, path: str, name: str
) -> None:
    found = set()
    for secret in STRANGE:
        value = f"Bearer {secret}" if name == "authorization" else secret
        answer = house.client.request(
            method, path, headers={name: value.encode("latin-1")}, json={} if method == "POST" else None
        )
        assert answer.status_code == 401, (secret, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
        found.add(answer.text)
    assert len(found) == 1, found
    assert house.provider.seen == []


@pytest.mark.parametrize("how", ["whole", "stream", "refused"])
def test_headers_of_a_provider_stay_on_its_side(house: Any, how: str) -> None:
    def script(s: socket.socket, _: int) -> None:
        if how == "stream":
            head = STREAM.replace(b"\r\n\r\n", b"\r\n" + b"\r\n".join(GIVEN_AWAY) + b"\r\n\r\n")
            s.sendall(head + chunked(delta("Hi", "stop"), last(), DONE))
        else:
            status = b"429 Too Many" if how == "refused" else b"200 OK"
            s.sendall(whole({"error": {"message": "slow"}} if how == "refused" else ANSWER, *GIVEN_AWAY, status=status))

    wire = Wire(script)
    found = house.snapshots.current
    fake = found.backends["fake"]

    url = f"http://127.0.0.1:{wire.port}/v1"
    house.snapshots.current = msgspec.structs.replace(
        found, version=2, backends={**found.backends, "fake": msgspec.structs.replace(fake, url=url)}
    )
    answer = house.post("fake/gpt-test", stream=how == "stream")
    wire.stop()
    assert answer.status_code == (429 if how == "refused" else 200)
    foreign = {n for n in answer.headers if n not in OURS and not n.startswith("x-ecotone-")}
    assert foreign <= {"server"} and answer.headers.get("server", "uvicorn") == "uvicorn"
    assert answer.headers["x-request-id"] != "theirs"
    assert answer.headers.get("x-ecotone-model") != "forged"


def test_how_long_a_refusal_takes_does_not_tell_how_much_of_a_key_is_right(house: Any) -> None:
    """Keys are looked up by their hash: one that begins like a real one takes as long as any other."""
    house.post("fake/gpt-test")
    tail = "x" * 40

    def seconds(secret: str) -> float:
        head = Head()
        head.method, head.path = b"POST", "/v1/chat/completions"
        head.fields = {b"authorization": f"Bearer {secret}".encode()}
        began = time.perf_counter()
        with pytest.raises(Refusal):
            house.gateway._who(head, "127.0.0.1")
        return time.perf_counter() - began

    kinds = [f"eck_shop{tail}", f"eck_zzzz{tail}"]
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for n in range(3000):
        for kind in kinds if n % 2 else reversed(kinds):
            took[kind].append(seconds(kind))
    near, far = (statistics.median(took[kind]) for kind in kinds)
    assert 0.8 < near / far < 1.25


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "x-goog-api-key"])
def test_a_key_may_stand_where_any_providers_client_puts_it(house: Any, name: str) -> None:
    body = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}]}
    assert house.client.post("/v1/chat/completions", json=body, headers={name: "eck_shop"}).status_code == 200
    two = {name: "eck_shop", "authorization": "Bearer eck_house"}
    answer = house.client.post("/v1/chat/completions", json=body, headers=two)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "several_keys")
    assert [name in seen for seen in house.provider.headers] == [False]


def test_a_model_of_a_provider_without_a_list_is_there_and_one_that_a_list_lacks_is_not(house: Any) -> None:
    def status(model: str, key: str = "eck_shop") -> int:
        return int(house.client.get(f"/v1/models/{model}", headers={"authorization": f"Bearer {key}"}).status_code)

    assert house.post("gone/x").status_code == 502
    assert status("gone/x") == 200, "it may be called, and is told to be none that may"
    wanted = [200, *[404] * 4]
    models = ("fake/gpt-test", "fake/gpt-none", "demo/nc", "demo/only", "nobody/x")
    until(lambda: [status(m) for m in models] == wanted)  # a provider's list has three seconds to come


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings"])
def test_who_forgot_v1_is_told_so(house: Any, path: str) -> None:
    answer = house.client.post(path, json={"model": "x"}, headers={"authorization": "Bearer eck_shop"})
    assert answer.status_code == 404
    assert "ends with /v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "key", "status", "word"),
    [
        ("fake/gpt-test", "eck_wrong", 401, "invalid_request_error"),
        ("no/such", "eck_shop", 404, "invalid_request_error"),
        ("demo/nc", "eck_shop", 451, "permission_error"), ("fake/gpt-refuses", "eck_shop", 429, "rate_limit_error"),
        ("fake/gpt-fails", "eck_shop", 502, "server_error"), ("keyless/x", "eck_shop", 503, "server_error"),
    ],
)  # fmt: skip
def test_an_error_has_the_type_that_openais_own_has(house: Any, model: str, key: str, status: int, word: str) -> None:
    answer = house.post(model, key=key)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, word)


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_body_that_waits_to_be_asked_for_is_asked_for_and_a_wrong_key_is_told_before_it(house: Any) -> None:
    """curl waits a second with every body of some size until it hears 100 Continue."""
    body = msgspec.json.encode({"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}]})
    for key, begin in (("eck_shop", b"HTTP/1.1 100 Continue\r\n\r\n"), ("eck_wrong", b"HTTP/1.1 401 ")):
        with socket.create_connection(("127.0.0.1", house.port), timeout=30) as client:
            lines = [
                "POST /v1/chat/completions HTTP/1.1",
                "host: x",
                f"authorization: Bearer {key}",
                "expect: 100-continue",
            ]
            length = len(body) if key == "eck_shop" else 100_000
            client.sendall("\r\n".join([*lines, f"content-length: {length}", "", ""]).encode())
            assert client.recv(4096).startswith(begin)
            if key == "eck_shop":
                client.sendall(body)
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
