"""The gateway in processes of its own: what becomes of requests, records and decisions while processes come and go."""

import contextlib
import hashlib
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ecotone.gateway import Snapshot
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Key, Limit
from tests.app.gateways import Gateways, gateways
from tests.gateway.conftest import USAGE, Provider, snapshot
from tests.receiver import until
from tests.running import ECOTONE, free_port, in_time, slower
from tests.serving import Serving

pytestmark = pytest.mark.slow


class Load:
    """Clients in threads that call one after another; what was answered, and what went wrong."""

    def __init__(self, tree: Gateways, threads: int) -> None:
        self.answered: list[str] = []
        self.failures: list[str] = []
        self._tree = tree
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(90)

    def _call(self) -> None:
        with self._tree.client() as client:
            while not self._over.is_set():
                try:
                    answer = self._tree.post(client)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answered.append(answer.headers["x-request-id"])
                else:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")

    def wait_for(self, more: int) -> None:
        end, least = time.monotonic() + 90, len(self.answered) + more
        while len(self.answered) < least:
            assert time.monotonic() < end, self.failures[-3:]
            time.sleep(0.01)


def settled_ids(tree: Gateways) -> set[str]:
    return {r["request_id"] for r in tree.ledger.records("settled")}


def opened_ids(tree: Gateways) -> set[str]:
    return {r["request_id"] for r in tree.ledger.records("opened")}


def test_closed_segments_are_added_up_while_it_runs(tmp_path: Path) -> None:
    """Else the next start reads all that this one wrote, before it answers."""
    with gateways(tmp_path, ECOTONE_LEDGER_SEGMENT_BYTES="4000") as (tree, _):
        with Load(tree, 2) as load:
            load.wait_for(40)
        sums = tree.data / "gateway" / "sums"
        until(lambda: sums.exists() and len(list(sums.iterdir())) > 3, 200)
    assert "Traceback" not in tree.log


def test_the_first_answer_comes_within_a_second_of_the_start(tmp_path: Path) -> None:
    """Nothing is fetched, and nothing heavy is loaded."""
    tree, provider = Gateways(tmp_path, workers=1), Provider()
    tree.place(snapshot(provider, free_port()))
    took, busy = [], []
    for _ in range(3):
        began, used = time.monotonic(), sum(os.times()[2:4])
        tree.start(wait=False)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", tree.port), timeout=5) as made:
                    made.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert made.recv(4096).startswith(b"HTTP/1.1 200")
                    break
            except OSError:
                time.sleep(0.01)
        took.append(time.monotonic() - began)
        assert tree.stop() == 0
        busy.append(sum(os.times()[2:4]) - used)
    provider.stop()
    print(f"start to first answer: {sorted(took)}, processor {busy}")
    assert min(took) < 1.0 or min(busy) < slower(), "where others use the machine, its own time counts"


def test_a_restart_loses_no_connection_and_no_request(tmp_path: Path) -> None:
    with gateways(tmp_path, workers=2) as (tree, _), Load(tree, 6) as load:
        load.wait_for(50)
        tree.renew()
        load.wait_for(50)
        tree.renew()
        load.wait_for(50)
        time.sleep(0.5)
    assert load.failures == []
    assert set(load.answered) <= settled_ids(tree)
    assert opened_ids(tree) == settled_ids(tree)


def test_a_restart_replaces_every_worker(tmp_path: Path) -> None:
    with gateways(tmp_path, workers=2) as (tree, _):
        before = set(tree.pids)
        tree.renew()
        until(lambda: len(tree.pids) == 2 and not before & set(tree.pids))


