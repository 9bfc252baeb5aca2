"""The clients of the table, the tasks of each, and doing them: one real server, each client in its own environment."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.environments import environment
from tests.running import ADMIN, Running, clean_environment

TASKS = Path(__file__).parent / "tasks"
sys.path.insert(0, str(TASKS))

import datasets_data  # noqa: E402
import hf_commands  # noqa: E402
import hub  # noqa: E402
import serving  # noqa: E402
import tools  # noqa: E402
import transformers_models  # noqa: E402
import vllm_loader  # noqa: E402

USERS = {"will": "write", "wanda": "write", "rita": "read"}
SECONDS = 900  # for one task, which may run several commands on a busy machine
XET_OFF = {"HF_HUB_DISABLE_XET": "1"}


@dataclass(frozen=True)
class Client:
    """A column of the table: an environment, and what is set in it. `moving_only`: does only what moves large files."""

    title: str
    environment: str | None
    settings: dict[str, str] = field(default_factory=dict)
    moving_only: bool = False

    @property
    def name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def python(self) -> Path:
        return environment(self.environment) / "python" if self.environment else Path(sys.executable)


@dataclass(frozen=True)
class Kind:
    """One table: a file of tasks, and the clients that do them."""

    title: str
    script: str
    tasks: serving.Tasks
    clients: tuple[Client, ...]

    def pairs(self) -> Iterator[tuple[Client, serving.Task]]:
        for client in self.clients:
            for task in self.tasks:
                yield client, task


HUB = [("0.36.2", "hub-0.36"), ("1.19.0", "hub-1.19"), ("1.33.0", "hub-1.33"), ("2.4.0", "hub-2.4")]
KINDS = (
    Kind(
        "huggingface_hub",
        "hub.py",
        hub.tasks,
        (
            *(Client(version, place) for version, place in HUB),
            *(Client(f"{version}, Xet off", place, XET_OFF, moving_only=True) for version, place in HUB),
        ),
    ),
    Kind("hf", "hf_commands.py", hf_commands.tasks, tuple(Client(version, place) for version, place in HUB)),
    Kind(
        "transformers",
        "transformers_models.py",
        transformers_models.tasks,
        (
            Client("4.57.6, huggingface_hub 0.36.2", "transformers-4"),
            Client("5.24.0, huggingface_hub 2.4.0", "transformers-5"),
            Client("5.24.0, Xet off", "transformers-5", XET_OFF, moving_only=True),
        ),
    ),
    Kind(
        "datasets",
        "datasets_data.py",
        datasets_data.tasks,
        (
            Client("4.5.0, huggingface_hub 0.36.2", "datasets-4"),
            Client("5.2.0, huggingface_hub 2.4.0", "datasets-5"),
            Client("5.2.0, Xet off", "datasets-5", XET_OFF, moving_only=True),
        ),
    ),
    Kind(
        "curl, wget, git",
        "tools.py",
        tools.tasks,
        tuple(Client(tool, None, {"CLIENT_TOOL": tool}) for tool in ("curl", "wget", "git", "git-lfs")),
    ),
    Kind("vLLM", "vllm_loader.py", vllm_loader.tasks, (Client("0.32.0, its loader's functions", "vllm"),)),
)


@dataclass(frozen=True)
class Row:
    """What became of one task: `ok` is None where it is not applicable, `detail` says why."""

    task: str
    ok: bool | None
    detail: str
    seconds: float


def users_of(server: Running) -> dict[str, str]:
    """A token for each user, and under `key` a key of the gateway, which the hub refuses."""

    def made(what: str, field: str, **asked: str) -> str:
        answer = server.http.post(f"/api/ecotone/v1/{what}", json=asked)
        assert answer.is_success, answer.text
        return str(answer.json()[field])

    tokens = {user: made("tokens", "token", user=user, role=role) for user, role in USERS.items()}
    made("projects", "name", name="shop", mode="run", purpose="research")
    tokens["key"] = made("keys", "key", project="shop")
    return tokens | {"admin": ADMIN}


class Session:
    """A client at work: its process, started at its first task, and again when a task ended it."""

    def __init__(self, client: Client, kind: Kind, server: Running, tokens: dict[str, str], folder: Path) -> None:
        self.client, self.kind = client, kind
        self.folder = folder / f"{kind.script.removesuffix('.py')}-{client.name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = clean_environment(
            HF_ENDPOINT=server.url,
            HF_TOKEN=tokens["will"],
            HF_HOME=str(self.folder / "home"),
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            DO_NOT_TRACK="1",
            NO_COLOR="1",
            CLIENT_NAME=f"{client.name}-{kind.script.removesuffix('.py')}",  # names of repositories: no two alike
            CLIENT_FOLDER=str(self.folder),
            CLIENT_TOKENS=json.dumps(tokens),
            **client.settings,
        )
        self.process: subprocess.Popen[bytes] | None = None

    def do(self, task: serving.Task) -> Row:
        if self.client.moving_only and not task.moves:
            return Row(task.title, None, "moves no large file: as with Xet", 0.0)
        if self.process is None:
            self.process = self._start()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(task.title.encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if ready else b""
        if line:
            told = json.loads(line)
            return Row(told["task"], told["ok"], told["detail"], told["seconds"])
        self.stop()
        said = (self.folder / "log").read_text(errors="replace")[-1500:]
        return Row(task.title, False, f"no answer within {SECONDS} s, or the client ended: {said}", SECONDS)

    def _start(self) -> "subprocess.Popen[bytes]":
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                [self.client.python(), TASKS / self.kind.script],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def sessions(server: Running, folder: Path, kinds: Iterable[Kind] = KINDS) -> Iterator[dict[tuple[str, str], Session]]:
    """A session for each (title of a kind, name of a client); they end with the block."""
    tokens = users_of(server)
    found = {(k.title, c.name): Session(c, k, server, tokens, folder) for k in kinds for c in k.clients}
    try:
        yield found
    finally:
        for session in found.values():
            session.stop()
