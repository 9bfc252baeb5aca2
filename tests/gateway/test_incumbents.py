"""Bugs that users of other gateways reported, as tests here: each is named after the issue.

What stands elsewhere: prices by the token (test_prices), budgets and every face's cost (test_money), cut streams and
calls after the first byte (test_faults), tool calls of every shape (test_tool_deltas).
"""

import json
import socket
import time
from typing import Any

import pytest

from ecotone.gateway.prices import FREE, Price, Rates
from ecotone.gateway.snapshot import Budget, Limit
from tests.gateway.wires import ANSWER, DONE, EVENTS, MUCH, STREAM, Scene, chunked, delta, event, last, whole

MAIL, IBAN = "maria.lopez@example.org", "DE89 3704 0044 0532 0130 00"


def in_two(s: socket.socket, raw: bytes, at: int) -> None:
    """The bytes in two writes that the gateway reads apart."""
    s.sendall(raw[:at])
    time.sleep(0.002)
    s.sendall(raw[at:])


def arguments_of(wire_bodies: list[dict[str, Any]]) -> str:
    """What a model makes of the placeholders that it was sent: a tool call's arguments with all of them."""
    return json.dumps({"to": f'"{wire_bodies[-1]["messages"][-1]["content"]}"\n'})


def called(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": arguments}}


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_31950_placeholders_come_back_in_tool_calls_wherever_the_bytes_are_cut(
    scene: Scene, stream: bool
) -> None:
    cuts: list[int] = []

    def script(s: socket.socket, n: int) -> None:
        arguments = arguments_of(wire.bodies)
        if not stream:
            message = {"role": "assistant", "content": None, "tool_calls": [called(arguments)]}
            raw = whole({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
        else:
            first = {**called(""), "index": 0}
            parts = [delta(tool_calls=[first])]
            parts += [
                delta(tool_calls=[{"index": 0, "function": {"arguments": arguments[i : i + 5]}}])
                for i in range(0, len(arguments), 5)
            ]
            raw = STREAM + chunked(*parts, delta(finish="tool_calls"), last(), DONE)
        cuts.append(len(raw))
        in_two(s, raw, (n * 131) % len(raw))

    wire = scene.wire(script)
    text = f"Write to {MAIL}, account {IBAN}"
    for _ in range(40):
        got = scene.call(stream=stream, messages=[{"role": "user", "content": text}], key="eck_masked")
        assert json.loads(got["arguments"]) == {"to": f'"{text}"\n'}
        assert got["finish"] == ["tool_calls"]
    sent = json.dumps(wire.bodies)
    assert MAIL not in sent and IBAN not in sent


def test_litellm_31959_one_person_is_one_placeholder_in_all_messages_and_every_time(scene: Scene) -> None:
    other = "jan.kowalski@example.org"
    messages = [
        {"role": "user", "content": f"{MAIL} and {other} and {MAIL}"},
        {"role": "assistant", "content": f"{other} first"},
        {"role": "user", "content": f"{other}, then {MAIL}"},
    ]

    def script(s: socket.socket, _: int) -> None:
        said = " ".join(m["content"] for m in wire.bodies[-1]["messages"])
        message = {"role": "assistant", "content": said}
        s.sendall(whole({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))

    wire = scene.wire(script)
    for _ in range(10):
        got = scene.call(messages=messages, key="eck_masked")
        assert got["text"] == " ".join(m["content"] for m in messages)
    texts = [[m["content"] for m in body["messages"]] for body in wire.bodies]
    first, _, again = texts[0][0].split(" and ")
    assert first == again != texts[0][0].split(" and ")[1]
    assert texts[0][2] == f"{texts[0][0].split(' and ')[1]}, then {first}"


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_11364_and_29145_read_and_written_tokens_cost_what_the_bill_says(scene: Scene, stream: bool) -> None:
    """0.36394875 USD for 98,805 prompt tokens, of which 66,360 were read and 32,435 written, and 5,120 out."""
    usage = {
        "prompt_tokens": 98_805, "completion_tokens": 5120, "total_tokens": 103_925,
        "prompt_tokens_details": {"cached_tokens": 66_360, "cache_write_tokens": 32_435},
    }  # fmt: skip
    script = STREAM + chunked(delta("Hi", "stop"), last(usage), DONE) if stream else whole({**ANSWER, "usage": usage})
    scene.wire(lambda s, _: s.sendall(script))
    rates = Rates(5 * 10**6, 25 * 10**6, 5 * 10**5, 6_250_000, 10 * 10**6, 5 * 10**6, 25 * 10**6)
    scene.place(prices={"wire/*": Price(version="opus", scale=(rates,))})
    assert scene.call(stream=stream)["error"] is None
    settled = scene.settle(1, "done")
    assert settled["cost"] == 363_948_750_000
    assert (settled["cached_tokens"], settled["cache_write_tokens"], settled["price"]) == (66_360, 32_435, "opus")


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_25874_a_model_without_a_price_is_refused_under_a_budget_and_never_free(
    scene: Scene, stream: bool
) -> None:
    wire = scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS) if stream else whole()))
    prices = scene.house.snapshots.current.prices
    scene.place(prices={})
    got = scene.call(stream=stream)
    assert (got["status"], got["code"], wire.requests) == (429, "price_unknown", 0)
    scene.place(limits={"project:shop": Limit(requests=1000)})
    assert scene.call(stream=stream)["error"] is None
    end = time.monotonic() + 90
    while not scene.ends() and time.monotonic() < end:
        time.sleep(0.02)
    assert scene.ends()[-1]["cost"] is None
    scene.place(prices=prices, limits={"project:shop": Limit(budgets=(Budget(id="p", limit=MUCH, window="day"),))})
    assert scene.call(stream=stream)["error"] is None
    scene.place(prices=prices, limits={"project:shop": Limit(budgets=(Budget(id="p", limit=1, window="day"),))})
    assert scene.call(stream=stream)["status"] == 429
    scene.place(prices={"wire/*": FREE})
    assert scene.call(stream=stream)["error"] is None, "a free model is refused for money"


@pytest.mark.parametrize("code", [503, "overloaded_error", None])
def test_portkey_1047_a_200_whose_first_event_is_an_error_is_an_error_and_a_route_goes_on(
    scene: Scene, code: Any
) -> None:
    raw = STREAM + chunked(event({"error": {"message": "overloaded by all of you", "code": code}}))
    cut = [0]

    def script(s: socket.socket, n: int) -> None:
        cut[0] = (n * 37) % len(raw)
        in_two(s, raw, cut[0])

    scene.wire(script)
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m")
    scene.house.gateway.chooser.health._failures = 10**9
    got = scene.call(stream=True)
    assert got["status"] == 502 and "overloaded by all of you" in got["message"]
    for _ in range(6):
        got = scene.call("both", stream=True)
        assert (got["error"], got["text"], got["finish"]) == (None, "Hi you", ["stop"])


def test_portkey_1142_a_json_body_where_a_stream_was_asked_for_is_an_error_with_its_message(scene: Scene) -> None:
    bodies: list[dict[str, Any]] = [{"message": "no stream today"}, {"error": {"message": "no stream today"}}]
    scene.wire(lambda s, n: s.sendall(whole(bodies[n % 2])))
    for count, key in enumerate(("eck_shop", "eck_shop", "eck_masked", "eck_masked"), 1):
        scene.house.gateway.chooser.health.forget("wire/m")
        text = "to ann@example.org" if key == "eck_masked" else "Hello"
        got = scene.call(stream=True, key=key, messages=[{"role": "user", "content": text}])
        assert (got["status"], got["code"]) == (502, "upstream_died") and "no stream today" in got["message"]
        scene.settle(count, "upstream_died")


@pytest.mark.parametrize("orderly", [True, False], ids=["ended", "cut"])
def test_portkey_1797_and_litellm_42085_a_stream_that_ends_anywhere_before_its_end_raises_and_has_no_made_up_finish(
    scene: Scene, orderly: bool
) -> None:
    """At every fifth byte; also where the body itself ends in good order."""
    body = b"".join(EVENTS)
    finish = body.find(b'"finish_reason": "stop"')
    finish = body.find(b"\n\n", finish) + 2
    where = [0]

    def script(s: socket.socket, _: int) -> bool:
        part = body[: where[0]]
        s.sendall(STREAM + (chunked(part, end=orderly) if part else b"0\r\n\r\n" if orderly else b""))
        return orderly

    wire = scene.wire(script)
    scene.house.gateway.chooser.health._failures = 10**9
    scene.house.gateway.chooser.health._rest = 0.0
    for where[0] in range(0, len(body), 5):
        scene.house.gateway.chooser.health.forget("wire/m")
        got = scene.call(stream=True)
        if where[0] < finish:
            assert got["error"] and not got["finish"], (where, got)
        elif not got["error"]:
            assert (got["text"], got["finish"]) == ("Hi you", ["stop"])
        assert "Hi you".startswith(got["text"])
    scene.settle(wire.requests)
    assert all(r["cost"] > 0 for r in scene.ends())
    assert {r["status"] for r in scene.ends()} == ({"upstream_died", "done"} if orderly else {"upstream_died"})


def test_mlflow_25897_an_error_within_a_stream_is_raised_by_openais_client_with_the_providers_words(
    scene: Scene,
) -> None:
    raw = STREAM + chunked(delta("Hi"), event({"error": {"message": "context is too long", "code": "x"}}))
    scene.wire(lambda s, n: in_two(s, raw, (n * 41) % len(raw)))
    for _ in range(10):
        scene.house.gateway.chooser.health.forget("wire/m")
        got = scene.call(stream=True)
        assert got["error"] in ("APIError", "InternalServerError") and "context is too long" in got["message"]
        assert not got["finish"]


@pytest.mark.parametrize("where", ["with the finish", "in every chunk", "of its own", "null before"])
def test_usage_anywhere_in_a_stream_is_taken_once_and_shown_to_whom_asked(scene: Scene, where: str) -> None:
    """gateways differ in where they put it: the last figure counts, nothing is added up."""
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

    def chunk(text: str, finish: str | None, told: Any) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        more = {} if told is False else {"usage": told}
        return event(
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
        )

    growing = [{**usage, "completion_tokens": n, "total_tokens": 11 + n} for n in (1, 7)]
    parts = {
        "with the finish": [chunk("Hi", None, False), chunk(" you", "stop", usage)],
        "in every chunk": [chunk("Hi", None, growing[0]), chunk(" you", "stop", growing[1])],
        "of its own": [chunk("Hi", None, False), chunk(" you", "stop", False), last(usage)],
        "null before": [chunk("Hi", None, None), chunk(" you", "stop", None), last(usage)],
    }[where]
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*parts, DONE)))
    for count, options in enumerate(({}, {"stream_options": {"include_usage": True}}), 1):
        got = scene.call(stream=True, **options)
        assert (got["text"], got["finish"]) == ("Hi you", ["stop"])
        assert (got["usage"] or {}).get("total_tokens") == (18 if options else None)
        settled = scene.settle(count, "done")
        assert (settled["prompt_tokens"], settled["completion_tokens"], settled["cost"]) == (11, 7, 18 * 10**6)


def test_choices_that_interleave_are_all_there_and_the_stream_ends_with_the_last(scene: Scene) -> None:
    """litellm 10686: with several choices or logprobs the last finish reason got lost."""
    parts = [delta("a", index=0), delta("b", index=1), delta(finish="stop", index=1), delta("c", index=0)]
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*parts, delta(finish="length", index=0), last())))
    got = scene.call(stream=True, n=2)
    assert (got["error"], got["text"], got["finish"]) == (None, "abc", ["stop", "length"])
    scene.settle(1, "done")


@pytest.mark.parametrize("face", ["chat", "completions", "embeddings"])
def test_numbers_and_unknown_fields_of_an_answer_are_not_touched(scene: Scene, face: str) -> None:
    told = (
        b'{"z":1.10,"a":100000000000000000000,"usage":{"prompt_tokens":1,"completion_tokens":1},"choices":[{"x":1e5}]}'
    )
    scene.wire(lambda s, _: s.sendall(whole(told)))
    path = {"chat": "chat/completions"}.get(face, face)
    body = {"model": "wire/m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    answer = scene.house.client.post(f"/v1/{path}", json=body, headers={"authorization": "Bearer eck_shop"})
    assert answer.content == told
