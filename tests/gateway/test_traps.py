"""Where gateways lose an error, a cent or a client: comments before errors, silence, waits, usage beside the finish."""

import json
import socket
import threading
import time
from concurrent.futures import Future
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import httpx
import pytest

from ecotone.gateway.metering import Usage
from ecotone.gateway.plane.passing import Passing, Unusual
from ecotone.gateway.prices import FREE, Price, Rates
from ecotone.gateway.snapshot import Budget, Limit, Target
from ecotone.gateway.streams import EventCutter, StreamReader
from ecotone.vocabulary import Location
from tests.gateway.wires import (
    ANSWER,
    DONE,
    EACH,
    EVENTS,
    PRICE,
    STREAM,
    USAGE,
    Scene,
    begun,
    chunked,
    delta,
    event,
    whole,
)  # fmt: skip
from tests.running import slower

PROCESSING = b": OPENROUTER PROCESSING\n\n"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def slowly(s: socket.socket, *parts: bytes, pause: float = 0.05) -> None:
    for part in parts:
        s.sendall(part)
        time.sleep(pause)


def streamed(scene: Scene, **body: Any) -> bytes:
    """The bytes of a stream as they came."""
    asked = {"model": "wire/m", "messages": [{"role": "user", "content": "Hello"}], "stream": True, **body}
    head = {"authorization": "Bearer eck_shop"}
    return httpx.post(scene.house.url + "/v1/chat/completions", json=asked, headers=head, timeout=60).content


# -- errors ------------------------------------------------------------------------------------------------------------
def test_comments_before_an_error_hold_no_route_at_the_backend_that_fails(scene: Scene) -> None:
    """OpenRouter comments while it looks for a provider, and answers with 200 whatever comes of it."""
    error = event({"error": {"message": "no provider left", "code": 502}})
    wire = scene.wire(lambda s, _: slowly(s, STREAM, *[chunked(PROCESSING, end=False)] * 3, chunked(error)))
    scene.wire(lambda s, _: slowly(s, STREAM + chunked(PROCESSING, end=False), chunked(*EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m")
    got = scene.call(stream=True)
    assert (got["status"], got["code"]) == (502, "upstream_died") and "no provider left" in got["message"]
    scene.house.gateway.chooser.health.forget("wire/m")
    got = scene.call("both", stream=True)
    assert (got["error"], got["text"], got["finish"]) == (None, "Hi you", ["stop"])
    assert wire.requests == 2


def test_an_error_beside_a_choice_that_ended_is_no_answer(scene: Scene) -> None:
    """The form of OpenRouter's errors in mid-stream."""
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    told = event({"id": "c", "choices": [choice], "error": {"code": "server_error", "message": "disconnected"}})
    parts: list[bytes] = [delta("Hi"), told]
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*parts, DONE)))
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m")
    got = scene.call(stream=True)
    assert got["error"] == "APIError" and "disconnected" in got["message"] and not got["finish"]
    scene.settle(1, "upstream_died")
    assert scene.rests()
    scene.house.gateway.chooser.health.forget("wire/m")
    del parts[0]
    assert scene.call("both", stream=True)["text"] == "Hi you", "as the first event it leads to the next backend"


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_answers_to_two_prompts_of_which_one_came_are_no_whole(scene: Scene) -> None:
    def piece(index: int, finish: str | None = None) -> bytes:
        choice = {"index": index, "text": f"{index}", "finish_reason": finish, "logprobs": None}
        return event({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})

    parts = [piece(0), piece(0, "stop")]
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*parts)))
    asked: dict[str, Any] = {"face": "completions", "stream": True, "prompt": ["ann@example.org", "two"]}
    for key in ("eck_shop", "eck_masked"):
        if key == "eck_shop":
            asked["prompt"] = ["one", "two"]
        got = scene.call(key=key, **asked)
        assert got["error"] == "APIError", "an answer was cut and nobody was told"
        scene.house.gateway.chooser.health.forget("wire/m")
    parts += [piece(1), piece(1, "stop")]
    assert scene.call(**asked)["text"] == "0011"


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_others_are_let_in_when_the_stream_that_probes_a_backend_has_begun(scene: Scene) -> None:
    health = scene.house.gateway.chooser.health
    health._failures, health._rest = 1, 0.2
    there, go = threading.Event(), threading.Event()

    def script(s: socket.socket, n: int) -> None:
        if n == 1:
            s.sendall(whole({"error": {"message": "down"}}, status=b"500 Down"))
        elif n == 2:
            there.set()
            s.sendall(STREAM + chunked(delta("Hi"), end=False))
            go.wait(60)
            s.sendall(chunked(*EVENTS[1:]))
        else:
            s.sendall(whole())

    scene.wire(script)
    assert scene.call()["status"] == 502
    time.sleep(0.3)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(scene.call(stream=True)))
    thread.start()
    assert there.wait(60)
    end = time.monotonic() + 50
    while (got := scene.call())["error"] is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert thread.is_alive(), "nobody was let in before the end of a long stream"
    assert got["text"] == "Hi you"
    go.set()
    thread.join(60)
    assert found[0]["text"] == "Hi you"


