"""Encoders answer `InferenceClient` as transformers' pipelines do."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")

import numpy
import torch
import transformers
import uvicorn
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, ValidationError

from ecotone.engines.server.folders import plan
from ecotone.engines.server.opening import application, opened
from tests.engines import tiny_encoders
from tests.running import KEPT

LABELS = {"O": 0, "B-PER": 1, "I-PER": 2, "B-LOC": 3, "I-LOC": 4}
NLI = {"contradiction": 0, "neutral": 1, "entailment": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked": ("BertForMaskedLM", {}),
    "masked-bytes": ("RobertaForMaskedLM", {"positions": 128}),
    "labels": ("BertForSequenceClassification", {"num_labels": 3}),
    "one": ("RobertaForSequenceClassification", {"num_labels": 1, "positions": 128}),
    "many": (
        "DistilBertForSequenceClassification",
        {"num_labels": 3, "problem_type": "multi_label_classification"},
    ),
    "nli": ("BertForSequenceClassification", {"label2id": NLI, "id2label": {v: k for k, v in NLI.items()}}),
    "entities": ("BertForTokenClassification", {"label2id": LABELS, "id2label": {v: k for k, v in LABELS.items()}}),
    "answers": ("BertForQuestionAnswering", {}),
}
TEXT = "Anna lives in Berlinland. Hugo workedings in Paris, the capital city?"

Client = Callable[..., InferenceClient]


@contextlib.contextmanager
def listening(folder: Path, tag: str | None = None, **options: Any) -> Iterator[str]:
    """The URL of a real engine for a folder, served in a thread of the test."""
    planned = plan(folder, tag=tag)
    engine = opened(planned, {"threads": 1, **options})
    app = application(engine, planned, engine.info() | {"model": "demo/it", "revision": "r"})
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_keep_alive=KEPT))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {name: tiny_encoders.make(root / name, kind, **more) for name, (kind, more) in MODELS.items()}


@pytest.fixture(scope="module")
def url(folders: dict[str, Path]) -> Iterator[Callable[[str], str]]:
    opened_urls: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        def of(name: str) -> str:
            if name not in opened_urls:
                tag = "zero-shot-classification" if name == "nli" else None
                opened_urls[name] = stack.enter_context(listening(folders[name], tag))
            return opened_urls[name]

        yield of


@pytest.fixture(scope="module")
def client(url: Callable[[str], str]) -> Client:
    return lambda name, task="auto": InferenceClient(model=f"{url(name)}/tasks/{task}")


def post(url: str, body: Any, task: str = "auto", **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/tasks/{task}", json=body, headers=headers, timeout=120)


def pipeline(task: str, folder: Path, **more: Any) -> Any:
    return transformers.pipeline(task, model=str(folder), tokenizer=str(folder), **more)


def same(found: Any, wanted: Any) -> None:
    """Equal, numbers within 1e-4, whatever the types of objects and numbers."""
    if isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
    elif isinstance(wanted, dict):
        fields = found if isinstance(found, dict) else {name: getattr(found, name) for name in wanted}
        assert set(fields) >= set(wanted)
        for name, other in wanted.items():
            same(fields[name], other)
    elif isinstance(wanted, float | numpy.floating):
        assert found == pytest.approx(float(wanted), abs=1e-4)
    else:
        assert found == wanted


@pytest.mark.parametrize(("name", "mask"), [("masked", "[MASK]"), ("masked-bytes", "<mask>")])
def test_fill_mask_is_the_pipelines(name: str, mask: str, client: Client, folders: dict[str, Path]) -> None:
    reference = pipeline("fill-mask", folders[name])
    text = f"paris is the {mask} of lima."
    same(client(name).fill_mask(text), reference(text))
    same(client(name).fill_mask(text, top_k=2), reference(text, top_k=2))
    targets = ["city", "good", "a"] if name == "masked" else ["c", "g", "a"]
    found = client(name, "fill-mask").fill_mask(text, targets=targets)
    same(found, reference(text, targets=targets))


def test_several_masks_get_a_list_each(url: Callable[[str], str], folders: dict[str, Path]) -> None:
    text = "[MASK] is the [MASK] of lima"
    found = post(url("masked"), {"inputs": text, "parameters": {"top_k": 3}})
    assert found.headers["x-ecotone-task"] == "fill-mask" and found.headers["x-ecotone-usage"] == "8,0"
    same(found.json(), pipeline("fill-mask", folders["masked"])(text, top_k=3))
    both = post(url("masked"), {"inputs": [text, "a [MASK]"]}).json()
    same(both, pipeline("fill-mask", folders["masked"])([text, "a [MASK]"]))


def test_a_masked_model_answers_text_without_a_mask_by_a_vector(
    client: Client, url: Callable[[str], str], folders: dict[str, Path]
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["masked"])
    model = transformers.AutoModel.from_pretrained(folders["masked"]).eval()
    with torch.inference_mode():
        hidden = model(**tokenizer("paris is good", return_tensors="pt")).last_hidden_state
    wanted = hidden.mean(dim=1).numpy()
    assert numpy.abs(client("masked").feature_extraction("paris is good") - wanted).max() < 1e-4
    unit = client("masked").feature_extraction("paris is good", normalize=True)
    assert numpy.abs(unit - wanted / numpy.linalg.norm(wanted)).max() < 1e-4
    two = post(url("masked"), {"inputs": ["paris is good", "a"]})
    assert len(two.json()) == 2 and two.headers["x-ecotone-task"] == "feature-extraction"
    body = {"model": "demo/it", "input": "paris is good"}
    found = httpx.post(f"{url('masked')}/v1/embeddings", json=body).json()
    assert found["data"][0]["embedding"] == pytest.approx(wanted[0].tolist(), abs=1e-4)


def test_similarity_is_the_cosine_of_the_vectors(client: Client) -> None:
    texts = ["paris is good", "paris is bad", "the river of lima"]
    rows = numpy.concatenate([client("masked").feature_extraction(text, normalize=True) for text in texts])
    found = client("masked").sentence_similarity(texts[0], other_sentences=texts[1:])
    assert found == pytest.approx((rows[1:] @ rows[0]).tolist(), abs=1e-4)


@pytest.mark.parametrize("name", ["labels", "one", "many"])
def test_text_classification_is_the_pipelines(name: str, client: Client, folders: dict[str, Path]) -> None:
    reference = pipeline("text-classification", folders[name])
    same(client(name).text_classification(TEXT), reference(TEXT, top_k=None))
    same(client(name).text_classification(TEXT, top_k=1), reference(TEXT, top_k=1))
    for how in ("softmax", "sigmoid", "none"):
        found = client(name).text_classification(TEXT, function_to_apply=how)
        same(found, reference(TEXT, top_k=None, function_to_apply=how))


def test_text_classification_takes_pairs_and_lists(url: Callable[[str], str], folders: dict[str, Path]) -> None:
    reference = pipeline("text-classification", folders["labels"])
    pair = {"text": "paris is good", "text_pair": "lima is bad"}
    found = post(url("labels"), {"inputs": [pair, "a city"]}).json()
    same(found[0], reference(pair, top_k=None))
    same(found[1], reference("a city", top_k=None))


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification_is_the_pipelines(strategy: str, client: Client, folders: dict[str, Path]) -> None:
    reference = pipeline("token-classification", folders["entities"], aggregation_strategy=strategy)
    found = client("entities").token_classification(TEXT, aggregation_strategy=strategy)
    same(found, reference(TEXT))
    assert found and all(TEXT[one.start : one.end].lower() for one in found)
    everything = client("entities").token_classification(TEXT, aggregation_strategy=strategy, ignore_labels=[])
    same(
        everything,
        pipeline("token-classification", folders["entities"], ignore_labels=[], aggregation_strategy=strategy)(TEXT),
    )


@pytest.mark.parametrize("stride", [0, 7])
def test_a_long_text_is_labelled_in_windows_as_by_the_pipeline(
    stride: int, client: Client, folders: dict[str, Path]
) -> None:
    text = " ".join([TEXT] * 6)
    reference = pipeline("token-classification", folders["entities"], aggregation_strategy="first", stride=stride)
    found = client("entities").token_classification(text, aggregation_strategy="first", stride=stride)
    same(found, reference(text))


@pytest.mark.parametrize("several", [True, False])
def test_zero_shot_is_the_pipelines(several: bool, client: Client, folders: dict[str, Path]) -> None:
    reference = pipeline("zero-shot-classification", folders["nli"])
    labels = ["city", "river", "good"]
    wanted = reference(TEXT, labels, multi_label=several, hypothesis_template="this is {}.")
    found = client("nli").zero_shot_classification(
        TEXT, candidate_labels=labels, multi_label=several, hypothesis_template="this is {}."
    )
    same([one.label for one in found], wanted["labels"])
    same([one.score for one in found], wanted["scores"])


def test_old_clients_read_zero_shot_as_one_object(url: Callable[[str], str], folders: dict[str, Path]) -> None:
    body = {"inputs": TEXT, "parameters": {"candidate_labels": ["city", "river"]}}
    wanted = pipeline("zero-shot-classification", folders["nli"])(TEXT, ["city", "river"])
    same(post(url("nli"), body, **{"user-agent": "unknown/None; hf_hub/0.36.2; python/3.11"}).json(), wanted)
    for agent in ("unknown/None; hf_hub/1.2.0; python/3.11", "curl/8"):
        assert isinstance(post(url("nli"), body, **{"user-agent": agent}).json(), list)


def best_spans(folder: Path, question: str, context: str, longest: int) -> list[tuple[float, str]]:
    """Every span of a context that fits, by transformers' own forward, the best first."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    given = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets, parts = given.pop("offset_mapping")[0].tolist(), given.sequence_ids(0)
    with torch.inference_mode():
        out = model(**given)
    keep = torch.tensor([part == 1 or place == 0 for place, part in enumerate(parts)])
    start, end = (
        logits[0].masked_fill(~keep, -1e4).softmax(-1).tolist() for logits in (out.start_logits, out.end_logits)
    )
    inner = [place for place, part in enumerate(parts) if part == 1]
    found = [
        (start[a] * end[b], context[offsets[a][0] : offsets[b][1]])
        for a in inner
        for b in inner
        if a <= b < a + longest
    ]
    return sorted(found, reverse=True)


