"""Providers that fail in every way and clients that come and go: what is seen, what is recorded, what is left behind.

After each case: OpenAI's own client raised or got all of it, each attempt is opened and ended once in the ledger,
budgets and ledger agree, nothing stays reserved, no job, task or connection is left, and routes know who failed.
"""

import asyncio
import contextlib
import functools
import gzip
import json
import resource
import socket
import ssl
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecotone.gateway import compiled
from ecotone.gateway.plane.upstreams import Place
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.ledger import Ledger, LedgerWriter
from ecotone.vocabulary import Location
from tests.app.certificates import Authority
from tests.gateway.wires import (
    ANSWER,
    DONE,
    EACH,
    EVENTS,
    STREAM,
    USAGE,
    Scene,
    Wire,
    chunked,
    delta,
    event,
    last,
    reset,
    was_read,
    whole,
)  # fmt: skip
from tests.receiver import until
from tests.running import free_port

TOTAL = (USAGE["prompt_tokens"] + USAGE["completion_tokens"]) * EACH


def zipped(body: bytes, head: bytes) -> bytes:
    packed = gzip.compress(body)
    return head.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)) + packed


PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
OK = json.dumps(ANSWER).encode()

GOOD: dict[str, tuple[bool, bytes]] = {
    "whole": (False, whole()),
    "stream": (True, STREAM + chunked(*EVENTS)),
    "gzip whole": (False, zipped(OK, PLAIN)),
    "gzip stream": (True, zipped(b"".join(EVENTS), SSE)),
    "100 before": (False, b"HTTP/1.1 100 Continue\r\n\r\n" + whole()),
    "103 twice before": (True, b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 2 + STREAM + chunked(*EVENTS)),
    "bytes behind": (False, whole() + b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"),
    "bytes behind a stream": (True, STREAM + chunked(*EVENTS) + b"garbage"),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_answer_in_an_unusual_dress_arrives_whole_and_is_charged_once(scene: Scene, name: str) -> None:
    stream, raw = GOOD[name]
    scene.wire(lambda s, _: s.sendall(raw))
    for count in (1, 2):
        got = scene.call(stream=stream)
        assert (got["error"], got["text"], got["finish"]) == (None, "Hi you", ["stop"])
        settled = scene.settle(count, "done")
        assert (settled["cost"], settled["estimate"]) == (TOTAL, False)
    assert not scene.rests()
    if "behind" in name:
        assert scene.pooled() == 0, "a connection with bytes behind an answer is used again"


def half_an_event(s: socket.socket, _: int) -> bool:
    s.sendall(STREAM + chunked(delta("Hi"), delta(" you")[:20]))
    return False


def stalls_after_token(s: socket.socket, wire: Wire) -> bool:
    s.sendall(STREAM + chunked(delta("Hi"), end=False))
    return wire.hold(s)


@functools.cache
def bomb() -> bytes:
    """An answer of 200 MB that is sent as a thousandth of it."""
    packer = zlib.compressobj(wbits=31)
    body = b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    return b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body


BAD: dict[str, tuple[bool, Any, Any, str, bool]] = {
    # stream, what the provider does, what the client must raise, status in the ledger, counted as used
    "resets at once": (False, lambda s, w: reset(s), 502, "failed", False),
    "resets at once, stream": (True, lambda s, w: reset(s), 502, "failed", False),
    "closes after half a head": (
        False,
        lambda s, w: (s.sendall(b"HTTP/1.1 200 OK\r\ncont"), False)[1],
        502,
        "failed",
        False,
    ),
    "stalls before a byte": (False, lambda s, w: w.hold(s), 504, "failed", True),
    "stalls before a byte, stream": (True, lambda s, w: w.hold(s), 504, "failed", True),
    "stalls behind the head": (True, lambda s, w: (s.sendall(STREAM), w.hold(s))[1], 502, "upstream_died", True),
    "stalls in the body": (False, lambda s, w: (s.sendall(whole()[:-9]), w.hold(s))[1], 502, "upstream_died", True),
    "stalls after a token": (True, stalls_after_token, None, "upstream_died", True),
    "half an event": (True, half_an_event, None, "upstream_died", True),
    "resets after a token": (
        True,
        lambda s, w: (s.sendall(STREAM + chunked(delta("Hi"), end=False)), was_read(s), reset(s))[2],
        None,
        "upstream_died",
        True,
    ),
    "length too long": (
        False,
        lambda s, w: (s.sendall(whole().replace(b"length: ", b"length: 1")), False)[1],
        502,
        "upstream_died",
        True,
    ),
    "length too short": (
        False,
        lambda s, w: (s.sendall(whole().replace(b"length: %d" % len(OK), b"length: 30")), False)[1],
        502,
        "upstream_died",
        True,
    ),
    "length too short, stream": (
        True,
        lambda s, w: s.sendall(SSE.replace(b"\r\n\r\n", b"\r\ncontent-length: 250\r\n\r\n") + b"".join(EVENTS)),
        None,
        "upstream_died",
        True,
    ),
    "two lengths": (
        False,
        lambda s, w: s.sendall(whole().replace(b"content-type: application/json", b"content-length: 3")),
        502,
        "failed",
        False,
    ),
    "gzip that is none": (
        False,
        lambda s, w: s.sendall(whole(None, b"content-encoding: gzip")),
        502,
        "upstream_died",
        True,
    ),
    "gzip cut": (
        False,
        lambda s, w: s.sendall(zipped(OK, PLAIN).replace(b"length: %d" % len(gzip.compress(OK)), b"length: 60")),
        502,
        "upstream_died",
        True,
    ),
    "bomb": (
        False,
        lambda s, w: s.sendall(bomb()),
        502,
        "upstream_died",
        True,
    ),
    "bomb, stream": (
        True,
        lambda s, w: s.sendall(bomb()),
        502,
        "upstream_died",
        True,
    ),
    "429 with retry-after": (
        False,
        lambda s, w: s.sendall(whole({"error": {"message": "slow"}}, b"retry-after: 7", status=b"429 Too Many")),
        (429, "7"),
        "failed",
        False,
    ),
    "429 without": (
        True,
        lambda s, w: s.sendall(whole({"error": {"message": "slow"}}, status=b"429 Too Many")),
        (429, "1"),
        "failed",
        False,
    ),
    "html error": (
        False,
        lambda s, w: s.sendall(whole(b"<html>bad gateway</html>", status=b"502 Bad")),
        502,
        "failed",
        False,
    ),
    "chunked garbage": (False, lambda s, w: s.sendall(STREAM + b"zz\r\n" + OK), 502, "upstream_died", True),
    "chunked garbage after a token": (
        True,
        lambda s, w: (s.sendall(STREAM + chunked(delta("Hi"), end=False)), was_read(s), s.sendall(b"-1\r\nxx\r\n"))[2],
        None,
        "upstream_died",
        True,
    ),
    "no http": (False, lambda s, w: s.sendall(b"220 mail.example ESMTP\r\n\r\n"), 502, "failed", False),
    "switches protocols": (
        False,
        lambda s, w: s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        502,
        "failed",
        False,
    ),
    "an endless head": (
        False,
        lambda s, w: s.sendall(
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"y" * 900) for n in range(150))
        ),
        502,
        "failed",
        False,
    ),
    "1xx without end": (
        False,
        lambda s, w: s.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000),
        502,
        "failed",
        False,
    ),
    "an error event after a token": (
        True,
        lambda s, w: s.sendall(STREAM + chunked(delta("Hi"), event({"error": {"message": "overloaded"}}))),
        None,
        "upstream_died",
        True,
    ),
    "no object": (False, lambda s, w: s.sendall(whole(b"[1]")), 502, "upstream_died", True),
    "204": (False, lambda s, w: s.sendall(b"HTTP/1.1 204 No Content\r\n\r\n"), 502, "failed", False),
}


