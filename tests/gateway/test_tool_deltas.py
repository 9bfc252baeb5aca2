"""Tool calls in every shape that providers stream, and every framing, cut at each byte: the client loses nothing."""

import json
from typing import Any

import pytest

from ecotone.gateway.metering import Usage
from ecotone.gateway.streams import EventCutter, StreamReader
from ecotone.privacy import Pseudonyms

MAIL = "maria.lopez@example.org"
NOTE = 'She said "no",\nthen left \u2028 \U0001f600'


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def call(**values: Any) -> dict[str, Any]:
    return {"tool_calls": [values]}


def sse(*values: Any, end: str = "\n\n") -> bytes:
    return "".join(
        f"data: {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}{end}" for v in values
    ).encode()


def relayed(raw: bytes, cut: int, names: Pseudonyms | None = None) -> tuple[bytes, StreamReader, Usage]:
    usage = Usage()
    reader = StreamReader(usage, "chat", hide_usage=True, names=names)
    cutter, out = EventCutter(), b""
    for piece in (raw[:cut], raw[cut:]):
        for data in cutter.feed(piece):
            if reader.done or reader.error:
                break
            out += reader.event(data) or b""
    return out + reader.rest(), reader, usage


def deltas(out: bytes) -> list[dict[str, Any]]:
    """What the client gets, delta by delta, the last ones with the finish reason in them."""
    found: list[dict[str, Any]] = []
    for event in out.split(b"\n\n")[:-1]:
        assert event.startswith(b"data: {")
        ends = [(c["delta"], c["finish_reason"]) for c in json.loads(event[6:])["choices"]]
        found += [{**delta, "finish": finish} if finish else delta for delta, finish in ends]
    return found


def calls_of(found: list[dict[str, Any]]) -> list[tuple[Any, Any, Any]]:
    """(id, name, arguments) of each call, told apart by their index alone, as OpenAI's clients do."""
    calls: list[list[Any]] = []
    latest: dict[Any, list[Any]] = {}
    for delta in found:
        for told in delta.get("tool_calls") or []:
            function = told.get("function") or {}
            mine = latest.get(told.get("index"))
            if mine is None:
                mine = latest[told.get("index")] = [None, None, None]
                calls.append(mine)
            mine[0], mine[1] = mine[0] or told.get("id"), mine[1] or function.get("name")
            if (arguments := function.get("arguments")) is not None:
                mine[2] = arguments if isinstance(arguments, dict) else (mine[2] or "") + arguments
    return [(c[0], c[1], c[2]) for c in calls]


def masked(names: Pseudonyms | None, value: dict[str, Any]) -> dict[str, Any]:
    return value if names is None else names.mask_json(value)


VALUE = {"to": MAIL, "note": NOTE}


