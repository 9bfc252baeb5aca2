"""A server says which models, projects and routes are answered otherwise by another state of knowledge."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ecotone.api import PREFIX
from ecotone.licences import KnowledgeBase
from ecotone.licences.entries import FOLDER
from tests.running import Running, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("diff")) as found:
        found.publish("demo/plain", {"README.md": CARD, "config.json": b"{}"})
        found.publish("demo/other", {"README.md": CARD.replace(b"apache-2.0", b"mit"), "config.json": b"{}"})
        found.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        found.told("route", "set", "assistant", "--to", "demo/plain")
        found.told("route", "set", "second", "--to", "demo/other")
        yield found


@pytest.fixture(scope="module")
def stricter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state of knowledge in which one licence is not known yet."""
    folder = tmp_path_factory.mktemp("kb") / "stricter"
    shutil.copytree(FOLDER, folder)
    (folder / "apache-2.0.yaml").unlink()
    return folder


def test_models_projects_and_routes_whose_answer_changes(server: Running, stricter: Path) -> None:
    answer = server.told("licence", "diff", str(stricter), "--server")
    ours = [c for c in answer["models"] if c["model"].startswith("demo/") and c["who"] == "shop"]
    assert [(c["model"], c["before"], c["after"]) for c in ours] == [("demo/plain", "unknown", "allow")]
    assert ours[0]["because"] == ["Apache-2.0"] and len(ours[0]["revision"]) == 40
    assert "shop" in answer["projects"]
    assert answer["routes"] == [{"route": "assistant", "models": ["demo/plain"]}]
    assert answer["new"]["digest"] == KnowledgeBase.load().digest
    shown = server.cli("licence", "diff", str(stricter), "--server").stdout
    assert "demo/plain for shop: unknown -> allow" in shown and "route assistant" in shown


def test_the_version_in_force_is_kept_and_does_not_differ_from_itself(server: Running) -> None:
    kept = sorted((server.data / "knowledge").iterdir())
    assert len(kept) == 1
    answer = server.told("licence", "diff", KnowledgeBase.load().version, "--server")
    assert (answer["entries"], answer["models"], answer["routes"]) == ([], [], [])


def test_a_wrong_version_or_file_is_a_sentence_and_only_admins_may_ask(server: Running) -> None:
    gone = server.cli("licence", "diff", "1999.1.1", "--server")
    assert gone.returncode == 1 and "1999.1.1" in gone.stderr
    broken = base64.b64encode(b"nothing").decode()
    wrong = server.http.post(PREFIX + "/licence/diff", json={"old_file": broken})
    assert wrong.status_code == 400 and "damaged" in wrong.json()["error"]["message"]
    nobody = httpx.post(server.url + PREFIX + "/licence/diff", json={})
    assert nobody.status_code == 401
