"""Callers and providers who want more than they may: money, disk, memory, time, names that are not theirs."""

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from ecotone.gateway.admission import admit
from ecotone.gateway.answers import Refusal
from ecotone.gateway.limits import Limiter
from ecotone.gateway.metering import MOST_TOKENS, Usage, reserved_completion
from ecotone.gateway.parsing import Request, parse
from ecotone.gateway.plane import connections
from ecotone.gateway.plane.asgi import AsgiClient
from ecotone.gateway.plane.passing import Passing, Unusual
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Limit, Target
from ecotone.ledger import Ledger
from ecotone.privacy import inspect
from ecotone.vocabulary import DataClass, Location
from tests.serving import close

USD = 10**12
PRICE = Price(
    version="test", scale=(Rates(2_500_000, 10_000_000, 0, 0, 0, 0, 0),), max_output=16_384
)  # 2.50 and 10 USD per million tokens
CHAT: dict[str, Any] = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}]}


def limit(house: Any, limits: dict[str, Limit], **more: Any) -> None:
    """Put limits in force. The fake provider's models cost what `PRICE` says."""
    house.gateway.limiter = Limiter()
    house.snapshots.current = msgspec.structs.replace(
        house.snapshots.current, limits=limits, prices={"fake/*": PRICE, "raw/*": PRICE}, **more
    )


def budget(house: Any, amount: int) -> None:
    limit(house, {"key:shop": Limit(budgets=(Budget(id="b", limit=amount, window="total"),))})


@pytest.fixture
def provider(house: Any) -> Iterator[Callable[..., None]]:
    """Starts a backend `raw` that answers each connection as it is told."""
    with contextlib.ExitStack() as opened:

        def start(answer: Callable[[socket.socket], None]) -> None:
            listener = socket.create_server(("127.0.0.1", 0))
            opened.callback(close, listener)

            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        client, _ = listener.accept()
                        with client, contextlib.suppress(OSError):
                            client.recv(65536)
                            answer(client)

            threading.Thread(target=serve, daemon=True).start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            raw = Target(name="raw", backend="raw", url=url, legal="free", location=Location.EXTERNAL)
            now = house.snapshots.current
            house.snapshots.current = msgspec.structs.replace(now, backends={**now.backends, "raw": raw})

        yield start


def reserved(house: Any, answer: Any) -> int:
    opened = next(r for r in house.records(answer.headers["x-request-id"]) if r["kind"] == "opened")
    return int(opened["reserved_cost"])


# -- money -------------------------------------------------------------------------------------------------------------
def test_a_call_without_max_tokens_is_not_free_to_pass_the_budget(house: Any) -> None:
    budget(house, USD // 10)  # an answer of 16,384 tokens costs 0.16 USD
    answer = house.post("fake/gpt-test")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "budget_exceeded")
    assert "max_tokens" in answer.json()["error"]["message"]
    assert house.post("fake/gpt-test", max_tokens=50).status_code == 200
    assert house.provider.seen[0]["max_tokens"] == 50


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 9000, "n": 2},
        {"max_tokens": 9000.0, "n": 2.0},
        {"max_tokens": "18000"},
        {"max_completion_tokens": 1, "max_tokens": 18_000},
        {"max_tokens": 1, "max_completion_tokens": 18_000},
        {"max_tokens": 1_000, "n": 1, "best_of": 18},
        {"max_tokens": 1, "n_predict": 18_000},
        {"max_tokens": 1, "n_predict": -1},
        {"max_tokens": -1},
        {"max_tokens": 10**30},
        {"n": 128},
    ],
)
def test_no_way_of_writing_a_wish_for_many_tokens_passes_the_budget(house: Any, more: dict[str, Any]) -> None:
    budget(house, USD // 10)
    assert house.post("fake/gpt-test", **more).json()["error"]["code"] == "budget_exceeded"
    assert house.provider.seen == []


def test_each_prompt_of_a_list_is_paid_for(house: Any) -> None:
    body = {"model": "fake/x", "max_tokens": 1000, "prompt": ["a"] * 20}
    assert reserved_completion(parse("completions", json.dumps(body).encode())) == 20_000
    body["prompt"] = [1] * 20
    assert reserved_completion(parse("completions", json.dumps(body).encode())) == 1000


@pytest.mark.parametrize("told", [10**9, 2**53, 2**63, 2**64, 10**40, -5, "7", 1.5, None, True])
def test_usage_that_a_provider_makes_up_breaks_no_sum_and_spends_no_fortune(
    house: Any, provider: Callable[..., None], told: Any
) -> None:
    usage = {"prompt_tokens": told, "completion_tokens": told}
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    provider(lambda c: c.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)))
    limit(house, {})
    answer = house.post("raw/liar", max_tokens=50)
    assert answer.status_code == 200
    record = house.settled(answer)
    assert record["estimate"] is True
    assert 0 <= record["prompt_tokens"] < 1000
    assert 0 <= record["cost"] < USD


