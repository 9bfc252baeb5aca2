"""Duties of a model at the server: listed, written as files by the command line, and verified at the hub itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ecotone.api import PREFIX
from tests.licences.duties_cases import CASES, text
from tests.running import Running, running

NOTICE = b"Acme Base\nCopyright 2025 Acme Labs\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Running]:
    licence = text(shared, CASES["apache-with-notice"].text).encode()
    card = b"---\nlicense: apache-2.0\n%s---\n# A model\n"
    with running(tmp_path_factory.mktemp("duties")) as found:
        found.publish("acme/base", {"README.md": card % b"", "LICENSE": licence, "NOTICE": NOTICE})
        found.publish("team/child", {"README.md": card % b"base_model: acme/base\n", "config.json": b"{}"})
        yield found


def test_the_parents_text_and_notice_are_taken_from_the_hub_and_found_there_once_published(
    server: Running, tmp_path: Path
) -> None:
    listed = server.told("licence", "duties", "team/child")
    assert {m["where"] for m in listed["missing"]} == {
        "LICENSES/Apache-2.0.txt",
        "CHANGES.md",
        "NOTICE",
        "README.md",
    }
    assert server.cli("licence", "duties", "team/child", "--verify", f"{server.url}/team/child").returncode == 4
    out = tmp_path / "out"
    (tmp_path / "out").mkdir()
    (out / "NOTICE").write_text("Ours.\n")
    written = server.told("licence", "duties", "team/child", "--write", str(out))
    assert written["missing"] == [] and "files" not in written
    assert (out / "NOTICE").read_text() == "Ours.\n\n" + NOTICE.decode()
    assert server.cli("licence", "duties", "team/child", "--verify", str(out)).returncode == 0
    (out / "NOTICE").write_text("Ours.\n")
    gone = server.cli("licence", "duties", "team/child", "--verify", str(out))
    assert gone.returncode == 4 and "NOTICE" in gone.stdout
    server.told("licence", "duties", "team/child", "--write", str(out))
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    server.publish("team/child", files)
    assert server.cli("licence", "duties", "team/child").returncode == 0
    live = server.cli("licence", "duties", "team/child", "--verify", f"{server.url}/team/child")
    assert live.returncode == 0, live.stdout + live.stderr
    assert httpx.get(f"{server.url}{PREFIX}/models/team/child/duties").json()["status"] == "complete"


def test_the_server_fetches_no_address_and_hides_what_is_not_there(server: Running) -> None:
    path = f"{PREFIX}/models/team/child/duties"
    assert server.http.post(path, json={"url": "http://127.0.0.1:1/"}).status_code == 400
    assert server.http.post(path, json={"page": "<p>nothing</p>"}).json()["status"] == "unknown", "no page shows a text"
    assert httpx.post(server.url + path, json={}).status_code == 401
    assert server.http.get(f"{PREFIX}/models/team/absent/duties").status_code == 404
    assert server.http.get(f"{path}?mode=fly").status_code == 400
    broken = server.http.post(path, json={"files": True, "bundle": {"NOTICE": None}})
    assert broken.status_code == 400 and "cannot be read" in broken.json()["error"]["message"]


def test_a_private_parent_is_not_named_to_who_may_not_see_it(server: Running) -> None:
    server.publish("acme/secret", {"README.md": b"---\nlicense: gemma\n---\n", "NOTICE": b"Secret of Acme\n"})
    server.publish("team/open", {"README.md": b"---\nlicense: gemma\nbase_model: acme/secret\n---\n"})
    hidden = server.http.put("/api/models/acme/secret/settings", json={"private": True})
    assert hidden.status_code == 200, hidden.text
    path = f"{server.url}{PREFIX}/models"
    asked = httpx.get(f"{path}/team/open/duties", timeout=60)
    assert asked.status_code == 200 and "Secret of Acme" not in asked.text
    assert "hidden" not in {d["entry"] for d in asked.json()["duties"]}, "that it is here was told"
    assert httpx.get(f"{path}/acme/secret/duties").status_code == 404
    assert server.http.get(f"{PREFIX}/models/acme/secret/duties").status_code == 200
