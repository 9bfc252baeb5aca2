"""What a user would lose: a run on rows that mean something else than meant, or an error that names no line."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecotone.tuning.data import LONGEST_LINE, MOST_SHOWN, check, lines, read
from ecotone.tuning.errors import BrokenData

GOOD = {"messages": [{"role": "user", "content": "Where is Paris?"}, {"role": "assistant", "content": "In France."}]}


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def said(row: Any) -> str:
    """The reason for which a row is refused when it stands on line 2."""
    found = check(jsonl(GOOD, row))
    assert [b.line for b in found.broken] == [2]
    return found.broken[0].reason


def turn(role: str, content: Any = "text", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_good_rows_are_counted_and_hashed() -> None:
    found = check(jsonl(GOOD, {"messages": [turn("system"), turn("user"), turn("assistant")]}))
    assert (found.rows, found.broken) == (2, ())
    assert len(found.sha256) == 64
    assert "only 2 rows" in found.warnings[0]


def test_last_line_needs_no_newline_and_blank_lines_count_as_lines() -> None:
    data = jsonl(GOOD) + b"\n  \r\n" + json.dumps({"messages": 3}).encode()
    found = check(data)
    assert found.rows == 2
    assert [b.line for b in found.broken] == [4]


def test_windows_line_ends() -> None:
    assert check(jsonl(GOOD, GOOD).replace(b"\n", b"\r\n")).broken == ()


@pytest.mark.parametrize("data", [b"", b"\n\n", b"   "])
def test_empty_file_is_refused(data: bytes) -> None:
    assert "empty" in check(data).broken[0].reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "user"}]}, "message 1: 'content' is missing"),
        ({"messages": [{"content": "x"}]}, "message 1: 'role' is missing"),
        ({"messages": [turn("bot")]}, "role 'bot' is not known; expected one of system, user, assistant, tool"),
        ({"messages": [turn(["user"])]}, "role 'a list' is not known"),
        ({"messages": [turn("user"), turn("assistant", ["x"])]}, "message 2: 'content' is a list"),
        ({"messages": [turn("user"), turn("assistant", None)]}, "'content' is null"),
        ({"messages": [turn("user"), turn("assistant", " ")]}, "'content' is empty"),
        ({"messages": [turn("user"), turn("assistant"), turn("user")]}, "the last message is the user's"),
        ({"messages": [turn("user")]}, "the last message is the user's"),
        ({"messages": [turn("user"), turn("system"), turn("assistant")]}, "message 2: a system message stands first"),
        ({"messages": [turn("user", weight=1), turn("assistant")]}, "'weight' stands on assistant turns only"),
        ({"messages": [turn("user"), turn("assistant", weight=True)]}, "neither 0 nor 1"),
        ({"messages": [turn("user"), turn("assistant", weight=0)]}, "nothing to learn"),
        ({"messages": [turn("user"), turn("assistant", tool_calls=[])]}, "unknown field 'tool_calls'"),
        ({"messages": []}, "'messages' is empty"),
        ({"messages": {}}, "'messages' is an object"),
        ({"messages": ["hello"]}, "message 1: expected an object"),
        ({"prompt": "x", "completion": "y"}, "'messages' is missing; found 'completion', 'prompt'"),
        ({**GOOD, "tools": []}, "unknown field 'tools'"),
        ([GOOD], "found a list"),
        ("text", "found a text"),
        (7, "found a number"),
    ],
)
def test_reason_of_a_broken_row(row: Any, reason: str) -> None:
    assert reason in said(row)


def test_weight_zero_leaves_a_turn_out_when_another_is_learned() -> None:
    row = {"messages": [turn("user"), turn("assistant", weight=0), turn("user"), turn("assistant", weight=1)]}
    assert check(jsonl(row)).broken == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"messages": [', "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not UTF-8 at byte 44"),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "byte order mark"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"' + b"a" * LONGEST_LINE + b'"', f"at most {LONGEST_LINE}"),
    ],
)
def test_bytes_that_are_no_row(line: bytes, reason: str) -> None:
    assert reason in check(line).broken[0].reason


def test_all_broken_rows_are_named_up_to_a_limit() -> None:
    found = check(jsonl(*[{"messages": []}] * 50))
    assert [b.line for b in found.broken] == list(range(1, MOST_SHOWN + 1))
    assert found.more == 30
    message = BrokenData(found.broken, more=found.more).message
    assert "50 rows" in message
    assert "line 20: " in message
    assert message.endswith("and 30 more.")


def test_repeats_are_counted() -> None:
    assert any("2 rows stand in the data more than once" in w for w in check(jsonl(GOOD, GOOD, GOOD)).warnings)


def test_rows_keep_their_line_numbers() -> None:
    assert [(n, len(m)) for n, m in read(b"\n" + jsonl(GOOD))] == [(2, 2)]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "messages": JSON
        | st.lists(
            JSON
            | st.fixed_dictionaries(
                {}, optional={"role": JSON | st.sampled_from(["user", "assistant"]), "content": JSON, "weight": JSON}
            ),
            max_size=4,
        ),
        "x": JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LIKELY | JSON, max_size=5))
def test_any_json_is_taken_or_named(rows: list[Any]) -> None:
    data = jsonl(*rows)
    found = check(data)
    assert all(1 <= b.line <= max(1, len(rows)) and b.reason for b in found.broken)
    if not found.broken:
        assert all(messages[-1]["role"] == "assistant" for _, messages in read(data))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
@example(b"\x00\n\xff\n{")
@example(b'{"messages":' * 3000)
def test_any_bytes_are_taken_or_named(data: bytes) -> None:
    found = check(data)
    assert found.broken
    assert all(1 <= b.line <= data.count(b"\n") + 1 for b in found.broken)
    assert found.rows == len(list(lines(data)))
