"""A Ray cluster of this machine alone for a session of tests: 2 CPUs, small store, callers known by a token."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which a server finds it."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    port, temporary = free_port(), Path("/tmp") / f"ray-{secrets.token_hex(4)}"  # its sockets' paths have to be short
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block"),
        *(f"--port={port}", "--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false"),
        *("--node-ip-address=127.0.0.1", f"--temp-dir={temporary}", "--disable-usage-stats"),
    ]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **own, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        _await(port, process, folder / "log")
        yield {
            **own,
            "ECOTONE_RAY_ADDRESS": f"127.0.0.1:{port}",
            "ECOTONE_RAY_SERVE_URL": f"http://127.0.0.1:{free_port()}",
        }
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _end_left(temporary)


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 120
    while "--block" not in log.read_text() and "Ray runtime started" not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def _end_left(temporary: Path) -> None:
    """Processes of this cluster alone, known by its own folder on their command lines."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(temporary).encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
