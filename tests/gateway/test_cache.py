"""Kept answers: never somebody else's, never half of one, and the same answer in whichever form it is asked for."""

import itertools
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.gateway.cache import Cache, Kept, Recording, key_of

SECRET = bytes(32)
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 8}}


def fields(**values: Any) -> dict[str, msgspec.Raw]:
    body = {"model": "r", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.7, **values}
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}


def key(body: dict[str, msgspec.Raw] | None = None, **more: Any) -> bytes:
    given_ = {
        "project": "shop", "scope": "k1", "route": "r", "model": "a/m", "revision": "1", "legal": "l", "face": "chat",
        "data_class": "internal", "fields": fields() if body is None else body,
    }  # fmt: skip
    return key_of(SECRET, **{**given_, **more})


def whole(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "gpt-x-2026"}
    return {**head, "choices": list(choices), **more}


def said(text: str | None = "Hello", index: int = 0, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n" for c in chunks)


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-x-2026"}
    return {**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


def events(stream: bytes) -> list[dict[str, Any]]:
    *found, done, end = stream.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in found)
    return [json.loads(event[6:]) for event in found]


def joined(stream: bytes) -> dict[int, dict[str, Any]]:
    """What a client makes of a chat stream, by the rules of OpenAI's SDK: texts and numbers that come twice add up."""
    found: dict[int, dict[str, Any]] = {}
    for event in events(stream):
        for told in event["choices"]:
            choice = found.setdefault(told["index"], {"message": {}, "finish_reason": None, "logprobs": None})
            assert choice["finish_reason"] is None, "nothing follows the end of a choice"
            choice["finish_reason"] = told["finish_reason"]
            for name, value in (told.get("logprobs") or {}).items():
                choice["logprobs"] = choice["logprobs"] or {}
                choice["logprobs"][name] = (choice["logprobs"].get(name) or []) + (value or []) if value else value
            for name, value in told["delta"].items():
                message = choice["message"]
                if name == "tool_calls":
                    calls = message.setdefault("tool_calls", [])
                    for call in value or []:
                        if call["index"] == len(calls):
                            calls.append({"id": "", "type": None, "function": {"name": "", "arguments": ""}})
                        mine = calls[call["index"]]
                        mine["id"] += call.get("id") or ""
                        mine["type"] = call.get("type") or mine["type"]
                        for part in ("name", "arguments"):
                            mine["function"][part] += call.get("function", {}).get(part) or ""
                elif isinstance(value, str) and isinstance(message.get(name), str):
                    message[name] += value
                elif value is not None or name not in message:
                    message[name] = value
    return found


# -- whose answer ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "other",
    [
        {"project": "clinic"}, {"scope": "k2"}, {"route": "s"}, {"model": "b/m"}, {"revision": "2"}, {"legal": "l2"},
        {"face": "completions"}, {"data_class": "personal"}, {"revision": None}, {"alias": True},
        {"project": "shopk", "scope": "1"}, {"project": "sho", "scope": "pk1"},
    ],
)  # fmt: skip
def test_an_answer_never_crosses_project_key_data_class_route_model_or_terms(other: dict[str, Any]) -> None:
    assert key(**other) != key()


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.70001}, {"temperature": 0}, {"messages": [{"role": "user", "content": "hi "}]}, {"n": 2},
        {"tools": []}, {"seed": 1}, {"logprobs": True}, {"max_tokens": 5}, {"unknown": 1}, {"top_p": None},
        {"response_format": {"type": "json_object"}}, {"reasoning_effort": "low"}, {"service_tier": "flex"},
    ],
)  # fmt: skip
def test_every_field_that_changes_an_answer_makes_it_another_one(other: dict[str, Any]) -> None:
    assert key(fields(**other)) != key()


def test_delivery_and_bookkeeping_do_not_change_an_answer() -> None:
    more = fields(stream=True, stream_options={"include_usage": True}, user="ann", metadata={"a": "b"}, model="other")
    assert key(more) == key()
    assert key(dict(reversed(fields().items()))) == key(), "whatever order the fields came in"


def test_a_value_that_looks_like_another_field_is_not_one() -> None:
    assert key({"a": msgspec.Raw(b"1"), "b": msgspec.Raw(b"2")}) != key({"a": msgspec.Raw(b'1","b":2')})
    assert key({"a": msgspec.Raw(b"b"), "c": msgspec.Raw(b"d")}) != key(
        {"a": msgspec.Raw(b"bc"), "d": msgspec.Raw(b"")}
    )