STILL_GOOD = {
    "429 with retry-after", "429 without", "html error", "204", "no object", "an error event after a token",
}  # fmt: skip
"""What ended in good order, so that the connection may be used again."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.stalls) if name.startswith("stalls") else name for name in BAD]
)
def test_what_fails_at_a_provider_is_raised_by_the_client_and_leaves_nothing_behind(scene: Scene, name: str) -> None:
    stream, act, want, status, used = BAD[name]
    wire = scene.wire(lambda s, _: False)
    wire.script = lambda s, _: act(s, wire if act is not half_an_event else 0)
    bomb()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = scene.call(stream=stream)
    assert got["error"], "the client took a broken answer for a whole one"
    assert not got["finish"], "a finish reason was made up"
    if want is None:
        assert got["error"] == "APIError" and "Hi" in got["text"]
    else:
        code, wait = want if isinstance(want, tuple) else (want, None)
        assert got["status"] == code
        assert wait is None or got["retry_after"] == wait
    settled = scene.settle(1, status)
    assert (settled["prompt_tokens"] > 0, settled["cost"] > 0) == (used, used)
    assert settled["estimate"] is used
    assert scene.rests(), "routes were not told that it failed"
    end = time.monotonic() + 90
    while (scene.pooled() == 1) is not (name in STILL_GOOD):  # a closed one leaves the pool a moment later
        assert time.monotonic() < end, scene.pooled()
        time.sleep(0.02)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000, "KB more at the most"


def test_an_error_of_100_mb_is_told_by_its_beginning_and_read_no_further(scene: Scene) -> None:
    sent = 0

    def script(s: socket.socket, _: int) -> bool:
        nonlocal sent
        head = b'HTTP/1.1 500 Oh\r\ncontent-length: 104857600\r\n\r\n{"error": {"message": "full of '
        s.sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(1600):
                s.sendall(b"x" * 65536)
                sent += 65536
        return False

    scene.wire(script)
    for stream in (False, True):
        began = time.monotonic()
        got = scene.call(stream=stream)
        assert (got["status"], got["code"]) == (502, "upstream_failed")
        assert time.monotonic() - began < 90
    assert scene.settle(2, "failed")["cost"] == 0
    assert sent < 40_000_000


def test_an_unreachable_provider_is_a_502_that_costs_nothing(scene: Scene) -> None:
    scene.wire(lambda s, _: False, url=f"http://127.0.0.1:{free_port()}/v1")
    scene.wire(lambda s, _: False, name="other", url="http://no-such-host.invalid/v1")
    for count, model in enumerate(("wire/m", "other/m"), 1):
        got = scene.call(model)
        assert (got["status"], got["code"]) == (502, "upstream_unreachable")
        assert scene.settle(count, "failed")["cost"] == 0
        assert scene.rests(model)


@pytest.mark.parametrize("host", ["127.0.0.1", "x" * 70 + ".invalid", "localhost"])
def test_a_certificate_that_nobody_signed_or_a_host_that_is_none_is_refused_before_the_key_is_sent(
    scene: Scene, tmp_path: Path, host: str
) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    Authority(tmp_path).issue(certificate, key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    wire = scene.wire(lambda s, _: s.sendall(whole()), tls=tls, url=f"https://{host}:{{port}}/v1")
    got = scene.call()
    assert (got["status"], got["code"]) == (502, "upstream_unreachable"), got
    assert wire.requests == 0
    assert scene.settle(1, "failed")["cost"] == 0


def test_a_kept_connection_that_died_between_requests_is_replaced_and_the_answer_charged_once(scene: Scene) -> None:
    closed = threading.Event()

    def script(s: socket.socket, n: int) -> bool:
        s.sendall(whole())
        if n == 1:
            closed.set()
            return False
        if n == 3:
            was_read(s)
            reset(s)
        return n != 3

    wire = scene.wire(script)
    assert scene.call()["error"] is None
    for _ in range(3):
        assert scene.call(stream=False)["error"] is None
        scene.settle(None)
    assert wire.requests == 4
    assert scene.settle(4, "done")["cost"] == TOTAL


def test_a_provider_that_said_done_and_keeps_the_line_open_holds_no_connection(scene: Scene) -> None:
    wire = scene.wire(lambda s, _: False)
    wire.script = lambda s, _: (s.sendall(STREAM + chunked(*EVENTS, end=False)), wire.hold(s))[1]
    for _ in range(3):
        assert scene.call(stream=True)["finish"] == ["stop"]
    scene.settle(3, "done")
    assert wire.closed_by_gateway.wait(60), "a connection was left over for good"


def test_a_provider_that_is_done_a_moment_later_keeps_its_connection(scene: Scene) -> None:
    def script(s: socket.socket, _: int) -> None:
        s.sendall(STREAM + chunked(*EVENTS, end=False))
        time.sleep(0.2)
        s.sendall(chunked(b": bye\n\n"))

    wire = scene.wire(script)
    for count in range(1, 6):  # two seconds are waited: a moment may last longer on a busy machine
        assert scene.call(stream=True)["finish"] == ["stop"]
        scene.settle(count, "done")
        if (wire.connections, scene.pooled()) == (count - 1, 1):
            return
    raise AssertionError(f"{wire.connections} connections for {wire.requests} calls")


# -- clients -----------------------------------------------------------------------------------------------------------
def raw(scene: Scene, body: dict[str, Any], *more: str) -> bytes:
    data = msgspec.json.encode({"messages": [{"role": "user", "content": "Hello"}], "model": "wire/m", **body})
    lines = [
        "POST /v1/chat/completions HTTP/1.1", "host: x", "authorization: Bearer eck_shop",
        f"content-length: {len(data)}", *more, "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + data


def connected(scene: Scene) -> socket.socket:
    return socket.create_connection(("127.0.0.1", scene.house.port), timeout=60)


def asked_of(wire: Wire) -> None:
    end = time.monotonic() + 90
    while not wire.requests:
        assert time.monotonic() < end, "the provider was never asked"
        time.sleep(0.01)


def read_all(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            received += piece
    return received


def test_a_client_that_leaves_in_its_request_is_nobodys_cost(scene: Scene) -> None:
    wire = scene.wire(lambda s, _: s.sendall(whole()))
    with connected(scene) as client:
        client.sendall(raw(scene, {})[:-10])
    time.sleep(0.3)
    assert wire.requests == 0
    assert scene.settle(0) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_the_provider_thinks_ends_the_call_there_too(scene: Scene, stream: bool) -> None:
    wire = scene.wire(lambda s, _: False)
    wire.script = lambda s, _: wire.hold(s)
    with connected(scene) as client:
        client.sendall(raw(scene, {"stream": stream}))
        asked_of(wire)
    settled = scene.settle(1, "client_gone")
    assert settled["estimate"] and settled["cost"] > 0
    assert wire.closed_by_gateway.wait(60)
    assert not scene.rests(), "a client that left was taken for a provider that failed"


def test_a_stream_that_its_client_cuts_is_counted_for_what_was_produced(scene: Scene) -> None:
    texts = [f"A sentence of some forty letters, number {n:03}. " for n in range(40)]
    sent = threading.Event()

    def script(s: socket.socket, _: int) -> bool:
        s.sendall(STREAM + chunked(delta("", role="assistant"), *(delta(text) for text in texts), end=False))
        sent.set()
        return wire.hold(s)

    wire = scene.wire(script)
    with connected(scene) as client:
        client.sendall(raw(scene, {"stream": True}))
        received = b""
        while b"number 039" not in received:
            received += client.recv(65536)
    settled = scene.settle(1, "client_gone")
    letters = sum(len(text) for text in texts)
    assert 0.8 * letters / 4 <= settled["completion_tokens"] <= 1.2 * letters / 4
    assert settled["estimate"]
    assert wire.closed_by_gateway.wait(60)


def test_a_provider_that_sends_paragraphs_is_counted_by_their_length_when_the_stream_is_cut(scene: Scene) -> None:
    paragraph = "word " * 400
    wire = scene.wire(lambda s, _: False)
    wire.script = lambda s, _: (
        s.sendall(STREAM + chunked(delta(paragraph), delta(paragraph), end=False)),
        wire.hold(s),
    )[1]
    with connected(scene) as client:
        client.sendall(raw(scene, {"stream": True}))
        received = b""
        while received.count(b"data:") < 2:
            received += client.recv(65536)
        time.sleep(0.1)
    settled = scene.settle(1, "client_gone")
    assert settled["completion_tokens"] >= 0.8 * 2 * len(paragraph) / 4


@pytest.mark.skipif(compiled(), reason="compiled code does not look a method up that was replaced")
def test_a_client_that_left_before_anything_was_sent_is_not_charged(scene: Scene, monkeypatch: Any) -> None:
    wire = scene.wire(lambda s, _: s.sendall(whole()))
    connect, connecting, noticed = Place.connect, threading.Event(), threading.Event()

    async def slowly(self: Place, seconds: float) -> Any:
        connecting.set()
        await asyncio.to_thread(noticed.wait, 60)
        return await connect(self, seconds)

    monkeypatch.setattr(Place, "connect", slowly)
    with connected(scene) as client:
        client.sendall(raw(scene, {}))
        assert connecting.wait(60)
    until(lambda: all(job.gone for job in list(scene.house.gateway.jobs)))
    noticed.set()
    settled = scene.settle(1, "client_gone")
    assert (settled["prompt_tokens"], settled["cost"], settled["estimate"]) == (0, 0, False)
    assert wire.requests == 0


def test_a_client_that_leaves_after_its_answer_changes_nothing(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    with connected(scene) as client:
        client.sendall(raw(scene, {}, "connection: close"))
        assert read_all(client).startswith(b"HTTP/1.1 200")
    assert scene.settle(1, "done")["cost"] == TOTAL


def test_a_client_that_sends_and_reads_one_byte_at_a_time_gets_its_answer(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)))
    with connected(scene) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw(scene, {"stream": True}, "connection: close"):
            client.sendall(bytes([byte]))
            time.sleep(0.001)
        received = b""
        while piece := client.recv(7):
            received += piece
    assert b"[DONE]" in received
    assert scene.settle(1, "done")["cost"] == TOTAL


def test_pipelined_requests_are_answered_in_order_and_each_is_charged(scene: Scene) -> None:
    def script(s: socket.socket, n: int) -> None:
        time.sleep(0.1 if n == 1 else 0)
        s.sendall(whole({**ANSWER, "id": f"number-{scene_wire.bodies[-1]['messages'][0]['content']}"}))

    scene_wire = scene.wire(script)
    with connected(scene) as client:
        asked = [raw(scene, {"messages": [{"role": "user", "content": str(n)}]}) for n in range(5)]
        asked.append(raw(scene, {"messages": [{"role": "user", "content": "5"}]}, "connection: close"))
        client.sendall(b"".join(asked))
        received = read_all(client)
    assert [received.find(b"number-%d" % n) for n in range(6)] == sorted(
        received.find(b"number-%d" % n) for n in range(6)
    )
    assert received.count(b"number-") == 6
    scene.settle(6, "done")


def test_a_head_that_came_before_and_comes_torn_at_its_length_is_read(scene: Scene) -> None:
    def torn(connection: socket.socket, data: bytes) -> None:
        begin = data.index(b"content-length: ") + len(b"content-length: ")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (data[:begin], data[begin:]):
            connection.sendall(part)
            time.sleep(0.1)

    wire = scene.wire(lambda s, n: s.sendall(whole()) if n == 1 else torn(s, whole()))
    with connected(scene) as client:
        client.settimeout(120)
        for send in (client.sendall, lambda data: torn(client, data)):
            send(raw(scene, {}))
            received = b""
            while b"Hi you" not in received:
                piece = client.recv(65536)
                assert piece, "the connection was cut"
                received += piece
            assert received.startswith(b"HTTP/1.1 200")
    assert wire.connections == 1
    assert scene.settle(2, "done")["cost"] == TOTAL


def test_a_provider_that_takes_a_long_body_slowly_fills_no_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.house.gateway.most_body = 64 * 1024 * 1024
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = raw(scene, {"messages": [{"role": "user", "content": "x" * 12_000_000}]}, "connection: close")

    def slowly() -> None:
        connection, _ = listener.accept()
        with connection:
            time.sleep(0.5)
            left = 12_000_000
            while left > 0 and (piece := connection.recv(1 << 20)):
                left -= len(piece)
            connection.sendall(whole())
            time.sleep(0.5)

    threading.Thread(target=slowly, daemon=True).start()
    scene.wire(lambda s, _: None)
    found = scene.house.snapshots.current.backends
    inside = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "location": Location.LOCAL}
    scene.place(backends={**found, "wire": msgspec.structs.replace(found["wire"], **inside)})
    with caplog.at_level("WARNING"), connected(scene) as client, listener:
        client.sendall(body)
        assert read_all(client).startswith(b"HTTP/1.1 200")
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("asyncio", "ecotone"))] == []


def test_a_client_that_pipelines_and_leaves_pays_for_what_was_begun(scene: Scene) -> None:
    wire = scene.wire(lambda s, _: (time.sleep(0.2), s.sendall(whole()))[1])
    with connected(scene) as client:
        client.sendall(raw(scene, {}) * 4)
        asked_of(wire)
    scene.settle(None)
    assert len(scene.ends()) <= 4
    until(lambda: sum(r["prompt_tokens"] > 0 for r in scene.ends()) == wire.requests)


# -- keys, clocks, disks ----------------------------------------------------------------------------------------------
def without_key(scene: Scene, name: str = "shop") -> None:
    keys = scene.house.snapshots.current.keys
    scene.place(keys={h: k for h, k in keys.items() if k.id != name})


@pytest.mark.parametrize("traffic", [False, True])
def test_a_revoked_key_cuts_its_stream_within_two_seconds_whether_or_not_others_call(
    scene: Scene, traffic: bool
) -> None:
    """A request of another key that is the first to see the new snapshot must not hide it from the running stream."""
    going = threading.Event()

    def script(s: socket.socket, n: int) -> bool:
        if not wire.bodies[n - 1].get("stream"):
            s.sendall(whole())
            return True
        s.sendall(STREAM)
        for count in range(600):
            s.sendall(chunked(delta(f"word{count} "), end=False))
            going.set()
            time.sleep(0.05)
        return False

    wire = scene.wire(script)
    keys, took = scene.house.snapshots.current.keys, list[float]()
    while not took or (min(took) >= 2 and len(took) < 5):  # others may hold this machine up, too
        scene.place(keys=keys)
        going.clear()
        over: dict[str, Any] = {}
        thread = threading.Thread(target=lambda over=over: over.update(scene.call(stream=True), at=time.monotonic()))
        thread.start()
        assert going.wait(60)
        revoked = time.monotonic()
        without_key(scene)
        if traffic:
            for _ in range(5):
                assert scene.house.post("wire/m", key="eck_house").status_code == 200
        thread.join(60)
        assert (over["error"], over["code"]) == ("APIError", "key_revoked")
        assert not over["finish"]
        took.append(over["at"] - revoked)
    assert min(took) < 2
    ends = [r for r in scene.ends() if r["key"] == "shop"]
    assert [r["status"] for r in ends] == ["revoked"] * len(took)
    assert ends[0]["cost"] > 0, "what had been produced cost nothing"
    scene.settle(None)
    assert scene.house.post("wire/m").status_code == 401


def test_an_answer_that_is_cut_before_its_first_byte_costs_what_it_may_have_cost(scene: Scene) -> None:
    wire = scene.wire(lambda s, _: False)
    wire.script = lambda s, _: wire.hold(s)
    over: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: over.update(scene.call()))
    thread.start()
    asked_of(wire)
    without_key(scene)
    thread.join(60)
    assert (over["status"], over["code"]) == (401, "key_revoked")
    settled = scene.settle(1, "revoked")
    assert settled["estimate"] and settled["cost"] > 0


def test_a_key_that_expires_lets_its_stream_end_and_takes_no_more(scene: Scene) -> None:
    def script(s: socket.socket, _: int) -> None:
        s.sendall(STREAM)
        while time.time() < soon + 1:
            s.sendall(chunked(delta("word "), end=False))
            time.sleep(0.1)
        s.sendall(chunked(delta(finish="stop"), last(), DONE))

    scene.wire(script)
    keys = scene.house.snapshots.current.keys
    soon = 0.0
    assert scene.call(stream=True)["finish"] == ["stop"]  # all is there and warm for the call that must come in time
    for seconds in (3, 12, 48):  # a busy machine takes longer until the call is let in
        soon = time.time() + seconds
        scene.place(keys={h: msgspec.structs.replace(k, expires=soon) for h, k in keys.items()})
        if (got := scene.call(stream=True))["finish"] == ["stop"]:
            break
        assert got["code"] == "invalid_api_key" and time.time() > soon
    assert got["finish"] == ["stop"] and time.time() > soon
    assert scene.call()["code"] == "invalid_api_key"
    scene.settle(2, "done")


@pytest.mark.parametrize("seconds", [-86_400 * 40, 86_400 * 40])
def test_a_wall_clock_that_jumps_cuts_no_stream_and_opens_no_budget_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    going = threading.Event()

    def script(s: socket.socket, n: int) -> None:
        s.sendall(STREAM + chunked(delta("one "), end=False))
        going.set()
        time.sleep(0.8)
        s.sendall(chunked(delta("two", "stop"), last(), DONE))

    scene.wire(script)
    over: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: over.update(scene.call(stream=True)))
    thread.start()
    assert going.wait(60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    thread.join(60)
    assert (over["text"], over["finish"]) == ("one two", ["stop"])
    monkeypatch.setattr(time, "time", real)
    settled = scene.settle(1, "done")
    assert settled["cost"] == TOTAL
    assert 0.7 < settled["seconds"] < 30


class Disk:
    """A disk that is full when it is told to be."""

    def __init__(self, writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        real = writer._into_segment

        def into(block: bytes) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            real(block)

        monkeypatch.setattr(writer, "_into_segment", into)


def test_a_full_disk_refuses_what_is_new_and_the_end_of_what_runs_is_written_when_there_is_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer whose end could not be recorded is not forgotten: it is written as soon as that can be done."""
    disk = Disk(scene.house.gateway._writer, monkeypatch)
    going, told = threading.Event(), threading.Event()

    def script(s: socket.socket, n: int) -> None:
        s.sendall(STREAM + chunked(delta("one "), end=False))
        going.set()
        assert told.wait(60)
        s.sendall(chunked(delta("two", "stop"), last(), DONE))

    wire = scene.wire(script)
    over: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: over.update(scene.call(stream=True)))
    thread.start()
    assert going.wait(60)
    disk.full = True
    refused = scene.call()
    told.set()
    thread.join(60)
    assert (refused["status"], refused["code"], refused["retry_after"]) == (503, "ledger_full", "30")
    assert wire.requests == 1
    assert over["finish"] == ["stop"]
    assert scene.ends() == []
    disk.full = False
    end = time.monotonic() + 90
    while not scene.ends() and time.monotonic() < end:
        time.sleep(0.05)
    assert scene.settle(1, "done")["cost"] == TOTAL
    report = Ledger(scene.house.folder / "ledger").verify()
    assert not report.problems