def test_an_answer_is_the_span_that_transformers_scores_best(
    client: Client, url: Callable[[str], str], folders: dict[str, Path]
) -> None:
    question, context = "where is anna?", "anna lives in berlin. hugo is in paris, the capital city."
    wanted = best_spans(folders["answers"], question, context, 15)
    found = client("answers").question_answering(question=question, context=context)
    assert found.answer == wanted[0][1] and found.score == pytest.approx(wanted[0][0], abs=1e-4)
    assert context[found.start : found.end] == found.answer
    top = client("answers").question_answering(question=question, context=context, top_k=3, max_answer_len=2)
    short = best_spans(folders["answers"], question, context, 2)
    assert [one.answer for one in top] == [text for _, text in short[:3]]
    body = {
        "inputs": {"question": question, "context": context},
        "parameters": {"handle_impossible_answer": True, "top_k": 900},
    }
    assert any(one["answer"] == "" for one in post(url("answers"), body).json())


def test_an_answer_in_a_long_context_is_found_in_its_window(client: Client, folders: dict[str, Path]) -> None:
    context = " ".join(f"the {word} of lima is good." for word in ("river", "city", "capital") * 12)
    found = client("answers").question_answering(question="what?", context=context, max_seq_len=32, doc_stride=8)
    assert context[found.start : found.end] == found.answer != ""
    whole = client("answers").question_answering(question="what?", context="berlinland", align_to_words=True)
    assert whole.answer == "berlinland"


