"""What OpenAI's clients ask of an answer beside its text, at the wire of a real engine."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

Served = Callable[[str], httpx.Client]

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "wait"}},
]


def chat(client: httpx.Client, **more: Any) -> Any:
    body = {
        "model": "demo/llama",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0,
        "max_tokens": 12,
        **more,
    }
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def chunks(client: httpx.Client, path: str = "/v1/chat/completions", **more: Any) -> list[Any]:
    body = {"model": "demo/llama", "temperature": 0, "max_tokens": 12, "stream": True, **more}
    if path.endswith("chat/completions"):
        body.setdefault("messages", [{"role": "user", "content": "hello"}])
    with client.stream("POST", path, json=body) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_several_answers_to_one_question_are_each_their_own(served: Served) -> None:
    client = served("llama")
    found = chat(client, n=4, temperature=1.5, seed=3)
    texts = [choice["message"]["content"] for choice in found["choices"]]
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3] and len(set(texts)) > 1
    single = chat(client, temperature=1.5, seed=3)
    assert single["choices"][0]["message"]["content"] == texts[0]
    assert found["usage"]["prompt_tokens"] == single["usage"]["prompt_tokens"], "one prompt is counted once"
    streamed = chunks(client, n=4, temperature=1.5, seed=3)
    for index in range(4):
        own = [c["choices"][0] for c in streamed if c["choices"][0]["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in own) == texts[index]
        assert own[-1]["finish_reason"] and not any(c["finish_reason"] for c in own[:-1])


def test_log_probabilities_come_with_their_bytes_whole_and_streamed(served: Served) -> None:
    client = served("llama")
    found = chat(client, logprobs=True, top_logprobs=3)["choices"][0]
    tokens = found["logprobs"]["content"]
    spelt = b"".join(bytes(token["bytes"]) for token in tokens)
    assert spelt.decode("utf-8", "replace") == found["message"]["content"]
    for token in tokens:
        assert token["top_logprobs"][0] == {k: token[k] for k in ("token", "logprob", "bytes")}, "greedy is the first"
        assert len(token["top_logprobs"]) == 3 and sum(math.exp(t["logprob"]) for t in token["top_logprobs"]) <= 1.001
    streamed = [c["choices"][0] for c in chunks(client, logprobs=True, top_logprobs=3)]
    again = [token for c in streamed if c["logprobs"] for token in c["logprobs"]["content"]]
    assert [token["token"] for token in again] == [token["token"] for token in tokens]
    assert "logprobs" in found and chat(client)["choices"][0]["logprobs"] is None


def test_completions_tell_log_probabilities_and_echo(served: Served) -> None:
    client = served("plain")
    body = {"model": "demo/plain", "prompt": "hello", "temperature": 0, "max_tokens": 6}
    plain = client.post("/v1/completions", json=body).json()["choices"][0]
    told = client.post("/v1/completions", json={**body, "logprobs": 2}).json()["choices"][0]["logprobs"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(told["text_offset"])
    assert told["text_offset"][0] == 0 and all(len(top) <= 2 for top in told["top_logprobs"])
    echoed = client.post("/v1/completions", json={**body, "echo": True, "n": 2}).json()
    assert [c["text"] for c in echoed["choices"]] == ["hello" + plain["text"]] * 2
    streamed = chunks(client, "/v1/completions", **{**body, "echo": True})
    assert "".join(c["choices"][0]["text"] for c in streamed) == "hello" + plain["text"]


def test_fixed_counts_of_tokens_for_benchmarks(served: Served) -> None:
    for more in ({"ignore_eos": True}, {"min_tokens": 40}):
        found = chat(served("llama"), max_tokens=40, temperature=1.0, seed=1, **more)
        assert found["usage"]["completion_tokens"] == 40 and found["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
        {"type": "json_object", "value": SCHEMA},
    ],
)
def test_an_answer_keeps_the_schema_it_was_asked_for(wanted: Any, served: Served) -> None:
    pytest.importorskip("llguidance")
    for seed in range(5):
        found = chat(served("llama"), response_format=wanted, max_tokens=60, temperature=1, seed=seed)["choices"][0]
        assert found["finish_reason"] == "stop"
        jsonschema.validate(json.loads(found["message"]["content"]), SCHEMA)


def test_an_unusable_schema_is_refused_and_the_engine_goes_on(served: Served) -> None:
    client = served("llama")
    for schema in ({"type": "zebra"}, {"not": {}}, {"pattern": "("}, {"minimum": "x"}, {"$ref": "#/none"}, [], 7):
        body = {
            "model": "demo/llama",
            "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
        }
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400 and "response_format" in answer.json()["error"]["message"]
    assert chat(client)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_a_call_that_is_asked_for_is_made(choice: Any, served: Served) -> None:
    pytest.importorskip("llguidance")
    client = served("llama")
    more = {"tools": TOOLS, "tool_choice": choice, "max_tokens": 80, "temperature": 1, "seed": 4}
    found = chat(client, **more)["choices"][0]
    assert found["finish_reason"] == "tool_calls" and found["message"]["content"] is None
    (call,) = found["message"]["tool_calls"]
    assert call["type"] == "function" and call["id"].startswith("call_")
    assert call["function"]["name"] in ("paint", "wait")
    if call["function"]["name"] == "paint":
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)
    streamed = [c["choices"][0] for c in chunks(client, **more)]
    pieces = [piece for c in streamed for piece in c["delta"].get("tool_calls", ())]
    assert {piece["index"] for piece in pieces} == {0} and sum("id" in piece for piece in pieces) == 1
    assert pieces[0]["function"] == {"name": call["function"]["name"], "arguments": ""}
    assert "".join(p["function"]["arguments"] for p in pieces) == call["function"]["arguments"]
    assert streamed[-1]["finish_reason"] == "tool_calls"


def test_tools_that_need_not_be_called_leave_text_as_it_is(served: Served) -> None:
    client = served("llama")
    assert chat(client, tools=TOOLS, tool_choice="none")["choices"] == chat(client)["choices"]
    free = chat(client, tools=TOOLS)["choices"][0]["message"]
    assert free["content"] and "tool_calls" not in free
    streamed = chunks(client, tools=TOOLS)
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in streamed) == free["content"]


def test_openais_own_client_understands_all_of_it(served: Served) -> None:
    openai = pytest.importorskip("openai")
    http = served("llama")
    client = openai.OpenAI(base_url="http://engine/v1", api_key="x", http_client=http)
    named = set()
    for seed in range(20):  # the weights are random: some answers do not come to their end within the context
        asked = {"model": "demo/llama", "messages": [{"role": "user", "content": "hello"}], "seed": seed}
        with (
            contextlib.suppress(openai.LengthFinishReasonError),
            client.chat.completions.stream(**asked, tools=TOOLS, tool_choice="required", max_tokens=80) as stream,
        ):
            named.add(stream.get_final_completion().choices[0].message.tool_calls[0].function.name)
            break
    assert named and named <= {"paint", "wait"}


def test_a_model_that_writes_gives_the_mean_of_its_last_states(served: Served, made: dict[str, Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["hello", "the river é"]
    found = served("llama").post("/v1/embeddings", json={"model": "demo/llama", "input": texts}).json()
    tokenizer, model = AutoTokenizer.from_pretrained(made["llama"]), AutoModelForCausalLM.from_pretrained(made["llama"])
    for text, item in zip(texts, found["data"], strict=True):
        with torch.inference_mode():
            states = model.model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        assert item["embedding"] == pytest.approx(states.mean(dim=1)[0].tolist(), abs=1e-4)
    refused = served("llama").post("/v1/embeddings", json={"model": "demo/llama", "input": "x" * 200})
    assert refused.status_code == 400 and "200 tokens" in refused.json()["error"]["message"]


def test_settings_in_effect_and_figures_are_told(served: Served) -> None:
    client = served("llama")
    info = client.get("/info").json()
    assert info["slots"] >= 16 and info["threads"] >= 1 and info["max_waiting"] == 512 and info["tools"] is True
    before = client.get("/health").json()["tokens"]
    chat(client, ignore_eos=True)
    assert client.get("/health").json()["tokens"] == before + 12
