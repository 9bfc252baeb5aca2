"""Calls in three models' own forms come out as OpenAI's, however the text is cut; what is no call stays text."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.engines.server import messages
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.tool_calls import Call, CallReader, Event

WEATHER = Call("weather", '{"city": "Lima", "note": "a <b> } é"}')
TIME = Call("time", "{}")
BODY = '{"name": "weather", "arguments": {"city": "Lima", "note": "a <b> } é"}}'

FORMS: list[tuple[str, list[Event]]] = [
    (f"<tool_call>\n{BODY}\n</tool_call>", [WEATHER]),
    (
        f'Let me see. <tool_call>{BODY}</tool_call>\n<tool_call>{{"name": "time"}}</tool_call>',
        ["Let me see. ", WEATHER, TIME],
    ),
    (f"<tool_call>{BODY}", [WEATHER]),
    (f"[TOOL_CALLS][{BODY}, {BODY}]", [WEATHER, WEATHER]),
    ('[TOOL_CALLS]weather[ARGS]{"city": "Lima", "note": "a <b> } é"}[TOOL_CALLS]time{}', [WEATHER, TIME]),
    ('{"name": "weather", "parameters": {"city": "Lima", "note": "a <b> } é"}}', [WEATHER]),
    (f'  <|python_tag|>{BODY}; {{"name": "time", "parameters": {{}}}}', [WEATHER, TIME]),
    ("no call at all < tool_call", ["no call at all < tool_call"]),
    ('{"name": "unknown", "parameters": {}}', ['{"name": "unknown", "parameters": {}}']),
    ('{"answer": 7}', ['{"answer": 7}']),
    ('<tool_call>{"name": 7}</tool_call> then', ['<tool_call>{"name": 7}</tool_call> then']),
    ("[TOOL_CALLS] not json", ["[TOOL_CALLS] not json"]),
    ("a <tool", ["a <tool"]),
    ("{" * 3000, ["{" * 3000]),
    ("", []),
]


def read(pieces: list[str]) -> list[Event]:
    reader = CallReader(["weather", "time"])
    events = [event for piece in pieces for event in reader.feed(piece)] + reader.finish()
    joined: list[Event] = []
    for event in events:
        if isinstance(event, str) and joined and isinstance(joined[-1], str):
            joined[-1] += event
        else:
            joined.append(event)
    assert reader.calls == sum(isinstance(event, Call) for event in events)
    return joined


@pytest.mark.parametrize(("text", "wanted"), FORMS)
def test_calls_are_read_in_each_form(text: str, wanted: list[Event]) -> None:
    assert read([text]) == wanted
    assert read(list(text)) == wanted


@given(st.sampled_from(FORMS), st.lists(st.integers(0, 120), max_size=6))
def test_how_the_text_is_cut_changes_nothing(form: tuple[str, list[Event]], cuts: list[int]) -> None:
    text, wanted = form
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    assert read([text[a:b] for a, b in itertools.pairwise(places)]) == wanted


@given(st.text())
def test_text_without_a_call_comes_out_whole(text: str) -> None:
    events = read([text])
    assert "".join(event for event in events if isinstance(event, str)) == text or any(
        isinstance(event, Call) for event in events
    )


def test_text_is_not_held_back_longer_than_it_may_become_a_marker() -> None:
    reader = CallReader(["weather"])
    assert reader.feed("Hello <") == ["Hello "] and reader.feed("b> there") == ["<b> there"]


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "$defs": {"c": {"type": "string"}},
            "properties": {"city": {"$ref": "#/$defs/c"}},
        },
    },
}
OTHER: dict[str, Any] = {"type": "function", "function": {"name": "time"}}


@pytest.mark.parametrize(
    ("choice", "names", "must"),
    [
        (None, ("weather", "time"), False),
        ("auto", ("weather", "time"), False),
        ("none", (), False),
        ("required", ("weather", "time"), True),
        ({"type": "function", "function": {"name": "time"}}, ("time",), True),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [OTHER]}},
            ("time",),
            True,
        ),
    ],
)
def test_what_may_be_called(choice: Any, names: tuple[str, ...], must: bool) -> None:
    found = messages.tools({"tools": [TOOL, OTHER], "tool_choice": choice})
    assert found.names == names and (found.must is not None) == must
    if must:
        assert all(name in (found.must or "") for name in names)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "custom"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice.function.name",
        ),
        ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
    ],
)
def test_a_wrong_tool_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        messages.tools(body)
    assert refused.value.param == field


def test_an_unsupported_keyword_of_a_required_tool_is_named_with_its_place() -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"not": {}}}}}
    with pytest.raises(RequestError, match="/0/function/parameters/properties/x/not"):
        messages.tools({"tools": [{"type": "function", "function": function}], "tool_choice": "required"})


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
}
ANSWER = {"role": "tool", "tool_call_id": "a", "content": "7"}


def test_past_calls_reach_the_template_as_objects() -> None:
    found = messages.read([{"role": "user", "content": "x"}, CALLED, ANSWER])
    assert found[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}} and found[1]["content"] == ""
    assert found[2] == {"role": "tool", "tool_call_id": "a", "content": "7"}
    json.dumps(found)


@pytest.mark.parametrize(
    "history",
    [
        [CALLED],
        [CALLED, {"role": "user", "content": "x"}],
        [{"role": "tool", "content": "7"}],
        [{**CALLED, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}, ANSWER],
        [{**CALLED, "tool_calls": 7}],
    ],
)
def test_a_history_whose_calls_do_not_fit_is_refused(history: list[Any]) -> None:
    with pytest.raises(RequestError, match=r"messages"):
        messages.read(history)
