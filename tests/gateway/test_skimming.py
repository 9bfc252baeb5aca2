"""A body that is skimmed is one that would have passed in full, and means the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import parse
from ecotone.gateway.skimming import skim
from tests.gateway.test_parsing import JSON

LONG = 'All work and no play makes Jack a dull boy; "quoted" text.\n' * 100
KEYS = st.sampled_from(
    ["model", "messages", "stream", "n", "max_tokens", "tools", "content", "role", "Model", "mode\\u006c", "é", "x"]
)
BLANKS = st.sampled_from(["", "", "", "", " ", "\n"])
VALUES = st.sampled_from(
    ['"a/b"', "true", "1", "1e5", "0.70", "-0", "null", '"\\u0041"', '"\\/"', '"\\ud83d\\ude00"', '"\\ud800"', '"é"',
     "01", '"\x01"', "[]", "[" * 20 + "]" * 20, "[" * 70 + "]" * 70, '[{"type":"text","text":"hi"}]']
)  # fmt: skip


@st.composite
def written(draw: Any, inner: Any) -> str:
    """An object as text, whose keys may stand twice."""
    pairs = draw(st.lists(st.tuples(KEYS, BLANKS, inner), max_size=5))
    return "{" + ",".join(f'"{key}":{blank}{value}' for key, blank, value in pairs) + "}"


OBJECTS = written(VALUES | written(VALUES))
MESSAGES = st.lists(OBJECTS, max_size=3).map(lambda told: "[" + ",".join(told) + "]")


@given(written(VALUES | MESSAGES | OBJECTS) | MESSAGES | JSON.map(json.dumps), st.sampled_from([b"", b"\xff"]))
def test_what_is_skimmed_would_have_passed_and_has_the_same_fields(body: str, odd: bytes) -> None:
    raw = body.encode("utf-8", "surrogatepass").replace(b"a/b", b"a/b" + odd)
    value = skim(raw)
    if value is None:
        return
    whole = json.loads(raw, object_pairs_hook=_once)
    assert json.loads(raw.decode()) == whole
    assert {k: v for k, v in value.items() if k != "messages"} == {k: v for k, v in whole.items() if k != "messages"}
    assert _depth(whole) < 64


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key that stands twice was passed over"
    return dict(pairs)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_clients_send_is_skimmed_and_leaves_as_it_came(ascii_only: bool) -> None:
    body = {
        "model": "a/b",
        "messages": [{"role": "system", "content": "é"}, {"role": "user", "content": [{"type": "text", "text": LONG}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "max_tokens": 256,
        "temperature": 0.7,
    }
    raw = json.dumps(body, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    request = parse("chat", raw, skimming=True)
    assert skim(raw) is not None
    assert json.loads(request.forwarded("b")) == {**body, "model": "b"}
    assert request.messages == body["messages"]
    assert request.value["max_tokens"] == 256


@pytest.mark.parametrize(
    "message",
    [
        '{"role":"user","content":"%s","content":"hi"}',
        '{"role":"user","content":"%s","cont\\u0065nt":"hi"}',
        '{"role":"user","content":[{"type":"text","text":"%s","text":"hi"}]}',
    ],
)
def test_a_key_that_stands_twice_in_a_long_body_is_refused(message: str) -> None:
    text = json.dumps(LONG)[1:-1]
    with pytest.raises(Refusal, match="twice"):
        parse("chat", f'{{"model":"a/b","messages":[{message % text}]}}'.encode(), skimming=True)


def test_a_long_body_that_is_no_utf_8_is_refused() -> None:
    raw = b'{"model":"a/b","messages":[{"role":"user","content":"%b\xff"}]}' % json.dumps(LONG)[1:-1].encode()
    with pytest.raises(Refusal, match="UTF-8"):
        parse("chat", raw, skimming=True)
