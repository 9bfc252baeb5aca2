"""`ecotone gateway` as a user starts it: a process tree on a free port, a snapshot in its data folder, a provider."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ecotone.gateway import Snapshot
from ecotone.gateway.snapshot import save
from ecotone.ledger import Ledger
from tests.gateway.conftest import Provider, snapshot
from tests.running import ECOTONE, clean_environment, free_port


class Gateways:
    """One tree: `start`, `stop`, its workers' process ids, its ledger, a client."""

    def __init__(self, folder: Path, *, workers: int, scheme: str = "http", **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.workers = workers
        self.port = free_port()
        self.url = f"{scheme}://localhost:{self.port}" if scheme == "https" else f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "gateway.log"
        self.env = clean_environment(
            **{"FAKE_API_KEY": "sk-upstream-secret", "NO_COLOR": "1", "ECOTONE_DATA": str(self.data)} | settings
        )
        self.process: subprocess.Popen[bytes] | None = None

    def place(self, found: Snapshot) -> None:
        place = self.data / "snapshot"
        place.mkdir(parents=True, exist_ok=True)
        save(found, place)

    def start(self, *, wait: bool = True) -> None:
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [ECOTONE, "gateway", "--workers", str(self.workers), "--port", str(self.port)],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_for_log("the gateway answers at")

    def wait_for_log(self, text: str, seconds: float = 90, times: int = 1) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.log.count(text) >= times:
                return
            assert self.process is not None
            assert self.process.poll() is None or text in self.log, self.log[-3000:]
            time.sleep(0.02)
        raise AssertionError(f"no {text!r} in\n{self.log[-3000:]}")

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        assert self.process is not None
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def renew(self) -> None:
        """SIGHUP, and wait until all workers were replaced."""
        before = self.log.count("all workers were replaced")
        self.signal(signal.SIGHUP)
        self.wait_for_log("all workers were replaced", times=before + 1)

    def stop(self) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(180)

    def client(self, **how: Any) -> httpx.Client:
        if self.url.startswith("http:"):
            how = {"verify": False, **how}  # nothing is to be verified, and to read all authorities takes longest
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False, **how)

    def post(self, client: httpx.Client, model: str = "demo/local", key: str = "eck_shop", **more: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
        return client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.data / "ledger")


def usual(provider: Provider) -> Snapshot:
    return snapshot(provider, free_port())


@contextmanager
def gateways(
    folder: Path, *, workers: int = 1, made: Callable[[Provider], Snapshot] = usual, **settings: str
) -> Iterator[tuple[Gateways, Provider]]:
    """A running tree in front of a provider, with the snapshot that is made for it; stopped at the end."""
    provider = Provider()
    found = Gateways(folder, workers=workers, **settings)
    found.place(made(provider))
    try:
        found.start()
        yield found, provider
    finally:
        provider.stopped.set()
        found.stop()
        provider.stop()
