"""A model on a real Ray cluster of this machine: a replica killed under load, a new revision, growth, an end."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from ecotone.engines.errors import EngineFailed, NotServable
from ecotone.engines.kinds import named
from ecotone.engines.kinds.kind import Options, Ready, Refused
from ecotone.engines.kinds.relay import ray as relay
from tests.engines.kinds import test_through_the_gateway as through
from tests.engines.kinds.ray_cluster import cluster
from tests.engines.kinds.starting import Heard, started, until
from tests.running import running

SMALL = {"cpus": "0.1"}


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("ray", reason='needs the extra ray (pip install "ecotone[ray]")')
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def on_ray(ray: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ray.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def llama(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tiny.llama(tmp_path_factory.mktemp("llama"))
    return found


def chat(client: httpx.Client, **more: Any) -> httpx.Response:
    body = {"model": "demo/llama", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, **more}
    return client.post("/v1/chat/completions", json={"max_tokens": 8, **body})


def replicas(heard: Heard) -> list[int]:
    """The processes of an application's replicas."""
    name = f"ServeReplica:{heard.of(Ready).info['application']}:".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


class Load:
    """Callers that go on until they are told to stop; each call goes where `socket` says."""

    def __init__(self, socket: Callable[[], Path], callers: int = 4, text: str = "hi") -> None:
        self._text = text
        self._socket = socket
        self._stop = threading.Event()
        self.answers: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def more(self, count: int) -> None:
        """Wait until that many calls more were answered."""
        wanted = self.answers.total() + count
        until(lambda: self.answers.total() >= wanted)

    def _call(self) -> None:
        while not self._stop.is_set():
            socket = str(self._socket())
            with httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://e", timeout=60) as client:
                said = [{"role": "user", "content": self._text}]
                answer = chat(client, messages=said, stream=bool(self.answers.total() % 2))
            self.answers[answer.status_code] += 1
            if answer.status_code != 200 or "error" in answer.text:
                self.wrong.append(answer.text[:300])


@pytest.mark.slow
def test_a_replica_that_dies_under_load_loses_nobody_an_answer(on_ray: None, llama: Path, tmp_path: Path) -> None:
    with started("ray", tmp_path, llama, replicas=2, arguments=SMALL) as heard:
        ready = heard.of(Ready, 120)
        assert ready.info["task"] == "text-generation" and ready.where.socket is not None
        place = ready.where.socket
        assert len(replicas(heard)) == 2
        with Load(lambda: place) as load:
            load.more(10)
            victim = replicas(heard)[0]
            os.kill(victim, signal.SIGKILL)
            load.more(20)
            until(lambda: len(set(replicas(heard)) - {victim}) == 2)
            load.more(10)
        assert not [text for text in load.wrong if "middle of its answer" not in text], load.wrong
        assert set(load.answers) == {200}, load.answers
        assert heard.running.wait(0) is False


