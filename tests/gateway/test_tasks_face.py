"""Hugging Face's inference through the gateway: every task, and chat, at a model's address, decided and recorded."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ecotone.gateway.limits import Limiter
from ecotone.gateway.paths import is_for_gateway, is_ours
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Limit, Target
from ecotone.gateway.tasks.addresses import called
from ecotone.ledger import Ledger
from ecotone.vocabulary import Location
from tests.clients.environments import environment
from tests.gateway import inference
from tests.gateway.engine import Engine
from tests.serving import Serving

REVISION = "a1b2c3d" + "0" * 33
TASKS = {"bert": "fill-mask", "minilm": "feature-extraction", "t5": "text2text-generation", "llama": "text-generation"}
ANSWERS = {
    "fill_mask": "France",
    "feature_extraction": [[0.25, 0.5, -1.0]],
    "text_classification": "good",
    "token_classification": "Ada",
    "question_answering": "Paris",
    "sentence_similarity": [0.5, 0.25],
    "summarization": "Paris",
    "translation": "Paris",
    "zero_shot_classification": "good",
    "table_question_answering": "7",
    "text_generation": "Paris",
    "text_generation_stream": "The capital is Paris",
    "text_generation_details": 4,
    "chat_completion": "The capital is Paris",
    "chat_completion_stream": "The capital is Paris",
    "chat_completion_schema": "The capital is Paris",
}


def engine_at(name: str, socket: Path | None, **more: Any) -> Target:
    how: dict[str, Any] = {
        "legal": "free", "location": Location.LOCAL, "backend": "local", "revision": REVISION,
        "task": TASKS[name.partition("/")[2]], "socket": str(socket) if socket is not None else None,
    }  # fmt: skip
    return Target(name=name, **{**how, **more})


def place(house: Any, **changed: Any) -> None:
    """Another snapshot in force."""
    found = house.snapshots.current
    house.snapshots.current = msgspec.structs.replace(found, version=found.version + 1, **changed)


@pytest.fixture
def engine(house: Any, tmp_path: Path) -> Iterator[Engine]:
    found = Engine(tmp_path / "e.sock")
    made = {f"demo/{name}": engine_at(f"demo/{name}", tmp_path / "e.sock") for name in TASKS}
    place(house, targets={**house.snapshots.current.targets, **made})
    with Serving(found):
        yield found


def post(house: Any, path: str, body: Any = None, key: str = "eck_shop", **headers: str) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps({"inputs": "Hello"} if body is None else body).encode()
    told = {"content-type": "application/json", **headers, **({"authorization": f"Bearer {key}"} if key else {})}
    answer: httpx.Response = house.client.post(path, content=raw, headers=told)
    return answer


def records(house: Any, *kinds: str) -> list[dict[str, Any]]:
    return list(Ledger(house.folder / "ledger").records(*kinds))


def settled(house: Any) -> dict[str, Any]:
    """The last settled record, once nothing runs."""
    end = time.monotonic() + 90
    while house.gateway.jobs or not (found := records(house, "settled")):
        assert time.monotonic() < end, "a request was never settled"
        time.sleep(0.02)
    return found[-1]


# -- the real client -------------------------------------------------------------------------------------------------
def check_answers(told: dict[str, Any]) -> None:
    assert {name: told[name] for name in ANSWERS} == ANSWERS
    assert "422" in told["refused"] and "it is wrong" in told["refused"]
    assert told["generation_refused"].startswith("ValidationError: Input validation error: it is wrong")
    assert "404" in told["unknown"] and "is not served here" in told["unknown"]


def test_inference_client_is_answered_for_every_task_and_chat(house: Any, engine: Engine) -> None:
    check_answers(inference.asked(house.url, "eck_shop"))
    assert {"/tasks/auto", "/v1/chat/completions"} == set(engine.paths)
    tasks = [h for h, path in zip(engine.headers, engine.paths, strict=True) if path == "/tasks/auto"]
    assert {h["x-ecotone-model"] for h in tasks} == {f"demo/{name}" for name in TASKS}
    assert all("hf_hub/" in h["user-agent"] for h in tasks), "the engine cannot tell which shape the client reads"
    assert "eck_shop" not in str(engine.headers), "a key of the gateway went on"
    chats = [b for b, path in zip(engine.bodies, engine.paths, strict=True) if path != "/tasks/auto"]
    assert {b["model"] for b in chats} == {"demo/llama"}, "the address names the model, not the client's dummy"
    assert {"type": "json_object", "value": {"type": "object"}} in [b.get("response_format") for b in chats]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inference-0.36", "inference-2.4"])
def test_inference_client_of_each_age_is_answered(house: Any, engine: Engine, name: str) -> None:
    done = subprocess.run(
        [environment(name) / "python", inference.__file__, house.url, "eck_shop"],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
        env={"NO_PROXY": "*", "PATH": os.environ.get("PATH", "")},
    )
    check_answers(json.loads(done.stdout))


def test_info_and_health_of_a_model_are_told(house: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import InferenceClient

    url = f"{house.url}/models/demo/bert"
    client = InferenceClient(model=url, token="eck_shop", provider="hf-inference")
    info = client.get_endpoint_info()
    assert info["model_id"] == "demo/bert" and info["model_sha"] == REVISION
    assert info["model_pipeline_tag"] == "fill-mask"
    assert client.health_check() is True
    place(house, targets={**house.snapshots.current.targets, "demo/bert": engine_at("demo/bert", None, ready=False)})
    assert client.health_check() is False
    assert post(house, "/models/demo/bert/info").status_code == 404, "no model has that name"


# -- addresses -------------------------------------------------------------------------------------------------------
PATHS = {
    "/models/demo/bert": "/tasks/auto",
    "/models/demo/bert/": "/tasks/auto",
    "/models/demo%2Fbert": "/tasks/auto",
    "/models/demo/bert/v1": "/tasks/auto",
    f"/models/demo/bert@{REVISION}": "/tasks/auto",
    "/models/demo/bert@a1b2c3d": "/tasks/auto",
    "/models/demo/bert/pipeline/fill-mask": "/tasks/fill-mask",
    "/models/demo/bert/pipeline/fill_mask": "/tasks/fill-mask",
    "/pipeline/fill-mask/demo/bert": "/tasks/fill-mask",
    "/hf-inference/models/demo/bert": "/tasks/auto",
    "/hf-inference/models/demo/bert/pipeline/fill-mask": "/tasks/fill-mask",
    "/models/fill": "/tasks/auto",
}


@pytest.mark.parametrize("path", PATHS)
def test_each_address_of_a_task_reaches_the_model(house: Any, engine: Engine, path: str) -> None:
    from tests.gateway.conftest import route

    place(house, routes={"fill": route("fill", "demo/bert")})
    body = {"inputs": "Paris is in [MASK].", "parameters": {"top_k": 1}}
    answer = post(house, path, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()[0]["token_str"] == "France"
    assert answer.headers["x-ecotone-task"] == "fill-mask" and answer.headers["x-ecotone-usage"] == "12,0"
    assert answer.headers["x-ecotone-model"] == "demo/bert"
    assert engine.paths == [PATHS[path]] and engine.bodies == [body]


@pytest.mark.parametrize(
    "path",
    [
        "/models/demo/llama/v1/chat/completions",
        "/models/demo/llama@a1b2c3d/v1/chat/completions",
        "/hf-inference/models/demo/llama/v1/chat/completions",
        "/pipeline/text-generation/demo/llama/v1/chat/completions",
    ],
)
@pytest.mark.parametrize("named", [None, "dummy", "demo/bert"])
def test_chat_at_a_models_address_goes_to_that_model(house: Any, engine: Engine, path: str, named: str | None) -> None:
    said = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.50}
    answer = post(house, path, said if named is None else {**said, "model": named})
    assert answer.status_code == 200, answer.text
    assert engine.paths == ["/v1/chat/completions"] and engine.bodies == [{"model": "demo/llama", **said}]
    assert settled(house)["face"] == "chat"


def test_embeddings_at_a_models_address_are_answered(house: Any, engine: Engine) -> None:
    answer = post(house, "/models/demo/minilm/v1/embeddings", {"input": "A cat"})
    assert answer.json()["data"][0]["embedding"] == [0.5]


def test_a_revision_that_is_not_served_is_not_answered_by_another(house: Any, engine: Engine) -> None:
    for revision in ("b" * 40, "main", "a1b2", ""):
        answer = post(house, f"/models/demo/bert@{revision}")
        assert answer.status_code == 404 and "is not served here" in answer.json()["error"]
    assert engine.paths == []


def test_paths_that_are_none_are_404_and_other_methods_405(house: Any, engine: Engine) -> None:
    for path in ("/models/", "/pipeline/fill-mask", "/pipeline/FILL/demo/bert", "/hf-inference/demo/bert"):
        answer = post(house, path)
        assert answer.status_code == 404 and isinstance(answer.json()["error"], str), path
    answer = house.client.options("/models/demo/bert", headers={"authorization": "Bearer eck_shop"})
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert engine.paths == []


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        (b"POST /models/demo/bert HTTP/1.1", True),
        (b"POST /models HTTP/1.1", False),
        (b"GET /models HTTP/1.1", False),
        (b"GET /models?search=x HTTP/1.1", False),
        (b"GET /models/demo/bert HTTP/1.1", False),
        (b"GET /models/demo/bert/info HTTP/1.1", True),
        (b"HEAD /models/demo/bert/health HTTP/1.1", True),
        (b"PUT /models/demo/bert/info HTTP/1.1", False),
        (b"POST /modelsx/demo/bert HTTP/1.1", False),
        (b"POST /pipeline/fill-mask/demo/bert HTTP/1.1", True),
        (b"POST /hf-inference/models/demo/bert HTTP/1.1", True),
        (b"POST /model/demo HTTP/1.1", False),
        (b"POST /v1/chat/completions HTTP/1.1", True),
        (b"POST /v1/telemetry HTTP/1.1", False),
    ],
)
def test_the_first_bytes_part_calls_from_pages(line: bytes, ours: bool) -> None:
    assert is_for_gateway(line) is ours
    for end in range(len(line)):
        assert is_for_gateway(line[:end]) in (None, ours), line[:end]
    method, path, _ = line.split(b" ")
    assert is_ours(path.partition(b"?")[0], method) is ours


def test_an_address_that_is_the_gateways_is_one_that_it_can_read() -> None:
    for path in PATHS:
        assert is_ours(path.encode(), b"POST"), path
        assert called(b"POST", path).face == "tasks"


# -- bodies ----------------------------------------------------------------------------------------------------------
BAD = {
    "not json": b"{not json",
    "no object": b'["Hello"]',
    "no inputs": b'{"text": "Hello"}',
    "key twice": b'{"inputs": "one", "inputs": "two"}',
    "key twice, once escaped": b'{"inputs": "one", "inp\\u0075ts": "two"}',
    "key twice deep down": b'{"inputs": {"question": "a", "context": "b", "question": "c"}}',
    "key of another case": b'{"inputs": "one", "Inputs": "two"}',
    "not UTF-8": b'{"inputs": "\xff"}',
    "too deep": b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "parameters of another kind": b'{"inputs": "one", "parameters": [1]}',
    "stream of another kind": b'{"inputs": "one", "stream": "yes"}',
    "two long keys": b'{"inputs": "' + b"a" * 150_000 + b'", "x": 1, "x": 2}',
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/models/demo/bert", "/models/demo/bert/v1/chat/completions"])
def test_a_body_that_two_parsers_could_read_in_two_ways_is_refused(
    house: Any, engine: Engine, name: str, path: str
) -> None:
    answer = post(house, path, BAD[name])
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert isinstance(told["error"], str) and told["error_type"] == "validation"
    assert engine.bodies == []


def test_a_picture_or_a_sound_is_told_that_tasks_on_text_are_served(house: Any, engine: Engine) -> None:
    answer = post(house, "/models/demo/bert", b"\x89PNG\r\n\x1a\n", **{"content-type": "image/png"})
    assert answer.status_code == 400 and "none on images or audio" in answer.json()["error"]
    assert engine.bodies == []


def test_what_the_engine_gets_is_what_was_looked_at_byte_for_byte(house: Any, engine: Engine) -> None:
    raw = b'{ "inputs" : "caf\\u00e9 \xe2\x82\xac", "parameters": {"top_k": 1.50, "big": 123456789012345678901} }'
    assert post(house, "/models/demo/bert", raw).status_code == 200
    assert engine.headers[-1]["content-length"] == str(len(raw))
    assert engine.bodies[-1] == json.loads(raw)


# -- the rules -------------------------------------------------------------------------------------------------------
def test_a_task_is_opened_and_settled_with_the_engines_figures(house: Any, engine: Engine) -> None:
    assert post(house, "/models/demo/t5").status_code == 200
    end = settled(house)
    assert end["face"] == "tasks" and end["model"] == "demo/t5" and end["status"] == "done"
    assert (end["prompt_tokens"], end["completion_tokens"], end["estimate"]) == (12, 2, False)
    assert end["task"] == "translation" and end["cost"] == 0
    (opened,) = records(house, "opened")
    assert opened["request_id"] == end["request_id"] and opened["revision"] == REVISION
    assert "Hello" not in json.dumps([opened, end])


def test_a_stream_of_tokens_is_settled_before_its_last_event(house: Any, engine: Engine) -> None:
    body = {"inputs": "What?", "stream": True}
    told = {"authorization": "Bearer eck_shop"}
    with house.client.stream("POST", "/models/demo/llama", json=body, headers=told) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:") and json.loads(line[5:])["generated_text"] is not None:
                assert [r["status"] for r in records(house, "settled")] == ["done"]
                break
        else:
            raise AssertionError("the last event did not come")
    end = settled(house)
    assert (end["prompt_tokens"], end["completion_tokens"], end["estimate"]) == (12, 4, False)


def test_a_stream_that_ends_in_its_middle_says_so_and_counts_what_came(house: Any, engine: Engine) -> None:
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import GenerationError, IncompleteGenerationError

    client = InferenceClient(model=f"{house.url}/models/demo/llama", token="eck_shop")
    for word, wrong in (("torn", IncompleteGenerationError), ("failing", (IncompleteGenerationError, GenerationError))):
        got = []
        with pytest.raises(wrong):  # type: ignore[call-overload]
            got.extend(client.text_generation(word, stream=True))
    end = settled(house)
    assert end["status"] == "upstream_died" and end["completion_tokens"] == 2 and end["estimate"]


def test_who_may_not_call_is_told_in_the_clients_own_form(house: Any, engine: Engine) -> None:
    wrong = {
        ("/models/demo/bert", ""): (401, "missing_key"),
        ("/models/demo/bert", "eck_wrong"): (401, "invalid_api_key"),
        ("/models/demo/private", "eck_shop"): (404, "model_not_found"),
        ("/models/demo/nobody", "eck_shop"): (404, "model_not_found"),
        ("/models/demo/nc", "eck_shop"): (451, "policy_denied"),
        ("/models/demo/nc/v1/chat/completions", "eck_shop"): (451, "policy_denied"),
    }
    for (path, key), (status, code) in wrong.items():
        answer = post(house, path, {"inputs": "x", "messages": [{"role": "user", "content": "x"}]}, key)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (status, code), path
        assert isinstance(told["error"], str) and "error_type" not in told
        if status == 451:
            assert told["ecotone"]["would_allow"] == [{"change": "purpose research", "verdict": "allow"}]
    assert [r["status"] for r in records(house, "refused")] == [451, 451]
    assert engine.paths == []


def test_a_model_behind_a_provider_takes_no_tasks_and_the_text_stays_here(house: Any, engine: Engine) -> None:
    from tests.gateway.conftest import route

    answer = post(house, "/models/fake/gpt-test")
    assert answer.status_code == 400 and answer.json()["code"] == "no_tasks"
    assert "fake" in answer.json()["error"] and "chat_completion" in answer.json()["error"]
    assert post(house, "/models/fake/gpt-test/v1/chat/completions", {"messages": [{}]}).status_code != 400
    place(house, routes={"mixed": route("mixed", "fake/gpt-test", "demo/bert")})
    before = len(house.provider.seen)
    answer = post(house, "/models/mixed", {"inputs": "Paris is in [MASK]."})
    assert answer.status_code == 200 and answer.headers["x-ecotone-model"] == "demo/bert"
    assert len(house.provider.seen) == before


def test_personal_data_is_found_anywhere_in_a_task_and_never_leaves_the_house(house: Any, engine: Engine) -> None:
    body = {"inputs": {"table": {"Owner maria.lopez@example.org": ["7"]}, "query": "How many?"}}
    assert post(house, "/models/demo/bert", body).status_code == 200
    assert records(house, "opened")[-1]["kinds"] == {"email": 1}
    assert records(house, "opened")[-1]["data_class"] == "personal"
    assert engine.bodies[-1] == body, "a local engine gets the text as it is"
    for key in ("eck_shop", "eck_masked"):
        answer = post(house, "/models/fake/gpt-test", body, key)
        assert answer.status_code in (400, 403) and house.provider.seen == []
    for key in ("eck_shop", "eck_masked"):
        away = {"demo/bert": engine_at("demo/bert", Path(engine.server_address), location=Location.EXTERNAL)}
        place(house, targets={**house.snapshots.current.targets, **away})
        count = len(engine.bodies)
        answer = post(house, "/models/demo/bert", body, key)
        assert (answer.status_code, answer.json()["code"]) == (403, "privacy_denied")
        assert len(engine.bodies) == count
    answer = post(house, "/models/fake/maria.lopez@example.org")
    assert answer.status_code == 403 and "model's name" in answer.json()["error"]


def test_limits_and_budgets_hold_for_tasks_and_encoders_write_no_tokens(house: Any, engine: Engine) -> None:
    each = Rates(*[10**6] * 7)
    prices = {f"demo/{name}": Price(version="t", scale=(each,)) for name in TASKS}
    house.gateway.limiter = Limiter()
    budget = Budget(id="b", limit=100 * 10**6, window="total")
    place(house, prices=prices, limits={"project:shop": Limit(concurrent=5, budgets=(budget,))})
    answer = post(house, "/models/demo/t5", {"inputs": "x", "parameters": {"max_new_tokens": 4000}})
    told = answer.json()
    assert answer.status_code == 429 and told["code"] == "budget_exceeded" and "error_type" not in told
    assert post(house, "/models/demo/bert", {"inputs": "[MASK]"}).status_code == 200, "an encoder writes no tokens"
    assert post(house, "/models/demo/t5", {"inputs": "x", "parameters": {"max_new_tokens": 20}}).status_code == 200
    for body in (
        {"inputs": "x", "parameters": {"max_new_tokens": 20, "best_of": 16, "do_sample": True}},
        {"inputs": ["x"] * 100, "parameters": {"max_new_tokens": 20}},
        {"inputs": "x", "parameters": {"generate_parameters": {"max_length": 4000}}},
    ):
        assert post(house, "/models/demo/t5", body).status_code == 429, "all answers that it may write are held"
    labels = {"inputs": "x" * 60, "parameters": {"candidate_labels": ["a"] * 40}}
    assert post(house, "/models/demo/bert", labels).status_code == 429, "a text is read once with each label"
    place(house, limits={"project:shop": Limit(requests=0)})
    answer = post(house, "/models/demo/bert")
    assert answer.status_code == 429 and answer.json()["error_type"] == "overloaded"


def test_a_client_names_neither_the_engines_model_nor_the_usage(house: Any, engine: Engine) -> None:
    forged = {"x-ecotone-model": "demo/hidden", "x-ecotone-usage": "0,0", "x-ecotone-task": "fill-mask"}
    answer = post(house, "/models/demo/t5", {"inputs": "x"}, **forged)
    assert answer.status_code == 200 and answer.headers["x-ecotone-usage"] != "0,0"
    assert engine.headers[-1]["x-ecotone-model"] == "demo/t5"
    assert "x-ecotone-usage" not in engine.headers[-1] and "x-ecotone-task" not in engine.headers[-1]


def test_a_route_that_keeps_answers_and_has_a_shadow_does_neither_with_tasks(house: Any, engine: Engine) -> None:
    from tests.gateway.conftest import route

    kept = msgspec.structs.replace(route("kept", "demo/bert"), cache_seconds=60, shadow="fake/gpt-test")
    place(house, routes={"kept": kept})
    for _ in range(2):
        assert post(house, "/models/kept", {"inputs": "[MASK]"}).status_code == 200
    assert len(engine.paths) == 2 and house.provider.seen == []


def test_an_engine_that_loads_is_told_with_the_time_to_wait(house: Any, engine: Engine) -> None:
    loading = engine_at("demo/bert", None, ready=False, starting=True, note="starting")
    place(house, targets={**house.snapshots.current.targets, "demo/bert": loading})
    answer = post(house, "/models/demo/bert")
    told = answer.json()
    assert answer.status_code == 503 and told["code"] == "engine_not_ready"
    assert told["estimated_time"] == float(answer.headers["retry-after"]) and told["error_type"] == "overloaded"


def test_what_an_engine_says_wrong_is_told_with_its_status(house: Any, engine: Engine) -> None:
    found = {}
    answer = post(house, "/models/demo/bert/pipeline/translation", {"inputs": "unknown"})
    assert answer.status_code == 404 and "has no task translation" in answer.json()["error"]
    for word in ("wrong", "broken", "junk"):
        answer = post(house, "/models/demo/bert", {"inputs": f"{word} [MASK]"})
        found[word] = (answer.status_code, answer.json()["error_type"])
    assert found == {
        "wrong": (422, "validation"),
        "broken": (502, "generation"),
        "junk": (502, "incomplete_generation"),
    }