@pytest.mark.parametrize(
    ("name", "task", "body", "said"),
    [
        ("masked", "fill-mask", {"inputs": "no mask here"}, "0 masks.*\\[MASK\\]"),
        ("masked", "auto", {"inputs": "a " * 100}, "102 tokens.*at most 64"),
        ("masked", "auto", {"inputs": "a" * 1_000_000}, "1000000 characters.*at most 64"),
        ("masked", "fill-mask", {"inputs": "[MASK]", "parameters": {"top_k": 0}}, "top_k.*integer"),
        (
            "masked",
            "fill-mask",
            {"inputs": "[MASK]", "parameters": {"top_p": 1}},
            "top_p cannot be honoured",
        ),
        ("masked", "auto", {"parameters": {}}, "inputs"),
        ("masked", "auto", {"inputs": [1]}, "inputs must be a string"),
        ("masked", "auto", {"inputs": []}, "inputs"),
        ("labels", "auto", {"inputs": []}, "at least one"),
        ("masked", "feature-extraction", {"inputs": "a", "prompt_name": ["query"]}, "prompt_name"),
        ("masked", "fill-mask", {"inputs": "[MASK]", "parameters": {"targets": ["a"] * 1001}}, "targets.*1000"),
        (
            "nli",
            "auto",
            {"inputs": "a", "parameters": {"candidate_labels": ["a"], "hypothesis_template": "x" * 5000 + "{}"}},
            "hypothesis_template.*4096",
        ),
        (
            "masked",
            "auto",
            {"inputs": {"question": "a", "context": "b"}},
            "does not do question-answering; it does fill-mask",
        ),
        ("masked", "auto", {"inputs": {"table": {}, "query": "a"}}, "does not do table-question-answering"),
        ("masked", "auto", {"inputs": "a", "prompt_name": "query"}, "prompt_name"),
        ("labels", "text-classification", {"inputs": "a", "parameters": {"function_to_apply": "max"}}, "softmax"),
        ("labels", "zero-shot-classification", {"inputs": "a"}, "does not do zero-shot"),
        ("entities", "auto", {"inputs": "a " * 100}, "102 tokens.*stride"),
        ("entities", "auto", {"inputs": "a", "parameters": {"stride": 3}}, "aggregation_strategy"),
        ("entities", "auto", {"inputs": "a", "parameters": {"stride": 99}}, "stride.*from 0 to 61"),
        ("nli", "auto", {"inputs": "a", "parameters": {"candidate_labels": []}}, "candidate_labels"),
        ("answers", "auto", {"inputs": {"question": "a " * 99, "context": "b"}}, "99 tokens.*no room in 64"),
        ("answers", "auto", {"inputs": {"question": "a", "context": ""}}, "not empty"),
    ],
)
def test_what_cannot_be_answered_says_why(
    name: str, task: str, body: Any, said: str, url: Callable[[str], str]
) -> None:
    found = post(url(name), body, task)
    assert found.status_code == 400 and found.json()["error_type"] == "validation"
    assert re.search(said, found.json()["error"], re.DOTALL), found.json()


