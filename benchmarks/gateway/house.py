"""Ecotone as an operator starts it, with everything on that a call passes through.

`ecotone up` makes the decisions; calls go to `ecotone gateway` beside it where the command exists, else to the same
server. Two projects: in `plain` texts are not scanned, in `scanned` they are; both have limits and a budget that
nothing reaches, and the model has a price, so that each call is reserved, settled and written to the ledger. `bench` is
outside of the house, `near` inside: there a text may go that is too long to be looked through.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ground import GATEWAY_CORE, LOAD_CORE, Place, free_port, process, tree
from texts import chat

from ecotone.ledger import Ledger
from ecotone.ledger.kept_sums import KeptSums

ECOTONE = Path(sys.executable).parent / "ecotone"
ADMIN = "ect_administrator_of_this_benchmark"
MODEL = "bench/bench"
NEAR = "near/bench"
PROJECTS = ("plain", "scanned")


@dataclass
class House:
    """An installation with its projects' keys; `environment` starts more processes on the same data."""

    folder: Path
    environment: dict[str, str]
    admin: Place
    keys: dict[str, str]
    missing: list[str]

    def place(self, at: Place, project: str, name: str) -> Place:
        return replace(at, name=name, headers={"authorization": f"Bearer {self.keys[project]}"}, model=MODEL)


def has_gateway() -> bool:
    """Whether this version has `ecotone gateway`."""
    return subprocess.run([ECOTONE, "gateway", "--help"], capture_output=True).returncode == 0


def is_compiled() -> bool:
    """Whether the gateway that children of this process run is compiled, as in a wheel."""
    return "compiled" in subprocess.run([ECOTONE, "--version"], capture_output=True, text=True).stdout


