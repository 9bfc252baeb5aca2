"""Reading by git over smart HTTP, with the real git and git-lfs: what a user of `git clone` loses, or could take."""

import asyncio
import gzip
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.catalog import RevisionNotFound
from ecotone.catalog.clones import Clones, Stopped, _OwnFolder
from ecotone.catalog.models import RefRow
from ecotone.hub import git as face
from ecotone.settings import Settings
from ecotone.vocabulary import RepoType, TooLarge, Unavailable
from tests.hub.test_wire import add as add_bytes
from tests.hub.test_wire import commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git: apt-get install git")
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs: apt-get install git-lfs")
VERSIONS = ("0", "1", "2")


def add(path: str, text: str) -> dict[str, Any]:
    return add_bytes(path, text.encode())


class Git:
    """The real git with a home of its own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder / "home"
        home.mkdir()
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}

    def run(self, *argv: str, at: str = ".") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["git", *argv], cwd=self.folder / at, env=self.env, capture_output=True, text=True, timeout=250
        )

    def __call__(self, *argv: str, at: str = ".") -> str:
        done = self.run(*argv, at=at)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


def with_token(url: str, token: str, user: str = "anybody") -> str:
    return url.replace("http://", f"http://{user}:{token}@")


def filled(as_admin: httpx.Client, repo: str) -> list[str]:
    """Three commits on main; their ids, oldest first."""
    made = []
    for number in range(3):
        lines = [add("notes/a.txt", f"text {number}\n" * 50), add(f"b{number}.txt", f"{number}\n" * 9)]
        made.append(commit(as_admin, repo, *lines).json()["commitOid"])
    return made


def pkt(*lines: str) -> bytes:
    return b"".join(b"%04x" % (len(line) + 5) + line.encode() + b"\n" for line in lines)


def asked(server: SimpleNamespace, repo: str, oid: str, version: str) -> httpx.Response:
    """A want of one object, as no client of ours would send it."""
    if version == "2":
        body = pkt("command=fetch", "object-format=sha1") + b"0001" + pkt(f"want {oid}", "done") + b"0000"
    else:
        body = pkt(f"want {oid} side-band-64k ofs-delta agent=x") + b"0000" + pkt("done")
    headers = {"content-type": "application/x-git-upload-pack-request", "git-protocol": f"version={version}"}
    return server.http.post(f"/{repo}/git-upload-pack", content=body, headers=headers)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("suffix", ["", ".git"])
def test_a_clone_holds_the_very_commits_and_bytes(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git, version: str, suffix: str
) -> None:
    made = filled(as_admin, repo)
    git("-c", f"protocol.version={version}", "clone", f"{server.url}/{repo}{suffix}", "out")
    assert git("rev-parse", "HEAD", at="out") == made[-1]
    assert git("symbolic-ref", "HEAD", at="out") == "refs/heads/main"
    assert git("rev-list", "--count", "HEAD", at="out") == "4"
    assert (git.folder / "out" / "notes" / "a.txt").read_text() == "text 2\n" * 50
    git("fsck", "--full", "--strict", at="out")


@pytest.mark.parametrize("version", ["0", "2"])
def test_shallow_partial_and_single_branch_clones(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git, version: str
) -> None:
    made = filled(as_admin, repo)
    as_admin.post(f"/api/models/{repo}/branch/side", json={"startingPoint": made[0]})
    as_admin.post(f"/api/models/{repo}/tag/main", json={"tag": "v1.0", "message": "first"})
    url = f"{server.url}/{repo}"
    git.run("config", "--global", "protocol.version", version)
    git("clone", "--depth", "1", url, "shallow")
    assert git("rev-list", "--count", "HEAD", at="shallow") == "1"
    git("fetch", "--unshallow", at="shallow")
    assert git("rev-list", "--count", "HEAD", at="shallow") == "4"
    git("clone", "--filter=blob:none", "--no-checkout", url, "partial")
    missing = git("rev-list", "--objects", "--all", "--missing=print", at="partial")
    assert sum(line.startswith("?") for line in missing.splitlines()) == 7
    assert git("show", f"{made[0]}:notes/a.txt", at="partial").startswith("text 0")
    sparse = git.run("clone", f"--filter=sparse:oid={made[0]}:notes/a.txt", "--no-checkout", url, "sparse")
    assert sparse.returncode != 0 and "not supported" in sparse.stderr
    git("clone", "--single-branch", "--branch", "side", url, "single")
    assert git("branch", "-r", at="single").split() == ["origin/side"]
    assert git("rev-parse", "HEAD", at="single") == made[0]
    git("clone", "--branch", "v1.0", "--depth", "1", url, "tagged")
    assert git("rev-parse", "HEAD", at="tagged") == made[-1]


def test_pull_requests_and_commits_are_fetched_by_name(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git
) -> None:
    made = filled(as_admin, repo)
    model = server.services.catalog.model(repo, viewer=admin_of(server))
    with server.services.database.writing() as session:
        session.add(RefRow(model_key=model.key, ref="refs/pr/7", sha=made[1], message=""))
    git("clone", "--depth", "1", f"{server.url}/{repo}", "out")
    git("fetch", "origin", "refs/pr/7:pr7", at="out")
    assert git("rev-parse", "pr7", at="out") == made[1]
    git("fetch", "origin", made[0], at="out")
    assert git("rev-parse", "FETCH_HEAD", at="out") == made[0]


def admin_of(server: SimpleNamespace) -> Any:
    return server.services.accounts.actor_for_token("ect_admin")


def test_a_fetch_brings_what_is_new_and_loses_what_is_gone(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git
) -> None:
    filled(as_admin, repo)
    git("clone", f"{server.url}/{repo}", "out")
    commit(as_admin, repo, add("more.txt", "more"))
    git("fetch", at="out")
    as_admin.post(f"/api/models/{repo}/branch/side", json={})
    key = server.services.catalog.model(repo, viewer=admin_of(server)).key
    copies = server.services.settings.data / "clones"
    packs = len(list(copies.glob(f"*/{key}-*/objects/pack/*.pack")))
    assert packs == 2, "what is new is a pack of its own, as long as nothing is lost"
    lost = commit(as_admin, repo, add("secret.txt", "take this back"), rev="side").json()["commitOid"]
    git("fetch", at="out")
    assert git("rev-parse", "origin/side", at="out") == lost
    assert asked(server, repo, lost, "2").content.find(b"PACK") > 0
    as_admin.delete(f"/api/models/{repo}/branch/side")
    new = commit(as_admin, repo, add("new.txt", "new")).json()["commitOid"]
    git("fetch", "--prune", at="out")
    assert git("rev-parse", "origin/main", at="out") == new
    assert git("branch", "-r", at="out").split() == ["origin/HEAD", "->", "origin/main", "origin/main"]
    for oid in (lost, hashlib.sha1(b"blob 14\0take this back").hexdigest()):
        assert b"not our ref" in asked(server, repo, oid, "2").content


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["commit", "tree", "blob"])
def test_objects_of_another_repository_are_never_sent(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, version: str, what: str
) -> None:
    shut = f"{repo}-shut"
    as_admin.post("/api/repos/create", json={"name": shut, "private": True})
    secret = f"a secret {secrets.token_hex(8)}"
    head = commit(as_admin, shut, add("secret.txt", secret)).json()["commitOid"]
    tree = server.services.storage.git_object(head)[1].split()[1].decode()
    blob = hashlib.sha1(b"blob %d\0" % len(secret) + secret.encode()).hexdigest()
    assert server.services.storage.git_object(blob)[1] == secret.encode()
    filled(as_admin, repo)
    answer = asked(server, repo, {"commit": head, "tree": tree, "blob": blob}[what], version)
    assert b"not our ref" in answer.content and b"PACK" not in answer.content
    assert b"not our ref" in asked(server, repo, "1" * 40, version).content


def test_private_and_absent_repositories_look_the_same(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git
) -> None:
    filled(as_admin, repo)
    as_admin.put(f"/api/models/{repo}/settings", json={"private": True})
    shapes = []
    for name in (repo, "demo/nothing-is-here"):
        seen = server.http.get(f"/{name}/info/refs?service=git-upload-pack")
        assert seen.status_code == 401 and seen.headers["www-authenticate"].startswith("Basic")
        posted = server.http.post(f"/{name}/git-upload-pack", content=b"0000")
        said = git.run("clone", f"{server.url}/{name}", "out").stderr.replace(name, "NAME")
        kept = {k: v.replace(name, "NAME") for k, v in seen.headers.items() if k not in ("date", "content-length")}
        shapes.append((seen.text.replace(name, "NAME"), kept, posted.status_code, said))
        shutil.rmtree(git.folder / "out", ignore_errors=True)
    assert shapes[0] == shapes[1]
    git("clone", with_token(f"{server.url}/{repo}", "ect_reader"), "out")
    wrong = git.run("clone", with_token(f"{server.url}/{repo}", "ect_nobody"), "wrong")
    assert wrong.returncode != 0 and "ect_nobody" not in server_log(wrong.stderr)


def server_log(text: str) -> str:
    """What the server said: git itself names the address that it was given."""
    return "\n".join(line for line in text.splitlines() if line.startswith("remote:"))


def test_gated_files_are_for_those_who_were_let_in(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git
) -> None:
    filled(as_admin, repo)
    as_admin.put(f"/api/models/{repo}/settings", json={"gated": "manual"})
    assert server.http.get(f"/{repo}/info/refs?service=git-upload-pack").status_code == 401
    refused = git.run("clone", with_token(f"{server.url}/{repo}", "ect_reader"), "out")
    assert "gated" in refused.stderr and "403" in refused.stderr
    assert asked(server, repo, "1" * 40, "2").status_code == 401
    git("clone", with_token(f"{server.url}/{repo}", "ect_writer"), "written")
    as_admin.put(f"/api/models/{repo}/settings", json={"gated": "auto"})
    reader = {"authorization": "Bearer ect_reader"}  # who must ask also where all are let in
    assert server.http.post(f"/api/models/{repo}/user-access-request", headers=reader).json()["status"] == "accepted"
    git("clone", with_token(f"{server.url}/{repo}", "ect_reader"), "read")


def test_a_push_is_refused_with_the_way_to_upload(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git
) -> None:
    filled(as_admin, repo)
    git("clone", with_token(f"{server.url}/{repo}", "ect_admin"), "out")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-m", "mine", at="out")
    pushed = git.run("push", at="out")
    assert pushed.returncode != 0
    assert "remote: This hub takes no pushes by git. Upload with `hf upload" in pushed.stderr and "403" in pushed.stderr
    assert server.http.post(f"/{repo}/git-receive-pack", content=b"0000").status_code == 403
    assert server.http.get("/demo/absent/info/refs?service=git-receive-pack").status_code == 403


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_datasets_and_spaces_are_cloned_too(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, git: Git, kind: str
) -> None:
    assert as_admin.post("/api/repos/create", json={"name": repo, "type": kind}).status_code == 200
    git("clone", f"{server.url}/{kind}s/{repo}", "out")
    head = as_admin.get(f"/api/{kind}s/{repo}").json()["sha"]
    assert git("rev-parse", "HEAD", at="out") == head


@needs_lfs
@pytest.mark.parametrize("private", [False, True])
def test_git_lfs_pulls_large_files(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, repo: str, git: Git, private: bool
) -> None:
    data = secrets.token_bytes(300_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="deep/model.bin", repo_id=repo)
    as_admin.put(f"/api/models/{repo}/settings", json={"private": private})
    git("lfs", "install", "--skip-smudge")
    url = f"{server.url}/{repo}"
    git("clone", with_token(url, "ect_reader") if private else url, "out")
    held = git.folder / "out" / "deep" / "model.bin"
    oid = hashlib.sha256(data).hexdigest()
    assert held.read_text() == f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 300000\n"
    git("lfs", "pull", at="out")
    assert held.read_bytes() == data
    git("lfs", "fsck", at="out")


def test_bodies_are_bounded(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    headers = {"content-type": "application/x-git-upload-pack-request", "content-encoding": "gzip"}
    path = f"/{repo}/git-upload-pack"
    bomb = gzip.compress(bytes(face.MOST_UNPACKED + 1))
    assert server.http.post(path, content=bomb, headers=headers).status_code == 413
    assert server.http.post(path, content=b"no gzip", headers=headers).status_code == 400
    assert server.http.post(path, content=gzip.compress(b"0000")[:-9], headers=headers).status_code == 400
    assert server.http.post(path, content=bytes(face.MOST_BODY + 1)).status_code == 413
    assert server.http.get(f"/{repo}/info/refs").status_code == 403
    assert server.http.get(f"/{repo}/info/refs?service=git-upload-archive").status_code == 403


def children() -> set[int]:
    """Processes of this one's that run upload-pack."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if (
                b"upload-pack" in status.read_bytes()
                and f"PPid:\t{os.getpid()}" in (status.parent / "status").read_text()
            ):
                found.add(int(status.parent.name))
        except OSError:
            continue
    return found


