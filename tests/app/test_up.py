"""`ecotone up`: the first start, its secrets, its end, and what it survives."""

import contextlib
import os
import re
import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.running import ADMIN, ECOTONE, Running, contents, free_port, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"


def bare(folder: Path, **settings: str) -> Running:
    """An installation whose administrator's token nobody has set."""
    found = Running(folder, **settings)
    del found.env["ECOTONE_ADMIN_TOKEN"], found.env["ECOTONE_TOKEN"]
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = bare(tmp_path_factory.mktemp("first"))
    found.start()
    yield found
    found.stop()


def test_the_first_start_says_address_and_where_the_token_lies(first: Running) -> None:
    file = first.data / "admin-token"
    token = file.read_text().strip()
    assert first.url in first.log
    assert str(file) in first.log
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.data.stat().st_mode) == 0o700
    assert token.startswith("ect_")
    assert token not in first.log, "the token must not be in a log"
    assert "<html" in httpx.get(first.url + "/").text
    assert first.cli("project", "list").returncode == 0, "the local command line reads the token's file"
    me = httpx.get(first.url + "/api/ecotone/v1/me", headers={"authorization": f"Bearer {token}"}).json()
    assert me == {"user": "admin", "role": "admin"}


def test_what_the_server_keeps_is_for_its_owner_alone(first: Running) -> None:
    """Another user of the machine would read the database: names of models, hashes of tokens, every decision."""
    open_to_others = []
    for file, _ in contents(first.data):
        with contextlib.suppress(FileNotFoundError):  # a draft that has its place by now
            if file.name != "supervisor.lock" and stat.S_IMODE(file.stat().st_mode) & 0o077:  # that holds a number
                open_to_others.append(file)
    assert (first.data / "ecotone.db").exists() and open_to_others == []


def test_the_token_is_kept_over_a_restart_and_stored_as_its_hash_alone(first: Running) -> None:
    token = (first.data / "admin-token").read_text().strip()
    assert first.stop() == 0
    first.start()
    assert (first.data / "admin-token").read_text().strip() == token
    holders = [file for file, data in contents(first.data) if token.encode() in data]
    assert holders == [first.data / "admin-token"]


def test_the_first_token_can_be_set_by_a_flag_and_too_short_a_one_is_refused(tmp_path: Path) -> None:
    found = bare(tmp_path)
    refused = found.cli("up", "--admin-token", "short")
    assert refused.returncode != 0
    assert "at least 16 characters" in refused.stderr
    try:
        found.start("--admin-token", "a-token-given-by-flag")
        headers = {"authorization": "Bearer a-token-given-by-flag"}
        assert httpx.get(found.url + "/api/ecotone/v1/me", headers=headers).status_code == 200
        assert not (found.data / "admin-token").exists()
    finally:
        found.stop()


def test_a_port_that_is_taken_is_named(first: Running, tmp_path: Path) -> None:
    second = Running(tmp_path)
    done = second.cli("up", "--port", str(first.port))
    assert done.returncode == 1
    assert str(first.port) in done.stderr and "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    done = Running(tmp_path).cli("up", env={"ECOTONE_ENGINE_WAIT": "soon"})
    assert done.returncode == 1
    assert "ECOTONE_ENGINE_WAIT" in done.stderr and "'soon'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "env", "words"),
    [
        (("--port", "99999"), {}, "65535"),
        (("--data", "/proc/nope"), {}, "/proc/nope"),
        ((), {"ECOTONE_LOG_LEVEL": "loud"}, "'loud'"),
    ],
)
def test_what_cannot_be_is_a_sentence_at_start(
    tmp_path: Path, flags: tuple[str, ...], env: dict[str, str], words: str
) -> None:
    done = Running(tmp_path).cli("up", *flags, env=env)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr


