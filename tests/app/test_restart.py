"""A graceful restart: nothing that was begun is lost, nobody is turned away, and one process at a time does the work in
the background."""

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ecotone.app.outcome import last
from tests.receiver import until
from tests.running import ADMIN, Running, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
MIB = 1024 * 1024
CLIENT = """
import hashlib, os, pathlib, shutil, sys
from huggingface_hub import CommitOperationAdd, HfApi
endpoint, token, name, stop, home = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=token)
repo = f"demo/{name}"
api.create_repo(repo, exist_ok=True)
done = 0
while not os.path.exists(stop) or not done:
    data = os.urandom(3 * 1024 * 1024)
    api.create_commit(repo, [CommitOperationAdd("model.bin", data)], commit_message=f"round {done}")
    folder = pathlib.Path(home) / str(done)
    path = api.hf_hub_download(repo, "model.bin", cache_dir=folder, force_download=True)
    assert hashlib.sha256(open(path, "rb").read()).digest() == hashlib.sha256(data).digest()
    shutil.rmtree(folder)
    done += 1
print(done)
"""


def servers(found: Running) -> list[int]:
    """Process ids of the supervisor's children, oldest first."""
    assert found.process is not None
    pid = found.process.pid
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def restart(found: Running) -> str:
    done = found.cli("restart")
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish_large(found: Running, repo: str, data: bytes) -> None:
    """A large file by LFS, as git-lfs sends it."""
    found.publish(repo, {"README.md": CARD})
    href = upload_address(found, repo, data)
    assert httpx.put(href, content=data).status_code == 200
    commit_large(found, repo, data)


