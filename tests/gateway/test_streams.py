"""Streams: however they are cut, the client gets the same events, the true values, and never a cut answer as whole."""

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.gateway.metering import Usage
from ecotone.gateway.streams import EventCutter, StreamReader
from ecotone.privacy import Pseudonyms

MAIL = "maria.lopez@example.org"
QUOTED = 'She said "call +34 612 345 678"\nand left'


def chunk(*choices: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices), **more}


def delta(part: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": part, "finish_reason": finish}


def sse(*values: Any, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + (v if isinstance(v, bytes) else json.dumps(v).encode()) + end for v in values)


def relayed(
    raw: bytes, cuts: list[int], *, names: Pseudonyms | None = None, hide: bool = True, face: str = "chat"
) -> Any:
    """What the client gets for a stream cut at these places, the usage, and the reader."""
    usage = Usage()
    reader = StreamReader(usage, face, hide_usage=hide, names=names)
    cutter = EventCutter()
    out = b""
    places = [0, *sorted(cuts), len(raw)]
    for begin, end in itertools.pairwise(places):
        for data in cutter.feed(raw[begin:end]):
            out += reader.event(data) or b""
    return out + reader.rest(), usage, reader


def assembled(out: bytes) -> dict[Any, str]:
    """Texts of a stream by choice and field, as a client joins them."""
    found: dict[Any, str] = {}
    for event in out.split(b"\n\n"):
        if event.startswith(b"data: {"):
            for choice in json.loads(event[6:])["choices"]:
                number = choice["index"]
                for key, text in (choice.get("delta") or {}).items():
                    if key == "tool_calls":
                        for call in text:
                            place = (number, "call", call["index"])
                            found[place] = found.get(place, "") + call["function"].get("arguments", "")
                    elif isinstance(text, str) and key != "role":
                        found[number, key] = found.get((number, key), "") + text
                if isinstance(choice.get("text"), str):
                    found[number, "text"] = found.get((number, "text"), "") + choice["text"]
    return found


def torn(names: Pseudonyms) -> bytes:
    """Placeholders torn to pieces of two letters: in content and reasoning of two choices and in two tool calls."""
    text = names.mask(f"Dear {MAIL}, you")
    arguments = json.dumps(names.mask_json({"to": MAIL, "note": QUOTED}))
    pieces: list[Any] = [chunk(delta({"role": "assistant", "content": ""}, n)) for n in (0, 1)]
    cut = [text[i : i + 2] for i in range(0, len(text), 2)]
    pieces += [chunk(delta({"content": piece, "reasoning": piece}, n)) for n in (0, 1) for piece in cut]
    for index in (0, 1):
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": "f", "arguments": ""}}
        pieces.append(chunk(delta({"tool_calls": [call]})))
    cut = [arguments[i : i + 2] for i in range(0, len(arguments), 2)]
    calls = [{"index": index, "function": {"arguments": piece}} for piece in cut for index in (0, 1)]
    pieces += [chunk(delta({"tool_calls": [call]})) for call in calls]
    pieces += [chunk(delta({}, 0, "tool_calls")), chunk(delta({}, 1, "stop"))]
    pieces.append(chunk(usage={"prompt_tokens": 3, "completion_tokens": 4}))
    return sse(*pieces) + b"data: [DONE]\n\n"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_torn_placeholders_come_back_in_every_field_wherever_the_bytes_are_cut(data: st.DataObject) -> None:
    names = Pseudonyms()
    raw = torn(names)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    out, usage, reader = relayed(raw, cuts, names=names)
    found = assembled(out)
    assert found[0, "content"] == found[1, "content"] == found[0, "reasoning"] == f"Dear {MAIL}, you"
    assert json.loads(found[0, "call", 0]) == json.loads(found[0, "call", 1]) == {"to": MAIL, "note": QUOTED}
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimate) == (3, 4, False)
    assert b'"usage"' not in out
    assert reader.whole


def test_a_placeholder_at_the_very_end_is_restored_with_the_finish_and_without_one() -> None:
    names = Pseudonyms()
    text = names.mask(MAIL)
    finished = sse(
        chunk(delta({"content": text})), chunk({"index": 0, "delta": None, "finish_reason": "stop"}), b"[DONE]"
    )
    unfinished = sse(chunk(delta({"content": text[:-1]})), chunk(delta({"content": text[-1:]})), b"[DONE]")
    legacy = sse(chunk({"index": 0, "text": text, "finish_reason": "stop"}), b"[DONE]")
    assert assembled(relayed(finished, [], names=names)[0])[0, "content"] == MAIL
    assert assembled(relayed(unfinished, [], names=names)[0])[0, "content"] == MAIL
    assert assembled(relayed(legacy, [], names=names, face="completions")[0])[0, "text"] == MAIL