def shapes(names: Pseudonyms | None) -> dict[str, tuple[list[Any], list[Any], str]]:
    """For each shape: deltas, the calls they mean (arguments decoded, None for none), the text beside."""
    text = json.dumps(masked(names, VALUE))
    pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
    opened = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    whole = {"id": "a", "type": "function", "function": {"name": "f", "arguments": text}}
    other = {"id": "b", "type": "function", "function": {"name": "g", "arguments": text}}
    halves = text[: len(text) // 2], text[len(text) // 2 :]
    told = masked(names, {"say": "Hi " + MAIL})["say"]
    return {
        "id and name first, then the index alone": (
            [call(index=0, **opened), *(call(index=0, function={"arguments": p}) for p in pieces)],
            [("a", "f", VALUE)], "",
        ),
        "the whole call in one delta": ([call(index=0, **whole)], [("a", "f", VALUE)], ""),
        "two calls with one index": ([call(index=0, **whole), call(index=0, **other)],
                                     [("a", "f", VALUE), ("b", "g", VALUE)], ""),
        "two torn calls with one index": (
            [
                call(index=0, id="a", function={"name": "f", "arguments": halves[0]}),
                call(index=0, function={"arguments": halves[1]}),
                call(index=0, id="b", function={"name": "g", "arguments": halves[0]}),
                call(index=0, function={"arguments": halves[1]}),
            ],
            [("a", "f", VALUE), ("b", "g", VALUE)], "",
        ),
        "two calls without an index": ([call(**whole), call(**other)], [("a", "f", VALUE), ("b", "g", VALUE)], ""),
        "two whole calls in one delta": ([{"tool_calls": [{"index": 0, **whole}, {"index": 1, **other}]}],
                                         [("a", "f", VALUE), ("b", "g", VALUE)], ""),
        "arguments only at the end, with the finish": ([call(index=0, **opened), {"finish": text}],
                                                       [("a", "f", VALUE)], ""),
        "empty deltas of arguments": (
            [call(index=0, **opened), call(index=0, function={"arguments": ""}), call(index=0, function={}),
             call(index=0, function={"arguments": text}), call(index=0, function={"arguments": ""}),
             {"tool_calls": []}, {"tool_calls": None}],
            [("a", "f", VALUE)], "",
        ),
        "text and call at once": ([{"content": told, **call(index=0, **whole)}], [("a", "f", VALUE)], f"Hi {MAIL}"),
        "no arguments at all": ([call(index=0, id="a", function={"name": "f"})], [("a", "f", None)], ""),
        "arguments null": ([call(index=0, id="a", function={"name": "f", "arguments": None})], [("a", "f", None)], ""),
        "arguments as an object": ([call(index=0, id="a", function={"name": "f", "arguments": masked(names, VALUE)})],
                                   [("a", "f", VALUE)], ""),
    }  # fmt: skip


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("shape", list(shapes(None)))
def test_a_tool_call_of_any_shape_arrives_whole_wherever_the_bytes_are_cut(shape: str, hidden: bool) -> None:
    names = Pseudonyms() if hidden else None
    parts, want, text = shapes(names)[shape]
    chunks = [chunk({"role": "assistant", "content": None})]
    chunks += [chunk(part) for part in parts if "finish" not in part]
    last = call(index=0, function={"arguments": parts[-1]["finish"]}) if "finish" in parts[-1] else {}
    raw = sse(*chunks, chunk(last, "tool_calls"), "[DONE]")
    for cut in range(len(raw)):
        out, reader, _ = relayed(raw, cut, names)
        found = deltas(out)
        got = calls_of(found)
        decoded = [(i, n, json.loads(a) if isinstance(a, str) and a else a or None) for i, n, a in got]
        assert decoded == want, cut
        assert "".join(d.get("content") or "" for d in found) == text
        assert [d["finish"] for d in found if "finish" in d] == ["tool_calls"]
        assert reader.whole and reader.done and reader.error is None
    if not hidden and not any(odd in shape for odd in ("one index", "without an index", "as an object")):
        assert out == raw.removesuffix(b"data: [DONE]\n\n"), "what needs no change passes untouched"


def test_text_and_call_in_one_delta_keep_the_text_before_the_call() -> None:
    raw = sse(chunk({"content": "x", **call(index=0, id="a", function={"name": "f", "arguments": "{}"})}, "tool_calls"))
    assert relayed(raw, 0)[0] == raw


def test_arguments_as_an_object_keep_their_order_and_number_texts() -> None:
    raw = b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{"z":1.0,"a":1e2}}}]}}]}\n\n'
    found = json.loads(relayed(raw, 0)[0][6:])["choices"][0]["delta"]
    assert found["tool_calls"][0]["function"]["arguments"] == '{"z":1.0,"a":1e2}'


def test_a_stream_that_is_cut_never_gets_a_made_up_finish_reason() -> None:
    names = Pseudonyms()
    text = json.dumps(names.mask_json(VALUE))
    for hidden in (None, names):
        raw = sse(chunk(call(index=0, id="a", function={"name": "f", "arguments": text[:-9]})))
        for cut in range(len(raw)):
            out, reader, _ = relayed(raw[:cut], 0, hidden)
            assert not reader.whole
            assert b"finish_reason" not in out or b'"finish_reason":null' in out or b'"finish_reason": null' in out


