"""Deployments: started, decided, watched, started again, restored, ended; and that no engine outlives its server."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import ModelNotFound, RevisionNotFound
from ecotone.engines import Deployment, DeploymentNotFound, EngineFailed, Engines, ExtraMissing
from ecotone.engines.errors import NotServable
from ecotone.vocabulary import DeploymentState, Refused, Role
from tests.engines.shelf import Shelf, outcome, running

Until = Callable[..., None]
Gone = Callable[[int], bool]
Connect = Callable[[str | None], httpx.Client]

ADA = Actor(kind="user", name="ada", role=Role.WRITE, project=None)


def says(connect: Connect, socket: str | None, text: str = "hello", model: str | None = None) -> str:
    with connect(socket) as client:
        model = model or client.get("/info").json()["model"]
        body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8}
        answer: str = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    return answer


def test_a_model_is_served_until_it_is_stopped(engines: Engines, connect: Connect, gone: Gone) -> None:
    changes: list[list[DeploymentState]] = []
    engines.on_change(lambda: changes.append([d.state for d in engines.deployments()]))
    made = engines.serve("demo/llama", "main", ("shop",), ADA)
    assert (made.state, made.task, made.context_length) == (DeploymentState.READY, "text-generation", 128)
    assert made.projects == ("shop",) and made.pid and engines.deployments() == [made]
    assert len(os.fsencode(made.socket or "")) <= 107
    assert says(connect, made.socket)
    again = engines.serve("demo/llama", "main", (), ADA)
    assert again.pid == made.pid and again.projects == () and again.id == made.id
    engines.stop("demo/llama")
    assert engines.deployments() == [] and gone(made.pid) and not Path(made.socket or "").exists()
    assert [DeploymentState.STARTING] in changes and [DeploymentState.READY] in changes and changes[-1] == []
    with pytest.raises(DeploymentNotFound):
        engines.stop("demo/llama")


def test_refused_before_anything_starts(tmp_path: Path, shelf: Shelf) -> None:
    asked: list[Any] = []

    def may_serve(*what: Any) -> Any:
        asked.append(what)
        return outcome(allowed=False)

    with running(tmp_path, shelf, may_serve=may_serve) as engines:
        with pytest.raises(Refused, match="clause 2") as refused:
            engines.serve("demo/llama", "main", ("shop",), ADA)
        assert refused.value.decision["verdict"] == "deny" and engines.deployments() == []
        assert asked == [("demo/llama", f"{1:040x}", ("shop",))]


def test_what_is_not_there_is_not_served(engines: Engines, shelf: Shelf) -> None:
    shelf.hidden.add("demo/other")
    for name in ("demo/nothing", "demo/other"):
        with pytest.raises(ModelNotFound):
            engines.serve(name, "main", (), ADA)
    with pytest.raises(RevisionNotFound):
        engines.serve("demo/llama", f"{9:040x}", (), ADA)
    shelf.revisions["demo/empty"] = []
    with pytest.raises(NotServable, match="no weights"):
        engines.serve("demo/empty", "main", (), ADA)


def test_a_missing_extra_is_named(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r'pip install "ecotone\[engine\]"'):
        engines.serve("demo/llama", "main", (), ADA)


def test_the_server_process_never_imports_torch() -> None:
    program = (
        "import sys, ecotone.engines as e; e.Engines; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def broken(made: dict[str, Path], tmp_path: Path, how: Callable[[Path], object]) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(made["llama"], folder)
    how(folder)
    return folder


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(5000)


def unknown(folder: Path) -> None:
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"llama"', '"zebra"'))


def misnamed(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")


def toothless(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def larger(folder: Path) -> None:
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (pickled, "safetensors"),
        (cut, "cannot be loaded"),
        pytest.param(unknown, "zebra", marks=pytest.mark.slow),
        pytest.param(misnamed, "no file named model.safetensors", marks=pytest.mark.slow),
        pytest.param(toothless, "tokenizer", marks=pytest.mark.slow),
        (larger, "weights lack"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_its_reason(
    how: Callable[[Path], object], said: str, engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path
) -> None:
    shelf.put("demo/broken", broken(made, tmp_path, how))
    with pytest.raises(NotServable, match=said) as refused:
        engines.serve("demo/broken", "main", (), ADA)
    assert "demo/broken" in refused.value.message and str(tmp_path) not in refused.value.message
    assert engines.deployments() == []


def test_a_killed_engine_comes_back_and_others_do_not_notice(engines: Engines, connect: Connect, until: Until) -> None:
    first = engines.serve("demo/llama", "main", (), ADA)
    other = engines.serve("demo/bert", "main", (), ADA)
    seen: list[tuple[float, Deployment]] = []

    def note() -> None:
        down = next(d for d in engines.deployments() if d.model == "demo/llama")
        if down.state != DeploymentState.READY:
            seen.append((time.monotonic(), down))

    engines.on_change(note)
    took: list[float] = []
    while not took or (min(took) >= 3 and len(took) < 5):  # others may hold this machine up, too
        pid = engines.serve("demo/llama", "main", (), ADA).pid  # waits where it is started again
        seen.clear()
        killed = time.monotonic()
        os.kill(pid or 0, signal.SIGKILL)
        until(lambda: seen)
        at, down = seen[0]
        took.append(at - killed)
        assert down.state == DeploymentState.STARTING and "SIGKILL" in (down.error or "") and down.socket is None
    assert min(took) < 3, "a crash is seen at once"
    with connect(other.socket) as client:
        assert client.post("/v1/embeddings", json={"model": "demo/bert", "input": "hello"}).status_code == 200
    back = engines.serve("demo/llama", "main", (), ADA)  # waits for the restart
    assert back.restarts == len(took) and back.pid != first.pid and back.error is None and back.socket != first.socket
    assert says(connect, back.socket)
    assert next(d for d in engines.deployments() if d.model == "demo/bert").pid == other.pid


@pytest.mark.slow
def test_an_engine_that_hangs_is_started_again(engines: Engines, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    first = engines.serve("demo/bert", "main", (), ADA)
    monkeypatch.setattr(
        "ecotone.engines.kinds.process.healthy", lambda path, within: str(path) != first.socket
    )  # a stopped process would be seen after three probes of ten seconds
    until(lambda: "hangs" in (engines.deployments()[0].error or ""))
    until(lambda: engines.deployments()[0].state == DeploymentState.READY)
    assert engines.deployments()[0].restarts == 1


@pytest.mark.slow
def test_a_new_revision_takes_over_when_it_is_ready(
    engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path, connect: Connect, gone: Gone, until: Until
) -> None:
    old = engines.serve("demo/llama", "main", (), ADA)
    text = says(connect, old.socket)
    shelf.put("demo/llama", broken(made, tmp_path, pickled))
    with pytest.raises(NotServable):
        engines.serve("demo/llama", "main", (), ADA)
    assert says(connect, engines.deployments()[0].socket) == text, "the old one goes on when the new one fails"
    shelf.put("demo/llama", made["other"])
    new = engines.serve("demo/llama", "main", (), ADA)
    assert new.revision == f"{3:040x}" and new.id == old.id
    until(lambda: gone(old.pid or 0))
    assert says(connect, new.socket) != text


@pytest.mark.slow
def test_what_was_served_is_restored_without_blocking(tmp_path: Path, shelf: Shelf, until: Until) -> None:
    with running(tmp_path, shelf) as engines:
        engines.serve("demo/llama", "main", ("shop",), ADA)
        engines.serve("demo/bert", "main", (), ADA)
    del shelf.revisions["demo/bert"]
    with running(tmp_path, shelf) as engines:
        engines.restore()
        found = next(d for d in engines.deployments() if d.model == "demo/llama")
        assert found.state == DeploymentState.STARTING, "it was waited for"
        until(lambda: {d.state for d in engines.deployments()} == {DeploymentState.READY, DeploymentState.FAILED})
        lost, found = engines.deployments()
        assert found.model == "demo/llama" and found.projects == ("shop",)
        assert lost.model == "demo/bert" and "demo/bert" in (lost.error or "")
        assert engines.logs("DEMO/llama")


def test_stopping_a_model_that_starts_does_not_wait_for_it(engines: Engines, until: Until) -> None:
    failures: list[Exception] = []

    def serve() -> None:
        try:
            engines.serve("demo/llama", "main", (), ADA)
        except EngineFailed as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    until(lambda: engines.deployments())
    engines.stop("demo/llama")
    thread.join(60)
    assert failures and "stopped" in str(failures[0]) and engines.deployments() == []


def test_no_engine_outlives_a_killed_server(tmp_path: Path, made: dict[str, Path], until: Until, gone: Gone) -> None:
    program = f"""