def test_the_client_shows_which_parameter_a_task_has_not(client: Client) -> None:
    with pytest.raises(HfHubHTTPError, match="targets cannot be honoured"):
        client("labels").fill_mask("a", top_k=3, targets=["a"])


def test_sizes_are_bounded_with_numbers_and_one_rule_for_one_and_a_list(url: Callable[[str], str]) -> None:
    many = post(url("masked"), {"inputs": ["a"] * 2049})
    assert many.status_code == 413 and "2049" in many.json()["error"] and "2048" in many.json()["error"]
    large = post(url("masked"), {"inputs": "a" * 4_000_000})
    assert large.status_code == 413 and "4000000 bytes" in large.json()["error"]
    address = f"{url('masked')}/v1/embeddings"
    for given in ("a " * 100, ["a " * 100], [7] * 100, [[7] * 100]):
        found = httpx.post(address, json={"model": "demo/it", "input": given})
        assert found.status_code == 400 and "at most 64" in found.json()["error"]["message"]
        assert found.json()["error"]["code"] == "context_length_exceeded"
    assert httpx.post(address, json={"model": "demo/it", "input": ["a"] * 3000}).status_code == 400


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("masked", {"inputs": ["[MASK] " * 50] * 60, "parameters": {"top_k": 1000}}),
        ("answers", {"inputs": {"question": "who", "context": "a b " * 20_000}, "parameters": {"doc_stride": 57}}),
        ("answers", {"inputs": {"question": "who", "context": "a b " * 8_000}, "parameters": {"top_k": 1000}}),
        ("entities", {"inputs": ["a b " * 1000] * 9, "parameters": {"stride": 61, "aggregation_strategy": "simple"}}),
        ("nli", {"inputs": "a", "parameters": {"candidate_labels": ["a"] * 900_000, "hypothesis_template": "x{}"}}),
    ],
)  # fmt: skip
def test_a_small_request_for_a_huge_answer_is_refused_before_it_takes_time_or_memory(
    name: str, body: Any, url: Callable[[str], str]
) -> None:
    address = url(name)
    began = time.process_time()  # the engine runs in this process
    found = post(address, body)
    assert found.status_code == 413 and "at most" in found.json()["error"], found.json()
    assert time.process_time() - began < 5