def test_what_was_acknowledged_before_a_kill_is_in_the_ledger(tmp_path: Path) -> None:
    """`kill -9` of workers under load: no answer without its record, and what was reserved comes back."""
    with gateways(tmp_path, workers=2) as (tree, _):
        with Load(tree, 6) as load:
            for kills in range(1, 4):
                load.wait_for(40)
                os.kill(tree.pids[0], signal.SIGKILL)
                tree.wait_for_log("ended with status -9", times=kills)
            load.wait_for(40)
        until(lambda: opened_ids(tree) == settled_ids(tree))  # what the dead left open is settled by their successors
    assert set(load.answered) <= settled_ids(tree), "every acknowledged answer is settled"
    interrupted = [r for r in tree.ledger.records("settled") if r["status"] == "interrupted"]
    print(f"{len(load.answered)} answered, {len(load.failures)} failed, {len(interrupted)} interrupted")
    assert all(r["estimate"] for r in interrupted)
    assert tree.ledger.verify().ok
    assert {c.name for c in tree.ledger.chains()} <= {"gw1a", "gw2a", "gw1b", "gw2b"}


def test_connections_wait_while_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    """The supervisor keeps the socket: who connects in between is served by the next worker."""
    with gateways(tmp_path) as (tree, _):
        os.kill(tree.pids[0], signal.SIGKILL)
        with tree.client() as client:
            assert tree.post(client).status_code == 200


def test_a_changed_snapshot_is_in_force_within_two_seconds(tmp_path: Path) -> None:
    with gateways(tmp_path, workers=2) as (tree, provider), tree.client() as client:
        assert tree.post(client).status_code == 200
        changed = snapshot(provider, free_port())

        def seen() -> list[int]:
            """By connections that come to either worker."""
            found = []
            for _ in range(8):
                with tree.client() as fresh:
                    found.append(tree.post(fresh).status_code)
            return found

        def change(turn: int) -> Callable[[], bool]:
            if turn:
                tree.place(changed)
                until(lambda: set(seen()) == {200})
            tree.place(msgspec.structs.replace(changed, keys={}))
            return lambda: set(seen()) == {401}

        in_time(change, 2)
        # of the same size and version as before: told apart by its content
        tree.place(changed)
        until(lambda: set(seen()) == {200})
        until(lambda: tree.post(client).status_code == 200)  # the new connections may all have come to the other worker


def test_a_snapshot_that_is_not_whole_leaves_the_last_in_force(tmp_path: Path) -> None:
    with gateways(tmp_path) as (tree, _), tree.client() as client:
        file = tree.data / "snapshot" / "snapshot"
        draft = file.with_name("torn")
        draft.write_bytes(file.read_bytes()[:-20])
        draft.rename(file)
        tree.wait_for_log("cannot be used")
        assert tree.post(client).status_code == 200


def test_without_contact_it_serves_up_to_the_age_that_is_set_and_then_refuses(tmp_path: Path) -> None:
    with gateways(tmp_path, ECOTONE_SNAPSHOT_MAX_AGE="4") as (tree, _), tree.client() as client:
        file = tree.data / "snapshot" / "snapshot"

        def serves_with_contact() -> bool:
            os.utime(file)
            return bool(tree.post(client).status_code == 200)

        until(serves_with_contact)
        until(lambda: tree.post(client).status_code == 503)
        assert time.time() - file.stat().st_mtime > 3
        refused = tree.post(client)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "snapshot_too_old"
        assert client.get("/health/ready").json()["checks"]["snapshot"] == "too old"
        until(serves_with_contact)