def test_another_installation_gives_other_names_and_the_name_tells_nothing() -> None:
    given_: dict[str, Any] = {
        "project": "p",
        "scope": "s",
        "route": "r",
        "model": "m",
        "revision": None,
        "legal": "l",
        "face": "chat",
    }
    one, two = (key_of(secret, **given_, data_class="public", fields=fields()) for secret in (SECRET, b"x" * 32))
    assert one != two
    assert len(one) == 32


# -- what is kept ------------------------------------------------------------------------------------------------------
def body(size: int = 5, **more: Any) -> Kept:
    kept = Kept.of_whole("chat", json.dumps(whole(said("x" * size), **more)).encode())
    assert kept is not None
    return kept


def test_an_answer_is_there_until_its_time_is_over() -> None:
    cache = Cache(1_000_000)
    cache.put(b"k", body(), 60, 100.0)
    assert cache.get(b"k", 159.0) is not None
    assert cache.get(b"k", 160.0) is None
    assert (len(cache), cache.bytes) == (0, 0)
    for seconds in (0, -1, float("nan")):
        cache.put(b"k", body(), seconds, 100.0)
        assert cache.get(b"k", 100.0) is None


def test_memory_is_bounded_and_the_least_used_leaves_first() -> None:
    cache = Cache(50_000)
    for number in range(1000):
        cache.put(number.to_bytes(4, "big"), body(1000), 60, 0.0)
        assert cache.get(b"\0\0\0\0", 1.0) is not None, "used all the time"
        assert cache.bytes <= 50_000
    assert 10 < len(cache) < 50
    assert cache.get((1).to_bytes(4, "big"), 1.0) is None
    assert cache.get((999).to_bytes(4, "big"), 1.0) is not None
    before = cache.bytes
    cache.put(b"big", body(40_000), 60, 0.0)
    assert (cache.get(b"big", 1.0), cache.bytes) == (None, before), "one answer does not push all others out"
    cache.put((999).to_bytes(4, "big"), body(1000), 60, 0.0)
    assert cache.bytes == before, "the same key again is counted once"
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_evicting_costs_the_same_however_many_are_kept() -> None:
    kept, cache = body(), Cache(20_000 * body().size)
    begin = time.thread_time()
    for number in range(60_000):
        cache.put(number.to_bytes(4, "big"), kept, 60, 0.0)
    assert len(cache) == 20_000
    assert time.thread_time() - begin < 20, "half a second when each step is constant, minutes when it looks at all"


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"not json", b"[]", b"null", b'{"choices": []}', b'{"choices": 3}', b'{"error": {"message": "x"}}',
        json.dumps(whole(said(finish=None))).encode(), json.dumps(whole(said(), said(index=1, finish=None))).encode(),
        json.dumps(whole(said(), error={"message": "x"})).encode(), b'{"choices": [{"finish_reason": "stop"}',
        json.dumps(whole({"index": 0, "message": {"content": "x"}})).encode(), b"[" * 5000,
    ],
)  # fmt: skip
def test_an_answer_that_is_not_complete_is_never_kept(bad: bytes) -> None:
    assert Kept.of_whole("chat", bad) is None
    cache = Cache(1_000_000)
    cache.put(b"k", None, 60, 0.0)
    assert cache.get(b"k", 0.0) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"data: [DONE]\n\n", sse(chunk({"content": "x"})), sse(chunk({"content": "x"}), b"[DONE]"),
        sse(chunk({"content": "x"}), chunk({}, "stop"), {"error": {"message": "overloaded"}}),
        sse(chunk({"content": "x"}), chunk({}, "stop"), chunk({"content": "y"}, index=1)),
        sse(chunk({"content": "x"}), chunk({}, "stop"))[:-40], sse(b"{not json", chunk({}, "stop")),
        sse({"choices": [], "usage": USAGE}),
    ],
)  # fmt: skip
def test_a_stream_that_broke_is_never_kept(bad: bytes) -> None:
    assert Kept.of_stream("chat", bad) is None


def test_a_sampled_answer_with_several_choices_is_kept_as_the_route_asked_for_it() -> None:
    kept = Kept.of_whole("chat", json.dumps(whole(said("a"), said("b", 1, "length"))).encode())
    assert kept is not None
    assert {n: c["message"]["content"] for n, c in joined(kept.stream(wants_usage=False)).items()} == {0: "a", 1: "b"}


