"""A Ray cluster of this machine alone for a session of tests: 2 CPUs, small store, callers known by a token.

A process of its own holds it and ends it when the tests let go of its standard input: at their end, and also when they
were killed.
"""

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which a server finds it."""
    from tests.running import free_port  # not for the holder, which runs this file alone

    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    port, temporary = free_port(), Path("/tmp") / f"ray-{secrets.token_hex(4)}"  # its sockets' paths have to be short
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block"),
        *(f"--port={port}", "--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false"),
        *(f"--ray-client-server-port={free_port()}", "--node-ip-address=127.0.0.1"),
        *(f"--temp-dir={temporary}", "--disable-usage-stats"),
    ]
    with open(folder / "log", "wb") as log:
        holder = subprocess.Popen(
            [sys.executable, "-P", __file__, str(temporary), *command],
            env={**os.environ, **own, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert holder.stdin is not None
    try:
        _await(holder, folder / "log")
        yield {
            **own,
            "ECOTONE_RAY_ADDRESS": f"127.0.0.1:{port}",
            "ECOTONE_RAY_SERVE_URL": f"http://127.0.0.1:{free_port()}",
        }
    finally:
        holder.stdin.close()
        holder.wait(60)


def _await(holder: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 120
    while "--block" not in log.read_text() and "Ray runtime started" not in log.read_text():
        assert holder.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def _hold(temporary: str, command: list[str]) -> None:
    """Run Ray until nobody holds the other end of standard input."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ray = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while ray.poll() is None and not select.select([0], [], [], 0.5)[0]:
            pass
    finally:
        ray.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            ray.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ray.pid, signal.SIGKILL)
        _end_left(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _end_left(temporary: str) -> None:
    """Processes of this cluster alone, known by its own folder on their command lines."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.parent.name != str(os.getpid()) and temporary.encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)


if __name__ == "__main__":
    _hold(sys.argv[1], sys.argv[2:])
