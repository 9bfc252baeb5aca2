"""What the hub's benchmarks stand on: server, answerer and nginx as processes; real clients, timed."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
TOKEN = "benchmark-admin-token"
HERE = Path(__file__).parent

CLIENT = """
import sys, time
from huggingface_hub import HfApi, hf_hub_download
what, repo, path, *name = sys.argv[1:]
name = name[0] if name else "model.bin"
if what == "up":
    HfApi().create_repo(repo, exist_ok=True)
began = time.perf_counter()
if what == "up":
    HfApi().upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repo)
else:
    hf_hub_download(repo, name, local_dir=path)
print(time.perf_counter() - began)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(port: int, path: str = "/health") -> None:
    for _ in range(600):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", path)
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


@contextlib.contextmanager
def process(argv: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a child, ready when the block begins and gone when it ends."""
    child = subprocess.Popen(argv, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield child
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def ecotone(folder: Path, **settings: str) -> Iterator["Hub"]:
    port = free_port()
    environment = {"ECOTONE_DATA": str(folder), "ECOTONE_PORT": str(port), "ECOTONE_ADMIN_TOKEN": TOKEN, **settings}
    with process([str(Path(sys.executable).parent / "ecotone"), "up"], port, **environment) as child:
        yield Hub(f"http://127.0.0.1:{port}", port, child.pid)


@contextlib.contextmanager
def answerer(folder: Path, state: dict[str, Any]) -> Iterator["Hub"]:
    port = free_port()
    told = folder / f"answerer-{port}.json"
    told.write_text(json.dumps(state))
    with process([sys.executable, str(HERE / "answerer.py"), str(port), str(told)], port) as child:
        yield Hub(f"http://127.0.0.1:{port}", port, child.pid)


@contextlib.contextmanager
def nginx(folder: Path, served: Path) -> Iterator["Hub | None"]:
    """nginx with its own defaults: serves a folder by sendfile, takes files by PUT below `put/`. None where it is not
    installed."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        print("nginx is not installed (apt-get install nginx): curl_vs_nginx is left out", file=sys.stderr)
        yield None
        return
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"user {'root' if os.getuid() == 0 else os.environ.get('USER', 'nobody')};\n"
        f"worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log; daemon off;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/body; "
        f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; "
        f"scgi_temp_path {folder}/scgi; server {{ listen 127.0.0.1:{port}; root {served}; client_max_body_size 0; "
        f"location /put/ {{ root {folder}; dav_methods PUT; create_full_put_path on; }} }} }}\n"
    )
    with process([program, "-c", str(config), "-p", str(folder)], port, HOME=str(folder)) as child:
        yield Hub(f"http://127.0.0.1:{port}", port, child.pid)


@dataclass(frozen=True)
class Hub:
    url: str
    port: int
    pid: int

    def timed(self, what: str, repo: str, path: Path, home: Path, *, xet: bool, name: str = "model.bin") -> float:
        """Seconds that one upload or download by huggingface_hub takes, with a cache of its own."""
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, what, repo, str(path), name], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        return float(done.stdout.split()[-1])

    def curl(self, path: str, target: Path, *more: str) -> float:
        """Seconds that curl takes to write an address to a file."""
        began = time.perf_counter()
        argv = ["curl", "-sSfL", "-H", f"Authorization: Bearer {TOKEN}", "-o", str(target), *more, self.url + path]
        subprocess.run(argv, check=True)
        return time.perf_counter() - began

    def json(self, path: str, token: str = TOKEN) -> tuple[Any, Any]:
        """Body and headers of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{path}: {answer.status} {body[:200]!r}")
        return json.loads(body), answer.headers

    def processes(self) -> list[int]:
        """The server's process and all below it."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(c) for c in task.joinpath("children").read_text().split()]
        return found

    def anonymous_bytes(self) -> int:
        """RssAnon of all of them."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        total += int(line.split()[1]) * 1024
        return total


def random_file(path: Path, size: int) -> Path:
    """Random bytes, no two files alike, in the page cache."""
    with open(path, "wb") as out:
        for at in range(0, size, MIB):
            out.write(os.urandom(min(MIB, size - at)))
    return path


def interleaved(pairs: dict[str, tuple[Callable[[], float], Callable[[], float]]], times: dict[str, Any]) -> None:
    """One round: each pair's two sides right after another, in turns first."""
    for name, sides in pairs.items():
        first = len(times.setdefault(name, ([], []))[0]) % 2
        for side in (first, 1 - first):
            times[name][side].append(sides[side]())


def best_third(values: list[float]) -> float:
    """Mean of the best third: a shared machine swings several times over, and only ever to the slow side."""
    best = sorted(values)[: max(1, len(values) // 3)]
    return sum(best) / len(best)