def test_events_that_need_no_change_keep_their_bytes() -> None:
    raw = b'data: {"id":"c", "choices":[ {"index":0,"delta":{"content":"1"},"logprobs":1e2, "x": 0.10}]}\n\n'
    assert relayed(raw, [])[0] == raw


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf", b": ping\n\n", b"event: message\nid: 4\n", b"retry: 3\r\n"])
def test_every_framing_of_the_standard_is_read_at_every_cut(end: bytes, begin: bytes) -> None:
    raw = begin + sse(chunk(delta({"content": "é\u2028ü"})), chunk(delta({}, 0, "stop")), b"[DONE]", end=end)
    want = {(0, "content"): "é\u2028ü"}
    for cut in range(len(raw)):
        out, _, reader = relayed(raw, [cut])
        assert assembled(out) == want, cut
        assert reader.done


def test_data_in_several_lines_leaves_in_one() -> None:
    raw = b'data: {"choices":\ndata:  [{"index": 0, "delta": {"content": "x"}}]}\n\n'
    out = relayed(raw, [])[0]
    assert out.count(b"\n") == 2
    assert assembled(out) == {(0, "content"): "x"}


@pytest.mark.parametrize(
    ("events", "whole"),
    [
        ([chunk(delta({"content": "x"}))], False),
        ([chunk(delta({"content": "x"}), delta({"content": "y"}, 1)), chunk(delta({}, 0, "stop"))], False),
        ([chunk(delta({"content": "x"})), chunk(delta({}, 0, "stop"))], True),
        ([chunk(delta({"content": "x"})), b"[DONE]"], True),
        ([chunk()], False),
        ([], False),
    ],
)
def test_only_a_stream_that_came_to_its_end_is_whole(events: list[Any], whole: bool) -> None:
    assert relayed(sse(*events), [])[2].whole is whole


@pytest.mark.parametrize(
    "odd",
    [
        b'{"choices": 3}', b'{"choices": [3, null, {"index": "x", "delta": 4}]}', b"[1]", b'"x"', b"null",
        b'{"choices": [{"delta": {"tool_calls": 7, "content": {"a": ["b"]}, "audio": null}}]}',
        b'{"choices": [], "usage": {"prompt_tokens": true, "completion_tokens": -4}}',
        b'{"error": null, "choices": []}',
    ],
)  # fmt: skip
def test_odd_events_break_nothing(odd: bytes) -> None:
    _, usage, reader = relayed(sse(odd), [], names=Pseudonyms())
    assert reader.error is None
    assert usage.estimate


def test_a_provider_that_changes_its_shapes_midway_loses_no_text() -> None:
    names = Pseudonyms()
    names.mask(MAIL)
    odd = [
        chunk(delta({"a": {"b": "Ema"}, "content": "Ema"})),
        chunk(delta({"a": "x", "content": [1, {"index": 0, "text": "Ema"}]})),
        chunk(delta({"a": "Em", "tool_calls": [3, {"index": "x", "function": "Em"}]}, 0, "stop")),
    ]
    out, _, reader = relayed(sse(*odd, b"[DONE]"), [], names=names)
    assert reader.error is None
    for text in (b'"a":{"b":"Ema"}', b'"content":"Ema"', b'"a":"Em"'):
        assert text in out


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": [{"delta": ' + b'{"a":' * 900 + b'"x"' + b"}" * 900 + b"}]}",
        b'{"choices": [' + b'{"a":1},' * 200_000 + b"1]}",
        json.dumps(chunk(*(delta({}, n) for n in range(2000)))).encode(),
    ],
)
def test_a_provider_that_sends_too_much_of_a_kind_ends_its_stream_and_nothing_else(event: bytes) -> None:
    for names in (None, Pseudonyms()):
        assert relayed(b"data: " + event + b"\n\n", [], names=names)[2].error or b'"a":{' in event


def test_how_deep_an_event_may_be_is_not_left_to_the_interpreter() -> None:
    deep = b'{"choices": [{"delta": ' + b'{"a":' * 120 + b'"x"' + b"}" * 120 + b"}]}"
    _, _, reader = relayed(sse(deep), [], names=Pseudonyms())
    assert reader.error == "an event of the stream holds too much"


def test_an_event_in_a_thousand_reads_costs_no_more_than_its_length() -> None:
    begin = time.thread_time()
    cutter = EventCutter()
    cutter.feed(b"data: ")
    for _ in range(7000):
        assert cutter.feed(b"x" * 1000) == []
    (event,) = cutter.feed(b"\n\n")
    assert len(event) == 7_000_000
    assert time.thread_time() - begin < 2, "a hundredth of it when linear"


@pytest.mark.parametrize("bad", [b"{not json", b'{"error": {"message": "overloaded"}}', b'{"error": "x"}', b"[" * 5000])
def test_an_error_in_the_stream_is_seen(bad: bytes) -> None:
    assert relayed(sse(bad), [])[2].error


def test_usage_is_the_last_cumulative_figure_and_never_a_sum() -> None:
    raw = sse(
        chunk(delta({"content": "a"}), usage={"prompt_tokens": 5, "completion_tokens": 1}),
        chunk(
            delta({}, 0, "stop"),
            usage={"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
        ),
    )
    _, usage, _ = relayed(raw, [])
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (5, 2, 4)


def test_an_event_without_end_is_refused() -> None:
    cutter = EventCutter()
    with pytest.raises(ValueError, match="too large"):
        for _ in range(20):
            cutter.feed(b"x" * 1_000_000)
