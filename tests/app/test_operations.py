"""What those who run the server ask it: alive, ready, its figures."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from ecotone.app.gate import client_of
from ecotone.app.traffic import Traffic
from ecotone.settings import Settings
from ecotone.vocabulary import Invalid
from tests.app.test_restart import publish_large
from tests.receiver import until
from tests.running import ADMIN, Running, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("operations"), ECOTONE_CONVERT_SOON="0") as found:
        publish_large(found, "secret-namespace/secret-model", b"x" * 2_000_000)
        found.http.get("/secret-namespace/secret-model/resolve/main/big.bin")
        found.http.get("/secret-namespace/nothing-here")
        yield found


def figures(server: Running) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_figures_tell_what_passed(server: Running) -> None:
    route = (
        ("face", "hub"),
        ("method", "GET"),
        ("route", "/{namespace}/{name}/resolve/{rev}/{path:path}"),
        ("status", "2xx"),
    )
    until(lambda: route in figures(server).get("ecotone_requests_total", {}))  # it is counted after its last byte
    found = figures(server)
    assert found["ecotone_requests_total"][route] == 1
    assert found["ecotone_received_bytes_total"][("face", "lfs"),] == 2_000_000
    assert found["ecotone_sent_bytes_total"][("face", "hub"),] > 2_000_000
    assert found["ecotone_stored_bytes"][("kind", "lfs"),] == 2_000_000
    assert found["ecotone_ledger_records"][("writer", "server"),] > 0
    assert found["ecotone_transfers_in_flight"][("direction", "out"), ("face", "operations")] == 1
    assert found["process_resident_memory_bytes"][()] > 0 and found["process_open_fds"][()] > 0


def test_no_name_of_a_repository_or_user_is_a_label(server: Running) -> None:
    """A label for each name would tell of private repositories, and grow without bound."""
    for path in ("/a/b", "/a/b/resolve/main/c", "/api/models/a/b", "/%00", "/lfs/upload/abc"):
        server.http.get(path)
    server.http.request("BREW", "/pot")
    text = server.http.get("/metrics").text
    assert "secret-" not in text and "BREW" not in text and ADMIN not in text
    before = len(text.splitlines())
    for number in range(30):
        server.http.get(f"/name{number}/x")
        server.http.get(f"/name{number}/x/resolve/main/{number}")
    assert len(server.http.get("/metrics").text.splitlines()) <= before + 4


def test_every_figure_stands_in_the_documentation(server: Running) -> None:
    names = {family.name for family in text_string_to_metric_families(server.http.get("/metrics").text)}
    written = DOCS.read_text()
    missing = {
        n for n in names if n.startswith("ecotone_") and f"`{n}`" not in written and f"`{n}_total`" not in written
    }
    assert not missing


def test_who_may_read_the_figures(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        assert httpx.get(found.url + "/metrics").status_code == 200, "this machine"
        forwarded = {"x-forwarded-for": "203.0.113.9"}
        assert httpx.get(found.url + "/metrics", headers=forwarded).status_code == 401, "an unknown proxy's client"
        token = found.told("token", "create", "ann", "--role", "write")["token"]
        (found.data / "settings.env").write_text("ECOTONE_METRICS_READ=nobody\n")
        assert found.cli("restart").returncode == 0
        # the server before may still take a connection while it ends
        until(lambda: httpx.get(found.url + "/metrics").status_code == 401)
        known = {"authorization": f"Bearer {token}"}
        until(lambda: httpx.get(found.url + "/metrics", headers=known).status_code == 401)
        assert found.http.get("/metrics").status_code == 200
        (found.data / "settings.env").write_text("ECOTONE_METRICS_READ=anyone\n")
        assert found.cli("restart").returncode == 0
        until(lambda: httpx.get(found.url + "/metrics", headers=forwarded).status_code == 200)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("closed"), ECOTONE_ANONYMOUS_READ="0") as found:
        yield found


def test_alive_and_ready_are_told_to_strangers_and_nothing_else(closed: Running) -> None:
    assert httpx.get(closed.url + "/health").json()["status"] == "ok"
    until(lambda: httpx.get(closed.url + "/health/ready").status_code == 200)
    answer = httpx.get(closed.url + "/health/ready")
    checks = dict.fromkeys(("database", "migrations", "storage", "ledger", "server"), "ok")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "checks": checks})
    assert httpx.get(closed.url + "/health/else").status_code in (303, 404)


@pytest.mark.parametrize("folder", ["staging", "ledger"])
def test_a_folder_that_cannot_be_written_makes_the_server_not_ready(closed: Running, folder: str) -> None:
    found, place = closed, closed.data / folder
    place.rename(found.data / "aside")
    try:
        until(lambda: httpx.get(found.url + "/health/ready").status_code == 503)
        answer = httpx.get(found.url + "/health/ready")
        name = "storage" if folder == "staging" else folder
        assert answer.status_code == 503 and answer.json()["checks"][name] == "cannot be written"
        assert str(found.data) not in answer.text
        assert figures(found)["ecotone_ready"][("check", name),] == 0
        assert httpx.get(found.url + "/health").status_code == 200, "alive all the same: a restart would not mend it"
    finally:
        (found.data / "aside").rename(place)
    until(lambda: httpx.get(found.url + "/health/ready").status_code == 200)


@pytest.mark.parametrize(
    ("trusted", "peer", "told", "client"),
    [
        ("", "10.0.0.1", "203.0.113.9", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.0/8", "192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ("10.0.0.0/8", "10.0.0.1", "nonsense", "10.0.0.1"),
    ],
)
def test_a_forwarded_address_is_believed_from_trusted_proxies_alone(
    tmp_path: Path, trusted: str, peer: str, told: str, client: str
) -> None:
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", told.encode())]}
    assert client_of(scope, Settings(data=tmp_path, trusted_proxies=trusted)) == client


def test_proxies_that_are_no_networks_are_named() -> None:
    with pytest.raises(Invalid, match="ECOTONE_TRUSTED_PROXIES"):
        Settings.from_environment({"ECOTONE_TRUSTED_PROXIES": "the front"})


def test_counting_a_request_takes_microseconds() -> None:
    """No label is made and no lock taken for a request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 10})

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        pass

    async def seconds(what: object, rounds: int = 5_000) -> float:
        began = time.thread_time()
        for _ in range(rounds):
            await what({"type": "http", "path": "/a/b", "method": "GET", "headers": []}, receive, send)  # type: ignore[operator]
        return (time.thread_time() - began) / rounds

    async def measure() -> float:
        traffic = Traffic(app, {}, "")
        return min([await seconds(traffic) for _ in range(5)]) - min([await seconds(app) for _ in range(5)])

    extra = asyncio.run(measure())
    print(f"{extra * 1e6:.1f} microseconds a request")
    assert extra < 100e-6
