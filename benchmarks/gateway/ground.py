"""What the gateway's benchmarks stand on: cores, processes and their clocks, the provider, and `wrk`.

The gateway under test has one core to itself (`GATEWAY_CORE`), load and provider share another (`LOAD_CORE`).
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
LOAD_CORE = int(os.environ.get("LOAD_CORE", "0"))
GATEWAY_CORE = int(os.environ.get("GATEWAY_CORE", "1"))
CHAT = "/v1/chat/completions"
_TOLD = re.compile(r"^told requests=(\d+) microseconds=(\d+) failed=(\d+) p50=(\S+) p99=(\S+)$", re.MULTILINE)


def program(name: str, package: str) -> str:
    """Where a program lies. SystemExit, with what to install, when it is absent."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed; on Debian: apt-get install {package}")
    return found


def check_machine() -> None:
    """SystemExit when a program or a core is missing."""
    for name, package in (("wrk", "wrk"), ("gcc", "gcc"), ("nginx", "nginx-light"), ("taskset", "util-linux")):
        program(name, package)
    allowed = os.sched_getaffinity(0)
    if not {LOAD_CORE, GATEWAY_CORE} <= allowed:
        raise SystemExit(f"cores {LOAD_CORE} and {GATEWAY_CORE} are needed (LOAD_CORE, GATEWAY_CORE); here: {allowed}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


_ahead = False


def go_ahead() -> None:
    """Put this process and those that it starts ahead of what else runs. SystemExit where that is not allowed."""
    global _ahead
    _ahead = True
    _weigh(os.getpid())


def _weigh(pid: int) -> None:
    """The scheduler groups processes by session (sched(7), autogroup); a group's weight counts, not a process's."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text("-20")
    except OSError as error:
        raise SystemExit(f"--ahead needs root and a kernel with autogroups: {error}") from None


# -- processes -------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def process(
    argv: list[str], core: int | str | None, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A child on one core (None: any), gone with all its own when the block ends."""
    pinned = argv if core is None else ["taskset", "-c", str(core), *argv]
    with open(log, "ab") as out:
        env = {**os.environ, **environment}
        child = subprocess.Popen(pinned, env=env, stdout=out, stderr=out, start_new_session=True)
    if _ahead:
        _weigh(child.pid)
    try:
        yield child
    finally:
        below = tree(child.pid)
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pid in below[1:]:
            with contextlib.suppress(OSError):
                os.kill(pid, 9)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Time on a core of some processes so far: of the threads that live, or in ticks of those that ended too."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            threads = 0
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    threads += int((task / "schedstat").read_text().split()[0])
            total += max(ticks, threads / 1e9)
    return total


def rss_mb(pid: int) -> float:
    """Resident memory of one process, 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def machine_seconds() -> float:
    """Time that all cores of the machine were busy so far."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


# -- what answers ----------------------------------------------------------------------------------------------------
@dataclass
class Place:
    """Where load goes: an address with the path and headers that a chat completion takes there.

    `pid` is the root of the processes that are charged, None for the provider itself. `workers` are those whose
    memory counts, the whole tree when it is empty; `started` the seconds from start to first answer.
    """

    name: str
    port: int
    pid: int | None = None
    path: str = CHAT
    model: str = "bench"
    headers: dict[str, str] = field(default_factory=dict)
    workers: list[int] = field(default_factory=list)
    started: float = 0.0
    sleeps: bool = False

    def pids(self) -> list[int]:
        return tree(self.pid) if self.pid is not None else []

    def memory_mb(self) -> float:
        """Of the largest worker."""
        return max((rss_mb(pid) for pid in self.workers or self.pids()), default=0.0)

    def post(self, body: bytes, timeout: float = 10.0) -> tuple[int, bytes]:
        """Status and body of one call."""
        headers = {"content-type": "application/json", **self.headers}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def wait(self, body: bytes, seconds: float = 120.0, child: subprocess.Popen[bytes] | None = None) -> float:
        """Seconds until a call is answered with the provider's text. SystemExit when none is."""
        began, last = time.perf_counter(), "no answer"
        while time.perf_counter() - began < seconds:
            if child is not None and child.poll() is not None:
                raise SystemExit(f"{self.name} ended with {child.returncode}")
            try:
                status, answer = self.post(body)
                if status == 200 and b"warranty covers the frame" in answer:
                    return time.perf_counter() - began
                last = f"{status} {answer[:300]!r}"
            except OSError as error:
                last = str(error)
            time.sleep(0.01)
        raise SystemExit(f"{self.name} does not answer: {last}")


@contextlib.contextmanager
def provider(folder: Path) -> Iterator[Place]:
    """The fast provider of `provider.c`, compiled at first use of its text."""
    source = HERE / "provider.c"
    cached = Path(tempfile.gettempdir()) / f"ecotone-provider-{os.getuid()}-{source.stat().st_mtime_ns}"
    if not cached.exists():
        draft = folder / "provider"
        subprocess.run([program("gcc", "gcc"), "-O2", "-o", draft, source], check=True)
        shutil.move(draft, cached)
    port = free_port()
    with process([str(cached), str(port)], LOAD_CORE, folder / "provider.log"):
        place = Place("direct", port)
        place.wait(b'{"messages":[]}', 10)
        yield place


def answered(place: Place) -> int:
    """Calls that the provider has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/counts", timeout=5) as answer:
        return int(answer.read())


# -- load ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Window:
    """What one run of `wrk` found: rates in 1/s, latencies in microseconds, `busy` as shares of one core."""

    rate: float
    failed: int
    requests: int
    p50: float
    p99: float
    busy: float
    cpu_us: float
    others: float


def load(place: Place, body: bytes, connections: int, seconds: float, folder: Path) -> Window:
    """Load by `wrk` from LOAD_CORE."""
    (folder / "body").write_bytes(body)
    headers = {"content-type": "application/json", **place.headers}
    (folder / "headers").write_text("".join(f"{k}: {v}\n" for k, v in headers.items()))
    argv = ["taskset", "-c", str(LOAD_CORE), program("wrk", "wrk"), "-t1", f"-c{connections}"]
    argv += [f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(HERE / "load.lua")]
    argv += [f"http://127.0.0.1:{place.port}{place.path}"]
    environment = {**os.environ, "LOAD_BODY": str(folder / "body"), "LOAD_HEADERS": str(folder / "headers")}
    pids, ours = place.pids(), os.times()
    used, machine, began = cpu_seconds(pids), machine_seconds(), time.perf_counter()
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - began
    used, machine = cpu_seconds(pids) - used, machine_seconds() - machine
    told = _TOLD.search(done.stdout)
    if told is None:
        raise SystemExit(f"wrk against {place.name}: {done.stdout[-500:]}{done.stderr[-500:]}")
    requests, microseconds, failed = (int(told[i]) for i in (1, 2, 3))
    spent = os.times()
    load_used = spent.children_user + spent.children_system - ours.children_user - ours.children_system
    good = max(0, requests - failed)
    return Window(
        rate=good / (microseconds / 1e6),
        failed=failed,
        requests=requests,
        p50=float(told[4]),
        p99=float(told[5]),
        busy=used / took,
        cpu_us=used * 1e6 / max(1, requests),
        others=max(0.0, (machine - used - load_used) / took),
    )


def headers_text(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