def test_figures_of_parts_are_bounded_like_the_whole() -> None:
    usage = Usage()
    usage.take({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2**52}})
    assert usage.prompt_tokens <= MOST_TOKENS


def test_a_model_without_a_price_answers_where_limits_but_no_budget_stand(house: Any) -> None:
    limit(house, {"key:shop": Limit(requests=100)})
    house.snapshots.current = msgspec.structs.replace(house.snapshots.current, prices={})
    answer = house.post("fake/gpt-test")
    assert answer.status_code == 200
    assert house.settled(answer)["cost"] is None


# -- the ledger's disk -------------------------------------------------------------------------------------------------
def test_refused_requests_fill_no_disk_past_the_rate(house: Any) -> None:
    limit(house, {"key:shop": Limit(requests=3)})
    answers = [house.post("demo/nc").status_code for _ in range(8)]
    assert answers == [451] * 3 + [429] * 5
    assert len(list(Ledger(house.folder / "ledger").records("refused"))) == 3


# -- whose names -------------------------------------------------------------------------------------------------------
def test_a_key_of_some_models_is_not_told_the_names_of_the_others(house: Any) -> None:
    keys = {
        hashed: msgspec.structs.replace(k, models=("assistant",)) for hashed, k in house.snapshots.current.keys.items()
    }
    house.snapshots.current = msgspec.structs.replace(house.snapshots.current, keys=keys)
    told = house.client.get("/v1/models", headers={"authorization": "Bearer eck_shop"}).json()
    assert [row["id"] for row in told["data"]] == ["assistant"]
    one = house.client.get("/v1/models/demo/local", headers={"authorization": "Bearer eck_shop"})
    assert one.status_code == 404


@pytest.mark.parametrize("key", ["Max_Tokens", "N", "ſtream", "max_toKens", "meſſages"])
def test_a_key_that_a_lenient_server_takes_for_another_is_refused(key: str) -> None:
    with pytest.raises(Refusal, match="only in case"):
        parse("chat", json.dumps({**CHAT, key: 5}, ensure_ascii=False).encode())


def test_tokens_written_as_floats_are_not_taken_for_a_harmless_text() -> None:
    assert inspect({"prompt": [101.0, 102.0]}).data_class is DataClass.CONFIDENTIAL


# -- time and memory ---------------------------------------------------------------------------------------------------
def test_an_event_that_comes_in_crumbs_holds_up_nobody() -> None:
    passing = Passing(Usage(), hide_usage=False, choices=1)
    began = time.thread_time()
    with pytest.raises(Unusual):
        for _ in range(20_000):
            passing.feed(b"x" * 50)
    assert time.thread_time() - began < 0.5