def test_a_conflict_at_a_provider_leads_a_route_on_and_a_mistake_of_the_caller_does_not(scene: Scene) -> None:
    status = [b"409 Conflict"]
    scene.wire(lambda s, _: s.sendall(whole({"error": {"message": "not now"}}, status=status[0])))
    other = scene.wire(lambda s, _: s.sendall(whole()), name="other")
    scene.route("both", "wire/m", "other/m")
    assert scene.call("both")["text"] == "Hi you"
    assert scene.rests()
    scene.house.gateway.chooser.health.forget("wire/m")
    for status[0] in (b"400 Bad", b"404 None", b"422 What"):
        assert scene.call("both")["status"] == int(status[0][:3]) and not scene.rests()
    assert other.requests == 1


# -- silence -----------------------------------------------------------------------------------------------------------
def test_a_stream_that_is_long_in_coming_begins_and_shows_that_it_lives(scene: Scene) -> None:
    gateway = scene.house.gateway
    gateway.stream_hold, gateway.alive_seconds = 0.3, 0.3
    go, heard = threading.Event(), threading.Event()

    def script(s: socket.socket, n: int) -> None:
        go.wait(60)
        s.sendall(STREAM + chunked(delta("Hi", role="assistant"), end=False))
        heard.wait(60) if n == 1 else time.sleep(1.2)
        s.sendall(chunked(*EVENTS[1:]))

    scene.wire(script)
    asked = {"model": "wire/m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    head, began = {"authorization": "Bearer eck_shop"}, time.monotonic()
    with httpx.stream("POST", scene.house.url + "/v1/chat/completions", json=asked, headers=head, timeout=60) as answer:
        assert answer.status_code == 200 and answer.headers["x-ecotone-backend"] == "wire"
        parts = answer.iter_raw()
        first = next(parts)
        assert first.startswith(b":") and first.endswith(b"\n\n") and time.monotonic() - began < 60
        go.set()
        rest = b""
        for part in parts:
            rest += part
            if b": waiting\n\n" in rest.partition(b'"Hi"')[2]:
                heard.set()
    assert rest.endswith(DONE)
    assert heard.is_set(), "a pause of the model looks like a dead connection"
    assert scene.settle(1, "done")["completion_tokens"] == USAGE["completion_tokens"]
    got = scene.call(stream=True)
    assert (got["error"], got["text"], got["finish"]) == (None, "Hi you", ["stop"]), "OpenAI's client reads past it"


def test_what_fails_after_a_stream_began_in_silence_is_told_in_it_and_costs_nothing(scene: Scene) -> None:
    gateway = scene.house.gateway
    gateway.stream_hold = 0.2

    def script(s: socket.socket, _: int) -> None:
        begun(scene)
        s.sendall(whole({"error": {"message": "too much of a good thing"}}, status=b"503 Busy"))

    scene.wire(script)
    other = scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m")
    got = scene.call("both", stream=True)
    assert got["error"] == "APIError" and "too much of a good thing" in got["message"] and not got["finish"]
    assert other.requests == 0, "another backend goes on with a stream that began under the first one's name"
    assert scene.settle(1, "failed")["cost"] == 0
    assert scene.rests()


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_an_answer_that_is_no_stream_gets_no_signs_of_life(scene: Scene) -> None:
    scene.house.gateway.stream_hold = 0.1

    def script(s: socket.socket, _: int) -> None:
        time.sleep(0.8)
        s.sendall(whole())

    scene.wire(script)
    assert scene.call()["text"] == "Hi you"


# -- money -------------------------------------------------------------------------------------------------------------
def test_litellm_25874_a_server_in_the_house_costs_what_was_set_and_is_unknown_where_nothing_was(scene: Scene) -> None:
    wire = scene.wire(lambda s, _: s.sendall(whole()))
    found = scene.house.snapshots.current
    here = Target(
        name="wire", backend="wire", url=f"http://127.0.0.1:{wire.port}/v1", legal="free", location=Location.LOCAL
    )
    scene.place(backends={**found.backends, "wire": here}, prices={"wire/*": PRICE})
    assert scene.call()["error"] is None
    assert scene.settle(1, "done")["cost"] == 18 * EACH, "its price was set, and its budget is never used"
    scene.place(prices={}, limits={"key:nobody": scene.limits["key:shop"]})
    assert scene.call()["error"] is None
    end = time.monotonic() + 90
    while len(scene.ends()) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert scene.ends()[-1]["cost"] is None, "what nobody knows is not nothing"
    scene.place(prices={"wire/*": FREE}, limits=scene.limits)
    assert scene.call()["error"] is None
    while len(scene.ends()) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    assert scene.ends()[-1]["cost"] == 0


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_the_cheapest_is_found_for_an_answer_that_nobody_bounds_and_by_a_price_for_all_of_a_backend(
    scene: Scene,
) -> None:
    asked = [scene.wire(lambda s, _: s.sendall(whole()), name=name) for name in ("wire", "other")]
    dear = Price(version="dear", scale=(Rates(EACH, 100 * EACH, EACH, EACH, EACH, EACH, EACH),))
    scene.place(prices={"wire/*": dear, "other/*": Price(version="fair", scale=(Rates(*[2 * EACH] * 7),))})
    scene.route("cheap", "wire/m", "other/m", strategy="cheapest")
    assert scene.call("cheap")["error"] is None
    assert [wire.requests for wire in asked] == [0, 1], "a low price of the prompt hides what the answer costs"
    assert scene.call("cheap", max_tokens=1, messages=[{"role": "user", "content": "x" * 4000}])["error"] is None
    assert [wire.requests for wire in asked] == [1, 1]


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_stream_that_outgrows_its_money_gets_more_until_its_budget_refuses_and_is_cut(scene: Scene) -> None:
    def script(s: socket.socket, n: int) -> None:
        s.sendall(STREAM + chunked(*[delta("word")] * 4000, end=False))
        for number in range(2 if n == 1 else 60):  # the first one is a little longer than what was thought of
            slow = number > 14  # the budget is spent: a busy machine may look at it late
            time.sleep(1.0 if slow else 0.25)
            s.sendall(chunked(*[delta("word")] * (20 if slow else 150), end=False))
        s.sendall(chunked(delta(finish="stop"), DONE))

    wire = scene.wire(script)
    spent = Budget(id="p", limit=10_500 * EACH, window="total")
    scene.place(limits={**scene.limits, "project:shop": Limit(budgets=(spent,))})
    got = scene.call(stream=True)
    assert (got["error"], got["finish"]) == (None, ["stop"]), "there was money for all of it"
    first = scene.settle(1, "done")["cost"]
    assert first > 4200 * EACH
    got = scene.call(stream=True)
    assert got["error"] == "APIError" and got["code"] == "budget_exceeded" and not got["finish"]
    assert "max_tokens" in got["message"]
    settled = scene.settle(2, "failed")
    assert settled["error"] == "budget_exceeded" and settled["cost"] > 5000 * EACH
    assert (settled["budget"]["scope"], settled["budget"]["value"]) == ("project:shop", "0.0105 USD")
    assert first + settled["cost"] < 11_500 * EACH, "what came within a moment"
    assert wire.closed_by_gateway.wait(60), "the provider goes on to write, and to take money"


def test_a_tool_call_that_nobody_counted_is_estimated_like_a_text(scene: Scene) -> None:
    tool = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": "x" * 4000}}
    message = {"role": "assistant", "content": None, "reasoning_content": "y" * 400, "tool_calls": [tool]}
    told = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    scene.wire(lambda s, _: s.sendall(whole(told)))
    assert scene.call()["error"] is None
    settled = scene.settle(1, "done")
    assert settled["estimate"] and 1100 <= settled["completion_tokens"] <= 1110


def test_usage_that_comes_with_the_finish_is_told_in_a_chunk_of_its_own(scene: Scene) -> None:
    """Clients that take the finish for the end, or look for usage where there are no choices, miss it else."""
    choice = {"index": 0, "delta": {"content": " you"}, "finish_reason": "stop"}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    both = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","x":1.10,"choices":['
    both += json.dumps(choice).encode() + b'],"usage":' + json.dumps(USAGE).encode() + b"}\n\n"
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(delta("Hi"), both, DONE)))
    for more in ({}, {"model": "named"}):
        if more:
            scene.route("named", "wire/m", alias=True)
        raw = streamed(scene, stream_options={"include_usage": True}, **more)
        chunks = [json.loads(part[6:]) for part in raw.split(b"\n\n")[1:-2]]
        assert [bool(c["choices"]) for c in chunks] == [True, False]
        assert "usage" not in chunks[0] and chunks[1]["usage"] == USAGE
        assert chunks[0]["choices"] == [choice] and chunks[1] == head | {
            "model": more.get("model", "m"), "choices": [], "usage": USAGE,
        }  # fmt: skip
    assert b'"x":1.10' in streamed(scene, stream_options={"include_usage": True})
    assert b"usage" not in streamed(scene)