@contextlib.contextmanager
def house(folder: Path, upstream: Place, *, core: int) -> Iterator[House]:
    """`ecotone up` on an empty data folder, with backend, rule, projects, keys, limits, budget and price."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {
        "ECOTONE_DATA": str(folder / "data"),
        "ECOTONE_PORT": str(port),
        "ECOTONE_ADMIN_TOKEN": ADMIN,
        "BENCH_API_KEY": "sk-provider",
        "ECOTONE_PROVIDER_KEYS": "BENCH_API_KEY",
        "ECOTONE_LOG_LEVEL": "warning",
    }
    with process([str(ECOTONE), "up"], core, folder / "ecotone.log", **environment) as child:
        admin = Place("ecotone", port, child.pid)
        _wait_for_health(port, child, folder / "ecotone.log")
        admin.workers = tree(child.pid)[1:2]
        made = House(folder, environment, admin, {}, [])
        _furnish(made, upstream)
        body = chat(MODEL)
        for project in PROJECTS:
            made.place(admin, project, project).wait(body, 20, child)
        yield made


def _furnish(made: House, upstream: Place) -> None:
    url = f"http://127.0.0.1:{upstream.port}/v1"
    for backend, location in (("bench", "external"), ("near", "local")):
        _rest(made, "POST", "/backends", name=backend, url=url, key_env="BENCH_API_KEY", location=location)
        _rest(made, "POST", "/rules", kind="pass_unknown", subject=f"backend:{backend}", reason="for the benchmark")
    for project in PROJECTS:
        terms = {"name": project, "mode": "serve_api", "purpose": "commercial"}
        off = {"scan": False, "scan_reason": "the benchmark compares both"}
        if project == "scanned" or not _tried(made, "a project without scan", "POST", "/projects", **terms, **off):
            _rest(made, "POST", "/projects", **terms)
        key = _rest(made, "POST", "/keys", project=project)
        made.keys[project] = key["key"]
        _limit(made, f"project:{project}")
        _limit(made, f"key:{key['id']}")
    _limit(made, "organisation")
    for model in (MODEL, NEAR):
        _tried(made, "prices", "PUT", f"/prices/{model}", input="1.25", output="10")


def _limit(made: House, scope: str) -> None:
    """Limits and two budgets of a scope, too high for any run to reach."""
    high = {"requests": 10**9, "tokens": 10**12, "concurrent": 10**6}
    budgets = ["1000000USD/month", "1000000USD/day"]
    _tried(made, "limits and budgets", "PUT", f"/limits/{scope}", **high, budgets=budgets)


def _tried(made: House, what: str, method: str, path: str, **body: Any) -> bool:
    """Whether this version could do it; noted where it could not."""
    try:
        _rest(made, method, path, **body)
    except _Absent:
        if what not in made.missing:
            made.missing.append(what)
        return False
    return True


class _Absent(Exception):
    """This version has no such thing."""


def _rest(made: House, method: str, path: str, **body: Any) -> Any:
    url = f"http://127.0.0.1:{made.admin.port}/api/ecotone/v1{path}"
    headers = {"authorization": f"Bearer {ADMIN}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        told = error.read()[:500].decode(errors="replace")
        if error.code in (404, 405) or "unknown field" in told:
            raise _Absent(told) from None
        raise SystemExit(f"{method} {path}: {error.code} {told}") from None


def _wait_for_health(port: int, child: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if child.poll() is not None:
            raise SystemExit(f"Ecotone ended with {child.returncode}:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        time.sleep(0.02)
    raise SystemExit(f"Ecotone does not answer:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def gateway(made: House, *, workers: int = 1, core: int | str = GATEWAY_CORE) -> Iterator[Place]:
    """`ecotone gateway` on the same data, of which there can be one at a time."""
    port = free_port()
    argv = [str(ECOTONE), "gateway", "--workers", str(workers), "--port", str(port)]
    began = time.perf_counter()
    with process(argv, core, made.folder / "gateway.log", **made.environment) as child:
        at = Place("ecotone", port, child.pid)
        made.place(at, "plain", "ecotone").wait(chat(MODEL), 30, child)
        at.started = time.perf_counter() - began
        at.workers = tree(child.pid)[1:] or [child.pid]
        yield at


def restarted(made: House) -> float:
    """Seconds from the start of a process on the same data to its first answer.

    Of `ecotone gateway` beside the server, when none runs there yet; where it does not exist, of `ecotone up` on a copy
    of the data.
    """
    if has_gateway():
        with gateway(made) as at:
            return at.started
    copy, port = made.folder / "copy", free_port()
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(made.folder / "data", copy, ignore=shutil.ignore_patterns("ledger", "*.lock", "*.sock", "engines"))
    environment = made.environment | {"ECOTONE_DATA": str(copy), "ECOTONE_PORT": str(port)}
    began = time.perf_counter()
    with process([str(ECOTONE), "up"], GATEWAY_CORE, made.folder / "copy.log", **environment) as child:
        made.place(Place("copy", port, child.pid), "plain", "copy").wait(chat(MODEL), 60, child)
        return time.perf_counter() - began


def used_requests(made: House) -> int:
    """Calls that the ledger has counted."""
    rows = _rest(made, "GET", "/ledger/usage")
    return sum(int(row["requests"]) for row in (rows if isinstance(rows, list) else rows["usage"]))


def wait_for_sums(made: House, seconds: float = 180) -> None:
    """Until the gateway has added up the segments that it closed, which it does when the processor has time."""
    data, end = made.folder / "data", time.monotonic() + seconds
    sums = KeptSums(Ledger(data / "ledger"), data / "gateway" / "sums")
    while time.monotonic() < end:
        if not sums.missing():
            return
        time.sleep(1)
    raise SystemExit("the gateway did not add up the segments of its ledger")


@contextlib.contextmanager
def ecotone(folder: Path, upstream: Place) -> Iterator[tuple[House, Place]]:
    """What the benchmark measures: a gateway of its own where there is one, else the whole server."""
    alone = has_gateway()
    with house(folder, upstream, core=LOAD_CORE if alone else GATEWAY_CORE) as made:
        if not alone:
            made.missing.append("ecotone gateway")
            yield made, made.admin
            return
        with gateway(made) as at:
            yield made, at
