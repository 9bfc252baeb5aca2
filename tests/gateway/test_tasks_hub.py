"""Hugging Face's inference beside hub and pages on one port, and the clients' way past us that the hub closes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.catalog.names import RESERVED_SEGMENTS
from ecotone.gateway.paths import OURS, TASKS
from tests.clients.environments import environment
from tests.running import ADMIN, Running, running
from tests.serving import close

_PAST_US = """
import json, sys
from huggingface_hub import InferenceClient
url, key = sys.argv[1:]
client = InferenceClient(base_url=f"{url}/v1", api_key=key)
told = {}
for name, call in {
    "text_classification": lambda: client.text_classification("a secret", model="demo/bert"),
    "translation": lambda: client.translation("a secret", model="demo/bert"),
}.items():
    try:
        told[name] = str(call())
    except BaseException as error:
        told[name] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


class Elsewhere:
    """A proxy for all that is not here; notes that somebody called, and hangs up."""

    def __init__(self) -> None:
        self.calls = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("tasks")) as found:
        made = found.http.post("/api/repos/create", json={"name": "bert", "organization": "demo", "type": "model"})
        assert made.is_success, made.text
        yield found


def test_no_namespace_can_hide_an_address_of_the_gateway() -> None:
    assert {own.decode().strip("/") for own in (*OURS, *TASKS)} <= RESERVED_SEGMENTS


def test_calls_and_pages_below_the_same_segment_part_on_one_connection(server: Running) -> None:
    """The pages of models stay, before and behind calls on the connection that a browser keeps."""
    page = server.http.get("/models", headers={"accept": "text/html"})
    assert page.status_code in (200, 302, 303, 307) and "json" not in page.headers.get("content-type", "")
    refused = server.http.post("/models/demo/bert", json={"inputs": "x"}, headers={"authorization": "Bearer eck_no"})
    assert refused.status_code == 401 and refused.json()["code"] == "invalid_api_key"
    assert server.http.get("/models", headers={"accept": "text/html"}).status_code == page.status_code
    assert server.http.get("/demo/bert", headers={"accept": "text/html"}).status_code == 200
    assert server.http.get("/models/demo/bert").status_code == 404


def test_an_unserved_model_is_told_from_the_hubs_port(server: Running) -> None:
    server.http.post("/api/ecotone/v1/projects", json={"name": "p", "mode": "serve_api", "purpose": "commercial"})
    key = server.http.post("/api/ecotone/v1/keys", json={"project": "p"}).json()["key"]
    head = {"authorization": f"Bearer {key}"}
    end = time.monotonic() + 90
    while (answer := server.http.post("/models/demo/bert", json={"inputs": "x"}, headers=head)).status_code == 401:
        assert time.monotonic() < end, "the key is not taken"
        time.sleep(0.1)
    assert answer.status_code == 404 and "`ecotone serve`" in answer.json()["error"]


def past_us(server: Running, python: str | Path) -> tuple[dict[str, Any], int]:
    elsewhere = Elsewhere()
    env = {
        "PATH": os.environ.get("PATH", ""), "HF_ENDPOINT": server.url, "HF_TOKEN": ADMIN,
        "HTTPS_PROXY": elsewhere.url, "https_proxy": elsewhere.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "HF_HOME": str(server.folder / "hf"),
    }  # fmt: skip
    done = subprocess.run(
        [python, "-c", _PAST_US, server.url, "eck_any"], capture_output=True, text=True, env=env, timeout=280
    )
    close(elsewhere.listener)
    return json.loads(done.stdout), elsewhere.calls


@pytest.mark.parametrize(
    "name",
    [
        "own",
        pytest.param("inference-0.36", marks=pytest.mark.slow),
        pytest.param("inference-2.4", marks=pytest.mark.slow),
    ],
)
def test_a_text_for_a_model_of_ours_never_goes_to_the_hosted_router(server: Running, name: str) -> None:
    """`base_url` with a model's name at the call looks the name up at the hub, and would go to whoever it names."""
    shown = server.http.get("/api/models/demo/bert", params={"expand": "inferenceProviderMapping"})
    assert shown.status_code == 200 and "inferenceProviderMapping" not in shown.json()
    told, calls = past_us(server, sys.executable if name == "own" else environment(name) / "python")
    assert all("No provider mapping found for model demo/bert" in text for text in told.values()), told
    assert calls == 0, "a text was on its way out of the house"
