"""vLLM as an engine of the house, against a stand-in at the wire: asked, watched, drained, ended; its adapters."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.engines.errors import EngineFailed, NotServable, NotSupported
from ecotone.engines.kinds import named
from ecotone.engines.kinds.kind import Options, Ready
from ecotone.engines.kinds.relay import vllm as relay
from ecotone.engines.kinds.vllm import WATCH
from tests.engines.kinds.starting import REVISION, Heard, started, until
from tests.running import free_port

AT_ONCE = 3.0
"""Seconds; the health checks, which would find it too, take fifteen."""


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo/llama", "messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}


def words(heard: Heard, text: str, **more: Any) -> str:
    with heard.client as client:
        answer = client.post("/v1/chat/completions", json=chat(text, **more))
        assert answer.status_code == 200, answer.text
        said: str = answer.json()["choices"][0]["message"]["content"]
    return said


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_model_answers_whole_and_streamed_and_tells_what_it_does(vllm: Path, folder: Path, tmp_path: Path) -> None:
    with started("vllm", tmp_path, folder, slots=8, arguments={"max-model-len": "512"}) as heard:
        ready = heard.of(Ready)
        assert ready.where.dialect == "vllm" and ready.info["context_length"] == 512
        assert ready.info["engine"] == "vLLM 0.32.0" and ready.info["task"] == "text-generation"
        assert words(heard, "red blue") == "red blue red blue "
        assert words(heard, "red", model=f"demo/llama@{REVISION}") == "red red red red "
        with heard.client as client:
            streamed = client.post("/v1/chat/completions", json=chat("a b", stream=True)).text
            assert streamed.count('"content": "a "') == 2 and streamed.endswith("data: [DONE]\n\n")
            info = client.get("/info").json()
            assert info["model"] == "demo/llama" and info["revision"] == REVISION
            other = client.post("/v1/chat/completions", json=chat("a", model="demo/other"))
            assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
        beat = heard.beat(lambda b: b.tokens >= 12)
        assert beat.well and beat.running == 0 and (beat.memory or 0) > 1_000_000


def test_its_key_and_the_servers_secrets_are_seen_by_nobody(
    vllm: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-house")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    with started("vllm", tmp_path, folder) as heard:
        pid = heard.of(Ready).info["engine_pid"]
        listed = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout
        assert "--uds" in listed and "--api-key" not in listed
        told = (tmp_path / "log").read_text().splitlines()
        seen = set(
            json.loads(next(line for line in told if line.startswith("environment ")).removeprefix("environment "))
        )
        assert {"VLLM_API_KEY", "VLLM_NO_USAGE_STATS", "VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"} <= seen
        assert not seen & {"OPENAI_API_KEY", "PYTHONPATH", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"}
        inside = next((tmp_path / "run").glob("*-v.sock"))
        assert inside.parent.stat().st_mode & 0o077 == 0
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(inside)), base_url="http://e") as stranger:
            assert stranger.post("/v1/chat/completions", json=chat("a")).status_code == 401


def test_one_that_dies_is_known_at_once_and_the_stream_says_so(vllm: Path, folder: Path, tmp_path: Path) -> None:
    took: list[float] = []
    while not took or (min(took) >= AT_ONCE and len(took) < 5):  # others may hold this machine up, too
        with started("vllm", tmp_path, folder) as heard, heard.client as client:
            with client.stream("POST", "/v1/chat/completions", json=chat("slow words die", stream=True)) as answer:
                events = [line for line in answer.iter_lines() if line]
            began = time.monotonic()
            assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_unreachable"
            assert heard.running.wait(60)
            took.append(time.monotonic() - began)
            assert "ended with status 1" in heard.running.failure("It died")
    assert min(took) < AT_ONCE, "its death was not seen at once"


def test_killed_it_is_known_at_once(vllm: Path, folder: Path, tmp_path: Path) -> None:
    took: list[float] = []
    while not took or (min(took) >= AT_ONCE and len(took) < 5):  # others may hold this machine up, too
        with started("vllm", tmp_path, folder) as heard:
            os.kill(heard.of(Ready).info["engine_pid"], signal.SIGKILL)
            began = time.monotonic()
            assert heard.running.wait(60)
            took.append(time.monotonic() - began)
            assert "SIGKILL" in heard.running.failure("It died")
    assert min(took) < AT_ONCE


def test_its_number_is_told_however_late_it_comes(
    vllm: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was 0 where it answered sooner: a signal for that ends whoever sends it."""
    hear = relay.Started._hear

    def late(far: relay.Started, message: dict[str, Any]) -> None:
        until(Path(far._socket).exists)
        time.sleep(2 * relay._FIRST_LOOK)
        hear(far, message)

    async def pid() -> int:
        far = relay.Started(
            {
                "command": [str(vllm)],
                "folder": str(folder),
                "environment": {},
                "info": {"model": "demo/llama", "revision": REVISION},
                "log": str(tmp_path / "log"),
                "socket": str(tmp_path / "e.sock"),
                **WATCH,
            }
        )
        try:
            return int((await far.start())["engine_pid"])
        finally:
            await far.stop(5)

    monkeypatch.setattr(relay.Started, "_hear", late)
    assert asyncio.run(pid()) > 0


