"""A disk that is really full, under each kind of work: a sentence for the client, nothing half there; it goes on."""

import errno
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.app.checking import Check
from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.storage import Storage
from tests.app.crashing import REPO, Client, File, Refused
from tests.receiver import until
from tests.running import Running, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server whose data folder is a disk of 48 MiB."""
    data = tmp_path / "data"
    data.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(data)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        settings = {
            "ECOTONE_CONVERT_SOON": "0",
            "ECOTONE_COLLECT_SECONDS": "0",
            "ECOTONE_COLLECT_DELAY": "0",
            "ECOTONE_COLLECT_GRACE": "0",
        }
        with running(tmp_path, **settings) as found:
            found.http.post("/api/repos/create", json={"name": "m", "organization": "crash"})
            yield found
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def fill_disk(ballast: Path, free: int = 0) -> None:
    """Take all room of a disk but some; anew where the server took some between our look and our taking."""
    while True:
        ballast.unlink(missing_ok=True)
        room = os.statvfs(ballast.parent)
        try:
            with open(ballast, "wb") as file:
                return os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - free)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


class Ballast:
    """A file that takes all room but some."""

    def __init__(self, server: Running) -> None:
        self._path = server.data / "ballast"

    def leave(self, free: int) -> None:
        fill_disk(self._path, free)

    def go(self) -> None:
        self._path.unlink(missing_ok=True)


def job(client: Client, what: str) -> dict[str, Any]:
    started = client.ask("POST", f"/api/ecotone/v1/store/{what}", json={}, expect=(202, 503))
    if started.status_code == 503:
        return {"state": "failed", "error": started.text}
    end = time.monotonic() + 120
    while True:
        try:
            found: dict[str, Any] = client.ask("GET", f"/api/ecotone/v1/jobs/{started.json()['id']}").json()
        except Refused:
            found = {"state": "running"}
        if found["state"] not in ("queued", "running"):
            return found
        assert time.monotonic() < end
        time.sleep(0.1)


def clean(server: Running) -> None:
    settings = Settings(data=server.data)
    database = Database(settings.sql_url)
    found = Check(settings, database, Storage(database, settings), deep=True).run()
    database.dispose()
    assert found.ok, found.faults


@pytest.mark.parametrize("kind", ["xet", "lfs", "parts"])
def test_an_upload(server: Running, kind: str) -> None:
    client, ballast = Client(server), Ballast(server)
    file = File("w.bin", kind, secrets.token_bytes(900_000))
    for free in (0, 300_000):
        ballast.leave(free)
        with pytest.raises(Refused, match="503"):
            client.send(file)
        assert server.http.get(f"/api/models/{REPO}").status_code == 200, "reading goes on"
    ballast.go()
    until(lambda: not [p for p in (server.data / "staging").iterdir() if p.is_file()])
    clean(server)
    client.send(file)
    assert client.read("w.bin") == file.data


def test_a_commit(server: Running) -> None:
    client, ballast = Client(server), Ballast(server)
    file = File("w.bin", "lfs", secrets.token_bytes(200_000))
    client._lfs(file, REPO)
    ballast.leave(0)
    with pytest.raises(Refused, match="503"):
        for number in range(200):  # the journal has some room of its own
            client.send(File(f"{number}.bin", "lfs", file.data))
    ballast.go()
    clean(server)
    client.send(file)
    assert client.read("w.bin") == file.data


def test_a_conversion(server: Running) -> None:
    client, ballast = Client(server), Ballast(server)
    file = File("w.bin", "lfs", secrets.token_bytes(9_000_000))
    client.send(file)
    ballast.leave(2_000_000)
    told = job(client, "convert")
    assert told["state"] == "failed" and "full" in told["error"], told
    assert client.read("w.bin") == file.data
    ballast.go()
    clean(server)
    assert job(client, "convert")["result"]["files"] == 1
    assert client.read("w.bin") == file.data


def test_a_collection(server: Running) -> None:
    """With no room at all it may fail, but loses nothing; with a little it makes room."""
    client, ballast = Client(server), Ballast(server)
    kept = File("w.bin", "lfs", secrets.token_bytes(500_000))
    client.send(kept)
    client.ask("POST", "/api/repos/create", json={"name": "t", "organization": "crash"})
    client.send(File("x.bin", "lfs", secrets.token_bytes(5_000_000)), "crash/t")
    client.ask("DELETE", "/api/repos/delete", json={"name": "t", "organization": "crash"})
    ballast.leave(0)
    assert job(client, "collect")["state"] in ("done", "failed")
    assert client.read("w.bin") == kept.data
    ballast.leave(1_000_000)
    for _ in range(2):
        assert job(client, "collect")["state"] == "done"
    assert sum(p.stat().st_size for p in (server.data / "objects" / "lfs").rglob("*") if p.is_file()) == 500_000
    ballast.go()
    clean(server)


def test_two_writers_on_one_branch_lose_nothing(tmp_path: Path) -> None:
    """Both name the same parent: one is told 412, commits on top of the other, and both files are there."""
    import json
    import threading

    with running(tmp_path) as server:
        server.http.post("/api/repos/create", json={"name": "m", "organization": "crash"})
        for turn in range(5):
            parent = server.http.get(f"/api/models/{REPO}").json()["sha"]
            answers: dict[int, httpx.Response] = {}
            both = threading.Barrier(2)

            def write(number: int) -> None:
                lines = (
                    {"key": "header", "value": {"summary": "x", "parentCommit": parent}},  # noqa: B023
                    {"key": "file", "value": {"path": f"{turn}-{number}.txt", "content": str(number)}},  # noqa: B023
                )
                with httpx.Client(base_url=server.url, headers=server.http.headers, timeout=120) as http:
                    both.wait(60)  # noqa: B023
                    body = b"\n".join(json.dumps(line).encode() for line in lines)
                    answers[number] = http.post(f"/api/models/{REPO}/commit/main", content=body)  # noqa: B023

            writers = [threading.Thread(target=write, args=(n,)) for n in range(2)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            assert sorted(answer.status_code for answer in answers.values()) == [200, 412]
            (stale,) = (n for n, answer in answers.items() if answer.status_code == 412)
            parent = server.http.get(f"/api/models/{REPO}").json()["sha"]
            both = threading.Barrier(1)
            write(stale)
            assert answers[stale].status_code == 200
        rows = server.http.get(f"/api/models/{REPO}/tree/main").json()
        assert {f"{t}-{n}.txt" for t in range(5) for n in range(2)} <= {row["path"] for row in rows}
