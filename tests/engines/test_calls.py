"""Calls through the gateway to engines that are several, asleep or over a shared base, as users start all of it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.gateways import Gateways
from tests.engines.test_engines import adapter
from tests.receiver import until
from tests.running import Running, running

pytestmark = pytest.mark.slow
CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
BODY = {"model": "demo/llama", "prompt": "hello", "max_tokens": 16, "temperature": 0}


def publish(found: Running, model: str, folder: Path, card: bytes = CARD) -> None:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.publish(model, files | {"README.md": card})


def row(found: Running, model: str = "demo/llama") -> Any:
    return next(d for d in found.told("ps") if d["model"] == model)


def until_it_is(found: Running, state: str, seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while (told := row(found))["state"] != state:
        assert time.monotonic() < end, told
        time.sleep(0.2)
    return told


def ask(client: httpx.Client, **more: Any) -> httpx.Response:
    return client.post("/v1/completions", json=BODY | more)


def until_answered(client: httpx.Client, **more: Any) -> httpx.Response:
    end = time.monotonic() + 300
    while (answer := ask(client, **more)).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
    return answer


def test_replicas_share_the_load_and_a_sleeping_model_is_woken_from_every_gateway(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    with running(tmp_path, ECOTONE_ENGINE_WAIT="280") as found:
        found.http.timeout = 300
        publish(found, "demo/llama", made["llama"])

        def deploy(idle: str) -> Any:
            told = found.told("deploy", "demo/llama", "--replicas", "2", "--idle", idle, "--threads", "1")
            assert told["state"] == "ready" and [r["state"] for r in told["replicas"]] == ["ready", "ready"]
            return told

        told = deploy("1h")
        assert told["options"] == {"replicas": 2, "idle": 3600.0, "threads": 1} and "pid" not in told["replicas"][0]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(found.http), range(16)))
        assert {a.status_code for a in answers} == {200}, answers[0].text
        assert len({a.json()["choices"][0]["text"] for a in answers}) == 1
        assert told["info"]["architecture"] == "LlamaForCausalLM"
        until(lambda: (row(found)["memory"] or 0) > 50 << 20)
        deploy("3s")
        while (asleep := until_it_is(found, "idle"))["progress"] is not None:
            assert asleep["progress"] == "unloading"
            time.sleep(0.2)
        assert asleep["replicas"] == [] and asleep["error"] is None
        assert ask(found.http).status_code == 200, "the first call loads it"
        until_it_is(found, "idle")
        gateways = Gateways(tmp_path, workers=1, **{k: v for k, v in found.env.items() if k.startswith("ECOTONE_")})
        gateways.start()
        try:
            headers = {"authorization": f"Bearer {found.env['ECOTONE_TOKEN']}"}
            with httpx.Client(base_url=gateways.url, headers=headers, timeout=300) as client:
                assert ask(client).status_code == 200, "a gateway process has it loaded by its owner"
        finally:
            gateways.stop()
        deploy("90s")
        lines = found.cli("ps").stdout.splitlines()
        assert "replicas" in lines[0] and "2/2" in lines[1] and "idle=90s" in lines[1], lines


def test_an_engine_that_takes_long_is_named_with_its_progress(tmp_path: Path, made: dict[str, Path]) -> None:
    with running(tmp_path, ECOTONE_ENGINE_WAIT="0.5") as found:
        publish(found, "demo/llama", made["llama"])
        for _ in range(5):
            told = found.told("deploy", "demo/llama", "--on-demand")
            assert told["state"] == "idle"
            refused = ask(found.http)
            while refused.status_code == 503 and not any(word in refused.text for word in ("loading", "starting")):
                refused = ask(found.http)  # it may not have begun by then
            if refused.status_code == 503:
                break
            found.told("stop", "demo/llama")  # it was loaded while this test stood still
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        until_it_is(found, "ready")
        until_answered(found.http)


def test_an_adapter_is_called_by_its_own_name_and_its_base_by_nobody(tmp_path: Path, made: dict[str, Path]) -> None:
    pytest.importorskip("peft")
    card = b"---\nlicense: apache-2.0\nbase_model: demo/llama\nlibrary_name: peft\n---\n# An adapter\n"
    with running(tmp_path) as found:
        publish(found, "demo/llama", made["llama"])
        publish(found, "demo/tuned", adapter(made, tmp_path / "tuned", "demo/llama"), card)
        told = found.told("deploy", "demo/tuned")
        assert told["on_base"] == "demo/llama"
        answer = ask(found.http, model="demo/tuned")
        assert answer.status_code == 200 and answer.json()["model"] == "demo/tuned", answer.text
        assert ask(found.http).status_code == 404, "the base is not deployed"
        assert ask(found.http, model=f"demo/tuned@{told['revision']}").status_code == 404
        refused = found.http.delete("/api/ecotone/v1/models/demo/llama")
        assert refused.status_code == 409, "its base is in use"
        pid = int(next(p for p in os.listdir("/proc") if p.isdigit() and _is_engine(p, tmp_path)))
        os.kill(pid, signal.SIGKILL)
        assert ask(found.http, model="demo/tuned").status_code in (200, 502, 503)
        again = until_answered(found.http, model="demo/tuned")
        assert again.json()["choices"] == answer.json()["choices"], "never the base in the adapter's place"


def _is_engine(pid: str, folder: Path) -> bool:
    try:
        cwd, line = os.readlink(f"/proc/{pid}/cwd"), Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return cwd.startswith(str(folder)) and b"ecotone.engines.server\0" in line
