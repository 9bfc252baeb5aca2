"""`hf discussions` and pull requests from the command line, of unmodified clients from PyPI, against a real server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import environment
from tests.clients.test_hub_clients import CLIENTS, folder_of, hf
from tests.running import Running, clean_environment, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("talk")) as found:
        yield found


@pytest.fixture(scope="module")
def reader(server: Running) -> str:
    """The token of a user who may only read."""
    made = server.http.post("/api/ecotone/v1/tokens", json={"user": "rita", "role": "read"})
    assert made.status_code in (200, 201), made.text
    return str(made.json()["token"])


def run(server: Running, client: str, home: Path, token: str, *argv: str) -> str:
    """A command of a user; what it prints. It must succeed."""
    env = clean_environment(
        HF_ENDPOINT=server.url, HF_TOKEN=token, HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1", NO_COLOR="1"
    )
    done = subprocess.run([environment(client) / "hf", *argv], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def test_each_command_of_hf_discussions(server: Running, reader: str, tmp_path: Path) -> None:
    repo, client = "demo/talk", "hub-2.4"
    server.publish(repo, {"README.md": b"---\nlicense: mit\n---\n# One\n"})

    def said(*argv: str, token: str = reader) -> str:
        return run(server, client, tmp_path / "home", token, "discussions", *argv)

    said("create", repo, "--title", "A question", "--body", "Why?")
    said("comment", repo, "1", "--body", "Because")
    said("rename", repo, "1", "Renamed")
    assert "Renamed" in said("ls", repo)
    events = server.http.get(f"/api/models/{repo}/discussions/1").json()["events"]
    said("edit", repo, "1", events[1]["id"], "--body", "Because y")
    assert "Because y" in said("info", repo, "1")
    said("close", repo, "1", "--yes", "--comment", "done")
    assert "Renamed" not in said("ls", repo) and "Renamed" in said("ls", repo, "--status", "closed")
    said("reopen", repo, "1", "--yes")
    said("create", repo, "--title", "A draft", "--body", "soon", "--pull-request")
    run(server, client, tmp_path / "home", reader, "upload", repo, str(card(tmp_path, "# Two")), "README.md",
        "--revision", "refs/pr/2")  # fmt: skip
    diff = said("diff", repo, "2")
    assert "-# One" in diff and "+# Two" in diff
    said("reopen", repo, "2", "--yes")
    merge = ("merge", repo, "2", "--yes", "--comment", "Thanks")
    with pytest.raises(AssertionError, match="correct permissions"):
        said(*merge)
    said(*merge, token=server.env["ECOTONE_TOKEN"])
    assert "A draft" in said("ls", repo, "--status", "merged")
    assert server.http.get(f"/{repo}/resolve/main/README.md").text.endswith("# Two\n")


def card(folder: Path, text: str) -> Path:
    at = folder / "README.md"
    at.write_text(f"---\nlicense: mit\n---\n{text}\n")
    return at


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("xet", ["on", "off"])
def test_a_reader_sends_a_folder_as_a_pull_request(
    server: Running, reader: str, tmp_path: Path, client: str, xet: str
) -> None:
    """With Xet and with LFS, by today's client and an old one: the bytes come back whole once it is merged."""
    repo = f"demo/proposed-{client}-{xet}"
    server.publish(repo, {"a.txt": b"a"})
    source = folder_of(tmp_path / "model")
    env = clean_environment(
        HF_ENDPOINT=server.url, HF_TOKEN=reader, HF_HOME=str(tmp_path / "home"), HF_HUB_DISABLE_TELEMETRY="1",
        NO_COLOR="1", HF_HUB_DISABLE_XET="1" if xet == "off" else "0",
    )  # fmt: skip
    argv = [environment(client) / "hf", "upload", repo, str(source), "--create-pr"]
    up = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=200)
    assert up.returncode == 0, up.stdout + up.stderr
    server.http.post(f"/api/models/{repo}/discussions/1/status", json={"status": "open"})
    merged = server.http.post(f"/api/models/{repo}/discussions/1/merge", json={})
    assert merged.status_code == 200, merged.text
    down = hf(server, client, tmp_path / "other", "download", repo, "--local-dir", str(tmp_path / "back"))
    assert down.returncode == 0, down.stdout + down.stderr
    for file in (f for f in source.rglob("*") if f.is_file()):
        assert (tmp_path / "back" / file.relative_to(source)).read_bytes() == file.read_bytes(), file


def test_an_upload_without_right_says_whom_to_ask(server: Running, reader: str, tmp_path: Path) -> None:
    server.publish("demo/mine", {"a.txt": b"a"})
    env = clean_environment(HF_ENDPOINT=server.url, HF_TOKEN=reader, HF_HOME=str(tmp_path), NO_COLOR="1")
    argv = [environment("hub-2.4") / "hf", "upload", "demo/mine", str(card(tmp_path, "# Mine")), "README.md"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode != 0 and "may only read" in done.stdout + done.stderr