def test_a_full_disk_with_a_second_folder_goes_on_and_nothing_is_unmetered(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer = scene.house.gateway._writer
    writer._spill = tmp_path / "spill"
    disk = Disk(writer, monkeypatch)
    scene.wire(lambda s, _: s.sendall(whole()))
    disk.full = True
    assert scene.call()["error"] is None
    assert writer.spilling
    lines = [
        json.loads(line) for f in (tmp_path / "spill").rglob("*") if f.is_file() for line in f.read_bytes().splitlines()
    ]
    assert [line["kind"] for line in lines if line["kind"] != "ruling"] == ["opened", "settled"]
    disk.full = False
    end = time.monotonic() + 90
    while writer.spilling and time.monotonic() < end:
        time.sleep(0.05)
    assert scene.settle(1, "done")["cost"] == TOTAL


# -- routes -----------------------------------------------------------------------------------------------------------
@pytest.mark.stalls
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_timed_out_before_another_answered_is_paid_for_too(scene: Scene, stream: bool) -> None:
    """One row an attempt: who is slow may still take money for it, and its budget knows."""
    slow = scene.wire(lambda s, _: False)
    slow.script = lambda s, _: slow.hold(s)
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS) if stream else whole()), name="other")
    scene.route("both", "wire/m", "other/m")
    assert scene.call("both", stream=stream)["text"] == "Hi you"
    settled = scene.settle(2, "done")
    assert (settled["backend"], settled["cost"]) == ("other", TOTAL)
    failed = [r for r in scene.records if r["kind"] == "failed"]
    assert [(r["backend"], r["error"], r["estimate"]) for r in failed] == [("wire", "timeout", True)]
    assert failed[0]["cost"] > 0
    spent = scene.spent()
    assert (spent["backend:wire"], spent["backend:other"]) == (failed[0]["cost"], TOTAL)
    assert spent["project:shop"] == failed[0]["cost"] + TOTAL


