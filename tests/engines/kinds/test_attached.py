"""Engines that somebody else runs: called by the hub's names, watched, left alone at the end; TEI's tasks."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from ecotone.engines.errors import NotServable
from ecotone.engines.kinds import named
from ecotone.engines.kinds.kind import Options, Ready
from ecotone.engines.kinds.relay import far
from tests.engines.kinds.elsewhere import OpenAI, Tei, elsewhere
from tests.engines.kinds.starting import REVISION, started
from tests.running import free_port


def test_a_model_of_the_hub_is_called_by_its_own_name_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_API_KEY", "sk-theirs")
    with (
        elsewhere(OpenAI, key="sk-theirs") as server,
        started("openai", tmp_path, url=server.url + "/v1", served_as="their-name", key_env="BOX_API_KEY") as heard,
        heard.client as client,
    ):
        body = {"model": "demo/llama", "messages": [{"role": "user", "content": "hello"}]}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "hi"
        assert server.asked == [("/v1/chat/completions", {**body, "model": "their-name"})]
        assert client.post("/v1/chat/completions", json={**body, "model": "their-name"}).status_code == 404
        server.key = "sk-another"
        refused = client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "engine_key")
        assert "sk-theirs" not in (tmp_path / "log").read_text()


def test_tasks_of_embeddings_are_answered_by_openais_dialect(tmp_path: Path) -> None:
    more = {"served_as": "their-name", "arguments": {"task": "feature-extraction"}}
    with (
        elsewhere(OpenAI) as server,
        started("openai", tmp_path, url=server.url, **more) as heard,
        heard.client as client,
    ):
        rows = client.post("/tasks/auto", json={"inputs": ["a", "bbb"]})
        assert rows.json() == [[1.0, 1.0], [3.0, 1.0]] and rows.headers["x-ecotone-usage"] == "5,1"
        compared = {"inputs": {"source_sentence": "aa", "sentences": ["bb", "c"]}}
        near = client.post("/tasks/auto", json=compared).json()
        assert near[0] == pytest.approx(1.0) and near[1] == pytest.approx(3 / (5 * 2) ** 0.5)
        other = client.post("/tasks/auto", json=compared, headers={"x-ecotone-model": "demo/other"})
        assert other.status_code == 404


@pytest.mark.parametrize(
    ("more", "said"),
    [({}, "serves their-name and no 'demo/llama'"), ({"served_as": "their-name", "key": "x"}, "refuses the key")],
)
def test_one_that_cannot_serve_it_is_refused_with_what_to_change(tmp_path: Path, more: Any, said: str) -> None:
    with (
        elsewhere(OpenAI, key=more.pop("key", None)) as server,
        started("openai", tmp_path, url=server.url, **more) as e,
    ):
        assert said in e.refusal()


def test_one_that_is_gone_is_unwell_and_well_again_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()  # nobody gets it meanwhile
    with elsewhere(Tei, port=port) as server:
        engine = started("tei", tmp_path, url=server.url)
        heard = engine.__enter__()
        heard.beat(lambda b: b.well)
    heard.beat(lambda b: not b.well)
    assert not heard.running.probe(2)
    with heard.client as client:
        gone = client.post("/tasks/auto", json={"inputs": "a"})
        assert gone.status_code == 503 and "try again" in gone.json()["error"]
    with elsewhere(Tei, port=port):
        heard.beat(lambda b: b.well)
        assert heard.running.probe(60)
        engine.__exit__(None, None, None)


def test_tei_answers_the_tasks_of_its_model(tmp_path: Path) -> None:
    with elsewhere(Tei) as server, started("tei", tmp_path, url=server.url) as heard, heard.client as client:
        info = heard.of(Ready).info
        assert (info["task"], info["context_length"], info["revision"]) == ("feature-extraction", 512, REVISION)
        rows = client.post("/tasks/auto", json={"inputs": "abc", "normalize": True, "truncation_direction": "left"})
        assert rows.json() == [[3.0, 1.0]]
        assert (rows.headers["x-ecotone-task"], rows.headers["x-ecotone-usage"]) == ("feature-extraction", "7,0")
        told = {"inputs": ["abc"], "normalize": True, "truncation_direction": "Left"}
        assert server.asked[-1] == ("/embed", told)
        compared = {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}
        assert client.post("/tasks/sentence-similarity", json=compared).json() == [0.5, 0.5]
        large = client.post("/tasks/feature-extraction", json={"inputs": ["a"] * 33})
        assert large.status_code == 413 and "32" in large.json()["error"]
        wrong = client.post("/tasks/feature-extraction", json={"inputs": 7})
        assert wrong.status_code == 422 and wrong.json()["error_type"] == "validation"


def test_a_classifier_behind_tei_answers_labels_the_best_first(tmp_path: Path) -> None:
    with (
        elsewhere(Tei, kind="classifier") as server,
        started("tei", tmp_path, url=server.url) as heard,
        heard.client as client,
    ):
        best = client.post("/tasks/text-classification", json={"inputs": "fine", "parameters": {"top_k": 1}})
        assert best.json() == [[{"label": "good", "score": 0.9}]]
        assert server.asked[-1] == ("/predict", {"inputs": [["fine"]]})


async def _resolved(host: str) -> list[Any]:
    found = far._Resolver(loop=asyncio.get_running_loop())
    return await found.resolve(host)


def test_a_name_that_leads_to_a_clouds_metadata_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: told)
    with pytest.raises(OSError, match="no request may go to"):
        asyncio.run(_resolved("engine.example"))
    told[:] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.8", 80))]
    assert asyncio.run(_resolved("engine.example"))[0]["host"] == "10.0.0.8"


def test_what_is_no_tei_is_refused(tmp_path: Path) -> None:
    with elsewhere(OpenAI) as server, started("tei", tmp_path, url=server.url) as heard:
        assert "not text-embeddings-inference's" in heard.refusal()


def test_a_variable_that_holds_no_key_of_an_engine_is_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOTONE_ADMIN_TOKEN", "ect_x")
    for name, said in (
        ("ECOTONE_ADMIN_TOKEN", "may hold no key"),
        ("PATH", "may hold no key"),
        ("NO_API_KEY", "holds no key"),
    ):
        with (
            pytest.raises(NotServable, match=said),
            started("openai", tmp_path, url="http://127.0.0.1:9", key_env=name),
        ):
            pass
    with pytest.raises(NotServable, match="address"):
        named("tei").check(Options(kind="tei"))
