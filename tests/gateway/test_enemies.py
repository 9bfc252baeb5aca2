"""Clients and providers that cheat, stall and smuggle; what they say reaches no header, no ledger, no third party."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecotone.gateway.snapshot import Target
from ecotone.ledger import LedgerFull
from ecotone.vocabulary import Location

SECRET = "maria.lopez@example.org"
BODY = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}]}


def exchange(house: Any, head: str, body: bytes = b"") -> bytes:
    """Send raw bytes and read the answer to its end."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=60) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        client.settimeout(60)
        received = b""
        while piece := client.recv(65536):
            received += piece
        return received


def head(body: bytes, *more: str) -> str:
    fields = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: x",
        "connection: close",
        f"content-length: {len(body)}",
        *more,
    ]
    return "".join(f"{f}\n" for f in fields)


def test_a_models_name_injects_no_header(house: Any) -> None:
    answer = house.raw(msgspec.json.encode({**BODY, "model": "fake/x\r\nset-cookie: stolen=1"}))
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers
    odd = house.post("fake/gpt-é\u4e2d")
    assert odd.status_code == 200
    assert odd.headers["x-ecotone-model"]


def test_two_keys_in_one_request_are_refused(house: Any) -> None:
    body = msgspec.json.encode(BODY)
    raw = exchange(house, head(body, "authorization: Bearer eck_shop", "authorization: Bearer eck_house"), body)
    assert raw.startswith(b"HTTP/1.1 401")
    assert house.provider.seen == []


@pytest.mark.parametrize("key", ["' OR '1'='1", "\x80\xff", "a" * 20_000, "eck_shop eck_house", "{{7*7}}"])
def test_strange_keys_are_401_with_one_body(house: Any, key: str) -> None:
    answer = house.client.post(
        "/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {key}".encode("latin-1")}
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_every_answer_names_request_backend_and_reason(house: Any) -> None:
    listed = house.client.get("/v1/models", headers={"authorization": "Bearer eck_shop"})
    answers = [house.post(m) for m in ("fake/gpt-test", "demo/nc", "no/such", "fake/gpt-fails", "assistant")]
    for answer in (*answers, listed, house.post("fake/gpt-test", key=""), house.raw(b"{")):
        for name in ("x-request-id", "x-ecotone-backend", "x-ecotone-reason"):
            assert answer.headers.get(name), (name, answer.status_code)
    assert answers[3].headers["x-ecotone-backend"] == "fake"


def test_a_key_that_stands_twice_inside_a_message_hides_nothing(house: Any) -> None:
    message = b'{"role": "user", "content": "' + SECRET.encode() + b'", "content": "hi"}'
    answer = house.raw(b'{"model": "fake/gpt-test", "messages": [' + message + b"]}")
    assert answer.status_code == 400
    assert house.provider.seen == []