def test_a_recording_of_a_huge_stream_takes_no_more_memory_than_its_bound() -> None:
    recording = Recording(1000)
    for _ in range(100):
        recording.add(sse(chunk({"content": "x"})))
    assert recording._pieces == []
    assert recording.stream("chat") is None and recording.whole("chat") is None
    recording = Recording(1000)
    recording.add(sse(chunk({"content": "x"})))
    recording.add(sse(chunk({}, "stop")))
    assert recording.stream("chat") is not None


# -- given again -------------------------------------------------------------------------------------------------------
def test_a_stream_comes_again_with_the_texts_of_its_chunks_and_usage_only_for_who_asked() -> None:
    odd = b'{"id":"chatcmpl-1", "model": "gpt-x-2026","choices":[ {"index":0,"delta":{"content":"\\u00e9"}, "x": 0.1}]}'
    raw = b": ping\r\n\r\n" + sse(odd, chunk({}, "stop"), {"id": "i", "choices": [], "usage": USAGE}, b"[DONE]")
    kept = Kept.of_stream("chat", raw.replace(b"}\n\n", b"}\r\n\r\n"))
    assert kept is not None
    plain, asked = kept.stream(wants_usage=False), kept.stream(wants_usage=True)
    assert plain == sse(odd, chunk({}, "stop"), b"[DONE]")
    last = events(asked)[-1]
    assert asked.startswith(plain.removesuffix(sse(b"[DONE]")))
    assert last["choices"] == []
    assert last["model"] == "gpt-x-2026"
    assert last["usage"] == {**USAGE, "cost": 0, "cached": True}


def test_usage_in_the_chunk_with_the_finish_is_moved_to_its_own_and_only_when_asked_for() -> None:
    raw = sse(chunk({"content": "x"}, usage={"prompt_tokens": 1}), chunk({}, "stop", usage=USAGE), b"[DONE]")
    kept = Kept.of_stream("chat", raw)
    assert kept is not None
    assert b"usage" not in kept.stream(wants_usage=False)
    assert [e["usage"]["prompt_tokens"] for e in events(kept.stream(wants_usage=True)) if "usage" in e] == [9]


def test_usage_that_was_hidden_from_the_first_client_is_there_for_the_next_one_who_asks() -> None:
    kept = Kept.of_stream("chat", sse(chunk({"content": "x"}), chunk({}, "stop")), USAGE)
    assert kept is not None
    assert events(kept.stream(wants_usage=True))[-1]["usage"]["prompt_tokens"] == 9
    assert (kept.usage().prompt_tokens, kept.usage().completion_tokens, kept.usage().cached_tokens) == (9, 4, 8)


def test_what_the_first_answer_cost_is_not_told_as_the_cost_of_the_second() -> None:
    told = {**USAGE, "cost": 0.0123, "cost_details": {"upstream": 0.01}}
    kept = body(usage=told)
    for answer in (json.loads(kept.whole() or b""), events(kept.stream(wants_usage=True))[-1]):
        assert answer["usage"] == {**USAGE, "cost": 0, "cached": True}


def test_a_whole_answer_comes_again_whole_with_its_own_model_id_and_number_texts() -> None:
    choice = b'{"index":0,"message":{"content":"a"},"p":1e2,"finish_reason":"stop"}'
    raw = b'{"id":"x","model":"gpt-x-2026","choices":[' + choice + b"]}"
    kept = Kept.of_whole("chat", raw)
    assert kept is not None
    assert kept.whole() == raw
    assert b'"p":1e2' in kept.stream(wants_usage=False)


def test_embeddings_are_kept_and_given_again() -> None:
    raw = b'{"object":"list","model":"e","data":[{"index":0,"embedding":[0.10,-2e-5]}],"usage":{"prompt_tokens":3}}'
    kept = Kept.of_whole("embeddings", raw)
    assert kept is not None
    assert b'"embedding":[0.10,-2e-5]' in (kept.whole() or b"")
    assert kept.usage().prompt_tokens == 3


