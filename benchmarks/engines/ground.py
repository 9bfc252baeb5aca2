"""The ground of the benchmark: one core for whoever computes, the other for who asks; CPU seconds by /proc."""

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environment

COMPUTE_CORE, ASK_CORE = 0, 1
_TICK = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 240.0
_ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def check_machine() -> None:
    """Raises SystemExit on a machine where core and load cannot be kept apart."""
    if (os.cpu_count() or 1) < 2 or not hasattr(os, "sched_setaffinity"):
        raise SystemExit("The benchmark needs Linux and two cores: one that computes, one that asks.")
    os.sched_setaffinity(0, {ASK_CORE})


def cpu_seconds(pid: int) -> float:
    """CPU that a process and its living descendants have used."""
    total = 0.0
    for one in (pid, *_descendants(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def memory_mb(pid: int) -> float:
    """Memory of a process and its descendants that no file backs."""
    total = 0
    for one in (pid, *_descendants(pid)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1])
    return total / 1024


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found


@dataclass
class Server:
    """Something that answers in OpenAI's dialect, on a Unix socket or a port."""

    name: str
    pid: int
    model: str
    unix: str | None = None
    port: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        if self.unix is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        made = http.client.HTTPConnection("engine", timeout=600)
        made.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.sock.connect(self.unix)
        return made


@dataclass(frozen=True)
class Load:
    """What a run of requests took. `done` counts what is compared: tokens, or texts."""

    done: int
    cpu: float
    wall: float
    delays: list[float]

    @property
    def rate(self) -> float:
        """Per CPU second of the server."""
        return self.done / self.cpu if self.cpu else 0.0

    @property
    def p50(self) -> float:
        return statistics.median(self.delays)


def post(connection: http.client.HTTPConnection, path: str, body: Mapping[str, Any]) -> Any:
    """One request; raises RuntimeError when the answer is not 200."""
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} gave {answer.status}: {data[:300]!r}")
    return json.loads(data) if data[:1] in (b"{", b"[") else data


def load(
    server: Server, path: str, bodies: Sequence[Mapping[str, Any]], concurrent: int, count: Callable[[Any], int]
) -> Load:
    """Ask all bodies, `concurrent` at a time, each asker on a connection of its own.

    Args:
        count: from an answer, how much of what is compared it holds.
    """
    before, began = cpu_seconds(server.pid), time.perf_counter()
    found = answers(server, path, bodies, concurrent)
    wall = time.perf_counter() - began
    used = cpu_seconds(server.pid) - before
    return Load(sum(count(answer) for answer, _ in found), used, wall, [delay for _, delay in found])


def answers(server: Server, path: str, bodies: Sequence[Mapping[str, Any]], concurrent: int) -> list[tuple[Any, float]]:
    """Each body's answer with the seconds it took, in the order of the bodies."""
    local = threading.local()

    def ask(body: Mapping[str, Any]) -> tuple[Any, float]:
        if not hasattr(local, "connection"):
            local.connection = server.connect()
        began = time.perf_counter()
        answer = post(local.connection, path, body)
        return answer, time.perf_counter() - began

    with ThreadPoolExecutor(concurrent) as pool:
        return list(pool.map(ask, bodies))


@contextlib.contextmanager
def engine(name: str, folder: Path, *, base: Path | None = None, model: str = "", **options: Any) -> Iterator[Server]:
    """Our engine process as the server starts it, on the computing core with one thread."""
    from ecotone.engines.kinds.builtin import MODULE
    from ecotone.jobs import Child

    with tempfile.TemporaryDirectory() as work:
        path, told = str(Path(work) / "engine.sock"), threading.Event()
        heard: list[dict[str, Any]] = []

        def hear(message: dict[str, Any]) -> None:
            heard.append(message)
            if "ready" in message or "refused" in message:
                told.set()

        spec = {
            "folder": str(folder),
            "base": None if base is None else str(base),
            "socket": path,
            "info": {"model": model or name, "revision": "0" * 40},
            "options": options,
        }
        child = Child(MODULE, spec, log=Path(work) / "log", on_message=hear, env=_ALONE)
        os.sched_setaffinity(child.pid, {COMPUTE_CORE})
        try:
            end = time.monotonic() + _START_SECONDS
            while not told.wait(0.01):
                if child.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the engine of {name} did not start:\n{child.tail()}")
            ready = next((message["ready"] for message in heard if "ready" in message), None)
            if ready is None:
                raise RuntimeError(f"the engine refused {name}: {heard}")
            yield Server(name, child.pid, model or name, unix=path, info=ready)
        finally:
            child.stop()


@contextlib.contextmanager
def transformers_serve(folder: Path, *more: str, name: str) -> Iterator[Server]:
    """Hugging Face's own server over the same folder, core and number of threads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as work:
        environ = os.environ | _ALONE | OFFLINE | {"HF_HOME": work, "HF_HUB_CACHE": work}
        argv = [str(environment.python()), "-c", _SERVE, "serve", str(folder), "--port", str(port), *more]
        with open(Path(work) / "log", "wb") as log:
            child = subprocess.Popen(
                argv, stdout=log, stderr=log, env=environ, preexec_fn=lambda: os.sched_setaffinity(0, {COMPUTE_CORE})
            )
            try:
                _await_health(child, port, Path(work) / "log")
                yield Server(name, child.pid, str(folder), port=port)
            finally:
                child.kill()
                child.wait()


_SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


def _await_health(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if child.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text()[-2000:]}")


class Reference:
    """A process that computes with transformers or sentence-transformers alone, on the computing core, one thread."""

    def __init__(self) -> None:
        file = Path(__file__).with_name("reference.py")
        self._process = subprocess.Popen(
            [str(environment.python()), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _ALONE | OFFLINE,
            preexec_fn=lambda: os.sched_setaffinity(0, {COMPUTE_CORE}),
        )

    def __call__(self, do: str, **what: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do} | what) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the reference process ended while it did {do!r}")
        return json.loads(line)

    def __enter__(self) -> "Reference":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return median([a / b for a, b in zip(ours, theirs, strict=True)])