def test_nothing_is_left_of_it_when_its_relay_is_killed(vllm: Path, folder: Path, tmp_path: Path) -> None:
    with started("vllm", tmp_path, folder) as heard:
        pid = heard.of(Ready).info["engine_pid"]
        os.kill(heard.running.pid or 0, signal.SIGKILL)
        until(lambda: not alive(pid))


def test_an_answer_that_is_being_written_is_finished_before_it_ends(vllm: Path, folder: Path, tmp_path: Path) -> None:
    with started("vllm", tmp_path, folder) as heard:
        found: list[str] = []
        calling = threading.Thread(target=lambda: found.append(words(heard, "slow green", max_tokens=6)))
        calling.start()
        heard.beat(lambda b: b.running == 1)
        heard.running.stop(30)
        calling.join(60)
        assert found == ["slow green slow green slow green "]


def test_a_client_that_leaves_frees_its_place(vllm: Path, folder: Path, tmp_path: Path) -> None:
    with started("vllm", tmp_path, folder) as heard:
        with heard.client as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=chat("slow", max_tokens=60), timeout=httpx.Timeout(60, read=0.5))
        heard.beat(lambda b: b.running == 0)
        with heard.client as client:
            streamed = chat("slow", max_tokens=60, stream=True)
            with client.stream("POST", "/v1/chat/completions", json=streamed) as answer:
                next(answer.iter_lines())
        heard.beat(lambda b: b.running == 0)


