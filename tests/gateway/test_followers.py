"""Both ways of following a stream mean the same, and clients can gather the tool calls that come of either."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.gateway.assembling import assembled
from ecotone.gateway.calls import Calls
from ecotone.gateway.incoming import read_answer
from ecotone.gateway.metering import Usage
from ecotone.gateway.plane.passing import Passing, Unusual
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.gateway.streams import EventCutter, StreamReader
from ecotone.privacy import Pseudonyms
from tests.gateway import wires
from tests.gateway.test_traps import careful, quick, streamed
from tests.gateway.wires import EACH, STREAM, USAGE, Scene, begun, chunked, delta, last, whole

DONE = b"data: [DONE]\n\n"


def told(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None, index: Any = 0, **more: Any) -> bytes:
    return told({"id": "c", **more, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def piece(index: Any = 0, own: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {k: v for k, v in (("index", index), ("id", own), ("function", function)) if v is not None}


def gathered(events: list[Any]) -> dict[tuple[int, int], list[str]]:
    """(choice, index) -> id, name, arguments, all joined, as OpenAI's helper does."""
    calls: dict[tuple[int, int], list[str]] = {}
    for event in events:
        for choice in event["choices"]:
            for part in choice["delta"].get("tool_calls") or []:
                function = part.get("function") or {}
                mine = calls.setdefault((choice["index"], part["index"]), ["", "", ""])
                for at, text in enumerate((part.get("id"), function.get("name"), function.get("arguments"))):
                    mine[at] += text or ""
    return calls


def both(events: list[bytes], choices: int = 1) -> dict[tuple[int, int], list[str]]:
    """What clients gather, the same by either way."""
    raw = b"".join(events) + DONE
    want = careful(raw, hide=True, choices=choices)
    assert quick(raw, hide=True, choices=choices) == want
    assert not want[1]
    return gathered(want[0])


def calls(*pieces: dict[str, Any], **more: Any) -> list[bytes]:
    return [chunk({"tool_calls": [part]}, **more) for part in pieces]