def stream(tree: Gateways, model: str) -> tuple[threading.Thread, list[str], threading.Event]:
    lines: list[str] = []
    begun = threading.Event()

    def read() -> None:
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello to you all"}]}
        headers = {"authorization": "Bearer eck_shop"}
        with (
            tree.client() as client,
            client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            for line in answer.iter_lines():
                lines.append(line)
                begun.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert begun.wait(90)
    return thread, lines, begun


def takes_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def asked_late(connection: socket.socket) -> bytes:
    """What is told on a connection that was opened before; empty where it is closed."""
    connection.settimeout(120)
    with contextlib.suppress(OSError), connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        return connection.recv(4096)
    return b""


def test_sigterm_lets_a_running_stream_end_and_accepts_no_more(tmp_path: Path) -> None:
    told: list[bytes] = []
    with gateways(tmp_path, workers=2) as (tree, _):
        for _ in range(5):  # a connection is kept for half a second more, and a busy machine may ask later than that
            idle = socket.create_connection(("127.0.0.1", tree.port))
            late = [socket.create_connection(("127.0.0.1", tree.port)) for _ in range(4)]
            thread, lines, _ = stream(tree, "fake/gpt-slow")
            assert tree.process is not None
            tree.process.terminate()
            until(lambda: not takes_connections(tree.port))
            told = [answer for connection in late if (answer := asked_late(connection))]
            assert all(answer.startswith(b"HTTP/1.1 503") and b"draining" in answer for answer in told), told
            thread.join(90)
            assert "data: [DONE]" in lines
            assert tree.process.wait(120) == 0  # a second signal may come when nobody takes it any more
            idle.close()
            if told:
                break
            tree.log_file.unlink()
            tree.start()
    assert told, "nobody was told that it ends"
    assert opened_ids(tree) == settled_ids(tree)


def test_what_runs_longer_than_a_stop_allows_is_cut_with_an_error_frame(tmp_path: Path) -> None:
    with gateways(tmp_path, ECOTONE_STOP_SECONDS="1") as (tree, _):
        thread, lines, _ = stream(tree, "fake/gpt-stalls")
        assert tree.stop() == 0
        thread.join(90)
        last = [line for line in lines if line][-1]
        assert "draining" in last and last.startswith("data: {")
    assert opened_ids(tree) == settled_ids(tree)


def test_an_address_that_another_tree_has_is_not_shared_with_it(tmp_path: Path) -> None:
    with gateways(tmp_path / "one") as (tree, _):
        env = tree.env | {"ECOTONE_DATA": str(tmp_path / "two")}
        argv: list[Any] = [ECOTONE, "gateway", "--port", str(tree.port)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1 and f"Cannot listen on 127.0.0.1:{tree.port}" in done.stderr
        argv[-1] = str(free_port())
        done = subprocess.run(argv, env=tree.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1 and "uses the data folder" in done.stderr


def test_pages_of_listed_origins_may_call_and_others_not(tmp_path: Path) -> None:
    with gateways(tmp_path, ECOTONE_CORS_ORIGINS="https://app.example") as (tree, _), tree.client() as client:
        asking = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,x-stainless-os",
        }
        told = client.options("/v1/chat/completions", headers={"origin": "https://app.example", **asking})
        assert told.status_code == 200
        assert told.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in told.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in told.headers
        other = client.options("/v1/chat/completions", headers={"origin": "https://evil.example", **asking})
        assert other.status_code in (401, 405) and "access-control-allow-origin" not in other.headers
        seen = client.get("/v1/models", headers={"origin": "https://app.example", "authorization": "Bearer eck_shop"})
        assert seen.headers["access-control-allow-origin"] == "https://app.example"
        assert (
            "access-control-allow-origin"
            not in client.get("/health", headers={"origin": "https://app.example"}).headers
        )


def test_a_path_of_no_face_is_named_with_what_is_expected(tmp_path: Path) -> None:
    """The usual mistake is an address without /v1; the answer must reach a client that sends a body."""
    with gateways(tmp_path) as (tree, _), tree.client() as client:
        told = client.post("/chat/completions", json={"model": "x", "messages": ["x" * 200_000]})
        assert told.status_code == 404 and "/v1/" in told.json()["error"]["message"]


def test_a_client_that_takes_nothing_of_its_answer_is_ended(tmp_path: Path) -> None:
    with gateways(tmp_path, ECOTONE_STALLED_SECONDS="2") as (tree, _):
        text = "x" * 8_000_000
        body = json.dumps({"model": "demo/local", "messages": [{"role": "user", "content": text}]}).encode()
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", tree.port))
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\n"
            lazy.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            tree.wait_for_log("took nothing")
        with tree.client() as client:
            assert tree.post(client).status_code == 200
    assert opened_ids(tree) == settled_ids(tree)


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Stands in for an engine of the server's process: HTTP on a Unix socket in its private folder."""

    daemon_threads = True


class Answering(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "from the engine"}
        told = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
        self.send_response(200)
        self.send_header("content-length", str(len(json.dumps(told))))
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        pass


def test_an_engine_of_the_server_is_waited_for_and_called_on_its_socket(tmp_path: Path) -> None:
    """The server starts it; the worker sees by the snapshot that it is starting, and where it listens when it runs."""
    path = str(tmp_path / "engine.sock")
    engine = Serving(Engine(path, Answering))
    with gateways(tmp_path) as (tree, provider), tree.client() as client, engine:
        found = snapshot(provider, free_port())
        local = msgspec.structs.replace(found.targets["demo/local"], url=None, ready=False, starting=True)
        known = {hashlib.sha256(b"eck_later").hexdigest(): Key(id="later", project="shop")}
        found = msgspec.structs.replace(found, keys=found.keys | known)
        tree.place(msgspec.structs.replace(found, targets={"demo/local": local}))
        later_key = {"authorization": "Bearer eck_later"}
        until(lambda: client.get("/v1/models", headers=later_key).status_code == 200)
        ready = msgspec.structs.replace(local, socket=path, ready=True, starting=False)
        later = threading.Timer(1.0, tree.place, [msgspec.structs.replace(found, targets={"demo/local": ready})])
        began = time.monotonic()
        later.start()
        answer = tree.post(client)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "from the engine"
        assert time.monotonic() - began > 0.5


def test_connections_of_one_address_are_bounded_in_each_worker(tmp_path: Path) -> None:
    with gateways(tmp_path, ECOTONE_CONNECTIONS_PER_ADDRESS="3") as (tree, _), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tree.client()) for _ in range(3)]
        assert [tree.post(one).status_code for one in clients] == [200] * 3
        with tree.client() as extra:
            assert tree.post(extra).status_code == 429
        clients[0].close()

        def is_served() -> bool:
            with tree.client() as again:
                return bool(tree.post(again).status_code == 200)

        until(is_served)


