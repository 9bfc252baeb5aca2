"""What is forwarded is what was inspected: bodies that two parsers could read differently are refused."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_any_body_without_duplicates_passes_and_leaves_as_it_came(extra: Any, ascii_only: bool, indent: Any) -> None:
    body = {"model": "a/b", "messages": [{"role": "user", "content": extra}], "x-extra": extra}
    request = parse("chat", json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode())
    assert json.loads(request.forwarded("b")) == {**body, "model": "b"}


@pytest.mark.parametrize(
    "message",
    [
        '{"role": "user", "content": "maria@example.org", "content": "hi"}',
        '{"role": "user", "content": "maria@example.org", "cont\\u0065nt": "hi"}',
        '{"role": "user", "content": [{"type": "text", "text": "maria@example.org", "text"\n:\t"hi"}]}',
    ],
)
def test_a_key_that_stands_twice_hides_nothing_at_any_depth(message: str) -> None:
    with pytest.raises(Refusal, match="twice"):
        parse("chat", f'{{"model": "a/b", "messages": [{message}]}}'.encode())


def test_numbers_and_unknown_fields_keep_their_bytes() -> None:
    body = (
        b'{"model":"a/b","messages":[{"content":"\\u00e9"}],"top_p":0.10,"seed":9007199254740993,"odd":{"b":1,"a":2}}'
    )
    sent = parse("chat", body).forwarded("b", ask_usage=True)
    for kept in (b"0.10", b"9007199254740993", b'{"b":1,"a":2}', b"\\u00e9"):
        assert kept in sent


@pytest.mark.parametrize("model", ["a/b\r\nset-cookie: x=1", "a/\x00", "a/" + "x" * 300, "a/\u2028b"])
def test_a_models_name_is_printable_and_short(model: str) -> None:
    with pytest.raises(Refusal, match="no name of a model"):
        parse("chat", json.dumps({"model": model, "messages": [{}]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "a/b", "messages": ' + b'{"a":' * 100_000,
        b'{"model": "a/b", "messages": [{"content": "\\ud800"}]}',
        b'{"model": "a/b", "messages": [{}], "x": 1e400}',
        b'\xef\xbb\xbf{"model": "a/b", "messages": [{}]}',
        b'{"model": "a/b", "messages": [{}]} {"model": "c"}',
        b'{"model": "a/b", "messages": [{"content": "' + b'\\"' * 50_000,
        b"",
        b"null",
    ],
)
def test_bombs_and_halves_are_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse("chat", body)
    assert refused.value.status == 400


def test_brackets_in_strings_are_no_depth() -> None:
    body = {"model": "a/b", "messages": [{"content": '[{"' * 500}]}
    assert parse("chat", json.dumps(body).encode()).value == body


def test_an_embedding_is_never_a_stream() -> None:
    assert parse("embeddings", b'{"model": "a/b", "input": "x", "stream": true}').stream is False


HEAD = b'{"model":"a/b","messages":['


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"[]," * 70 + b'"\\' * 500_000,
        HEAD + b'{"content":"' + b'\\"' * 500_000 + b'"}]}',
        HEAD + b'{"content":"' + b"\\\\" * 500_000 + b'"}]}',
        HEAD + b'"",' * 300_000 + b'""]}',
        b'"' * 1_000_000,
        b"\\" * 1_000_000,
        HEAD + b"[" * 1_000_000,
        HEAD + b" " * 1_000_000 + b"1]}",
    ],
)
def test_a_megabyte_of_anything_is_read_in_no_time(body: bytes) -> None:
    begin = time.thread_time()
    try:
        parse("chat", body)
    except Refusal as refused:
        assert refused.status == 400
    assert time.thread_time() - begin < 15, "a hundredth of it when linear, hours when not"


@given(st.lists(st.text('\\"ab[]{}:,', max_size=9), min_size=2, max_size=6), st.integers(1, 7))
def test_keys_are_counted_right_wherever_the_body_is_sliced(texts: list[str], size: int) -> None:
    body = {"model": "a/b", "messages": [{text: [text] for text in texts}, *texts]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ecotone.gateway.structure._SLICE", size)
        assert parse("chat", json.dumps(body).encode()).value == body


def test_a_body_that_would_take_many_times_its_size_as_objects_or_hold_the_interpreter_is_refused() -> None:
    keys = b"{%b}," % b",".join(b'"k%d":1' % n for n in range(110_000))
    for many in (b"{}," * 200_000, b"0," * 1_100_000, keys):
        with pytest.raises(Refusal, match="send it in parts"):
            parse("chat", HEAD + many + b"0]}")