A, B = ["a", "f", "{1}"], ["b", "g", "{2}"]
SHAPES: dict[str, tuple[list[bytes], list[list[str]]]] = {
    "a name in pieces that are the same": (
        calls(piece(0, "a", "ha"), piece(0, None, "ha"), piece(0, None, None, "{1}")), [["a", "haha", "{1}"]],
    ),
    "a name in pieces": (calls(piece(0, "a", "get_"), piece(0, None, "x", "{1}")), [["a", "get_x", "{1}"]]),
    "the name each time without its id": (
        calls(piece(0, "a", "f", "{"), piece(0, None, "f", "1"), piece(0, None, "f", "}")), [A],
    ),
    "an id again after another call": (
        calls(piece(0, "a", "f", "{"), piece(0, "b", "g", "{"), piece(0, "a", "f", "1}"), piece(0, "b", "g", "2}")),
        [A, B],
    ),
    "the same tool twice": (
        calls(piece(0, "a", "f", "{1}"), piece(0, "b", "f", "{"), piece(0, None, None, "2}")),
        [A, ["b", "f", "{2}"]],
    ),
    "an id that comes late": (calls(piece(0, None, "f"), piece(0, "a", None, "{1}")), [A]),
    "empty ids": (calls(piece(0, "", "f", "{"), piece(0, "", "", "1}"), piece(1, "", "g", "{2}")),
        [["", "f", "{1}"], ["", "g", "{2}"]]),
    "no ids, one number": (
        calls(piece(0, None, "f", "{1}"), piece(0, None, "g", "{"), piece(0, None, None, "2}")),
        [["", "f", "{1}"], ["", "g", "{2}"]],
    ),
    "no ids, no numbers, one tool": (
        [chunk({"tool_calls": [piece(None, None, "f", "{1}"), piece(None, None, "f", "{2}")]})],
        [["", "f", "{1}"], ["", "f", "{2}"]],
    ),
    "numbers with a point": (
        calls(piece(0.0, "a", "f", "{"), piece(1.0, "b", "g", "{"), piece(0.0, None, None, "1}"),
              piece(1.0, None, None, "2}")), [A, B],
    ),
    "numbers as text": (
        calls(piece("0", "a", "f", "{"), piece("1", "b", "g", "{"), piece("0", None, None, "1}"),
              piece("1", None, None, "2}")), [A, B],
    ),
    "numbers below nothing": (calls(piece(-1, "a", "f", "{"), piece(-1, None, None, "1}"), piece(-1, "b", "g", "{2}")),
        [A, B]),
    "a number beyond reason": (calls(piece(10**40, "a", "f", "{"), piece(10**40, None, None, "1}")), [A]),
    "true and false": (calls(piece(True, "a", "f", "{1}"), piece(False, "b", "g", "{2}")), [A, B]),
    "pieces that go on without a number": (calls(piece(0, "a", "f", "{"), piece(None, None, None, "1}")), [A]),
    "an id again without its number": (
        calls(piece(0, "a", "f", "{"), piece(1, "b", "g", "{2}"), piece(None, "a", None, "1}")), [A, B],
    ),
    "one id under two numbers": (calls(piece(0, "a", "f", "{1}"), piece(1, "a", "g", "{2}")), [A, ["a", "g", "{2}"]]),
    "an object": (
        [b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f",'
         b'"arguments": {"z": 1.10, "a": 12345678901234567890123, "m": {}}}}]}}]}\n\n'],
        [["a", "f", '{"z": 1.10, "a": 12345678901234567890123, "m": {}}']],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_calls_that_a_server_tells_apart_in_its_own_way_are_gathered_whole(name: str) -> None:
    events, want = SHAPES[name]
    assert both(events) == {(0, at): call for at, call in enumerate(want)}


def test_calls_of_several_choices_are_counted_for_each_of_them() -> None:
    events = [
        chunk({"tool_calls": [part]}, index=choice)
        for part in (piece(0, "a", "f", "{"), piece(0, "a", "f", "1}"), piece(0, "b", "g", "{2}"))
        for choice in (0, 1)
    ]
    assert both(events, choices=2) == {(choice, at): call for choice in (0, 1) for at, call in enumerate((A, B))}


@pytest.mark.parametrize("own", [True, False])
def test_more_calls_than_any_answer_has_end_the_stream_and_fill_no_memory(own: bool) -> None:
    """They were joined to the first ones, without a word."""
    events = calls(*[piece(at if not own else 0, f"id{at}" if own else None, "f", "{}") for at in range(1100)])
    for follower in (quick(b"".join(events), hide=True), careful(b"".join(events), hide=True)):
        shown, failed, _, _ = follower
        assert failed and len(gathered(shown)) == len(shown) <= 1024
    held = Calls()
    for at in range(100):
        held.put_right([{"delta": {"tool_calls": [piece(0, f"{at}" * 100_000, f"{at}" * 100_000)]}}])
    assert sum(len(name) for *_, name in held._by_id) < 20_000


def test_a_call_of_the_form_before_tools_has_one_name_and_its_arguments_as_text() -> None:
    events = [chunk({"function_call": {"name": "f", "arguments": part}}) for part in ("{", "1}")]
    raw = b"".join(events) + b'data: {"choices":[{"index":0,"delta":{"function_call":{"arguments":{"b":1.0}}}}]}\n\n'
    want = careful(raw + DONE, hide=True)
    assert quick(raw + DONE, hide=True) == want
    parts = [event["choices"][0]["delta"]["function_call"] for event in want[0]]
    assert [part.get("name") for part in parts] == ["f", None, None]
    assert [part["arguments"] for part in parts] == ["{", "1}", '{"b":1.0}']


def test_a_whole_answers_arguments_are_text_whatever_the_server_sends() -> None:
    calls = b'"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{"z": 1.10, "a": 2}}}]'
    data = b'{"choices":[{"index":0,"message":{"role":"assistant",' + calls + b"}}],"
    data += b'"usage":' + json.dumps(USAGE).encode() + b',"service_tier":"flex"}'
    usage = Usage()
    message = json.loads(read_answer(data, usage, None))["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"z": 1.10, "a": 2}'
    assert usage.completion_tokens == USAGE["completion_tokens"] and usage.service_tier == "flex"


def test_a_reason_that_is_empty_or_comes_twice_ends_no_choice() -> None:
    """Some servers give an empty one with each piece; a cut of their streams looked like the end."""
    cut = [chunk({"content": "a"}, ""), chunk({"content": "b"}, "")]
    twice = [chunk({}, "stop"), chunk({}, "stop")]
    for events, choices in ((cut, 1), (twice, 2)):
        raw = b"".join(event.replace(b": ", b":").replace(b"data:", b"data: ") for event in events)
        assert not quick(raw, hide=True, choices=choices)[2]
        assert not careful(raw, hide=True, choices=choices)[2]


def test_what_passed_before_a_stream_became_unusual_is_counted() -> None:
    usage = Usage()
    passing = Passing(usage, hide_usage=True, choices=1)
    passing.feed(b"".join(chunk({"content": "word" * 10}) for _ in range(100)))
    with pytest.raises(Unusual):
        passing.feed(b"data: \r\n")
    passing.estimate()
    reader = StreamReader(usage, "chat", hide_usage=True, names=None, ended=passing.ended, calls=passing.calls)
    for data in EventCutter().feed(chunk({"content": "word" * 10}) * 10):
        reader.event(data)
    assert 4000 <= usage.characters <= 4800


def test_comments_are_no_tokens() -> None:
    usage = Usage()
    passing = Passing(usage, hide_usage=True, choices=1)
    passing.feed(chunk({"content": "Hi"}) * 3)
    for _ in range(500):
        assert passing.feed(b": OPENROUTER PROCESSING\n\n")
    passing.estimate()
    assert passing.produced < 10 and usage.characters < 40


# -- all that may come -------------------------------------------------------------------------------------------------
INDEX = st.sampled_from([None, 0, 0, 1, 2, -1, 1.0, "1", True])
PIECES = st.builds(
    piece,
    INDEX,
    st.sampled_from([None, "", "a", "b"]),
    st.sampled_from([None, "", "f", "g", "get_"]),
    st.sampled_from([None, "", "{", "1}", {"b": 1.5, "a": {"arguments": {}}}]),
)
TEXTS = st.sampled_from(
    ["", "Hi", '"finish_reason":"stop"', '"error"', "data: [DONE]", "\n\n", "ä\u2028😀", '"usage":{']
)
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda parts: {"tool_calls": parts}, st.lists(PIECES, max_size=3)),
    st.builds(lambda part: {"function_call": part["function"]}, PIECES),
    st.just({}),
)
FIGURES = st.sampled_from([{}, {}, {"usage": None}, {"usage": USAGE}, {"usage": USAGE | {"completion_tokens": 3}}])
ERRORS = st.sampled_from([{}, {}, {}, {}, {"error": None}, {"error": {"message": "x"}}])
CHOICES = st.builds(
    lambda index, delta, finish: {"index": index, "delta": delta, "finish_reason": finish},
    st.sampled_from([0, 0, 1]),
    DELTAS,
    st.sampled_from([None, None, None, "", "stop", "tool_calls"]),
)
VALUES = st.builds(
    lambda choices, usage, error: {"id": "c", **error, "choices": choices, **usage},
    st.lists(CHOICES, max_size=2),
    FIGURES,
    ERRORS,
)


def written(value: Any, form: int, end: str) -> bytes:
    text = json.dumps(value, ensure_ascii=form % 2 == 0, separators=(",", ":") if form & 2 else None)
    if form & 4:
        text = text.replace('"id"', '\ndata: "id"', 1).replace('"index"', '\ndata: "index"', 1)
    head = "data:" if form & 8 else "data: "
    more = "event: x\n" if form & 16 else ""
    return f"{more}{head}{text}{end}".encode()


EVENTS = st.one_of(
    st.builds(written, VALUES, st.integers(0, 31), st.sampled_from(["\n\n", "\n\n", "\n\n", "\n\n", "\r\n\r\n"])),
    st.sampled_from(
        [b": ping\n\n", b"data: [DONE]\n\n", b"data: [DONE] \n\n", b"data: 3\n\n", b"data: {no\n\n", b"\n\n"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(EVENTS, max_size=8),
    places=st.lists(st.floats(0, 1), max_size=4),
    hide=st.booleans(),
    choices=st.sampled_from([1, 2]),
)
def test_both_ways_mean_the_same_of_whatever_comes_however_it_is_cut(
    events: list[bytes], places: list[float], hide: bool, choices: int
) -> None:
    raw = b"".join(events)
    cuts = [round(place * len(raw)) for place in places]
    fast, slow = quick(raw, *cuts, hide=hide, choices=choices), careful(raw, hide=hide, choices=choices)
    assert fast[:2] == slow[:2] and fast[3] == slow[3]
    if not slow[1]:
        assert fast[2] == slow[2] or not slow[2], "a choice that nobody asked for may be open still"


# -- money and silence of streams, through the gateway -----------------------------------------------------------------
def pace(s: Any, *parts: bytes, seconds: float) -> None:
    """Long enough for the gateway to look at it."""
    s.sendall(STREAM + chunked(*parts[:-1], end=False))
    time.sleep(seconds)
    s.sendall(chunked(parts[-1], delta(finish="stop"), last(FIGURE), wires.DONE))


FIGURE = {"prompt_tokens": 11, "completion_tokens": 60, "total_tokens": 71}


def budget(usd: int) -> Limit:
    return Limit(budgets=(Budget(id="p", limit=usd, window="total"),))


def reserved(scene: Scene) -> int:
    return int(next(r for r in reversed(scene.records) if r["kind"] == "opened")["reserved_cost"])


@pytest.mark.parametrize("through", ["connections"], indirect=True)
@pytest.mark.parametrize("logprobs", [False, True])
def test_an_answer_that_keeps_to_its_limit_is_never_cut_for_long_words(scene: Scene, logprobs: bool) -> None:
    """All that it may cost is reserved; its letters and what comes beside them say little of its tokens."""
    many = {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": [{"token": "y", "logprob": -2.5}] * 20}]}
    more = {"logprobs": many} if logprobs else {}

    def piece(text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **more}
        return wires.event({"id": "c", "choices": [choice]})

    parts = [piece(""), *[piece("incomprehensibilities ")] * 60]
    scene.wire(lambda s, _: pace(s, *parts, seconds=1.3))
    asked: dict[str, Any] = {"stream": True, "max_tokens": 60, **({"logprobs": True} if logprobs else {})}
    assert scene.call(**asked)["error"] is None
    scene.settle(1)
    scene.place(limits={**scene.limits, "project:shop": budget(reserved(scene))})
    got = scene.call(**asked)
    assert (got["error"], got["finish"]) == (None, ["stop"])
    assert scene.settle(2, "done")["cost"] == 71 * EACH


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_backend_that_heeds_no_limit_takes_no_more_than_its_budget(scene: Scene) -> None:
    def script(s: Any, _: int) -> None:
        s.sendall(STREAM)
        for number in range(60):  # slower from where it must be cut on: a busy machine looks at it late
            s.sendall(chunked(*[delta("word")] * 100, end=False))
            time.sleep(0.1 if number < 12 else 1.0)

    scene.wire(script)
    scene.place(limits={**scene.limits, "project:shop": budget(1000 * EACH)})
    got = scene.call(stream=True, max_completion_tokens=50)
    assert got["error"] == "APIError" and "max_tokens" in got["message"]
    assert 900 * EACH < scene.settle(1, "failed")["cost"] < 2500 * EACH, "all of the budget, and what came in a moment"


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_fee_for_each_request_is_reserved_once_however_long_the_answer_grows(scene: Scene) -> None:
    price = Price(version="fee", scale=(Rates(EACH, EACH, EACH, EACH, EACH, EACH, EACH, 1000 * EACH * 1000),))
    figure = {"prompt_tokens": 11, "completion_tokens": 9000, "total_tokens": 9011}

    def script(s: Any, _: int) -> None:
        s.sendall(STREAM)
        for _ in range(3):
            s.sendall(chunked(*[delta("word")] * 3000, end=False))
            time.sleep(0.8)
        s.sendall(chunked(delta(finish="stop"), last(figure), wires.DONE))

    scene.wire(script)
    scene.place(prices={"wire/*": price}, limits={**scene.limits, "project:shop": budget(1_015_000 * EACH)})
    got = scene.call(stream=True)
    assert (got["error"], got["finish"]) == (None, ["stop"]), "it was cut for fees that nobody takes"
    assert scene.settle(1, "done")["cost"] == (1_000_000 + 9011) * EACH


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_backends_own_comments_that_reach_nobody_leave_no_client_in_silence(scene: Scene) -> None:
    """Where events are rewritten, its comments stay behind."""
    scene.house.gateway.alive_seconds = 0.3

    heard = threading.Event()

    def script(s: Any, _: int) -> None:
        s.sendall(STREAM + chunked(delta("Hi", role="assistant"), end=False))
        for _ in range(300):
            if heard.wait(0.1):
                break
            s.sendall(chunked(b": ping\n\n", end=False))
        s.sendall(chunked(*wires.EVENTS[1:]))

    scene.wire(script)
    scene.route("named", "wire/m", alias=True)
    asked = {"model": "named", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    head = {"authorization": "Bearer eck_shop"}
    raw = b""
    with httpx.stream("POST", scene.house.url + "/v1/chat/completions", json=asked, headers=head, timeout=60) as answer:
        for part in answer.iter_raw():
            raw += part
            if b": waiting\n\n" in raw:
                heard.set()
    assert raw.endswith(wires.DONE) and heard.is_set() and b"ping" not in raw


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_the_seconds_of_a_route_are_for_the_first_token_and_no_head_or_comment_is_one(scene: Scene) -> None:
    def script(s: Any, _: int) -> None:
        s.sendall(STREAM)
        for _ in range(900):
            s.sendall(chunked(b": ping\n\n", end=False))
            time.sleep(0.1)

    scene.wire(script)
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*wires.EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m", first_seconds=5.0)
    began = time.monotonic()
    assert scene.call("both", stream=True)["text"] == "Hi you"
    assert time.monotonic() - began < 80  # of the ninety for which it comments
    assert scene.rests()


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_client_that_goes_while_nothing_has_come_frees_all_and_is_told_so_in_the_books(scene: Scene) -> None:
    scene.house.gateway.stream_hold = scene.house.gateway.alive_seconds = 0.2
    wire = scene.wire(lambda s, _: wire.hold(s))
    other = scene.wire(lambda s, _: s.sendall(whole()), name="other")
    scene.route("both", "wire/m", "other/m")
    asked = {"model": "both", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    head = {"authorization": "Bearer eck_shop"}
    with httpx.stream("POST", scene.house.url + "/v1/chat/completions", json=asked, headers=head, timeout=60) as answer:
        assert next(answer.iter_raw()).startswith(b": waiting")
    settled = scene.settle(1, "client_gone")
    assert wire.closed_by_gateway.wait(60) and other.requests == 0
    assert settled["backend"] == "wire" and settled["completion_tokens"] == 0


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_an_old_client_gets_the_signs_of_life_without_frames(scene: Scene) -> None:
    scene.house.gateway.stream_hold = scene.house.gateway.alive_seconds = 0.2

    def script(s: Any, _: int) -> None:
        begun(scene)
        s.sendall(STREAM + chunked(*wires.EVENTS))

    scene.wire(script)
    body = json.dumps({"model": "wire/m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", scene.house.port), timeout=60) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer eck_shop\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        got = b""
        while data := client.recv(65536):
            got += data
    head, _, answer = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head and answer.startswith(b": waiting\n\n") and answer.endswith(wires.DONE)
    assert b"\r\n" not in answer


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_masked_stream_that_began_in_silence_gives_its_names_back_and_a_failing_one_does_too(scene: Scene) -> None:
    scene.house.gateway.stream_hold = 0.2
    seen: list[str] = []

    def script(s: Any, n: int) -> None:
        seen.append(scene.wires[0].bodies[-1]["messages"][0]["content"].removeprefix("to "))
        begun(scene)
        if n == 1:
            s.sendall(STREAM + chunked(delta(seen[-1]), *wires.EVENTS[2:]))
        else:
            s.sendall(whole({"error": {"message": f"not to {seen[-1]}"}}, status=b"429 Too Many"))

    scene.wire(script)
    asked: dict[str, Any] = {"key": "eck_masked", "messages": [{"role": "user", "content": "to ann@example.org"}]}
    assert scene.call(stream=True, **asked)["text"] == "ann@example.org"
    got = scene.call(stream=True, **asked)
    assert "ann@example.org" not in seen and "not to ann@example.org" in got["message"]
    assert scene.rests(), "a refusal for its rate that came late is one"


def test_a_stream_is_charged_at_the_tier_that_its_provider_answered_with() -> None:
    raw = chunk({"content": "Hi"}) + told({"choices": [], "usage": USAGE, "service_tier": "flex"}) + wires.DONE
    for follow in ("quick", "careful"):
        usage = Usage()
        if follow == "quick":
            Passing(usage, hide_usage=True, choices=1).feed(raw)
        else:
            reader = StreamReader(usage, "chat", hide_usage=True, names=None)
            for data in EventCutter().feed(raw):
                reader.event(data)
        assert usage.service_tier == "flex"


def test_a_masked_answers_arguments_get_their_names_back_inside_of_a_text() -> None:
    names, odd = Pseudonyms(), 'Ann "A" <ann@example.org>'
    masked = names.mask_json({"to": odd, "n": 1.5})
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": masked}}
    data = json.dumps({"choices": [{"index": 0, "message": {"tool_calls": [call]}}], "usage": USAGE}).encode()
    (got,) = json.loads(read_answer(data, Usage(), names))["choices"][0]["message"]["tool_calls"]
    assert json.loads(got["function"]["arguments"]) == {"to": odd, "n": 1.5}


def test_a_name_in_pieces_is_whole_in_an_answer_that_is_kept() -> None:
    events = [event[6:-2] for event in calls(piece(0, "a", "get_"), piece(0, None, "x"), piece(0, None, None, "{1}"))]
    answer = assembled("chat", events, b"")
    assert answer is not None
    (call,) = json.loads(answer)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_x", "arguments": "{1}"}


@pytest.mark.slow
@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_streams_that_outgrow_one_budget_together_spend_it_and_no_more_than_comes_in_a_moment(scene: Scene) -> None:
    def script(s: Any, _: int) -> None:
        s.sendall(STREAM + chunked(*[delta("word")] * 4000, end=False))
        for _ in range(60):
            s.sendall(chunked(*[delta("word")] * 50, end=False))
            time.sleep(0.2)  # a moment may last four seconds on a busy machine

    scene.wire(script)
    limit = 40_000 * EACH
    scene.place(limits={**scene.limits, "project:shop": budget(limit)})
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: streamed(scene), range(8)))
    assert all(b'"error"' in raw for raw in got)
    scene.settle(8, "failed")
    assert limit * 0.95 < scene.spent()["p"] < limit + 8 * 1000 * EACH