def test_one_that_hangs_and_says_that_it_is_healthy_is_found_out(
    vllm: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM #39863: `/health` stays 200 while no token comes any more."""
    quick = {"probe_every": 0.2, "stall": 1.5, "probe_within": 30.0}
    monkeypatch.setattr("ecotone.engines.kinds.vllm.WATCH", quick)
    with started("vllm", tmp_path, folder) as heard, heard.client as client:
        with pytest.raises(httpx.HTTPError):
            client.post("/v1/chat/completions", json=chat("hang"), timeout=2.5)
        client.close()
        assert words_or_none(heard, "red") is None
        assert heard.running.wait(60), "it hangs and nobody saw it"
        assert "no token has come" in heard.running.failure("It ended")


def words_or_none(heard: Heard, text: str) -> str | None:
    try:
        return words(heard, text)
    except (AssertionError, httpx.HTTPError):
        return None


def test_a_long_answer_that_makes_tokens_is_no_hang(
    vllm: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecotone.engines.kinds.vllm.WATCH", {"probe_every": 0.1, "stall": 6, "probe_within": 0.01})
    with started("vllm", tmp_path, folder) as heard:
        assert words(heard, "slow", max_tokens=45).count("slow") == 45  # which takes nine seconds


def test_adapters_come_and_go_and_each_name_means_one(vllm: Path, folder: Path, adapter: Path, tmp_path: Path) -> None:
    name = f"ann/tuned@{REVISION}"
    options = {"max-loras": "4", "max-lora-rank": "16"}
    with started("vllm", tmp_path, folder, arguments=options) as heard, heard.client as client:
        heard.of(Ready)
        log = (tmp_path / "log").read_text()
        assert '"--max-loras", "4"' in log and "--enable-lora" in log  # vLLM's default is one adapter in a batch
        assert client.post("/v1/chat/completions", json=chat("a", model=name)).status_code == 404
        heard.running.load(name, adapter, 10)
        assert [a["name"] for a in client.get("/adapters").json()["adapters"]] == [name]
        assert words(heard, "a", model=name) == "a a a a "
        heard.running.unload(name, 10)
        heard.running.unload(name, 10)
        assert client.post("/v1/chat/completions", json=chat("a", model=name)).status_code == 404


def test_what_vllm_ignores_in_silence_is_refused(vllm: Path, folder: Path, tmp_path: Path) -> None:
    """vLLM #53975: the old `guided_*` fields are ignored, and free text comes with 200."""
    with started("vllm", tmp_path, folder) as heard, heard.client as client:
        heard.of(Ready)
        for name in ("guided_json", "guided_regex", "guided_choice", "guided_grammar"):
            refused = client.post("/v1/chat/completions", json=chat("a", **{name: {}}))
            assert refused.status_code == 400 and name in refused.json()["error"]["message"]
        assert words(heard, "a", guided_json=None) == "a a a a "


def test_an_adapter_that_it_does_not_take_is_said_with_its_reason(
    vllm: Path, folder: Path, adapter: Path, tmp_path: Path
) -> None:
    with started("vllm", tmp_path, folder) as heard:
        heard.of(Ready)
        with pytest.raises(NotSupported, match="deploy it as a model of its own"):
            heard.running.load("a/b@1", adapter, 10)
    with started("vllm", tmp_path, folder, arguments={"max-loras": "1", "max-lora-rank": "8"}) as heard:
        heard.of(Ready)
        with pytest.raises(EngineFailed, match="rank 12 is greater"):
            heard.running.load("a/b@1", adapter, 10)


def test_an_adapter_of_its_own_runs_over_its_base(vllm: Path, folder: Path, adapter: Path, tmp_path: Path) -> None:
    with started("vllm", tmp_path, adapter, base=folder, model="ann/tuned") as heard:
        assert words(heard, "b", model="ann/tuned") == "b b b b "
        assert words(heard, "b", model=f"ann/tuned@{REVISION}") == "b b b b "
        told = (tmp_path / "log").read_text()
        assert "--max-lora-rank" in told and f"ann/tuned={adapter}" in told


@pytest.fixture
def attached(vllm: Path, folder: Path) -> Iterator[str]:
    """A server that somebody else started, with a key and adapters; its address."""
    port = free_port()
    command = [vllm, "serve", folder, "--port", str(port), "--served-model-name", "theirs", "--enable-lora"]
    env = {**os.environ, "VLLM_API_KEY": "sk-theirs", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait(60)


def test_one_that_runs_elsewhere_is_asked_watched_and_left_alone(
    attached: str, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_API_KEY", "sk-theirs")
    monkeypatch.setattr("ecotone.engines.kinds.vllm.WATCH", {"probe_every": 0.2, "stall": 1.5, "probe_within": 30.0})
    how = {"url": attached, "served_as": "theirs", "key_env": "BOX_API_KEY"}
    with started("vllm", tmp_path, **how) as heard:
        ready = heard.of(Ready)
        assert (ready.where.dialect, ready.info["context_length"]) == ("vllm", 4096)
        assert words(heard, "red") == "red red red red "
        heard.running.load("ann/tuned@1", adapter, 10)
        assert words(heard, "a", model="ann/tuned@1") == "a a a a "
        heard.beat(lambda b: b.tokens == 8 and b.well)

        def waits() -> None:
            with contextlib.suppress(httpx.HTTPError), heard.client as patient:
                patient.post("/v1/chat/completions", json=chat("hang"))

        hanging = threading.Thread(target=waits)
        hanging.start()
        heard.beat(lambda b: not b.well)
        assert hanging.is_alive()
    hanging.join(60)
    assert httpx.get(attached.removesuffix("/v1") + "/health").status_code == 200, "it was ended with the deployment"


def test_text_generation_of_hugging_face_is_answered(vllm: Path, folder: Path, tmp_path: Path) -> None:
    with started("vllm", tmp_path, folder) as heard, heard.client as client:
        body = {"inputs": "red blue", "parameters": {"max_new_tokens": 3, "details": True}}
        answer = client.post("/tasks/auto", json=body)
        assert answer.json()["generated_text"] == "red blue red "
        assert answer.headers["x-ecotone-task"] == "text-generation" and answer.headers["x-ecotone-usage"] == "2,3"
        lines = client.post("/tasks/text-generation", json={**body, "stream": True}).text.split("\n\n")
        events = [json.loads(line.removeprefix("data:")) for line in lines if line]
        assert [e["token"]["text"] for e in events] == ["red ", "blue ", "red ", ""]
        assert events[-1]["generated_text"] == "red blue red "
        assert events[-1]["details"]["generated_tokens"] == 3 and events[-1]["details"]["input_length"] == 2
        wrong = client.post("/tasks/fill-mask", json=body)
        assert wrong.status_code == 400 and "does not do 'fill-mask'" in wrong.json()["error"]


def test_without_vllm_it_says_what_to_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineFailed, match="pip install vllm"), started("vllm", tmp_path, folder):
        pass


def test_weights_that_it_cannot_read_are_told_with_the_end_of_its_log(vllm: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with started("vllm", tmp_path, tmp_path / "empty") as heard:
        assert heard.running.wait(60)
        assert "no safetensors weights found" in heard.running.failure("It did not start")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arguments": {"trust-remote-code": ""}}, "no argument 'trust-remote-code'"),
        ({"arguments": {"api-key": "x"}}, "no argument 'api-key'"),
        ({"quantise": "int8"}, "no option quantise"),
        ({"url": "http://10.0.0.8:8000/v1"}, "--location local"),
        ({"url": "http://169.254.169.254/v1", "location": "local"}, "No request may go"),
        ({"url": "http://user:pw@127.0.0.1/v1"}, "neither a password"),
        ({"url": "ftp://127.0.0.1/"}, "http or https"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(options: dict[str, Any], said: str) -> None:
    with pytest.raises(NotServable, match=said):
        named("vllm").check(Options(kind="vllm", **options))


def test_figures_are_read_from_its_metrics() -> None:
    flow = relay.Flow()
    name = "vllm:generation_tokens_total"
    assert flow.told({name: 10, "vllm:num_requests_running": 1})["tokens"] == 10
    time.sleep(0.05)
    told = flow.told({name: 20, "vllm:num_requests_running": 1, "vllm:kv_cache_usage_perc": 0.5})
    assert 0 < told["tokens_per_second"] <= 200 and told["kv_cache"] == 0.5 and told["running"] == 1
    assert not flow.stalled(60)
    time.sleep(0.06)
    flow.told({name: 20, "vllm:num_requests_running": 1})
    assert flow.stalled(0.05)
    flow.told({name: 20, "vllm:num_requests_running": 0})
    assert not flow.stalled(0.0)