def test_a_chunk_without_choices_reaches_only_who_asked_for_usage(scene: Scene) -> None:
    """Azure begins with one, which holds what its filter found; programs read `chunk.choices[0]`."""
    filtered = event({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []})
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(filtered, *EVENTS)))
    scene.route("named", "wire/m", alias=True)
    for model in ("wire/m", "named"):
        plain = streamed(scene, model=model)
        assert plain.endswith(DONE)
        assert all(json.loads(part[6:])["choices"] for part in plain.split(b"\n\n")[:-2])
        assert b"prompt_filter_results" in streamed(scene, model=model, stream_options={"include_usage": True})


def loop_seconds(scene: Scene) -> float:
    """Of the processor, that the thread of the gateway's loop has used: whatever else the machine does is not in it."""
    told: Future[float] = Future()
    scene.house.gateway._loop.call_soon_threadsafe(lambda: told.set_result(time.thread_time()))
    return told.result(60)


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_litellm_36429_thirty_clients_that_drop_long_streams_hold_up_nobody(scene: Scene) -> None:
    """Counting what was produced until then must not take the loop's time: who asks meanwhile is answered."""
    piece = delta("word " * 12_000)

    wire = scene.wire(lambda s, _: False)

    def script(s: socket.socket, _: int) -> bool:
        s.sendall(STREAM)
        for _ in range(80):
            s.sendall(chunked(piece, end=False))
        return wire.hold(s)

    wire.script = script
    body = json.dumps({"model": "wire/m", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\ncontent-length: %d\r\n\r\n"
    )

    together = threading.Barrier(31)

    def drops() -> None:
        with socket.create_connection(("127.0.0.1", scene.house.port), timeout=60) as client:
            client.sendall(head % len(body) + body)
            got = 0
            while got < 4_000_000 and (data := client.recv(262_144)):
                got += len(data)
            together.wait(120)

    threads = [threading.Thread(target=drops) for _ in range(30)]
    for thread in threads:
        thread.start()
    before = loop_seconds(scene)
    together.wait(120)
    for _ in range(20):
        assert scene.house.post("wire/m", key="eck_wrong").status_code == 401
    assert scene.settle(30)["estimate"]
    used = loop_seconds(scene) - before
    print(f"the loop used {used:.2f} s of the processor")
    assert used < 3 * slower()  # one was measured, most of it to read what the provider had sent by then
    ends = [r for r in scene.ends() if r["status"] == "client_gone"]
    assert ends and all(r["completion_tokens"] > 500_000 for r in ends)


# -- waits -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        ([b"retry-after: 70"], 70_000, 70_000),
        ([b"retry-after-ms: 92500"], 92_500, 92_500),
        ([b"retry-after-ms: 92500", b"retry-after: 300"], 92_500, 92_500),
        (["date"], 360_000, 450_000),
    ],
)
def test_a_providers_wait_reaches_the_client_in_whatever_form_it_came(
    scene: Scene, told: list[Any], least: int, most: int
) -> None:
    def script(s: socket.socket, _: int) -> None:
        lines = [b"retry-after: " + formatdate(time.time() + 450, usegmt=True).encode()] if told == ["date"] else told
        s.sendall(whole({"error": {"message": "slow"}}, *lines, status=b"429 Too Many"))

    scene.wire(script)
    answer = scene.house.post("wire/m")
    assert answer.status_code == 429
    assert least <= int(answer.headers["retry-after-ms"]) <= most
    assert int(answer.headers["retry-after"]) * 1000 >= int(answer.headers["retry-after-ms"])
    second = scene.house.post("wire/m")
    assert (second.status_code, second.json()["error"]["code"]) == (503, "resting"), "it was asked before its time"


