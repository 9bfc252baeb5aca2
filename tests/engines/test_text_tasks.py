"""`huggingface_hub.InferenceClient` asks models that write, and reads what it was written for."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.running import KEPT

QUESTION = "question: What is the capital of France?"
ANSWER = "The capital of France is Paris."
PREFIXES = {
    "summarization": {"prefix": "question: "},
    "translation_en_to_fr": {"prefix": "question: "},
    "translation_en_to_de": {"prefix": "translate: "},
}


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[str]:
    """An engine in this process, and the address of its face."""
    import uvicorn

    from ecotone.engines.server.engine import Engine
    from ecotone.engines.server.face import application
    from ecotone.engines.server.folders import plan

    engine = Engine(plan(folder))
    info = {"model": "demo/m", "revision": "r"}
    server = uvicorn.Server(
        uvicorn.Config(application(engine, info), port=0, log_level="error", lifespan="off", timeout_keep_alive=KEPT)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def causal(made: dict[str, Path]) -> Iterator[str]:
    with listening(made["llama"]) as url:
        yield url


@pytest.fixture(scope="module")
def t5(shared: Path, tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("t5") / "t5-atlas"
    shutil.copytree(shared / "data" / "models" / "t5-atlas", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    config = json.loads((folder / "config.json").read_text()) | {"task_specific_params": PREFIXES}
    (folder / "config.json").write_text(json.dumps(config))
    with listening(folder) as url:
        yield url


@pytest.fixture
def client() -> Callable[..., Any]:
    from huggingface_hub import InferenceClient

    def made(url: str, task: str = "auto") -> Any:
        return InferenceClient(model=f"{url}/tasks/{task}", token="none", headers={"x-ecotone-model": "demo/m"})

    return made


def post(url: str, task: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/tasks/{task}", json=body, headers=headers, timeout=60)


def test_one_url_answers_generation_translation_and_summarization_of_a_t5(t5: str, client: Callable[..., Any]) -> None:
    asked = client(t5)
    assert asked.text_generation(QUESTION, max_new_tokens=40) == ANSWER
    assert asked.translation(QUESTION).translation_text == ANSWER
    assert asked.summarization(QUESTION).summary_text == ANSWER
    answer = post(t5, "auto", {"inputs": QUESTION})
    assert answer.headers["x-ecotone-task"] == "text2text-generation"
    asked_tokens, made_tokens = map(int, answer.headers["x-ecotone-usage"].split(","))
    assert asked_tokens > 5 and made_tokens > 5


def test_a_task_that_is_named_gets_the_prefix_that_the_model_was_trained_with(
    t5: str, client: Callable[..., Any]
) -> None:
    bare = QUESTION.removeprefix("question: ")
    assert client(t5, "summarization").summarization(bare).summary_text == ANSWER
    assert client(t5, "summarization").summarization(QUESTION).summary_text == ANSWER  # not twice
    asked = client(t5, "translation")
    assert asked.translation(bare, src_lang="en", tgt_lang="fr").translation_text == ANSWER
    assert client(t5).translation(bare, src_lang="en", tgt_lang="fr").translation_text == ANSWER
    refused = post(t5, "translation", {"inputs": bare, "parameters": {"src_lang": "en", "tgt_lang": "it"}})
    assert refused.status_code == 400 and "en_to_de, en_to_fr" in refused.json()["error"]


def test_a_prompt_over_the_encoder_is_refused_with_numbers_and_cut_only_when_asked(t5: str) -> None:
    long = "question: " + "France " * 80
    refused = post(t5, "auto", {"inputs": long})
    assert refused.status_code == 400 and "holds 64" in refused.json()["error"]
    assert any(int(word) > 64 for word in refused.json()["error"].split() if word.isdigit())
    cut = post(t5, "translation", {"inputs": long, "parameters": {"truncation": "longest_first"}})
    assert cut.status_code == 200 and cut.headers["x-ecotone-usage"].startswith("64,")
    last = post(t5, "text2text-generation", {"inputs": long, "parameters": {"truncate": 10, "max_new_tokens": 4}})
    assert last.status_code == 200 and last.headers["x-ecotone-usage"].startswith("10,")


def test_details_tell_tokens_and_why_the_text_ended(t5: str, client: Callable[..., Any]) -> None:
    found = client(t5).text_generation(QUESTION, max_new_tokens=40, details=True, top_n_tokens=3)
    assert found.generated_text == ANSWER
    details = found.details
    assert details.finish_reason == "eos_token" and details.generated_tokens == len(details.tokens)
    assert details.tokens[-1].special and not details.tokens[0].special
    assert "".join(token.text for token in details.tokens[:-1]).strip() == ANSWER
    for token, top in zip(details.tokens, details.top_tokens, strict=True):
        assert len(top) == 3 and top[0]["id"] == token.id and top[0]["logprob"] == token.logprob <= 0
    cut = client(t5).text_generation(QUESTION, max_new_tokens=3, details=True)
    assert cut.details.finish_reason == "length" and cut.details.generated_tokens == 3
    stopped = client(t5).text_generation(QUESTION, max_new_tokens=40, stop=[" is"], details=True)
    assert stopped.generated_text == "The capital of France" and stopped.details.finish_reason == "stop_sequence"


def test_a_stream_of_tokens_is_the_text(t5: str, causal: str, client: Callable[..., Any]) -> None:
    writer, other = client(t5), client(causal)  # a client that nobody holds closes its stream
    events = list(writer.text_generation(QUESTION, max_new_tokens=40, details=True, stream=True))
    assert [event.index for event in events] == list(range(len(events)))
    assert "".join(event.token.text for event in events) == ANSWER == events[-1].generated_text
    assert all(event.details is None for event in events[:-1])
    last = events[-1].details
    assert last.finish_reason == "eos_token" and last.generated_tokens == len(events) and last.input_length > 5
    plain = other.text_generation("hello", max_new_tokens=20)
    assert "".join(other.text_generation("hello", max_new_tokens=20, stream=True)) == plain
    held = other.text_generation("hello", max_new_tokens=20, stop=[plain[4:7]], stream=True, details=True)
    pieces = list(held)
    assert "".join(piece.token.text for piece in pieces) == plain[: plain.find(plain[4:7])] == pieces[-1].generated_text
    assert pieces[-1].details.finish_reason == "stop_sequence"


def test_sampling_follows_its_seed_and_is_off_unless_asked_for(causal: str, client: Callable[..., Any]) -> None:
    ask = client(causal).text_generation
    assert ask("hello", max_new_tokens=12) == ask("hello", max_new_tokens=12)
    seeded = [ask("hello", max_new_tokens=12, do_sample=True, seed=seed) for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]
    best = ask("hello", max_new_tokens=12, do_sample=True, seed=1, best_of=3, details=True)
    others = best.details.best_of_sequences
    assert len(others) == 2 and len({best.generated_text, *(other.generated_text for other in others)}) == 3

    def likelihood(answer: Any) -> float:
        return float(sum(token.logprob for token in answer.tokens) / len(answer.tokens))

    assert all(likelihood(best.details) >= likelihood(other) for other in others)
    assert ask("hello", max_new_tokens=3, return_full_text=True).startswith("hello")


def test_one_call_with_a_parameter_that_is_not_done_spoils_no_later_stream(
    causal: str, client: Callable[..., Any]
) -> None:
    from huggingface_hub.errors import ValidationError

    ask = client(causal).text_generation
    for told in ({"watermark": True}, {"typical_p": 0.5}, {"decoder_input_details": True, "details": True}):
        with pytest.raises(ValidationError, match=f"{next(iter(told))} cannot be honoured here; leave it out"):
            ask("hello", max_new_tokens=5, **told)
    assert list(ask("hello", max_new_tokens=5, stream=True)), "the client streams on, from this and every address"
    assert ask("hello", max_new_tokens=5, details=True).details.generated_tokens > 0


def test_an_answer_is_held_to_a_grammar(causal: str, client: Callable[..., Any]) -> None:
    pytest.importorskip("llguidance")
    ask = client(causal).text_generation
    assert ask("hello", max_new_tokens=20, grammar={"type": "regex", "value": "(yes|no)!"}) in ("yes!", "no!")
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    for kind in ("json", "json_schema"):
        found = ask("hello", max_new_tokens=40, grammar={"type": kind, "value": schema}, details=True)
        assert isinstance(json.loads(found.generated_text)["ok"], bool)


def test_bad_requests_are_refused_by_name(causal: str, t5: str) -> None:
    def refused(url: str, task: str, word: str, body: Any, status: int = 400, **headers: str) -> None:
        answer = post(url, task, body, **headers)
        assert answer.status_code == status and word in answer.json()["error"], answer.text
        assert answer.json()["error_type"] == "validation"

    refused(causal, "fill-mask", "text2text-generation", {"inputs": "a"})
    refused(causal, "translation", "chat", {"inputs": "a"})
    refused(causal, "auto", "inputs", {"inputs": {"question": "a", "context": "b"}})
    refused(causal, "auto", "inputs", {"inputs": []})
    refused(causal, "auto", "parameters", {"inputs": "a", "parameters": [1]})
    refused(causal, "auto", "max_new_tokens", {"inputs": "a", "parameters": {"max_new_tokens": -1}})
    refused(causal, "auto", "temperature", {"inputs": "a", "parameters": {"temperature": "hot"}})
    refused(causal, "auto", "best_of", {"inputs": "a", "parameters": {"best_of": 2}})
    refused(causal, "auto", "grammar", {"inputs": "a", "parameters": {"grammar": {"type": "regex"}}})
    refused(causal, "auto", "/models/team/lora", {"inputs": "a", "parameters": {"adapter_id": "team/lora"}})
    refused(causal, "auto", "colour", {"inputs": "a", "parameters": {"colour": 1}})
    refused(causal, "auto", "demo/other", {"inputs": "a"}, 404, **{"x-ecotone-model": "demo/other"})
    refused(t5, "auto", "return_full_text", {"inputs": "a", "parameters": {"return_full_text": True}})
    assert httpx.post(f"{causal}/tasks/auto", content=b"{", timeout=60).json()["error_type"] == "validation"


def test_several_texts_are_answered_in_their_order(t5: str) -> None:
    questions = [QUESTION, "question: What is the currency of Japan?"]
    found = post(t5, "text2text-generation", {"inputs": questions}).json()
    assert [one["generated_text"] for one in found] == [ANSWER, "The currency of Japan is the yen."]
