"""Bodies: what is wrong is said with its field; what the engine cannot do is refused, not ignored."""

from typing import Any

import pytest

from ecotone.engines.server import requests
from ecotone.engines.server.errors import RequestError

HELLO = [{"role": "user", "content": "hello"}]


def chat(**more: Any) -> requests.TextRequest:
    return requests.chat({"model": "m", "messages": HELLO, **more})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"model": ""}, "model"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"seed": "x"}, "seed"),
        ({"stop": 7}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"stop_token_ids": "7"}, "stop_token_ids"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"top_k": -2}, "top_k"),
        ({"logit_bias": {"1": 10**400}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"stop": ["x" * 4097]}, "stop"),
        ({"guided_json": {"type": "object"}}, "guided_json"),
        ({"guided_json": {}}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tool_choice": "required"}, "tools"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_bad_field_is_named(more: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        chat(**more)
    assert refused.value.param == field and refused.value.status == 400 and field in refused.value.message


def test_what_clients_send_by_habit_is_taken() -> None:
    found = chat(
        n=1, tools=[], logprobs=False, user="u", response_format={"type": "text"}, stop="\n", stream=True,
        stream_options={"include_usage": True}, max_tokens=3, max_completion_tokens=5, temperature=0, seed=7,
    )  # fmt: skip
    assert found.sampling.stop == ("\n",) and found.sampling.max_tokens == 5 and found.include_usage and found.stream


def test_parts_are_joined_and_the_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = chat(messages=[{"role": "developer", "content": parts}, {"role": "assistant", "content": None}])
    assert found.messages == ({"role": "system", "content": "ab"}, {"role": "assistant", "content": ""})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
def test_inputs_come_in_four_shapes(given: Any, wanted: Any) -> None:
    assert requests.embedding({"model": "m", "input": given}).inputs == wanted
    assert requests.completion({"model": "m", "prompt": given}).prompts == wanted


@pytest.mark.parametrize("given", ["", [], [""], ["a", 1], [[]], [[1], "a"], [-1], [True], None, 7, ["a"] * 2049])
def test_other_shapes_are_refused(given: Any) -> None:
    with pytest.raises(RequestError) as refused:
        requests.embedding({"model": "m", "input": given})
    assert refused.value.param == "input"


NESTED = b'{"a":' * 600 + b"1" + b"}" * 600
HALF = rb'{"prompt":"half a pair: \ud800"}'


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, NESTED.replace(b"1", b"["), HALF, b'{"a":NaN}']
)
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError, match="JSON"):
        requests.body_of(raw)


def test_no_body_is_nested_deeper_than_what_reads_it_can_follow() -> None:
    with pytest.raises(RequestError, match="256 deep"):
        requests.body_of(NESTED)
    for arguments in (NESTED.decode(), HALF.decode()):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        asked = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]
        with pytest.raises(RequestError, match=r"messages\[0\]\.tool_calls\[0\]\.function\.arguments"):
            requests.chat({"model": "m", "messages": asked})


def test_completions_default_to_sixteen_tokens() -> None:
    assert requests.completion({"model": "m", "prompt": "x"}).sampling.max_tokens == 16
    for field in ({"echo": True, "logprobs": 0}, {"best_of": 3}, {"logprobs": 21}, {"suffix": "x"}):
        with pytest.raises(RequestError):
            requests.completion({"model": "m", "prompt": "x", **field})