# -- framing -----------------------------------------------------------------------------------------------------------
TEXT = "a\u0085b\u2028c\u2029d\x0be\x0cf\x1cg \U0001f600 é \ufeff"
BODY = [chunk({"content": TEXT}), chunk({}, "stop")]


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\r\n\n", "\r\n\r", "\n\r"])
@pytest.mark.parametrize(
    "start", ["", "\ufeff", ": ping\n\n", ": OPENROUTER PROCESSING\n\n: x\n\n", "\n\n\n", "\r\n\r\n"]
)
@pytest.mark.parametrize("done", ["data: [DONE]", "data:[DONE]", "data: [DONE]  ", "data:  [DONE]\t"])
def test_every_framing_is_read_at_every_cut(start: str, end: str, done: str) -> None:
    raw = start.encode() + sse(*BODY, end=end) + (done + end).encode()
    for cut in range(len(raw) + 1):
        out, reader, _ = relayed(raw, cut)
        assert [d.get("content") for d in deltas(out)] == [TEXT, None], cut
        assert reader.done and reader.error is None


@pytest.mark.parametrize(
    "event",
    [
        "event: message\nid: 4\nretry: 10\ndata: {}\n\n", "id: 4\ndata:{}\nevent: x\n\n", ": c\ndata: {}\n: c\n\n",
        "data: {}\ndatax: {\n\n", "data: {}\nunknown\n\n", "data:\ndata: {}\n\n", "data: {\ndata: }\n\n",
        "data\ndata: {}\n\n", "data: {}\ndata\n\n",
    ],
)  # fmt: skip
def test_other_fields_and_comments_around_data_change_nothing(event: str) -> None:
    payload = json.dumps(BODY[0], ensure_ascii=False)
    raw = (
        event.replace("{\ndata: }", payload.replace(', "object"', ',\ndata: "object"')).replace("{}", payload).encode()
    )
    for cut in range(len(raw)):
        out, reader, _ = relayed(raw, cut)
        assert [d.get("content") for d in deltas(out)] == [TEXT], cut
        assert reader.error is None


@pytest.mark.parametrize(
    "after", ["data: [DONE]\n\n", "garbage", "data: {bad\n\n", 'data: {"error": {"message": "x"}}\n\n']
)
def test_what_follows_done_reaches_nobody(after: str) -> None:
    raw = sse(*BODY, "[DONE]") + after.encode()
    for cut in range(len(raw)):
        out, reader, _ = relayed(raw, cut)
        assert out == sse(*BODY)
        assert reader.done and reader.error is None


def test_a_stream_without_done_is_whole_when_its_choices_ended() -> None:
    raw = sse(*BODY)
    assert relayed(raw, 0)[1].whole
    assert not relayed(raw[:-1], 0)[1].whole, "an event without its blank line is half of one"
    assert deltas(relayed(raw[:-1], 0)[0]) == [{"content": TEXT}]


def test_an_event_of_keep_alive_or_nothing_is_none() -> None:
    for raw in (b"data:\n\n", b"data: \n\n", b"event: ping\n\n", b"id: 3\n\n", b":\n\n", b"\n\n", b"\r\n"):
        out, reader, _ = relayed(raw + sse(*BODY, "[DONE]"), len(raw))
        assert deltas(out)[0] == {"content": TEXT}
        assert reader.error is None, raw


def test_an_error_beside_a_choice_that_ended_is_an_error_and_no_end() -> None:
    # OpenRouter's errors in mid-stream are events with an `error` field: https://openrouter.ai/docs/api_reference/streaming
    told = {**chunk({"content": ""}, "error"), "error": {"code": 502, "message": "Provider disconnected"}}
    raw = sse(BODY[0], told)
    for cut in range(len(raw)):
        out, reader, _ = relayed(raw, cut)
        assert reader.error == "Provider disconnected"
        assert deltas(out) == [{"content": TEXT}]