def test_one_refusal_for_a_rate_locks_nobody_else_out_where_the_provider_asks_for_no_wait(scene: Scene) -> None:
    wire = scene.wire(
        lambda s, n: s.sendall(
            whole({"error": {"message": "slow"}}, status=b"429 Too Many") if n == 1 else whole(ANSWER)
        )
    )
    assert scene.house.post("wire/m").status_code == 429
    assert scene.house.post("wire/m").status_code == 200
    assert wire.requests == 2


# -- traces ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_callers_trace_goes_on_in_the_records_and_what_is_none_does_not(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole(ANSWER)))
    body = {"model": "wire/m", "messages": [{"role": "user", "content": "Hello"}]}
    no_trace, no_span = TRACE.replace(TRACE[3:35], "0" * 32), TRACE.replace(TRACE[36:52], "0" * 16)
    odd = ['00-"}', TRACE.upper(), TRACE + "-more", "ff" + TRACE[2:], no_trace, no_span]
    for told, kept in ((TRACE, TRACE), *((other, None) for other in odd)):
        head = {"authorization": "Bearer eck_shop", "traceparent": told}
        answer = scene.house.client.post("/v1/chat/completions", json=body, headers=head)
        assert answer.status_code == 200
        opened = scene.house.records(answer.headers["x-request-id"])[0]
        assert opened.get("trace") == kept
    head = {"authorization": "Bearer eck_shop", "traceparent": TRACE}
    refused = scene.house.client.post("/v1/chat/completions", json={**body, "model": "demo/nc"}, headers=head)
    assert refused.status_code == 451
    assert scene.house.records(refused.headers["x-request-id"])[0]["trace"] == TRACE