def test_who_hangs_up_ends_the_work(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    noise = [add(f"n{number}.txt", secrets.token_hex(1_000_000)) for number in range(12)]
    head = commit(as_admin, repo, *noise).json()["commitOid"]
    asked(server, repo, "1" * 40, "2")
    before = children()
    body = pkt("command=fetch", "object-format=sha1") + b"0001" + pkt(f"want {head}", "done") + b"0000"
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head_lines = f"POST /{repo}/git-upload-pack HTTP/1.1\r\nHost: 127.0.0.1\r\nGit-Protocol: version=2\r\n"
        client.sendall(f"{head_lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        time.sleep(0.5)
        assert children() - before, "the child was done before anybody could hang up"
    for _ in range(1800):
        if not children() - before:
            break
        time.sleep(0.05)
    assert not children() - before


def test_only_so_many_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "PATIENCE", 0.05)

    async def tried() -> None:
        turns = face.Turns()
        async with turns.turn(1):
            with pytest.raises(Unavailable):
                async with turns.turn(1):
                    raise AssertionError("two at a time")
        async with turns.turn(1):
            pass

    asyncio.run(tried())


def test_the_making_of_a_copy_ends_with_its_time_and_with_who_wanted_it(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, tmp_path: Path
) -> None:
    filled(as_admin, repo)
    services = server.services
    model = services.catalog.model(repo, viewer=admin_of(server))
    slow = Clones(services.catalog, services.storage, Settings(data=tmp_path, clone_seconds=0.0))
    with pytest.raises(TooLarge, match="hf download"), slow.opened(model, threading.Event()):
        raise AssertionError("it took no time")
    gone = threading.Event()
    gone.set()
    able = Clones(services.catalog, services.storage, Settings(data=tmp_path))
    with pytest.raises(Stopped), able.opened(model, gone):
        raise AssertionError("nobody waits for it")
    assert left_in(tmp_path) == []


def left_in(data: Path) -> list[Path]:
    """Copies and drafts of all processes."""
    return [copy for own in (data / "clones").iterdir() if own.is_dir() for copy in own.iterdir()]


def test_copies_make_room_for_others_and_stay_while_they_are_read(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, tmp_path: Path
) -> None:
    services = server.services
    clones = Clones(services.catalog, services.storage, Settings(data=tmp_path, clone_cache_bytes=1))
    as_admin.post("/api/repos/create", json={"name": repo, "type": "dataset"})
    admin = admin_of(server)
    first = services.catalog.model(repo, viewer=admin)
    second = services.catalog.model(repo, viewer=admin, repo_type=RepoType.DATASET)
    with clones.opened(first, threading.Event()) as held:
        commit(as_admin, repo, add("new.txt", "new"))
        with clones.opened(first, threading.Event()) as newer, clones.opened(second, threading.Event()):
            assert newer != held and (held / "HEAD").exists() and (newer / "HEAD").exists()
    assert left_in(tmp_path) == []


def test_a_second_process_leaves_the_copies_of_the_first_alone_until_it_ends(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, tmp_path: Path
) -> None:
    """A restart that lets transfers end, or a command beside the server, would break clones that are under way."""
    services = server.services
    model = services.catalog.model(repo, viewer=admin_of(server))
    first = Clones(services.catalog, services.storage, Settings(data=tmp_path))
    second = Clones(services.catalog, services.storage, Settings(data=tmp_path))
    with first.opened(model, threading.Event()) as held, second.opened(model, threading.Event()) as other:
        assert held.exists() and held.parent != other.parent
    assert first._own is not None
    os.close(first._own._held)  # what the end of a process does
    third = Clones(services.catalog, services.storage, Settings(data=tmp_path))
    with third.opened(model, threading.Event()):
        assert not held.exists() and other.exists()


def test_a_deleted_repository_leaves_no_copy(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    services = server.services
    model = services.catalog.model(repo, viewer=admin_of(server))
    with services.clones.opened(model, threading.Event()) as held:
        services.clones.forget(model)
        assert held.exists(), "whoever reads it reads on"
    assert not held.exists()


def test_a_clone_of_a_history_that_is_written_anew_meanwhile_is_told_to_come_again(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = server.services
    model = services.catalog.model(repo, viewer=admin_of(server))

    def gone(*_: object) -> None:
        raise RevisionNotFound(repo, "0" * 40)

    clones = Clones(services.catalog, services.storage, Settings(data=tmp_path))
    monkeypatch.setattr(clones, "_fill", gone)
    with pytest.raises(Unavailable, match="just now"), clones.opened(model, threading.Event()):
        raise AssertionError("it was made")
    assert left_in(tmp_path) == []


def test_two_processes_that_clean_up_at_once_do_not_stumble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda folder, _: [folder / "gone.lock"])  # the other one was quicker
    assert _OwnFolder(tmp_path).path.is_dir()
