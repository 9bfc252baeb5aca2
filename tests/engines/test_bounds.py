"""What asks too much is refused with numbers and soon; what is bounded by memory says by how much, and is never cut."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")

from tests.engines import test_tasks, test_text_tasks, tiny_encoders

MEGABYTE = "a " * 500_000
MANY_TOKENS = "a" * 1_000_000
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked": ("BertForMaskedLM", {}),
    "labels": ("BertForSequenceClassification", {"num_labels": 3}),
    "nli": ("BertForSequenceClassification", {"id2label": {0: "entailment", 1: "not"}}),
    "entities": ("BertForTokenClassification", {"num_labels": 3}),
    "answers": ("BertForQuestionAnswering", {}),
}
LONG_TEXTS: list[tuple[str, str, Any]] = [
    ("masked", "/tasks/auto", {"inputs": MEGABYTE}),
    ("masked", "/tasks/auto", {"inputs": MANY_TOKENS}),
    ("masked", "/tasks/fill-mask", {"inputs": MEGABYTE + "[MASK]"}),
    ("masked", "/tasks/fill-mask", {"inputs": "[MASK]", "parameters": {"targets": [MEGABYTE]}}),
    ("masked", "/tasks/auto", {"inputs": {"source_sentence": MEGABYTE, "sentences": ["a"]}}),
    ("masked", "/tasks/auto", {"inputs": {"source_sentence": "a", "sentences": ["a", MEGABYTE]}}),
    ("masked", "/v1/embeddings", {"model": "demo/it", "input": ["a", MEGABYTE]}),
    ("labels", "/tasks/auto", {"inputs": {"text": "a", "text_pair": MEGABYTE}}),
    ("nli", "/tasks/auto", {"inputs": MEGABYTE, "parameters": {"candidate_labels": ["a"] * 50}}),
    ("nli", "/tasks/auto", {"inputs": "a", "parameters": {"candidate_labels": [MEGABYTE]}}),
    ("entities", "/tasks/auto", {"inputs": MEGABYTE}),
    (
        "entities",
        "/tasks/auto",
        {"inputs": MEGABYTE, "parameters": {"stride": 3, "aggregation_strategy": "simple"}},
    ),
    ("answers", "/tasks/auto", {"inputs": {"question": MEGABYTE, "context": "a"}}),
    ("answers", "/tasks/auto", {"inputs": {"question": "a", "context": MEGABYTE}}),
    ("llama", "/v1/completions", {"model": "demo/m", "prompt": ["a", MEGABYTE]}),
    ("llama", "/v1/embeddings", {"model": "demo/m", "input": MEGABYTE}),
    ("llama", "/v1/chat/completions", {"model": "demo/m", "messages": [{"role": "user", "content": MEGABYTE}]}),
    ("llama", "/tasks/auto", {"inputs": MEGABYTE}),
    ("t5", "/tasks/auto", {"inputs": MEGABYTE}),
    ("t5", "/v1/chat/completions", {"model": "demo/m", "messages": [{"role": "user", "content": MEGABYTE}]}),
]


@pytest.fixture(scope="module")
def url(
    made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], str]]:
    opened: dict[str, str] = {}
    root = tmp_path_factory.mktemp("bounds")
    with contextlib.ExitStack() as stack:

        def of(name: str) -> str:
            if name in opened:
                return opened[name]
            if name == "llama":
                found = test_text_tasks.listening(made["llama"])
            elif name == "t5":
                found = test_text_tasks.listening(request.getfixturevalue("shared") / "data" / "models" / "t5-atlas")
            else:
                kind, more = ENCODERS[name]
                tag = "zero-shot-classification" if name == "nli" else None
                found = test_tasks.listening(tiny_encoders.make(root / name, kind, **more), tag)
            opened[name] = stack.enter_context(found)
            return opened[name]

        yield of


def cpu_seconds() -> float:
    """Of this process, in which the engines of these tests run."""
    return time.process_time()


@pytest.mark.parametrize(("name", "path", "body"), LONG_TEXTS, ids=lambda value: str(value)[:40])
def test_a_text_of_a_megabyte_is_refused_before_it_takes_the_processor(
    name: str, path: str, body: Any, url: Callable[[str], str]
) -> None:
    """text-embeddings-inference #235: strings of a megabyte for `/tokenize` take all processors."""
    address = url(name)
    began = cpu_seconds()
    answer = httpx.post(address + path, json=body, timeout=120)
    assert answer.status_code in (400, 413), answer.text[:200]
    assert any(word.isdigit() for word in answer.text.split()), answer.text[:300]
    assert len(answer.content) < 1000
    assert cpu_seconds() - began < 20, "a second for those that are read in windows, and minutes for what is computed"


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_text_that_may_be_cut_is_cut_before_it_is_tokenised(
    side: str, url: Callable[[str], str], shared: Path
) -> None:
    question = "question: What is the capital of France?"
    body = {"inputs": f"{question} {MEGABYTE * 20}", "parameters": {"truncation": "longest_first", "max_new_tokens": 3}}
    address = url("t5")
    began = cpu_seconds()
    answer = httpx.post(address + "/tasks/translation", json=body, timeout=120)
    assert answer.status_code == 200 and answer.headers["x-ecotone-usage"] == "64,3"
    assert cpu_seconds() - began < 10, "a fifth of a second when it is cut, half a minute when all is read"
    import transformers

    from ecotone.engines.server.tokens import Tokens

    reader = transformers.AutoTokenizer.from_pretrained(shared / "data" / "models" / "t5-atlas", truncation_side=side)
    text = f"{question} " + "Peru and Chile " * 400 + "the yen"
    wanted = reader(text, truncation=True, max_length=64)["input_ids"]
    assert Tokens(reader, 64, len(reader)).cut(text, 64) == wanted