# -- two ways through --------------------------------------------------------------------------------------------------
def shown(data: bytes) -> list[Any]:
    """What a client reads: the values of events, without comments."""
    return [json.loads(told) for told in EventCutter().feed(data)]


def quick(raw: bytes, *cuts: int, hide: bool, choices: int = 1) -> tuple[list[Any], bool, bool, int]:
    """A stream that goes through unchanged, and event by event from where that does not do."""
    usage = Usage()
    follower: Any = Passing(usage, hide_usage=hide, choices=choices)
    cutter, out, places = None, b"", [0, *sorted(cuts), len(raw)]
    for piece in [raw[begin:end] for begin, end in pairwise(places)]:
        if follower.done or follower.error:
            break
        if cutter is None:
            try:
                out += follower.feed(piece)
            except Unusual as unusual:
                before, cutter, piece = follower, EventCutter(), unusual.rest
                follower = StreamReader(
                    usage, "chat", hide_usage=hide, names=None, choices=choices, ended=before.ended, calls=before.calls
                )
        if cutter is not None:
            for told in cutter.feed(piece):
                if not (follower.done or follower.error):
                    out += follower.event(told) or b""
    return shown(out), bool(follower.error), follower.whole, usage.completion_tokens


def careful(raw: bytes, *, hide: bool, choices: int = 1) -> tuple[list[Any], bool, bool, int]:
    usage = Usage()
    reader, out = StreamReader(usage, "chat", hide_usage=hide, names=None, choices=choices), b""
    for told in EventCutter().feed(raw):
        if not (reader.done or reader.error):
            out += reader.event(told) or b""
    return shown(out), bool(reader.error), reader.whole, usage.completion_tokens