def upload_address(found: Running, repo: str, data: bytes) -> str:
    body = {"operation": "upload", "objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}]}
    answer = found.http.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()
    href: str = answer["objects"][0]["actions"]["upload"]["href"]
    return href


def commit_large(found: Running, repo: str, data: bytes) -> None:
    value = {"path": "big.bin", "algo": "sha256", "oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    lines = [{"key": "header", "value": {"summary": "big"}}, {"key": "lfsFile", "value": value}]
    answer = found.http.post(
        f"/api/models/{repo}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"content-type": "application/x-ndjson"},
    )
    assert answer.status_code == 200, answer.text


@contextmanager
def knocking(found: Running) -> Iterator[list[str]]:
    """A new connection all the time; what went wrong with any of them."""
    wrong: list[str] = []
    over = threading.Event()

    def knock() -> None:
        while not over.wait(0.02):
            try:
                with socket.create_connection(("127.0.0.1", found.port), timeout=120) as opened:
                    opened.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    if not opened.recv(64).startswith(b"HTTP/1.1 200"):
                        wrong.append("no answer")
            except OSError as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("restarts", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_no_transfer_of_eight_clients_fails_over_restarts(tmp_path: Path, restarts: int) -> None:
    data, slow = secrets.token_bytes((4 + 5 * restarts) * MIB), secrets.token_bytes((4 + 4 * restarts) * MIB)
    with running(tmp_path / "server") as found:
        publish_large(found, "demo/big", data)
        found.publish("demo/slow", {"README.md": CARD})
        (tmp_path / "slow.bin").write_bytes(slow)
        stop = tmp_path / "stop"
        env = {k: v for k, v in found.env.items() if not k.startswith("ECOTONE_")} | {"HF_HOME": str(tmp_path / "hf")}
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, found.url, ADMIN, f"client{n}", str(stop), str(tmp_path / f"home{n}")],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for n in range(4)
        ]
        upload = curl("--limit-rate", "1M", "-T", str(tmp_path / "slow.bin"), upload_address(found, "demo/slow", slow))
        downloads = [
            curl("--limit-rate", "1500K", "-o", str(tmp_path / f"got{n}"), f"{found.url}/demo/big/resolve/main/big.bin")
            for n in range(3)
        ]
        with knocking(found) as wrong:
            for turn in range(restarts):
                time.sleep(2.5)
                assert turn or upload.poll() is None, "the slow upload must last over a restart"
                restart(found)
            stop.touch()
            told = [(client, *client.communicate(timeout=240)) for client in clients]
            assert upload.wait(120) == 0, upload.stderr and upload.stderr.read()
            assert [d.wait(120) for d in downloads] == [0, 0, 0]
        assert wrong == []
        for client, out, error in told:
            assert client.returncode == 0, error.decode()[-3000:]
            assert int(out) > 0
        assert {hashlib.sha256((tmp_path / f"got{n}").read_bytes()).digest() for n in range(3)} == {
            hashlib.sha256(data).digest()
        }
        commit_large(found, "demo/slow", slow)
        assert found.http.get("/demo/slow/resolve/main/big.bin").content == slow
        report = found.told("ledger", "verify")
        assert report["ok"], report
        assert "Traceback" not in found.log
        until(lambda: len(servers(found)) == 1)


def curl(*argv: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["curl", "-sS", "--fail", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("restarts")) as found:
        yield found


@pytest.fixture
def one(house: Running) -> Iterator[Running]:
    """One server without settings in a file, before and after."""
    yield house
    (house.data / "settings.env").unlink(missing_ok=True)
    until(lambda: len(servers(house)) == 1)


def test_free_chains_of_the_ledger_are_gone_on_with(one: Running) -> None:
    """A chain for each restart would make the ledger a heap of them."""
    for _ in range(2):
        kept = servers(one)
        restart(one)
        until(lambda kept=kept: not set(kept) & set(servers(one)))
    chains = {p.name for p in (one.data / "ledger").iterdir() if p.is_dir()}
    assert chains == {"server", "server2"}
    assert one.told("ledger", "verify")["ok"]


def test_a_restart_takes_new_settings_and_says_what_it_cannot_take(one: Running) -> None:
    first = servers(one)[0]
    file = one.data / "settings.env"
    file.write_text("# names\nECOTONE_ALLOWED_HOSTS=hub.example\n")
    named = {"host": "hub.example"}
    assert httpx.get(one.url + "/health", headers=named).status_code == 421
    assert "serves now" in restart(one)
    # the server before may still take a connection while it ends
    until(lambda: httpx.get(one.url + "/health", headers=named).status_code == 200)
    until(lambda: first not in servers(one))

    kept = servers(one)
    for line, word in (("ECOTONE_ENGINE_WAIT=soon", "ECOTONE_ENGINE_WAIT"), ("what is this", "Line 1")):
        file.write_text(line)
        done = one.cli("restart")
        assert done.returncode == 1 and word in done.stderr, done.stderr
    assert servers(one) == kept and httpx.get(one.url + "/health").status_code == 200


def test_a_new_server_that_does_not_start_leaves_the_old_one_and_is_told(one: Running, tmp_path: Path) -> None:
    kept = servers(one)
    (one.data / "settings.env").write_text(f"ECOTONE_DATABASE_URL=sqlite:///{tmp_path}/other.db\n")
    done = one.cli("restart")
    assert done.returncode == 1
    assert "changes the database" in done.stderr and "goes on" in done.stderr
    assert servers(one) == kept
    one.publish("demo/still", {"README.md": CARD})
    assert last(one.data)["state"] == "failed"


def test_a_new_server_that_dies_at_start_leaves_the_old_one(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if os.path.exists({str(tmp_path / 'broken')!r}) and 'successor' in sys.orig_argv:\n"
        "    os._exit(7)\n"
    )
    with running(
        tmp_path / "server", PYTHONPATH=os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")])
    ) as found:
        kept = servers(found)
        (tmp_path / "broken").touch()
        done = found.cli("restart")
        assert done.returncode == 1 and "status 7" in done.stderr, done.stderr
        assert servers(found) == kept
        (tmp_path / "broken").unlink()
        restart(found)
        until(lambda: len(servers(found)) == 1 and servers(found) != kept)


def test_what_lasts_longer_than_the_drain_is_cut_and_told(tmp_path: Path) -> None:
    data = secrets.token_bytes(12 * MIB)
    with running(tmp_path, ECOTONE_DRAIN_SECONDS="3") as found:
        publish_large(found, "demo/big", data)
        old = servers(found)[0]
        with socket.create_connection(("127.0.0.1", found.port), timeout=120) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            reader.sendall(b"GET /demo/big/resolve/main/big.bin HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert reader.recv(1000).startswith(b"HTTP/1.1 200")
            restart(found)
            until(lambda: old not in servers(found), 90)
        assert "cut after" in found.log and "GET of hub" in found.log
        assert "demo/big" not in found.log.split("cut after")[1].splitlines()[0], "names stay out of the log"
        assert found.http.get("/health/ready").status_code == 200


def test_a_stop_ends_both_servers_and_a_second_signal_ends_them_at_once(tmp_path: Path) -> None:
    data = secrets.token_bytes(12 * MIB)
    with running(tmp_path, ECOTONE_STOP_SECONDS="300") as found:
        publish_large(found, "demo/big", data)
        with socket.create_connection(("127.0.0.1", found.port), timeout=120) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            reader.sendall(b"GET /demo/big/resolve/main/big.bin HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert reader.recv(1000).startswith(b"HTTP/1.1 200")
            restart(found)
            pids = servers(found)
            assert len(pids) == 2 and found.process is not None
            found.process.terminate()
            time.sleep(1.5)
            assert found.process.poll() is None, "the transfer has its time"
            found.process.send_signal(signal.SIGINT)
            assert found.process.wait(100) == 0  # far less than the five minutes that the transfer would have
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        found.start()
        assert found.told("ledger", "verify")["ok"]


def one_answer(connection: socket.socket) -> bytes:
    """Head and body, which may come in pieces."""
    got = b""
    while not (b"\r\n\r\n" in got and got.endswith(b"}")):
        got += (piece := connection.recv(65536))
        assert piece, got
    return got


def test_an_idle_connection_is_not_closed_under_a_request_that_is_on_its_way(one: Running) -> None:
    with socket.create_connection(("127.0.0.1", one.port), timeout=120) as kept:
        asked = b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n"
        kept.sendall(asked)
        assert b'"ready"' in one_answer(kept)
        with ThreadPoolExecutor(1) as pool:
            restarting = pool.submit(one.cli, "restart", alone=True)
            while True:  # a connection that nobody asks on for five seconds is closed
                time.sleep(0.3)
                kept.sendall(asked)
                if b'"ready"' not in (answer := one_answer(kept)):
                    break
            assert restarting.result().returncode == 0
        assert answer.startswith(b"HTTP/1.1 503") and b'"server":"draining"' in answer
        assert b"connection: close" in answer and kept.recv(10) == b""


def test_nothing_to_restart_is_told(tmp_path: Path) -> None:
    done = Running(tmp_path).cli("restart")
    assert done.returncode == 1 and "ecotone up" in done.stderr