def test_trailers_without_end_are_not_gathered(house: Any, provider: Callable[..., None]) -> None:
    sent = 0

    def answer(client: socket.socket) -> None:
        nonlocal sent
        client.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ")
        for _ in range(2000):
            client.sendall(b"a" * 16_384)
            sent += 16_384

    provider(answer)
    assert house.post("raw/chatter").status_code == 502
    assert sent < 16 * 1024 * 1024


def test_an_interim_answer_in_one_piece_with_the_answer_leaves_nobody_waiting(
    house: Any, provider: Callable[..., None]
) -> None:
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    provider(lambda client: client.sendall(b"HTTP/1.1 103 Early Hints\r\nx: 1\r\n\r\n" + final))
    began = time.monotonic()
    assert house.post("raw/early").status_code == 200
    assert time.monotonic() - began < 10  # nobody waited for the end of the provider's patience


class Silent:
    """Takes what a connection tells."""

    most_body, patience = 1000, 60.0

    def __init__(self) -> None:
        self.refused: list[Refusal] = []

    def refused_early(self, head: Any, address: str) -> None: ...

    def take(self, *_: Any) -> None: ...

    def refuse(self, client: Any, refusal: Refusal, head: Any) -> None:
        self.refused.append(refusal)


class Fields(dict[str, Any]):
    """Of a body; told when they are forgotten."""


@pytest.mark.parametrize("model", ["nobody/none", "demo/nc", "denied"])
def test_a_body_that_is_refused_is_forgotten_with_its_refusal_and_waits_for_no_collector(
    house: Any, model: str
) -> None:
    now = house.snapshots.current

    def refused() -> "weakref.ref[Fields]":
        fields = Fields(model=model, messages=[{}])
        with contextlib.suppress(Refusal):
            admit(now, now.consumers["shop"], Request("chat", model, False, False, fields, b"{}", True), inspect({}))
            raise AssertionError("it was let through")
        return weakref.ref(fields)

    gc.disable()
    try:
        assert refused()() is None
    finally:
        gc.enable()


class Working:
    """What is under way for a client, which it holds, as it is held by it."""

    def __init__(self, client: Any) -> None:
        self.client = client


def test_a_request_through_asgi_is_forgotten_with_its_answer_and_waits_for_no_collector() -> None:
    seen: list[weakref.ref[Working]] = []

    class Answering(Silent):
        def take(self, client: Any, *_: Any) -> Working:
            client.whole(200, b"", b"{}")
            work = Working(client)
            seen.append(weakref.ref(work))
            return work

    async def receive() -> dict[str, Any]:
        if seen:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"{}"}

    async def send(_: Any) -> None: ...

    async def call() -> list[Working | None]:
        scope = {"method": "POST", "path": "/v1/chat/completions", "headers": [(b"host", b"x")], "client": None}
        await AsgiClient(Answering(), scope, receive, send).run()
        end = time.monotonic() + 60
        while any(ref() for ref in seen) and time.monotonic() < end:  # its tasks have some turns of the loop to go
            await asyncio.sleep(0.01)
        return [ref() for ref in seen]

    gc.disable()
    try:
        assert asyncio.run(call()) == [None]
    finally:
        gc.enable()


def test_a_head_that_comes_letter_by_letter_does_not_hold_its_connection() -> None:
    async def drip() -> list[Refusal]:
        desk = Silent()
        server = await asyncio.get_running_loop().create_server(
            lambda: made.append(connections.Connection(desk, set())) or made[-1], "127.0.0.1", 0
        )
        made: list[connections.Connection] = []
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx: ")
        while not made or not made[0]._head_since:
            await asyncio.sleep(0.01)
        made[0]._head_since -= connections.HEAD_SECONDS - 0.2
        for _ in range(10):
            writer.write(b"a")
            await asyncio.sleep(0.05)
            made[0].sweep(time.monotonic(), 60.0)
        writer.close()
        server.close()
        return desk.refused

    assert [r.code for r in asyncio.run(drip())][:1] == ["head_too_slow"]