def test_an_encoded_body_is_refused(house: Any) -> None:
    answer = house.client.post(
        "/v1/chat/completions",
        content=b"\x1f\x8b",
        headers={"authorization": "Bearer eck_shop", "content-encoding": "gzip"},
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_provider_quotes_is_told_to_the_client_and_to_no_record(house: Any, stream: bool) -> None:
    for model, status in (("fake/gpt-quotes", 400), ("fake/gpt-errs", 200), ("fake/gpt-first-error", 502)):
        if not stream and status != 400:
            continue
        answer = house.post(model, f"A thought of {SECRET}", key="eck_masked", stream=stream)
        assert answer.status_code == status
        assert SECRET in answer.text
    if not stream:
        assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert SECRET not in json.dumps(house.provider.seen)
    kept = "".join(f.read_text() for f in (house.folder / "ledger").rglob("*.jsonl"))
    assert "thought" not in kept
    assert SECRET not in kept


def test_tool_calls_come_back_restored_and_stay_valid_json(house: Any) -> None:
    answer = house.post("fake/gpt-calls", f"{SECRET}", key="eck_masked", stream=True)
    arguments = ""
    for line in answer.text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                for call in choice["delta"].get("tool_calls", ()):
                    arguments += call["function"]["arguments"]
    assert json.loads(arguments) == {"to": SECRET}
    assert SECRET not in json.dumps(house.provider.seen)


def test_a_first_event_that_is_an_error_is_a_status_and_a_route_goes_on(house: Any) -> None:
    house.gateway.chooser.health._rest = 60.0
    for why in ("fake/gpt-plain failed (upstream_died)", "fake/gpt-first-error rests after a failure"):
        answer = house.post("stream-rescue", stream=True)
        assert answer.status_code == 200
        assert answer.headers["x-ecotone-model"] == "fake/gpt-test"
        assert answer.headers["x-ecotone-reason"] == f"fallback; {why}"
        assert answer.text.endswith("data: [DONE]\n\n")
    for model in ("fake/gpt-first-error", "fake/gpt-plain", "fake/gpt-junk"):
        answer = house.post(model, stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_died")
        assert house.settled(answer)["status"] == "upstream_died"


def test_an_overloaded_provider_is_503_and_its_wait_is_bounded(house: Any) -> None:
    answer = house.post("fake/gpt-overloaded")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) <= 3600


@pytest.mark.stalls
def test_a_failure_before_anything_was_used_is_settled_with_no_tokens(house: Any) -> None:
    for model in ("gone/x", "fake/gpt-refuses", "keyless/x"):
        settled = house.settled(house.post(model))
        assert (settled["prompt_tokens"], settled["estimate"], settled["cost"]) == (0, False, 0)
    settled = house.settled(house.post("fake/gpt-stalls"))
    assert settled["estimate"]
    assert settled["prompt_tokens"] > 0


def test_a_ledger_that_cannot_be_written_refuses_before_anything_is_sent(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise LedgerFull("The ledger cannot be written; free space in the data folder.")

    monkeypatch.setattr(house.gateway._writer, "append_all", full)
    answer = house.post("fake/gpt-test")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_full")
    assert house.provider.seen == []


def test_a_fault_of_our_own_is_500_with_the_id_and_its_log_quotes_nothing(
    house: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def decode(self, _: bytes) -> Any:
            raise RuntimeError(f"cannot handle {SECRET}")

    monkeypatch.setattr("ecotone.gateway.plane.answering.answer_decoder", Broken())
    with caplog.at_level(logging.DEBUG):
        answer = house.post("demo/local", f"Write to {SECRET}")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text
    assert house.settled(answer)["error"] == "internal_error"


def test_a_models_id_with_an_escaped_slash_is_found(house: Any) -> None:
    answer = house.client.get("/v1/models/demo%2Flocal", headers={"authorization": "Bearer eck_shop"})
    assert answer.json()["id"] == "demo/local"
    listed = house.client.get("/v1/models", headers={"authorization": "Bearer eck_shop"}).json()["data"]
    assert "denied" not in {m["id"] for m in listed}


class Engine:
    """An engine on a Unix socket that answers as told, and counts its connections."""

    def __init__(self, path: Path, answer: Callable[[int], bytes | None]) -> None:
        self.connections = self.requests = 0
        self.path = str(path)
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        async def serve() -> None:
            await asyncio.start_unix_server(self._connected, self.path)
            self._ready.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower()
            except asyncio.IncompleteReadError:
                return
            size = int(lines.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            self.requests += 1
            answer = self._answer(self.requests)
            if answer is not None:
                writer.write(answer)
            if answer is None or b"connection: close" in answer:
                writer.close()
                return

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@pytest.fixture
def engine(house: Any, tmp_path: Path) -> Iterator[Callable[[Callable[[int], bytes | None]], Engine]]:
    made: list[Engine] = []

    def start(answer: Callable[[int], bytes | None]) -> Engine:
        made.append(Engine(tmp_path / "e.sock", answer))
        target = Target(
            name="demo/engine", legal="free", location=Location.LOCAL, backend="local", socket=made[0].path,
            revision="b" * 40,
        )  # fmt: skip
        snapshot = house.snapshots.current
        house.snapshots.current = msgspec.structs.replace(
            snapshot, version=2, targets={**snapshot.targets, "demo/engine": target}
        )
        return made[0]

    yield start
    for each in made:
        each.stop()


def whole(value: Any, *fields: bytes) -> bytes:
    data = json.dumps(value).encode()
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"content-length: %d" % len(data), *fields, b"", data])


def events(*values: Any) -> bytes:
    parts = [b"data: " + json.dumps(v).encode() + b"\n\n" for v in values] + [b"data: [DONE]\n\n"]
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + body


ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
CHUNK = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}


def test_an_engine_is_called_over_its_socket_and_one_connection_serves_many_streams(house: Any, engine: Any) -> None:
    running = engine(lambda n: events(CHUNK) if n % 2 else whole(ANSWER))
    for n in range(6):
        answer = house.post("demo/engine", f"to {SECRET}", stream=n % 2 == 0)
        assert answer.status_code == 200
        assert "Hi" in answer.text
        assert answer.headers["x-ecotone-backend"] == "local"
    assert running.connections <= 2
    settled = house.settled(answer)
    assert (settled["estimate"], settled["completion_tokens"], settled["cost"]) == (True, 1, 0)


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_and_the_request_sent_once_more(
    house: Any, engine: Any
) -> None:
    running = engine(lambda n: None if n == 2 else whole(ANSWER))
    assert house.post("demo/engine").status_code == 200
    assert house.post("demo/engine").status_code == 200
    assert (running.connections, running.requests) == (2, 3)


def test_an_engine_that_breaks_on_a_fresh_connection_is_not_asked_twice(house: Any, engine: Any) -> None:
    running = engine(lambda _: None)
    assert house.post("demo/engine").status_code == 502
    assert running.requests == 1


def test_a_client_that_stops_reading_is_let_go_and_settled(house: Any, engine: Any) -> None:
    house.gateway.patience = 1.0  # with the client alone: the engine may take its time
    big = {"choices": [{"index": 0, "delta": {"content": "x" * 60_000}, "finish_reason": None}]}
    engine(lambda _: events(*[big] * 400))
    body = msgspec.json.encode({**BODY, "model": "demo/engine", "stream": True})
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", house.port))
        client.sendall(head(body, "authorization: Bearer eck_shop").replace("\n", "\r\n").encode() + b"\r\n" + body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(1024)
        request_id = received.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()
        end = time.monotonic() + 90
        while time.monotonic() < end and len(house.records(request_id)) < 2:
            time.sleep(0.05)
        settled = house.records(request_id)[-1]
    assert (settled["kind"], settled["status"]) == ("settled", "client_gone")
    assert settled["completion_tokens"] > 0
    assert settled["estimate"]