def budgeted(provider: Provider, calls: int) -> Snapshot:
    """A budget for so many calls to the fake provider, whose tokens cost 10^-6 USD each."""
    found = snapshot(provider, free_port())
    rates = Rates(10**6, 10**6, 10**6, 10**6, 10**6, 10**6, 10**6)
    price = Price(version="test", scale=(rates,))
    budget = Budget(id="b", limit=calls * 18 * 10**6, window="total")
    return msgspec.structs.replace(
        found, prices={"fake/gpt-test": price}, limits={"project:shop": Limit(budgets=(budget,))}
    )


SPENT, BUSY = "budget_exceeded", "rate_limit_exceeded"


def outcome(answer: httpx.Response) -> int | str:
    """200, or the code of the refusal: a budget's and a rate's have the same status."""
    return 200 if answer.status_code == 200 else str(answer.json()["error"]["code"])


def spent(tree: Gateways) -> int:
    return sum(r["cost"] or 0 for r in tree.ledger.records("settled"))


def test_workers_together_never_overspend_a_budget_also_when_they_are_killed(tmp_path: Path) -> None:
    """What the dead had reserved comes back, less what they spent; a budget of several workers is one budget."""
    limit = 300
    with gateways(tmp_path, workers=2, made=lambda provider: budgeted(provider, limit)) as (tree, _):
        statuses: Counter[int | str] = Counter()

        def call() -> None:
            end = time.monotonic() + 120
            with tree.client() as client:
                while time.monotonic() < end and statuses[SPENT] < 12 and statuses[BUSY] < 300:
                    with contextlib.suppress(httpx.HTTPError):
                        answer = tree.post(client, "fake/gpt-test", max_tokens=7)
                        statuses[outcome(answer)] += 1
                        if answer.status_code != 200:
                            time.sleep(0.2)

        threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: statuses[200] >= limit // 5, 90)
        os.kill(tree.pids[0], signal.SIGKILL)
        for thread in threads:
            thread.join(130)
        print(f"{dict(statuses)}, spent {spent(tree) / 18 / 10**6:.1f} calls of {limit}")
        assert statuses[SPENT] + statuses[BUSY] > 0, "what is left at the end may be less than one call reserves"
    assert spent(tree) <= limit * 18 * 10**6
    assert spent(tree) >= 0.8 * limit * 18 * 10**6
