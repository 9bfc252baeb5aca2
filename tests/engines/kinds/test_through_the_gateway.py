"""Engines of other makes as users meet them: deployed by the API of a real server, called through its gateway."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.engines.kinds.conftest import FAKE, weights
from tests.engines.kinds.elsewhere import OpenAI, elsewhere
from tests.engines.kinds.starting import until
from tests.running import ADMIN, Running, free_port, running

CARD = b"---\nlicense: apache-2.0\n---\n# Demo\n"


def files_of(folder: Path) -> dict[str, bytes]:
    return {"README.md": CARD} | {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def deploy(server: Running, model: str, **options: Any) -> dict[str, Any]:
    body = {"model": model, "options": options}
    answer = server.http.post("/api/ecotone/v1/deployments", json=body, timeout=240)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def chat(server: Running, model: str, text: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0}
    return server.http.post("/v1/chat/completions", json={**body, **more})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "vllm").write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    (folder / "vllm").chmod(0o755)
    with running(folder, ECOTONE_VLLM=str(folder / "vllm"), BOX_API_KEY="sk-theirs") as found:
        files = files_of(weights(tmp_path_factory.mktemp("weights")))
        found.publish("demo/llama", files)
        found.publish("demo/far", files)
        yield found


def test_vllm_serves_a_model_of_the_hub_and_is_mended_when_it_dies(server: Running) -> None:
    made = deploy(server, "demo/llama", kind="vllm", arguments={"max-model-len": "512"})
    assert (made["state"], made["task"], made["context_length"]) == ("ready", "text-generation", 512)
    until(lambda: chat(server, "demo/llama", "red blue").status_code == 200)
    answer = chat(server, "demo/llama", "red blue").json()
    assert answer["choices"][0]["message"]["content"] == "red blue red blue " and answer["model"] == "demo/llama"
    assert answer["salt"], "the prefix cache is not parted by project"
    streamed = chat(server, "demo/llama", "red", stream=True).text
    assert streamed.count('"red "') == 4 and streamed.rstrip().endswith("data: [DONE]")
    cut = chat(server, "demo/llama", "blue die", stream=True).text
    assert '"error"' in cut and "[DONE]" not in cut
    until(lambda: chat(server, "demo/llama", "green").status_code == 200)
    assert server.http.get("/api/ecotone/v1/deployments/demo/llama").json()["restarts"] == 1


def test_a_server_outside_of_the_house_gets_no_personal_data(server: Running) -> None:
    """It stands behind a socket of ours, which must not make it local."""
    with elsewhere(OpenAI, key="sk-theirs") as far:
        options = {"kind": "openai", "url": far.url + "/v1", "served_as": "their-name", "key_env": "BOX_API_KEY"}
        deploy(server, "demo/far", **options, location="external")
        until(lambda: chat(server, "demo/far", "hello").status_code == 200)
        server.http.post("/api/ecotone/v1/projects", json={"name": "shop", "personal_data": "local_only"})
        chat(server, "demo/far", "Write to ada.lovelace@example.com please")
        assert "ada.lovelace@example.com" not in json.dumps(far.asked)
        assert server.http.delete("/api/ecotone/v1/deployments/demo/far").status_code == 200


def test_a_machine_of_a_cluster_fetches_the_very_revision_from_the_hub(server: Running, tmp_path: Path) -> None:
    commits = server.http.get("/api/models/demo/llama/commits/main").json()
    wanted = commits[0]["id"]
    server.publish("demo/llama", {"config.json": b'{"model_type": "changed"}'})
    env = {**server.env, "HF_HOME": str(tmp_path), "ECOTONE_HUB_URL": server.url, "ECOTONE_HUB_TOKEN": ADMIN}
    spec = {"model": "demo/llama", "revision": wanted, "folder": "/nowhere/else"}
    asked = f"from ecotone.engines.cluster.weights import folders; print(folders({spec!r})[0])"
    told = subprocess.run([sys.executable, "-c", asked], env=env, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    found = Path(told.stdout.strip())
    assert json.loads((found / "config.json").read_text())["model_type"] == "llama"
    assert (found / "model.safetensors").stat().st_size > 0 and not (found / "README.md").exists()
    del env["ECOTONE_HUB_URL"]
    refused = subprocess.run([sys.executable, "-c", asked], env=env, capture_output=True, text=True)
    assert "set ECOTONE_HUB_URL and ECOTONE_HUB_TOKEN" in refused.stderr


@pytest.mark.slow
def test_transformers_own_server_is_attached_and_answers(server: Running, tiny: ModuleType, tmp_path: Path) -> None:
    for library in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(library, reason='needs transformers\' own server (pip install "transformers[serving]")')
    folder = tiny.llama(tmp_path / "model")
    port, cache = free_port(), tmp_path / "cache"
    cache.mkdir()
    command = [
        *(sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(folder)),
        *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--log-level", "warning"),
    ]
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 300
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.3)
        server.publish("demo/reference", files_of(folder))
        deploy(server, "demo/reference", kind="openai", url=f"http://127.0.0.1:{port}/v1", served_as=str(folder))
        until(lambda: chat(server, "demo/reference", "hi").status_code == 200)
        theirs = chat(server, "demo/reference", "hi", max_tokens=8).json()["choices"][0]["message"]["content"]
        deploy(server, "demo/reference", kind="builtin")
        until(lambda: chat(server, "demo/reference", "hi").status_code == 200)
        ours = chat(server, "demo/reference", "hi", max_tokens=8).json()["choices"][0]["message"]["content"]
        assert ours and ours == theirs
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=20).status_code == 200
    except httpx.HTTPError:
        return False
