"""The built-in engine at the wire: real processes that serve tiny models."""

import base64
import concurrent.futures
import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Served = Callable[[str], httpx.Client]
Until = Callable[..., None]


def ask(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {
        "model": "demo/llama",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 24,
        **more,
    }


def chat(client: httpx.Client, text: str = "hello", **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json=ask(text, **more))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text_of(answer: dict[str, Any]) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def events(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    with client.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).split("\n\n")
    assert blocks.pop() == "" and all(block.startswith("data: ") for block in blocks)
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def generated(folder: Path, text: str, count: int) -> tuple[str, int, int]:
    """What transformers itself answers, greedy and alone: text, tokens of the prompt, tokens made."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**prompt, do_sample=False, max_new_tokens=count, pad_token_id=1)[0]
    width = prompt["input_ids"].shape[1]
    return tokenizer.decode(out[width:], skip_special_tokens=True), width, len(out) - width


@pytest.mark.parametrize("text", ["hello", "what is the capital of the river?", "é ü 漢字"])
def test_greedy_text_and_usage_are_transformers_own(text: str, served: Served, made: dict[str, Path]) -> None:
    answer = chat(served("llama"), text)
    wanted, prompt, count = generated(made["llama"], text, 24)
    assert text_of(answer) == wanted
    assert answer["usage"] == {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
    assert answer["model"] == "demo/llama" and answer["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_stream_is_the_same_text_in_openais_grammar(served: Served) -> None:
    whole = chat(served("llama"))
    found = events(served("llama"), "/v1/chat/completions", ask(stream_options={"include_usage": True}))
    assert found.pop() == "[DONE]"
    usage = found.pop()
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in [*found, usage]}) == 1
    assert all(c["usage"] is None and len(c["choices"]) == 1 for c in found)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert found[-1]["choices"][0]["delta"] == {}
    assert [c["choices"][0]["finish_reason"] for c in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in found) == text_of(whole)


def test_without_asking_no_chunk_speaks_of_usage_or_lacks_choices(served: Served) -> None:
    found = events(served("llama"), "/v1/chat/completions", ask())
    assert found.pop() == "[DONE]" and all("usage" not in c and c["choices"] for c in found)


def test_a_stop_string_ends_the_answer_and_is_not_in_it(served: Served) -> None:
    whole = text_of(chat(served("llama")))
    stop = whole[5:8]
    cut = chat(served("llama"), stop=[stop])
    assert text_of(cut) == whole[: whole.index(stop)] and cut["choices"][0]["finish_reason"] == "stop"
    pieces = events(served("llama"), "/v1/chat/completions", ask(stop=stop))[:-1]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in pieces) == text_of(cut)


def test_a_seed_gives_the_same_text_also_in_company(served: Served) -> None:
    client = served("llama")
    alone = text_of(chat(client, temperature=1.5, seed=7))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        mixed = list(pool.map(lambda n: text_of(chat(client, temperature=1.5, seed=7 + n % 4)), range(16)))
    assert {mixed[n] for n in range(0, 16, 4)} == {alone}
    assert len(set(mixed)) > 1


def test_greedy_text_does_not_depend_on_company(served: Served) -> None:
    client = served("llama")
    texts = [f"question {n}" * (1 + n % 3) for n in range(12)]
    alone = [text_of(chat(client, text)) for text in texts]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda text: text_of(chat(client, text)), texts)) == alone


def test_a_prompt_over_the_context_is_refused_never_cut(served: Served) -> None:
    client = served("llama")
    for size in (126, 5_000, 5_000_000):
        answer = client.post("/v1/chat/completions", json=ask("x" * size))
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
        assert "128" in answer.json()["error"]["message"]
    answer_to_the_end = chat(client, "x" * 100, max_tokens=100_000)
    assert answer_to_the_end["usage"]["total_tokens"] <= 128


def test_answers_that_are_far_too_many_are_refused_before_the_first_is_made(served: Served) -> None:
    began = time.monotonic()
    asked = {"model": "demo/llama", "prompt": ["a"] * 2048, "n": 128, "temperature": 1}
    answer = served("llama").post("/v1/completions", json=asked)
    assert answer.status_code == 400 and "262144" in answer.text
    assert time.monotonic() - began < 110  # making them takes an hour


def test_errors_have_openais_shape(served: Served) -> None:
    client = served("llama")
    for answer, status in (
        (client.post("/v1/chat/completions", content=b"{"), 400),
        (client.post("/v1/chat/completions", json=ask(n=300)), 400),
        (
            client.post(
                "/v1/chat/completions", json=ask(messages=[{"role": "tool", "content": "x", "tool_call_id": "a"}])
            ),
            400,
        ),
        (client.post("/v1/completions", json={"model": "demo/other", "prompt": "x"}), 404),
        (client.post("/v1/completions", json={"model": "demo/llama", "prompt": [99999]}), 400),
        (served("plain").post("/v1/chat/completions", json=ask(model="demo/plain")), 400),
        (client.post("/v1/chat/completions", json=ask(model="demo/llama@" + "0" * 40)), 404),
        (served("bert").post("/v1/chat/completions", json=ask(model="demo/bert")), 400),
        (served("bert").post("/v1/embeddings", json={"model": "demo/bert", "input": "a", "dimensions": 3}), 400),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "code", "param"}
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (
        "no tools here"
        in client.post(
            "/v1/chat/completions", json=ask(messages=[{"role": "tool", "content": "x", "tool_call_id": "a"}])
        ).json()["error"]["message"]
    )


def test_completions_continue_each_prompt(served: Served) -> None:
    client = served("plain")
    body = {"model": "demo/plain", "prompt": ["hello", "river"], "temperature": 0, "max_tokens": 8}
    both = client.post("/v1/completions", json=body).json()
    single = [client.post("/v1/completions", json={**body, "prompt": p}).json() for p in body["prompt"]]  # type: ignore[attr-defined]
    assert [c["text"] for c in both["choices"]] == [s["choices"][0]["text"] for s in single]
    assert [c["index"] for c in both["choices"]] == [0, 1] and both["object"] == "text_completion"
    streamed = events(client, "/v1/completions", body)[:-1]
    for index in (0, 1):
        text = "".join(c["choices"][0]["text"] for c in streamed if c["choices"][0]["index"] == index)
        assert text == both["choices"][index]["text"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(stream: bool, served: Served, until: Until) -> None:
    client = served("llama")
    path = client._transport._pool._uds  # type: ignore[attr-defined]
    body = json.dumps(ask("go", max_tokens=100, temperature=2, logit_bias={"1": -100}, stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: e\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    def health() -> dict[str, Any]:
        found: dict[str, Any] = client.get("/health").json()
        return found

    def cut_short() -> bool:
        """Twelve ask for a hundred tokens each and leave once some are served: fewer tokens are made than these alone
        would have had. On a busy machine many may have their answers by then, so that nothing is to be seen."""
        before, opened = health()["tokens"], list[socket.socket]()
        for _ in range(12):
            opened.append(socket.socket(socket.AF_UNIX))
            opened[-1].connect(path)
            opened[-1].sendall(head + body)
        served = health()["running"]
        for connection in opened:
            connection.close()
        until(lambda: not health()["running"] and not health()["waiting"])
        made: int = health()["tokens"] - before
        return made < 100 * served

    until(cut_short, 240)
    assert text_of(chat(client))


def direct(folder: Path, texts: list[str], limit: int) -> list[list[float]]:
    """Each text alone, by transformers: the mean over its tokens, normalised."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    found = []
    for text in texts:
        tokens = tokenizer(text.lower(), return_tensors="pt", truncation=True, max_length=limit)
        with torch.inference_mode():
            mean = model(**tokens).last_hidden_state.mean(dim=1)
        found.append(torch.nn.functional.normalize(mean)[0].tolist())
    return found


def test_embeddings_equal_transformers_own_in_mixed_company(served: Served, made: dict[str, Path]) -> None:
    texts = ["hello", "the capital of the river city", "Green stone", "a", "wind fire " * 40]
    answer = served("bert").post("/v1/embeddings", json={"model": "demo/bert", "input": texts, "truncate": True}).json()
    for item, wanted in zip(answer["data"], direct(made["bert"], texts, 16), strict=True):
        assert item["embedding"] == pytest.approx(wanted, abs=1e-5)
    assert [item["index"] for item in answer["data"]] == list(range(5))
    assert answer["usage"] == {"prompt_tokens": 3 + 8 + 4 + 3 + 16, "total_tokens": 34}


def test_embeddings_come_as_base64_and_from_tokens(served: Served) -> None:
    client = served("bert")
    plain = client.post("/v1/embeddings", json={"model": "demo/bert", "input": "hello"}).json()["data"][0]["embedding"]
    body = {"model": "demo/bert", "input": [[2, 15, 3]], "encoding_format": "base64"}
    packed = base64.b64decode(client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(packed) // 4}f", packed)) == pytest.approx(plain, abs=1e-6)


def test_many_callers_get_their_own_vectors(served: Served) -> None:
    client = served("bert")
    texts = [f"{a} {b}" for a in ("hello", "river", "stone") for b in ("fire", "wind", "water water water")]

    def one(text: str) -> list[float]:
        found: list[float] = client.post("/v1/embeddings", json={"model": "demo/bert", "input": text}).json()["data"][
            0
        ]["embedding"]
        return found

    alone = [one(text) for text in texts]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        for found, wanted in zip(pool.map(one, texts * 4), alone * 4, strict=True):
            assert found == pytest.approx(wanted, abs=1e-5)


def test_info_says_what_is_served(served: Served) -> None:
    found = served("bert").get("/info").json()
    assert found["task"] == "feature-extraction" and found["context_length"] == 16 and found["dtype"] == "float32"
    assert found["pooling"].startswith("mean, normalised") and found["model"] == "demo/bert" and found["parameters"]
    found = served("llama").get("/info").json()
    assert found["task"] == "text-generation" and found["context_length"] == 128 and found["revision"]