_text = st.text(max_size=8)
_arguments = st.dictionaries(_text, st.one_of(_text, st.integers(), st.none()), max_size=2).map(json.dumps)
_call = st.builds(
    lambda name, made: {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": made}},
    st.from_regex(r"[a-z]{1,5}", fullmatch=True),
    _arguments,
)
_token = st.builds(lambda t, p: {"token": t, "bytes": None, "logprob": p, "top_logprobs": []}, _text, st.floats(-9, 0))


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        message: dict[str, Any] = {"role": "assistant", "content": draw(st.one_of(st.none(), _text))}
        for name in ("refusal", "reasoning"):
            if draw(st.booleans()):
                message[name] = draw(st.one_of(st.none(), _text))
        calls = draw(st.lists(_call, max_size=3, unique_by=lambda c: str(c["id"])))
        if calls:
            message["tool_calls"] = calls
        finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        logprobs = draw(st.one_of(st.none(), st.lists(_token, min_size=1, max_size=3)))
        told = None if logprobs is None else {"content": logprobs, "refusal": None}
        choices.append({"index": index, "message": message, "logprobs": told, "finish_reason": finish})
    return whole(*choices, usage=USAGE, system_fingerprint="fp")


@settings(max_examples=150, deadline=None)
@given(answers())
def test_a_whole_answer_that_is_streamed_is_the_same_answer(answer: dict[str, Any]) -> None:
    kept = Kept.of_whole("chat", json.dumps(answer).encode())
    assert kept is not None
    stream = kept.stream(wants_usage=True)
    got = joined(stream)
    for choice in answer["choices"]:
        mine = got[choice["index"]]
        assert mine["message"] == choice["message"]
        assert mine["finish_reason"] == choice["finish_reason"]
        assert mine["logprobs"] == choice["logprobs"]
    *chunks, last = events(stream)
    assert all(c["choices"] and c["object"] == "chat.completion.chunk" and "usage" not in c for c in chunks)
    assert len({(c["id"], c["created"], c["model"]) for c in [*chunks, last]}) == 1
    again = Kept.of_stream("chat", stream)
    assert again is not None
    want = {**answer, "usage": {**USAGE, "cost": 0, "cached": True}}
    assert json.loads(again.whole() or b"") == want


@settings(max_examples=150, deadline=None)
@given(answers(), st.integers(1, 4))
def test_a_stream_asked_for_as_a_whole_is_the_same_answer(answer: dict[str, Any], size: int) -> None:
    kept = Kept.of_stream("chat", torn(answer, size))
    assert kept is not None
    want = {**answer, "usage": {**USAGE, "cost": 0, "cached": True}}
    assert json.loads(kept.whole() or b"") == want


def torn(answer: dict[str, Any], size: int) -> bytes:
    """The stream that a provider would send for an answer: the choices take turns, texts come in small pieces."""
    head = {
        **{k: answer[k] for k in ("id", "created", "model", "system_fingerprint")},
        "object": "chat.completion.chunk",
    }

    def pieces(text: str) -> list[str]:
        return [text[i : i + size] for i in range(0, len(text), size)]

    def of(choice: dict[str, Any]) -> Any:
        message = choice["message"]
        opening: dict[str, Any] = {k: v if v is None or k == "role" else "" for k, v in message.items()}
        opening.pop("tool_calls", None)
        yield opening, None, None
        for name in ("reasoning", "refusal", "content"):
            for piece in pieces(message.get(name) or ""):
                yield {name: piece}, None, None
        for token in (choice["logprobs"] or {"content": []})["content"]:
            yield {}, None, {"content": [token], "refusal": None}
        for number, call in enumerate(message.get("tool_calls", [])):
            function = {"name": call["function"]["name"], "arguments": ""}
            yield {"tool_calls": [{**call, "index": number, "function": function}]}, None, None
            for piece in pieces(call["function"]["arguments"]):
                yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}, None, None
        yield {}, choice["finish_reason"], None

    out = []
    for turn in itertools.zip_longest(*[of(choice) for choice in answer["choices"]]):
        for index, part in enumerate(turn):
            if part is not None:
                delta, finish, logprobs = part
                told = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
                out.append({**head, "choices": [told], "usage": None})
    return sse(*out, {**head, "choices": [], "usage": answer["usage"]}, b"[DONE]")