def test_nobody_else_is_called_once_a_token_was_seen(scene: Scene) -> None:
    scene.wire(half_an_event)
    other = scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m")
    got = scene.call("both", stream=True)
    assert (got["error"], got["text"], got["finish"]) == ("APIError", "Hi", [])
    assert other.requests == 0
    scene.settle(1, "upstream_died")


def test_a_fallback_that_its_budget_refuses_leaves_the_first_call_closed(scene: Scene) -> None:
    scene.wire(lambda s, _: reset(s))
    other = scene.wire(lambda s, _: s.sendall(whole()), name="other")
    scene.place(limits={**scene.limits, "backend:other": Limit(budgets=(Budget(id="o", limit=1, window="total"),))})
    scene.route("both", "wire/m", "other/m")
    got = scene.call("both")
    assert (got["status"], got["code"]) == (502, "upstream_unreachable"), "the first one's reason is told"
    assert other.requests == 0
    scene.settle(1)
    kinds = [r["kind"] for r in scene.records]
    assert sorted(kinds) == ["failed", "opened"]
    assert scene.spent().get("organisation", 0) == 0


def test_a_thousand_resets_and_cuts_leave_nothing(scene: Scene) -> None:
    def script(s: socket.socket, n: int) -> Any:
        if n % 3 == 0:
            return reset(s)
        s.sendall(STREAM + chunked(delta("Hi"), end=n % 3 == 1))
        return n % 3 == 1 or reset(s)

    scene.wire(script)
    scene.house.gateway.chooser.health._failures = 10**9
    body = raw(scene, {"stream": True})

    def client() -> None:
        for n in range(40):
            with connected(scene) as made, contextlib.suppress(OSError):
                made.sendall(body)
                if n % 2:
                    made.recv(100)

    threads = [threading.Thread(target=client) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    scene.settle(None)
    end = time.monotonic() + 90
    while scene.house.gateway.connections and time.monotonic() < end:
        time.sleep(0.05)
    assert not scene.house.gateway.connections