ODD = {
    "plain": b"".join(EVENTS),
    "comments": PROCESSING + EVENTS[0] + PROCESSING + b"".join(EVENTS[1:]),
    "other lines": b"".join(b"event: x\nid: 4\n" + part for part in EVENTS),
    "no space": b"".join(EVENTS).replace(b"data: ", b"data:"),
    "a mark of byte order": b"\xef\xbb\xbf" + b"".join(EVENTS),
    "other ends of lines": b"".join(EVENTS).replace(b"\n\n", b"\r\n\r\n"),
    "ends that change": b"".join(EVENTS[:2]) + b"".join(EVENTS[2:]).replace(b"\n\n", b"\r\r"),
    "an error": EVENTS[0] + event({"error": {"message": "x"}}) + b"".join(EVENTS[1:]),
    "an error beside a choice": EVENTS[0] + EVENTS[2].replace(b'{"id"', b'{"error": {"message": "x"}, "id"'),
    "no json": EVENTS[0] + b"data: {no\n\n" + b"".join(EVENTS[1:]),
    "twice done": b"".join(EVENTS) + DONE,
    "bytes behind": b"".join(EVENTS) + event({"error": "x"}),
    "no end": b"".join(EVENTS[:-2]),
    "cut": b"".join(EVENTS[:2]),
    "usage with the finish": EVENTS[0]
    + EVENTS[2].replace(b'{"id"', b'{"usage": %b, "id"' % json.dumps(USAGE).encode()),
    "an error that is null": b"".join(EVENTS).replace(b'{"id"', b'{"error": null, "id"'),
    "no choices": event({"id": "", "choices": [], "prompt_filter_results": [1]}) + b"".join(EVENTS),
    "several lines": EVENTS[0].replace(b', "object"', b',\ndata: "object"') + b"".join(EVENTS[1:]),
}


def tool(index: int | None, own: str | None = None, name: str | None = None, arguments: str | None = None) -> bytes:
    piece: dict[str, Any] = {} if index is None else {"index": index}
    piece |= {} if own is None else {"id": own, "type": "function"}
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[piece | {"function": {k: v for k, v in function.items() if v is not None}}])


CALLS = {
    "as openai": [tool(0, "a", "f", ""), tool(0, None, None, "{1}"), tool(1, "b", "g", ""), tool(1, None, None, "{2}")],
    "all under one number": [tool(0, "a", "f", "{1}"), tool(0, "b", "g", "{"), tool(0, None, None, "2}")],
    "without numbers": [tool(None, "a", "f", "{1}"), tool(None, "b", "g", "{2}")],
    "numbers with gaps": [tool(1, "a", "f", "{1}"), tool(4, "b", "g", "{"), tool(4, None, None, "2}")],
    "id and name each time": [
        tool(0, "a", "f", "{"), tool(0, "a", "f", "1}"), tool(1, "b", "g", "{"), tool(1, "b", "g", "2}"),
    ],
    "one after the other": [
        tool(0, "a", "f", "{"), tool(1, "b", "g", "{"), tool(0, None, None, "1}"), tool(1, None, None, "2}"),
    ],
}  # fmt: skip
ODD |= {f"calls {name}": b"".join(events) + delta(finish="tool_calls") + DONE for name, events in CALLS.items()}


@pytest.mark.parametrize("key", ["eck_shop", "eck_masked"])
def test_litellm_37792_calls_of_any_numbering_are_told_apart_by_openais_own_helper(scene: Scene, key: str) -> None:
    """Its helper gathers pieces by their number, and joins what comes twice."""
    events: list[bytes] = []
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*events, delta(finish="tool_calls"), DONE)))
    for name, events[:] in CALLS.items():
        text = "to ann@example.org" if key == "eck_masked" else "Hello"
        got = scene.call(stream=True, key=key, messages=[{"role": "user", "content": text}])
        assert got["error"] is None
        calls: dict[int, list[str]] = {}
        for piece in got["pieces"]:
            mine = calls.setdefault(piece["index"], ["", "", ""])
            mine[0] += piece["id"] or ""
            mine[1] += piece["function"]["name"] or ""
            mine[2] += piece["function"]["arguments"] or ""
        assert calls == {0: ["a", "f", "{1}"], 1: ["b", "g", "{2}"]}, name


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_what_passes_unchanged_means_what_the_careful_way_makes_of_it_wherever_it_is_cut(name: str, hide: bool) -> None:
    """Most streams go the quick way, in which nothing is decoded that need not be."""
    want = careful(ODD[name], hide=hide)
    for cut in range(len(ODD[name]) + 1):
        assert quick(ODD[name], cut, hide=hide) == want, cut