def test_two_servers_do_not_share_a_data_folder(first: Running) -> None:
    done = first.cli("up", "--port", str(free_port()))
    assert done.returncode != 0
    assert "another" in done.stderr.lower() and "Traceback" not in done.stderr
    assert httpx.get(first.url + "/health").status_code == 200


def test_who_comes_under_a_foreign_name_is_turned_away(first: Running) -> None:
    answer = httpx.get(first.url + "/", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert "ECOTONE_ALLOWED_HOSTS" in answer.text


def test_beyond_loopback_nobody_reads_without_an_account(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_HOST="0.0.0.0") as open_to_all:
        page = httpx.get(open_to_all.url + "/")
        api = httpx.get(open_to_all.url + "/api/models/demo/x")
        known = open_to_all.http.get("/api/models")
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    assert (api.status_code, api.headers["x-error-code"]) == (401, "RepoNotFound")
    assert known.status_code == 200


def test_the_server_never_loads_torch(first: Running) -> None:
    assert httpx.get(first.url + "/").status_code == 200
    assert "libtorch" not in Path(f"/proc/{first.server_pid}/maps").read_text()


def test_a_server_that_dies_is_started_again_and_nobody_is_turned_away(first: Running) -> None:
    dead = first.server_pid
    os.kill(dead, signal.SIGKILL)
    # the supervisor holds the listener: this connection waits in its queue
    assert httpx.get(first.url + "/health", timeout=90).status_code == 200
    assert first.server_pid != dead
    assert "starting it again" in first.log


def test_no_server_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    found = Running(tmp_path)
    found.start()
    pid = found.server_pid
    assert found.process is not None
    found.process.kill()
    found.process.wait()
    end = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("kept")) as found:
        yield found


def test_an_end_in_order_leaves_a_ledger_that_is_whole_and_signed(kept: Running) -> None:
    kept.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
    assert kept.stop() == 0
    kept.start()
    report = kept.told("ledger", "verify")
    assert report["ok"] and report["records"] > 0


def test_what_was_published_outlives_kill_9(kept: Running) -> None:
    kept.publish("demo/kept", {"README.md": CARD, "config.json": b"{}"})
    kept.kill()
    kept.start()
    assert kept.http.get("/demo/kept/resolve/main/config.json").content == b"{}"
    assert kept.told("ledger", "verify")["ok"]


@pytest.mark.skipif("ECOTONE_TEST_POSTGRES_URL" not in os.environ, reason="needs PostgreSQL: `make test-all` starts it")
def test_the_same_on_postgresql(tmp_path: Path) -> None:
    server = os.environ["ECOTONE_TEST_POSTGRES_URL"]
    name = f"t_{secrets.token_hex(6)}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    url = sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with running(tmp_path, ECOTONE_DATABASE_URL=url) as found:
        found.publish("demo/kept", {"README.md": CARD, "config.json": b"{}"})
        found.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        found.kill()
        found.start()
        assert found.http.get("/demo/kept/resolve/main/config.json").content == b"{}"
        assert [p["name"] for p in found.told("project", "list")] == ["house", "shop"]
        assert found.told("ledger", "verify")["ok"]
        assert "<h1" in found.http.get("/demo/kept").text
        assert not (found.data / "ecotone.db").exists()
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    admin.dispose()


def test_the_log_holds_no_token_at_any_level(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_LOG_LEVEL="debug") as found:
        key = found.told("project", "create", "shop", "--mode", "run", "--purpose", "research") and found.told(
            "key", "create", "--project", "shop"
        )
        found.http.get("/api/models")
        httpx.get(found.url + "/v1/models", headers={"authorization": f"Bearer {key['key']}"})
        log = found.log
    assert ADMIN not in log
    assert key["key"] not in log


def test_help_needs_no_server_and_starts_fast() -> None:
    began = time.monotonic()
    done = subprocess.run([ECOTONE, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert re.search(r"\bup\b", done.stdout) and re.search(r"\blicence\b", done.stdout)
    assert time.monotonic() - began < 60, "a command line that takes so long to say its help is broken"