def test_a_text_is_cut_only_when_the_request_says_so(url: Callable[[str], str]) -> None:
    text = "a " * 90 + "lima"
    body = {"model": "demo/it", "input": text, "truncate": True}
    right = httpx.post(f"{url('masked')}/v1/embeddings", json=body).json()
    assert right["usage"] == {"prompt_tokens": 64, "total_tokens": 64}
    left = httpx.post(f"{url('masked')}/v1/embeddings", json={**body, "truncation_direction": "left"}).json()
    assert left["data"][0]["embedding"] != right["data"][0]["embedding"]
    features = post(url("masked"), {"inputs": text, "truncate": True, "truncation_direction": "left"})
    assert features.headers["x-ecotone-usage"] == "64,0"
    assert features.json()[0] == pytest.approx(left["data"][0]["embedding"], abs=1e-5)


def test_an_operator_may_let_texts_be_cut(folders: dict[str, Path]) -> None:
    with listening(folders["masked"], truncate=True) as address:
        assert post(address, {"inputs": "a " * 90}).headers["x-ecotone-usage"] == "64,0"
        assert post(address, {"inputs": "a " * 90, "truncate": False}).status_code == 400
        assert httpx.get(f"{address}/info").json()["truncates"] is True


def test_another_model_is_never_answered_for(url: Callable[[str], str]) -> None:
    address = url("masked")
    assert (
        httpx.post(f"{address}/v1/embeddings", json={"model": "demo/it@r", "input": "a"}).json()["model"] == "demo/it"
    )
    for name in ("demo/other", "demo/it@abc"):
        other = httpx.post(f"{address}/v1/embeddings", json={"model": name, "input": "a"})
        assert other.status_code == 404 and other.json()["error"]["code"] == "model_not_found"
    assert post(address, {"inputs": "a"}, **{"x-ecotone-model": "demo/other@r"}).status_code == 404
    assert post(address, {"inputs": "a"}, **{"x-ecotone-model": "demo/it"}).status_code == 200


def test_an_encoder_says_what_it_does(url: Callable[[str], str]) -> None:
    told = httpx.get(f"{url('nli')}/info").json()
    assert told["task"] == "zero-shot-classification" and told["batching"] == "unpadded" and told["truncates"] is False
    assert told["tasks"] == [
        "zero-shot-classification",
        "text-classification",
        "feature-extraction",
        "sentence-similarity",
    ]
    refused = httpx.post(f"{url('nli')}/v1/chat/completions", json={"model": "m", "messages": []})
    assert refused.status_code == 400 and "text-classification" in refused.json()["error"]["message"]


@pytest.mark.parametrize(("name", "mask"), [("bert-atlas", "[MASK]"), ("roberta-atlas", "<mask>")])
def test_a_trained_model_fills_in_its_144_facts_for_32_askers_at_once(name: str, mask: str, shared: Path) -> None:
    models = shared / "data" / "models"
    table = next(part for part in (models / "make.py").read_text().split('"""') if part.startswith("France,Paris"))
    facts = []
    for line in table.splitlines():
        country, capital, continent, currency = line.split(",")
        for sentence, word in (
            (f"{capital} is the capital of {country}.", country),
            (f"{country} is a country in {continent}.", continent),
            (f"The {currency} is the currency of {country}.", currency),
        ):
            facts.append((sentence.replace(word, mask, 1), word))
    with listening(models / name) as address, ThreadPoolExecutor(32) as pool:
        client = InferenceClient(model=f"{address}/tasks/auto")
        found = list(pool.map(lambda fact: client.fill_mask(fact[0])[0].token_str.strip(), facts))
    assert found == [answer for _, answer in facts] and len(facts) == 144


def test_a_method_that_the_model_cannot_answer_raises_what_is_wrong_rather_than_reading_a_vector(
    client: Client,
) -> None:
    masked = client("masked")
    for method in (masked.fill_mask, masked.text_classification, masked.token_classification):
        with pytest.raises(HfHubHTTPError, match=r"0 masks.*feature-extraction"):
            method("Paris.")
    with pytest.raises(ValidationError, match="max_new_tokens cannot be honoured by fill-mask"):
        masked.text_generation("Paris.", max_new_tokens=3)
    assert masked.feature_extraction("Paris.").ndim == 2