def test_completions_are_the_same_in_both_forms() -> None:
    lists = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0], "top_logprobs": [None, None], "text_offset": [0, 1]}
    choices = [
        {"index": 0, "text": "ab", "logprobs": lists, "finish_reason": "stop"},
        {"index": 1, "text": "", "logprobs": None, "finish_reason": "length"},
    ]
    answer = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": USAGE}
    kept = Kept.of_whole("completions", json.dumps(answer).encode())
    assert kept is not None
    stream = kept.stream(wants_usage=True)
    assert all(e["object"] == "text_completion" for e in events(stream))
    again = Kept.of_stream("completions", stream)
    assert again is not None
    assert json.loads(again.whole() or b"") == json.loads(kept.whole() or b"")


@pytest.mark.parametrize(
    ("deltas", "want"),
    [
        ([{"index": 0, "id": "a", "function": {"name": "f"}}], [("a", "f", "{}")]),
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"y'}},
                {"index": 0, "function": {"arguments": '":2}'}},
            ],
            [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
        ),
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            ],
            [("a", "f", "{}")],
        ),
        ([{"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "f"}}],
         [("a", "f", "{}"), ("b", "f", "{}")]),
    ],
)  # fmt: skip
def test_tool_calls_of_every_provider_make_whole_calls(deltas: list[Any], want: list[Any]) -> None:
    kept = Kept.of_stream("chat", sse(*[chunk({"tool_calls": [d]}) for d in deltas], chunk({}, "tool_calls")))
    assert kept is not None
    calls = json.loads(kept.whole() or b"")["choices"][0]["message"]["tool_calls"]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls] == want
    assert all(c["type"] == "function" and "index" not in c for c in calls)


def test_arguments_as_an_object_become_text_with_their_order_and_number_texts() -> None:
    function = b'{"name": "f", "arguments": {"z": 1.0, "a": 1e2, "s": "\\u00e9"}}'
    streamed = sse(
        b'{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a", "function": '
        + function
        + b"}]}}]}",
        chunk({}, "tool_calls"),
    )
    kept = Kept.of_stream("chat", streamed)
    assert kept is not None
    call = json.loads(kept.whole() or b"")["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["arguments"] == '{"z": 1.0, "a": 1e2, "s": "\\u00e9"}'
    message = b'{"role": "assistant", "content": null, "tool_calls": [{"id": "a", "function": ' + function + b"}]}"
    again = Kept.of_whole("chat", b'{"choices": [{"message": ' + message + b', "finish_reason": "tool_calls"}]}')
    assert again is not None
    (got,) = joined(again.stream(wants_usage=False)).values()
    assert got["message"]["tool_calls"][0]["function"]["arguments"] == '{"z": 1.0, "a": 1e2, "s": "\\u00e9"}'


_odd = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=6,
)
_PLACES = ["tool_calls", "content", "function_call", "audio", "role", "reasoning_details", "refusal"]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(_PLACES), _odd), st.dictionaries(st.sampled_from(_PLACES), _odd), _odd, _odd)
def test_no_provider_can_make_a_kept_answer_fail_when_it_is_asked_for(
    first: dict[str, Any], second: dict[str, Any], logprobs: Any, usage: Any
) -> None:
    ended = {"index": 0, "delta": second, "logprobs": logprobs, "finish_reason": "stop"}
    parts = sse(chunk(first), {"choices": [ended], "usage": usage, "id": logprobs})
    message = {"index": 0, "message": {**second, **first}, "logprobs": logprobs, "finish_reason": "stop"}
    body = json.dumps({"choices": [message], "usage": usage, "id": usage}).encode()
    for kept in (Kept.of_stream("chat", parts), Kept.of_whole("chat", body)):
        if kept is not None:
            kept.whole()
            kept.usage()
            assert kept.stream(wants_usage=True).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("odd", [{"message": "x"}, {"message": {"tool_calls": {"id": "a"}}}, {"message": ["x"]}])
def test_an_answer_that_cannot_be_given_as_a_stream_is_not_kept(odd: dict[str, Any]) -> None:
    assert Kept.of_whole("chat", json.dumps({"choices": [{**odd, "finish_reason": "stop"}]}).encode()) is None


def test_a_stream_of_odd_parts_is_given_as_it_came_and_never_as_a_wrong_whole() -> None:
    odd = sse(chunk({"tool_calls": 3, "content": ["x"]}), chunk({"content": "y"}, "stop"), b"[DONE]")
    kept = Kept.of_stream("chat", odd)
    assert kept is not None
    assert kept.whole() is None
    assert kept.stream(wants_usage=False) == odd
