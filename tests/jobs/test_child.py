"""Children: what they receive, what they may see, how they end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecotone.jobs import Child, scrubbed

Until = Callable[..., None]
Gone = Callable[[int], bool]


def run(tmp_path: Path, spec: dict[str, Any]) -> tuple[Child, list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []
    return Child("workers", spec, log=tmp_path / "log", on_message=heard.append), heard


def test_spec_goes_in_and_messages_come_out_in_order(tmp_path: Path) -> None:
    child, heard = run(tmp_path, {"part": "add", "numbers": [1, 2, 3]})
    assert child.wait(60) == 0
    assert heard == [{"progress": 0.5, "text": "adding"}, {"result": {"sum": 6}}]
    assert (tmp_path / "log").read_text() == "a line of output\n"
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    assert child.poll() == 0 and child.stop() == 0


def test_it_has_not_ended_before_its_last_message_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping what the first tells may wait for the database; the result that lies behind it would be lost."""
    monkeypatch.setattr("ecotone.jobs.child._LISTEN_SECONDS", 0.1)
    heard: list[dict[str, Any]] = []
    first, go = threading.Event(), threading.Event()

    def hear(message: dict[str, Any]) -> None:
        first.set()
        assert go.wait(90)
        heard.append(message)

    child = Child("workers", {"part": "add", "numbers": [1]}, log=tmp_path / "log", on_message=hear)
    assert first.wait(90)
    with pytest.raises(TimeoutError):
        child.wait(3)
    go.set()
    assert child.wait(90) == 0
    assert heard[-1] == {"result": {"sum": 1}}


def test_it_has_ended_though_what_left_its_group_holds_the_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr("ecotone.jobs.child._LISTEN_SECONDS", 0.1)
    child, heard = run(tmp_path, {"part": "leaves"})
    assert child.wait(90) == 0
    until(lambda: heard)
    os.kill(heard[0]["pid"], signal.SIGKILL)


def test_a_spec_larger_than_a_pipe_arrives_whole(tmp_path: Path) -> None:
    child, heard = run(tmp_path, {"part": "add", "numbers": [1] * 300_000})
    assert child.wait(60) == 0
    assert heard[-1] == {"result": {"sum": 300_000}}


def test_a_child_sees_no_key_and_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ECOTONE_ADMIN_TOKEN", "HF_TOKEN", "CUDA_API_KEY", "OMP_TOKEN", "ECOTONE_DATA"):
        monkeypatch.setenv(name, "secret-value")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    child, heard = run(tmp_path, {"part": "environment"})
    child.wait(60)
    seen = heard[0]["result"]
    assert "secret-value" not in seen.values()
    assert seen["OMP_NUM_THREADS"] == "2" and seen["HF_HUB_OFFLINE"] == "1" and seen["PATH"]


def test_additions_to_the_environment_pass_the_same_gate() -> None:
    assert scrubbed({"PATH": "/bin", "EDITOR": "vi"}, {"THREADS": "2", "X_API_KEY": "k"}).items() >= {
        ("PATH", "/bin"),
        ("THREADS", "2"),
    }
    assert not {"EDITOR", "X_API_KEY"} & set(scrubbed({"EDITOR": "vi"}, {"X_API_KEY": "k"}))


def test_standard_input_is_empty_and_the_session_its_own(tmp_path: Path) -> None:
    child, heard = run(tmp_path, {"part": "stdin"})
    child.wait(60)
    assert heard == [{"result": {"stdin": "", "session": True}}]


@pytest.mark.parametrize("part", ["sleep", "stubborn"])
def test_stopping_ends_the_child_and_what_it_started(part: str, tmp_path: Path, until: Until, gone: Gone) -> None:
    child, heard = run(tmp_path, {"part": part})
    until(lambda: heard)
    status = child.stop(grace=0.5)
    assert status == (-signal.SIGTERM if part == "sleep" else -signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in heard[0]["pids"]))


def test_a_killed_child_takes_its_own_children_along(tmp_path: Path, until: Until, gone: Gone) -> None:
    child, heard = run(tmp_path, {"part": "sleep"})
    until(lambda: heard)
    subprocess.run(["kill", "-9", str(child.pid)], check=True)
    assert child.wait(60) == -signal.SIGKILL
    until(lambda: gone(heard[0]["pids"][1]))


def test_the_error_tells_how_it_died_and_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("words of an earlier run\n")
    child, _ = run(tmp_path, {"part": "crash"})
    error = child.failure("Measuring failed")
    assert "SIGKILL" in error.message and "last words" in error.message and error.status == -9
    assert "earlier" not in error.message


def test_no_orphan_when_the_parent_is_killed(tmp_path: Path, until: Until, gone: Gone) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from ecotone.jobs import Child\n"
        "heard = []\n"
        "child = Child('workers', {'part': 'parent'}, log=pathlib.Path(sys.argv[1]), on_message=heard.append)\n"
        "while not heard: time.sleep(0.01)\n"
        "print(*heard[0]['pids'], flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2 and not any(map(gone, pids))
        parent.kill()
    until(lambda: all(map(gone, pids)))


def test_many_children_at_once_do_not_hold_each_others_pipes(tmp_path: Path) -> None:
    results: list[int] = []

    def one(number: int) -> None:
        heard: list[dict[str, Any]] = []
        spec = {"part": "add", "numbers": [number]}
        child = Child("workers", spec, log=tmp_path / str(number), on_message=heard.append)
        child.wait(90)
        results.append(heard[-1]["result"]["sum"])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(8))


def test_the_child_side_is_light() -> None:
    """A child loads neither the database nor anything else of the server."""
    program = "import sys, ecotone.jobs.child_side; print(*(m for m in sys.modules if m[:6] in ('sqlalc', 'ecoton')))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["ecotone", "ecotone.jobs", "ecotone.jobs.child_side"]


def test_a_message_that_cannot_be_taken_does_not_silence_the_child(tmp_path: Path) -> None:
    """Else an engine's beats would end with it: it would seem idle, or busy, for as long as it runs."""
    heard: list[dict[str, Any]] = []

    def hear(message: dict[str, Any]) -> None:
        heard.append(message)
        if len(heard) == 1:
            raise ValueError("no number")

    child = Child("workers", {"part": "add", "numbers": [1]}, log=tmp_path / "log", on_message=hear)
    assert child.wait(90) == 0
    assert heard[-1] == {"result": {"sum": 1}}
