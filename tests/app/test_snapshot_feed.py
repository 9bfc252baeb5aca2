"""A gateway that follows a server: the same data folder, or another machine by the shared secret."""

import secrets
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from ecotone.gateway.fetching import Fetcher, NotFetched
from ecotone.gateway.following import FileSnapshots
from ecotone.gateway.sharing import NONCE, PATH, PROOF, fresh_nonce, proof
from tests.app.gateways import Gateways
from tests.receiver import until
from tests.running import Running, in_time, running
from tests.serving import Serving

pytestmark = pytest.mark.slow

SECRET = secrets.token_hex(32)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "hub", ECOTONE_SNAPSHOT_SECRET=SECRET) as found:
        yield found


def key_of(server: Running) -> str:
    server.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "internal_commercial")
    made = server.told("key", "create", "--project", "shop")
    return next(word for word in made.values() if str(word).startswith("eck_"))


def status(tree: Gateways, key: str) -> int:
    with tree.client() as client:
        return client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code


def test_a_key_made_at_the_server_is_in_force_at_its_workers_within_two_seconds(server: Running) -> None:
    tree = Gateways(server.folder, workers=2)
    try:
        tree.start()
        server.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "internal_commercial")
        key = key_id = ""

        def make(_: int) -> Callable[[], bool]:
            nonlocal key, key_id
            made = server.http.post("/api/ecotone/v1/keys", json={"project": "shop"}).json()
            key, key_id = made["key"], made["id"]
            return lambda: all(status(tree, key) == 200 for _ in range(4))

        def revoke(turn: int) -> Callable[[], bool]:
            if turn:
                until(make(turn))
            server.http.delete(f"/api/ecotone/v1/keys/{key_id}")
            return lambda: all(status(tree, key) == 401 for _ in range(4))

        print(f"in force after {in_time(make, 2):.2f} s, revoked after {in_time(revoke, 2):.2f} s")
    finally:
        tree.stop()


def test_the_servers_life_keeps_an_unchanged_snapshot_young(server: Running) -> None:
    """Else workers would refuse whenever nothing was changed for a quarter of an hour."""
    file = server.data / "snapshot" / "snapshot"
    before, content = file.stat().st_mtime, file.read_bytes()
    until(lambda: file.stat().st_mtime > before)
    assert file.read_bytes() == content


def test_a_gateway_on_another_machine_follows_serves_without_contact_and_then_refuses(
    server: Running, tmp_path: Path
) -> None:
    key = key_of(server)
    where = {"ECOTONE_SNAPSHOT_URL": server.url, "ECOTONE_SNAPSHOT_SECRET": SECRET, "ECOTONE_SNAPSHOT_MAX_AGE": "12"}
    tree = Gateways(tmp_path / "elsewhere", workers=2, **where)
    try:
        tree.start()
        until(lambda: status(tree, key) == 200)
        time.sleep(13)  # older than it may be, but for the contact that keeps it in force
        until(lambda: status(tree, key) == 200)
        server.kill()  # which takes no time, as an end in order may
        assert status(tree, key) == 200
        until(lambda: status(tree, key) == 503)
        assert "no contact with the server that decides" in tree.log
        assert SECRET not in tree.log
        server.start()
        until(lambda: status(tree, key) == 200)
    finally:
        tree.stop()
    assert all(chain.name.startswith("gw") and "x" in chain.name for chain in tree.ledger.chains())


def test_nobody_without_the_secret_reads_the_decisions(server: Running) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.get(PATH).status_code == 404
        nonce = fresh_nonce()
        assert stranger.get(PATH, headers={NONCE: nonce, PROOF: proof("x" * 64, nonce)}).status_code == 404
        old = f"{int(time.time()) - 400}.{'0' * 32}"
        assert stranger.get(PATH, headers={NONCE: old, PROOF: proof(SECRET, old)}).status_code == 404
        good = stranger.get(PATH, headers={NONCE: nonce, PROOF: proof(SECRET, nonce)})
        assert good.status_code == 200
    assert server.http.get(PATH).status_code == 404, "an administrator's token is no proof"


def test_an_unchanged_snapshot_is_not_sent_again(server: Running, tmp_path: Path) -> None:
    fetcher = Fetcher(server.url, SECRET, tmp_path)
    fetcher.fetch()
    first = FileSnapshots(tmp_path).current
    assert first.consumers and not any(t.socket for t in first.targets.values())
    inode = (tmp_path / "snapshot").stat().st_ino
    fetcher.fetch()
    assert (tmp_path / "snapshot").stat().st_ino == inode


def test_an_answer_that_was_seen_before_or_made_up_is_not_taken(server: Running, tmp_path: Path) -> None:
    """Whoever sits between the two must not bring back a key that was revoked."""
    nonce = fresh_nonce()
    seen = httpx.get(server.url + PATH, headers={NONCE: nonce, PROOF: proof(SECRET, nonce)})

    class Between(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name in ("etag", "x-ecotone-seal", "content-length"):
                self.send_header(name, seen.headers[name])
            self.end_headers()
            self.wfile.write(seen.content)

        def log_message(self, *_: object) -> None:
            pass

    between = HTTPServer(("127.0.0.1", 0), Between)
    with Serving(between), pytest.raises(NotFetched, match="seal"):
        Fetcher(f"http://127.0.0.1:{between.server_port}", SECRET, tmp_path).fetch()
    assert not (tmp_path / "snapshot").exists()