def test_every_answer_at_once_has_the_whole_context(made: dict[str, Path], url: Callable[[str], str]) -> None:
    """ollama #6927: the window is divided by the number of parallel requests."""
    address = url("llama")
    info = httpx.get(address + "/info").json()
    assert info["slots"] >= 8
    body = {"model": "demo/m", "prompt": "x" * 60, "max_tokens": 1000, "ignore_eos": True, "temperature": 0}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.post(address + "/v1/completions", json=body, timeout=120), range(8)))
    assert {a.json()["usage"]["total_tokens"] for a in answers} == {128}
    for size in (127, 128, 129):
        answer = httpx.post(address + "/v1/completions", json=body | {"prompt": "x" * size, "max_tokens": 5})
        assert answer.status_code == (200 if size < 128 else 400), answer.text


def test_numbers_that_a_schema_allows_to_go_on_for_ever_end_with_the_tokens(url: Callable[[str], str]) -> None:
    """vLLM #52011: an empty schema lets a number run; it must end, say that it was cut, and leave the engine well."""
    pytest.importorskip("llguidance")
    address = url("llama")
    for schema in ({}, {"type": "number"}, {"type": "integer"}):
        body = {
            "model": "demo/m",
            "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            "logit_bias": {str(5 + sorted(_alphabet()).index("1")): 100},
            "max_tokens": 40,
        }
        choice = httpx.post(address + "/v1/chat/completions", json=body, timeout=120).json()["choices"][0]
        assert choice["finish_reason"] == "length" and choice["message"]["content"] == "1" * 40
    assert httpx.get(address + "/health").json()["ok"] is True


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    found: list[str] = pre_tokenizers.ByteLevel.alphabet()
    return found


def test_one_input_and_a_list_of_one_meet_the_same_full_queue(url: Callable[[str], str]) -> None:
    """text-embeddings-inference #662: a single input gets 429 where a list of one is computed."""
    from ecotone.engines.server.encoding import turns

    address, body = url("masked"), {"model": "demo/it"}
    shapes: list[tuple[str, Any]] = [
        ("/v1/embeddings", body | {"input": "a"}),
        ("/v1/embeddings", body | {"input": ["a"]}),
        ("/v1/embeddings", body | {"input": [[7]]}),
        ("/tasks/auto", {"inputs": "a"}),
        ("/tasks/auto", {"inputs": ["a"]}),
    ]
    for most, status in ((0, 429), (512, 200)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(turns, "_MOST_WAITING", most)
            answers = [httpx.post(address + path, json=asked) for path, asked in shapes]
        assert [a.status_code for a in answers] == [status] * len(shapes)
        assert status == 200 or {a.headers["retry-after"] for a in answers} == {"1"}


def test_answers_at_once_follow_from_the_memory_there_is(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """ollama #4170: one number for all models. Here each has its own, by what an answer of it needs."""
    from ecotone.engines.server.stepping import room
    from ecotone.engines.server.stepping.choosing import stepper_for
    from tests.engines import stepping, test_text_to_text

    model = stepping.made("Llama", max_position_embeddings=4096)
    loaded = stepping.loaded(model, 4096)
    each = 2 * 3 * 2 * 12 * 4 * 4096  # keys and values, layers, heads, size, bytes, tokens
    assert room.answer_bytes(loaded) == each
    t5 = test_text_to_text.made()
    assert room.answer_bytes(stepping.loaded(t5, 64)) == 2 * 2 * 4 * 12 * 4 * 64 * 2
    monkeypatch.setattr(room, "free_bytes", lambda _: 20 * each)
    assert room.slots_for(loaded, 32) == 10
    weights = sum(weight.numel() * 4 for weight in model.parameters())
    assert room.slots_for(loaded, 32, 12 * each + weights) == 6, "other engines have the rest of the budget"
    assert room.slots_for(loaded, 32, 0) == 4 and room.slots_for(loaded, 2) == 2
    assert room.slots_for(stepping.loaded(model, 64), 32) == 32
    assert stepper_for(stepping.loaded(copy.deepcopy(model), 4096), {"slots": 3}).slots == 3
    assert stepper_for(loaded, {}).slots == 10


def test_a_configuration_with_other_names_is_read_as_well(tiny: ModuleType) -> None:
    import transformers

    from ecotone.engines.server.stepping import room
    from tests.engines import stepping

    found = room.answer_bytes(stepping.loaded(_of(transformers.GPT2Config()), 1024))
    assert found == 2 * 12 * 12 * 64 * 4 * 1024


def _of(config: Any) -> Any:
    from types import SimpleNamespace

    import torch

    return SimpleNamespace(config=config, dtype=torch.float32)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_encoder_whose_thread_died_or_hangs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says that it is healthy while nothing is computed (vLLM #39863)."""
    import threading

    from ecotone.engines.server.encoding import turns
    from ecotone.engines.server.encoding.texts import Head, Text

    release = threading.Event()

    def wait(_texts: Any) -> Any:
        release.wait(120)
        return [None]

    monkeypatch.setattr(turns, "_HANGING_SECONDS", 0.1)
    hangs = turns.Turns(wait, 10, lambda _: None)
    assert hangs.health()["ok"]
    hangs.begin(turns.Job([Text([1], Head.VECTOR)]))
    _until(lambda: not hangs.health()["ok"])
    release.set()
    _until(lambda: hangs.health()["ok"])

    def lost(_jobs: Any) -> None:
        raise SystemExit  # ends a thread in silence

    dead = turns.Turns(lambda texts: [None for _ in texts], 10, lost)
    dead.begin(turns.Job([Text([1], Head.VECTOR)]))
    _until(lambda: not dead.health()["ok"])


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