@pytest.mark.slow
def test_a_new_revision_takes_over_under_load_and_the_old_one_is_gone(
    on_ray: None, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        old = first.enter_context(started("ray", tmp_path / "a", llama, arguments=SMALL))
        places = [old.of(Ready, 120).where.socket]
        with Load(lambda: places[-1] or Path()) as load:
            load.more(10)
            monkeypatch.setattr("tests.engines.kinds.starting.REVISION", f"{2:040x}")
            new = second.enter_context(started("ray", tmp_path / "b", llama, arguments=SMALL))
            found = new.of(Ready, 120)
            assert found.info["revision"] == f"{2:040x}"
            places.append(found.where.socket)
            load.more(10)
            gone = replicas(old)
            first.close()
            load.more(10)
        assert set(load.answers) == {200} and not load.wrong
        until(lambda: not set(gone) & set(replicas(old)))


@pytest.mark.slow
def test_it_grows_where_it_is_and_only_its_last_owner_ends_it(on_ray: None, llama: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as first:
        one = first.enter_context(started("ray", tmp_path, llama, arguments=SMALL))
        place = one.of(Ready, 120).where.socket
        before = replicas(one)
        with started("ray", tmp_path, llama, replicas=2, arguments=SMALL) as two:
            with Load(lambda: place or Path(), callers=2) as load:
                assert two.of(Ready, 120).info["application"] == one.of(Ready).info["application"]
                until(lambda: len(replicas(two)) == 2)
                assert set(before) < set(replicas(two)), "a replica that had loaded was thrown away"
                place = two.of(Ready).where.socket
                load.more(5)
                first.close()
                load.more(5)
                assert len(replicas(two)) == 2
            assert set(load.answers) == {200} and not load.wrong
        until(lambda: not replicas(one))


@pytest.mark.slow
def test_vllm_on_ray_grows_with_the_load(
    on_ray: None, vllm: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOTONE_VLLM", str(vllm))
    scale = {"target_ongoing_requests": "1", "upscale_delay_s": "0", "look_back_period_s": "2"}
    options = {"engine": "vllm", "max-model-len": "512", **scale, **SMALL}
    with started("ray", tmp_path, folder, replicas=1, most_replicas=2, arguments=options) as heard:
        ready = heard.of(Ready, 120)
        assert ready.where.dialect == "vllm" and ready.info["engine"] == "vLLM 0.32.0"
        assert ready.info["context_length"] == 512 and len(replicas(heard)) == 1
        place = ready.where.socket or Path()
        with Load(lambda: place, callers=6, text="slow words") as load:
            until(lambda: len(replicas(heard)) == 2)
            load.more(6)
        assert set(load.answers) == {200} and not load.wrong
        heard.beat(lambda b: b.running == 0)
        with heard.client as client:
            task = client.post("/tasks/auto", json={"inputs": "red", "parameters": {"max_new_tokens": 2}})
            assert task.json() == [{"generated_text": "red red "}] and task.headers["x-ecotone-usage"] == "1,2"


@pytest.mark.slow
def test_weights_that_cannot_be_loaded_are_refused_with_the_replicas_own_words(
    on_ray: None, llama: Path, tmp_path: Path
) -> None:
    shutil.copytree(llama, tmp_path / "broken")
    with open(tmp_path / "broken" / "model.safetensors", "r+b") as file:
        file.truncate(5000)
    with started("ray", tmp_path, tmp_path / "broken", arguments=SMALL) as heard:
        assert "cannot be loaded" in heard.of(Refused, 100).reason


@pytest.mark.slow
def test_serves_own_port_answers_nobody_without_the_key(
    on_ray: None, ray: dict[str, str], llama: Path, tmp_path: Path
) -> None:
    with started("ray", tmp_path, llama, arguments=SMALL) as heard:
        application = heard.of(Ready, 120).info["application"]
        with httpx.Client(base_url=ray["ECOTONE_RAY_SERVE_URL"]) as stranger:
            body = {"model": "demo/llama", "messages": [{"role": "user", "content": "hi"}]}
            assert stranger.post(f"/{application}/v1/chat/completions", json=body).status_code == 401
            assert stranger.get(f"/{application}/health").status_code == 401
        key = next((tmp_path / "engines" / "ray").glob("*.key"))
        assert key.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_model_on_ray_is_deployed_rolled_and_ended_through_the_server(
    ray: dict[str, str], llama: Path, tiny: ModuleType, tmp_path: Path
) -> None:
    one, two = llama, tiny.llama(tmp_path / "two", seed=1)
    with running(tmp_path / "server", **ray) as server:
        server.publish("demo/tiny", through.files_of(one))
        made = through.deploy(server, "demo/tiny", kind="ray", replicas=1, most_replicas=2, arguments={"cpus": "0.1"})
        assert made["state"] == "ready" and made["kind"] == "ray"
        until(lambda: through.chat(server, "demo/tiny", "hi").status_code == 200)
        before = through.chat(server, "demo/tiny", "hi").json()["choices"][0]["message"]["content"]
        server.publish("demo/tiny", through.files_of(two))
        said: list[tuple[int, str]] = []
        rolling = subprocess.Popen(
            [sys.executable, "-c", _ROLL, server.url, "demo/tiny"], env=server.env, stdout=subprocess.PIPE
        )
        while rolling.poll() is None:
            answer = through.chat(server, "demo/tiny", "hi")
            text = answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else answer.text
            said.append((answer.status_code, text))
        assert rolling.returncode == 0
        until(lambda: through.chat(server, "demo/tiny", "hi").json()["choices"][0]["message"]["content"] != before)
        assert len(said) > 5 and {status for status, _ in said} == {200}, said
        assert server.http.delete("/api/ecotone/v1/deployments/demo/tiny").status_code == 200


_ROLL = """
import os, sys, httpx
options = {"kind": "ray", "replicas": 1, "most_replicas": 2, "arguments": {"cpus": "0.1"}}
body = {"model": sys.argv[2], "options": options}
head = {"authorization": "Bearer " + os.environ["ECOTONE_ADMIN_TOKEN"]}
answer = httpx.post(sys.argv[1] + "/api/ecotone/v1/deployments", json=body, headers=head, timeout=240)
sys.exit(answer.status_code != 201)
"""


def test_without_a_cluster_it_says_how_to_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECOTONE_RAY_ADDRESS", raising=False)
    with pytest.raises(EngineFailed, match="ray start --head"), started("ray", tmp_path, tmp_path):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replicas": 3, "most_replicas": 2}, "smaller number first"),
        ({"replicas": 2000}, "1 to 1000"),
        ({"arguments": {"cpus": "lots"}}, "cpus is 'lots'; a number from 0 to 1024"),
        ({"arguments": {"queue": "nan"}}, "a number from 0"),
        ({"arguments": {"engine": "tgi"}}, "builtin or vllm"),
        ({"arguments": {"max-model-len": "5"}}, "no argument 'max-model-len'"),
        ({"url": "http://127.0.0.1:1"}, "no option url"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(options: dict[str, Any], said: str) -> None:
    with pytest.raises(NotServable, match=said):
        named("ray").check(Options(kind="ray", **options))


def test_two_relays_of_a_new_application_have_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one read the file before the first had written in it, and had none."""
    first: Any = object.__new__(relay.OnRay)
    second: Any = object.__new__(relay.OnRay)
    for number, each in enumerate((first, second)):
        each._home, each._app, each._me = tmp_path, "llama-1", str(number)
    make, keys = secrets.token_hex, list[str]()

    def while_another_begins(size: int) -> str:
        monkeypatch.setattr(secrets, "token_hex", make)
        keys.append(second._key())
        return make(size)

    monkeypatch.setattr(secrets, "token_hex", while_another_begins)
    keys.append(first._key())
    assert keys[0] == keys[1] and len(keys[0]) == 48
    assert [entry.name for entry in tmp_path.iterdir()] == ["llama-1.key"]
