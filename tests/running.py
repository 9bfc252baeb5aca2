"""`ecotone up` as a user starts it: a process of its own, a free port, an empty data folder, and its command line."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests import inside
from tests.stores import placed_variables

ECOTONE = Path(sys.executable).parent / "ecotone"
ADMIN = "ect_administrator_of_these_tests"
PATIENT = {"HF_HUB_ETAG_TIMEOUT": "120", "HF_HUB_DOWNLOAD_TIMEOUT": "120"}
"""Seconds that huggingface_hub waits for an answer: usually ten, which a busy machine takes now and then."""
KEPT = 600
"""Seconds that uvicorn in a test keeps a connection: after its usual five, as many as after which httpx opens another,
it may close one in the moment in which the next call is sent on it."""
_OURS = ("ECOTONE_", "HF_", "OPENAI_")


_GIVEN: set[int] = set()


def own_ports() -> range:
    """Of this process alone among those that run tests beside it: a server that is down for a moment keeps its port."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return range(10_240 + int(worker.removeprefix("gw")), 32_768, int(workers))


def free_port() -> int:
    """A port that nobody has, that is given once, and that the system gives to nobody: it hands out higher ones (from
    32768 on), and one of those might be another test's, or the near end of a connection, before whoever asked for it
    has opened it."""
    while True:
        port = random.SystemRandom().choice(own_ports())
        with socket.socket() as opened, contextlib.suppress(OSError):
            opened.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def in_time(
    change: Callable[[int], Callable[[], object]], seconds: float, *, within: float = 60, tries: int = 5
) -> float:
    """For a bar in seconds on a machine that others use too: how long it took until what `change` made came to be.

    Args:
        change: makes a change, given the number of the try, and returns what tells that it is in force.
        seconds: so soon, in one of the tries.
        within: so soon, in each of them.
    """
    took = []
    for turn in range(tries):
        came = change(turn)
        began = time.monotonic()
        while not came():
            assert time.monotonic() - began < within, "it did not come to be"
            time.sleep(0.01)
        took.append(time.monotonic() - began)
        if took[-1] < seconds:
            return took[-1]
    raise AssertionError(f"it took {took} s, and may take {seconds}")


def contents(*places: Path) -> Iterator[tuple[Path, bytes]]:
    """Files, and those in folders, with their bytes. What a running server takes away meanwhile, as it does with the
    drafts of what it saves every second, is left out."""
    for place in places:
        inside = (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
        for file in [place] if place.is_file() else inside:
            with contextlib.suppress(FileNotFoundError):
                if file.is_file():
                    yield file, file.read_bytes()


def slower() -> float:
    """How many times as long this machine computes as that for which bars in milliseconds were set; 1 at least."""

    def once() -> float:
        began = time.thread_time()
        sum(number * number for number in range(300_000))
        return time.thread_time() - began

    return max(1.0, min(once() for _ in range(5)) / 0.009)


def _living(group: int) -> bool:
    """Whether a process of a group has not ended."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own, *_ = file.read_text().rpartition(")")[2].split()
            if int(own) == group and state not in "ZX":
                return True
    return False


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that would lead a client elsewhere."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_OURS)} | PATIENT | more


class Running:
    """One installation: `start`, `stop` and `kill` its server, `cli` runs a command against it, `http` is an admin."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "server.log"
        self.env = clean_environment(
            ECOTONE_DATA=str(self.data),
            ECOTONE_PORT=str(self.port),
            ECOTONE_URL=self.url,
            ECOTONE_ADMIN_TOKEN=ADMIN,
            ECOTONE_TOKEN=ADMIN,
            NO_COLOR="1",
            COLUMNS="200",
            **(placed_variables(self.data) | settings),
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=120)

    def start(self, *flags: str) -> None:
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [ECOTONE, "up", *flags], env=self.env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is not None and self.process.poll() is None, self.log[-3000:]
            try:
                if httpx.get(self.url + "/health", timeout=20).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("the server did not answer:\n" + self.log[-3000:])

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def server_pid(self) -> int:
        """The server process, child of the supervisor."""
        assert self.process is not None
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def is_left(self) -> bool:
        """Whether no connection to the port is open at the server's end."""
        wanted = f":{self.port:04X}"
        for table in ("tcp", "tcp6"):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, near, _, state, *_ = line.split()
                if near.endswith(wanted) and state in ("01", "08"):  # established; closed by the client alone
                    return False
        return True

    def stop(self) -> int:
        """SIGTERM to the supervisor; its exit status."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.terminate()
        return self.process.wait(180)

    def kill(self) -> None:
        """`kill -9` of everything that the start began."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        end = time.monotonic() + 90
        while _living(self.process.pid):  # which may hold files, locks and the port for a moment still
            assert time.monotonic() < end, "it does not end"
            time.sleep(0.01)

    def cli(
        self, *argv: str, env: dict[str, str] | None = None, timeout: float = 120, alone: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """A command, in this process where that makes no difference and not `alone`."""
        if not alone and argv[0] not in inside.ALONE and threading.current_thread() is threading.main_thread():
            return inside.run(argv, self.env | (env or {}), self.folder)
        return subprocess.run(
            [ECOTONE, *argv],
            env=self.env | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.folder,
        )

    def told(self, *argv: str) -> Any:
        """What a command prints with `--json`; it must succeed."""
        done = self.cli(*argv, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def publish(self, model_id: str, files: dict[str, bytes]) -> None:
        """Upload small files with the installed huggingface_hub client."""
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(endpoint=self.url, token=ADMIN)
        api.create_repo(model_id, exist_ok=True)
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        api.create_commit(model_id, operations=operations, commit_message="Add")


@contextlib.contextmanager
def running(folder: Path, *flags: str, **settings: str) -> Iterator[Running]:
    found = Running(folder, **settings)
    try:
        found.start(*flags)
        yield found
    finally:
        found.http.close()
        found.stop()