import sys, time, pathlib
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.engines.shelf import SYSTEM, Shelf, running
shelf = Shelf()
shelf.put("demo/llama", pathlib.Path({str(made["llama"])!r}))
with running(pathlib.Path({str(tmp_path)!r}), shelf) as engines:
    print(engines.serve("demo/llama", "main", (), SYSTEM).pid, flush=True)
    time.sleep(300)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert not gone(pid)
        server.kill()
    until(lambda: gone(pid))


def adapter(made: dict[str, Path], folder: Path, base: str, seed: int = 3) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(made["llama"])
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder)
    return folder


def test_an_adapter_is_served_over_its_base(
    engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path, connect: Connect
) -> None:
    pytest.importorskip("peft")
    shelf.put("demo/adapter", adapter(made, tmp_path / "adapter", "demo/llama"))
    plain, adapted = (engines.serve(name, "main", (), ADA) for name in ("demo/llama", "demo/adapter"))
    assert says(connect, plain.socket) != says(connect, adapted.socket, model=adapted.engine_model)


def test_an_adapter_is_no_way_into_a_model_one_may_not_see(
    engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    shelf.put("demo/adapter", adapter(made, tmp_path / "adapter", "demo/other"))
    shelf.hidden.add("demo/other")
    with pytest.raises(NotServable, match="publish the base"):
        engines.serve("demo/adapter", "main", (), ADA)
    assert SYSTEM.may_read_private
