"""Garbage collection, conversion and checks at a real server with real clients and from the command line."""

import hashlib
import json
import os
import random
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ecotone.app.checking import Check, lines
from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage.content import blob_id
from tests.running import ADMIN, Running, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    clock = {"ECOTONE_COLLECT_DELAY": "0", "ECOTONE_COLLECT_SECONDS": "0"}
    with running(tmp_path, ECOTONE_CONVERT_SOON="0", **clock) as found:
        yield found


def api(server: Running) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=server.url, token=ADMIN)


def upload(server: Running, repo: str, path: str, file: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """By the installed client in a process of its own, whose cache of what it has sent stays between calls."""
    code = (
        "import sys; from huggingface_hub import HfApi; a = HfApi(); a.create_repo(sys.argv[1], exist_ok=True);"
        "a.upload_file(repo_id=sys.argv[1], path_in_repo=sys.argv[2], path_or_fileobj=sys.argv[3])"
    )
    home = {"HF_ENDPOINT": server.url, "HF_TOKEN": ADMIN, "HF_HOME": str(server.folder / "home")}
    env = server.env | home | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | env
    argv = [sys.executable, "-c", code, repo, path, str(file)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)


def download(server: Running, repo: str, path: str) -> httpx.Response:
    return server.http.get(f"/{repo}/resolve/main/{path}", follow_redirects=True)


def stored(server: Running, kind: str) -> list[Path]:
    return [p for p in (server.data / "objects" / kind).rglob("*") if p.is_file()]


def test_a_file_collected_can_be_sent_again_by_a_client_that_remembers_it(server: Running, tmp_path: Path) -> None:
    """hf_xet keeps for weeks what it sent to an address; after a collection it must not count on it."""
    file = tmp_path / "w.bin"
    file.write_bytes(secrets.token_bytes(3_000_000))
    kept = tmp_path / "k.bin"
    kept.write_bytes(secrets.token_bytes(200_000))
    for repo, path, source in (("demo/a", "w.bin", file), ("demo/kept", "k.bin", kept)):
        done = upload(server, repo, path, source)
        assert done.returncode == 0, done.stderr
    assert not stored(server, "lfs") and len(stored(server, "xorbs")) == 2
    address = server.http.get("/api/models/demo/kept/xet-write-token/main").json()["casUrl"]
    api(server).delete_repo("demo/a")
    told = server.told("gc", "--dry-run", "--grace", "0")
    assert told["condemned"]["xorbs"]["objects"] == 1 and len(stored(server, "xorbs")) == 2
    first = server.told("gc", "--grace", "0")
    assert first["rows"] == {"xet_files": 1, "xorb_tenants": 1} and first["waiting"]
    assert server.told("gc", "--grace", "0")["removed"]["xorbs"]["bytes"] > 3_000_000
    assert len(stored(server, "xorbs")) == 1
    assert server.http.get("/api/models/demo/kept/xet-write-token/main").json()["casUrl"] != address
    again = upload(server, "demo/b", "w.bin", file)
    assert again.returncode == 0, again.stderr
    assert download(server, "demo/b", "w.bin").content == file.read_bytes()
    assert download(server, "demo/kept", "k.bin").content == kept.read_bytes()
    acts = [json.loads(line) for p in (server.data / "ledger").rglob("*.jsonl") for line in p.read_text().splitlines()]
    assert any("store.collected" in json.dumps(act) for act in acts)
    assert server.cli("gc", env={"ECOTONE_TOKEN": "ect_wrong"}).returncode == 1


def test_files_sent_by_lfs_become_xet_files_and_keep_their_etag(server: Running, tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(random.Random(7).randbytes(2_000_000) * 2)  # where chunks end again decides what is new
    done = upload(server, "demo/a", "w.bin", file, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stderr
    before = download(server, "demo/a", "w.bin")
    assert len(stored(server, "lfs")) == 1 and before.content == file.read_bytes()
    told = server.told("convert")
    assert told["files"] == 1 and told["new"] < 2_300_000 and told["failed"] == []
    for _ in range(2):
        server.told("gc", "--grace", "0")
    assert not stored(server, "lfs") and stored(server, "xorbs")
    after = download(server, "demo/a", "w.bin")
    assert after.content == before.content and after.headers["etag"] == before.headers["etag"]
    part = server.http.get("/demo/a/resolve/main/w.bin", headers={"range": "bytes=1999990-2000010"})
    assert part.status_code == 206 and part.content == file.read_bytes()[1_999_990:2_000_011]
    from huggingface_hub import hf_hub_download

    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    got = hf_hub_download(
        "demo/a", "w.bin", endpoint=server.url, token=ADMIN, cache_dir=str(tmp_path / "cache"), etag_timeout=120
    )
    assert Path(got).read_bytes() == file.read_bytes()
    server.stop()
    checked = server.told("fsck", "--deep")
    assert checked["ok"] and checked["checked"]["xet"] == 1


def xet_hash(server: Running, repo: str, path: str) -> str | None:
    told = server.http.post(f"/api/models/{repo}/paths-info/main", json={"paths": [path]}).json()[0].get("xetHash")
    return None if told is None else str(told)


def copy(server: Running, source: str, path: str, target: str) -> None:
    """As a client copies across repositories, which it does only with files that have a Xet hash."""
    from huggingface_hub import CommitOperationCopy

    operation = CommitOperationCopy(path, path, src_repo_id=source, src_repo_type="model")
    api(server).create_repo(target)
    api(server).create_commit(target, [operation], commit_message="Copy")


def test_a_file_sent_without_xet_can_soon_be_copied_to_another_repository(tmp_path: Path) -> None:
    """The client refuses to copy a large file without a Xet hash. A larger file than is converted stays whole."""
    with running(tmp_path, ECOTONE_CONVERT_SOON="300000") as server:
        for size in (300_000, 300_001):
            (tmp_path / "w.bin").write_bytes(secrets.token_bytes(size))
            done = upload(server, "demo/a", f"{size}.bin", tmp_path / "w.bin", HF_HUB_DISABLE_XET="1")
            assert done.returncode == 0, done.stderr
        until(lambda: xet_hash(server, "demo/a", "300000.bin") is not None)
        copy(server, "demo/a", "300000.bin", "other/b")
        assert download(server, "other/b", "300000.bin").content == download(server, "demo/a", "300000.bin").content
        assert xet_hash(server, "demo/a", "300001.bin") is None


def test_a_file_converted_after_its_commit_is_read_and_copied_as_xet(server: Running, tmp_path: Path) -> None:
    """By those who may read a repository that names it, and by nobody else of the namespace."""
    file = tmp_path / "w.bin"
    file.write_bytes(secrets.token_bytes(400_000))
    for repo, env in (("demo/a", {"HF_HUB_DISABLE_XET": "1"}), ("demo/b", {})):
        assert upload(server, repo, "w.bin" if repo == "demo/a" else "v.txt", file, **env).returncode == 0
        file.write_bytes(b"a small file")
    assert xet_hash(server, "demo/a", "w.bin") is None
    server.told("convert")
    name = xet_hash(server, "demo/a", "w.bin")
    assert name is not None
    for repo, status in (("demo/a", 200), ("demo/b", 404)):
        told = server.http.get(f"/api/models/{repo}/xet-read-token/main").json()
        bearer = {"authorization": f"Bearer {told['accessToken']}"}
        assert httpx.get(f"{told['casUrl']}/v1/reconstructions/{name}", headers=bearer).status_code == status, repo
    copy(server, "demo/a", "w.bin", "other/c")
    assert download(server, "other/c", "w.bin").content == download(server, "demo/a", "w.bin").content
    from huggingface_hub import snapshot_download

    found = snapshot_download("demo/a", endpoint=server.url, token=ADMIN, cache_dir=str(tmp_path / "cache"))
    assert (Path(found) / "w.bin").read_bytes() == download(server, "demo/a", "w.bin").content


def test_the_clock_collects_and_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the grace is longer than the client takes from its upload to its commit; on a busy machine it is sent again
    clock = {"ECOTONE_COLLECT_DELAY": "0", "ECOTONE_COLLECT_SECONDS": "0.5", "ECOTONE_COLLECT_GRACE": "6"}
    with running(tmp_path, ECOTONE_CONVERT="1", **clock) as server:
        file = tmp_path / "w.bin"
        file.write_bytes(secrets.token_bytes(300_000))
        until(lambda: upload(server, "demo/a", "w.bin", file, HF_HUB_DISABLE_XET="1").returncode == 0)
        until(lambda: not stored(server, "lfs") and len(stored(server, "xorbs")) == 1)
        assert download(server, "demo/a", "w.bin").content == file.read_bytes()
        api(server).delete_repo("demo/a")
        until(lambda: not stored(server, "xorbs"))


def until(holds: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


# -- checks ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Running:
    """An installation that is down, with a file in each form."""
    with running(tmp_path_factory.mktemp("filled"), ECOTONE_CONVERT_SOON="0") as server:
        for name, env in (("xet", {}), ("lfs", {"HF_HUB_DISABLE_XET": "1"})):
            file = server.folder / f"{name}.bin"
            file.write_bytes(hashlib.sha256(name.encode()).digest() * 10_000 + secrets.token_bytes(200_000))
            done = upload(server, "demo/m", f"d/{name}.bin", file, **env)
            assert done.returncode == 0, done.stderr
        server.publish("demo/m", {"d/notes.txt": b"a small file"})
    return server


@pytest.fixture
def down(filled: Running, tmp_path: Path) -> Running:
    """A copy of it, to be damaged."""
    found = Running(tmp_path / "copy")
    subprocess.run(["cp", "-a", filled.data, found.data], check=True)
    return found


def spoil(path: Path, how: str) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-50])
    else:
        data[{"flipped": len(data) // 2, "footer": len(data) - 30}[how]] ^= 1
        path.write_bytes(data)


def check(server: Running, *, deep: bool = True, repair: bool = False) -> Any:
    """What `ecotone fsck` does, without starting a process for it."""
    settings = Settings(data=server.data)
    database = Database(settings.sql_url)
    try:
        storage = Storage(database, settings)
        return Check(settings, database, storage, deep=deep, repair=repair).run()
    finally:
        database.dispose()


def told_of(found: Any) -> str:
    return "\n".join(lines(msgspec.to_builtins(found)))


def git_object(server: Running, kind: str) -> Path:
    """An object of the newest revision of main; others may be orphans, which nobody misses."""
    with sqlite3.connect(server.data / "ecotone.db") as database:
        (sha,) = database.execute("select sha from refs where ref = 'refs/heads/main'").fetchone()
        (tree,) = database.execute("select tree from revisions where sha = ?", (sha,)).fetchone()
    blob = blob_id(b"a small file")
    name = {"commit": sha, "tree": tree, "blob": blob}[kind]
    return server.data / "objects" / "git" / name[:2] / name[2:]


def test_a_whole_store_is_clean(down: Running) -> None:
    told = down.told("fsck", "--deep")
    assert told["ok"] and told["faults"] == []
    assert told["checked"]["lfs"] == told["checked"]["xorbs"] == told["checked"]["xet"] == 1
    assert told["checked"]["revisions"] >= 4 and told["checked"]["ledger"] > 0
    assert "no faults" in down.cli("fsck").stdout


@pytest.mark.parametrize(
    ("kind", "how", "deep"),
    [
        ("lfs", "gone", False),
        ("lfs", "cut", False),
        ("lfs", "flipped", True),
        ("xorbs", "gone", False),
        ("xorbs", "cut", False),
        ("xorbs", "flipped", True),
    ],
)
def test_damage_is_told_with_the_files_it_affects_and_can_be_sent_again(
    down: Running, filled: Running, kind: str, how: str, deep: bool
) -> None:
    (path,) = stored(down, kind)
    spoil(path, how)
    file = "d/lfs.bin" if kind == "lfs" else "d/xet.bin"
    found = check(down, deep=deep)
    assert not found.ok and "demo/m@" in told_of(found) and file in told_of(found), told_of(found)
    if deep:
        assert check(down, deep=False).ok, "a byte is found by reading it only"
    done = down.cli("fsck", "--deep", "--repair", "--json")
    mended = json.loads(done.stdout)
    assert mended["found"] == mended["repaired"] > 0
    if (kind, how) == ("xorbs", "cut"):
        assert done.returncode == 0 and any("footer" in fault["repaired"] for fault in mended["faults"])
        assert check(down).ok
        return
    assert done.returncode == 1 and any(fault["lost"] for fault in mended["faults"]), "a file is gone: no success"
    assert bool([p for p in (down.data / "quarantine").rglob("*") if p.is_file()]) == (how != "gone")
    assert not check(down).ok, "the bytes are still missing"
    if how == "cut":
        return
    with running(down.folder) as server:
        how_sent = {"HF_HUB_DISABLE_XET": "1" if kind == "lfs" else "0"}
        again = upload(server, "demo/m", "again.bin", filled.folder / file[2:], **how_sent)
        assert again.returncode == 0, again.stderr
        assert download(server, "demo/m", file).content == (filled.folder / file[2:]).read_bytes()
    assert check(down).ok


@pytest.mark.parametrize(("kind", "mended"), [("tree", True), ("blob", False), ("commit", False)])
@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_git_objects(down: Running, kind: str, mended: bool, how: str) -> None:
    spoil(git_object(down, kind), how)
    found = check(down)
    assert [f.kind for f in found.faults] == ["git"] and found.faults[0].affects, told_of(found)
    found = check(down, repair=True)
    assert found.repaired == (mended or how == "flipped")
    assert check(down).ok == mended


def test_a_ref_to_nowhere_and_an_index_that_lacks_a_file(down: Running) -> None:
    with sqlite3.connect(down.data / "ecotone.db") as database:
        database.execute("delete from repository_objects")
        database.execute("insert into refs values (1, 'refs/heads/lost', ?, '')", ("0" * 40,))
    assert {fault.kind for fault in check(down).faults} == {"ref", "index"}
    found = down.cli("fsck", "--repair")
    assert found.returncode == 1 and "refs/heads/lost" in found.stdout and "listed again" in found.stdout
    assert [fault.kind for fault in check(down).faults] == ["ref"]


def test_a_touched_ledger_and_orphans(down: Running) -> None:
    orphan = down.data / "objects" / "lfs" / "00" / ("1" * 62)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x")
    assert check(down).orphans["lfs"] == 1
    segment = next((down.data / "ledger").rglob("*.jsonl"))
    segment.write_bytes(segment.read_bytes()[:-200])
    assert [fault.kind for fault in check(down).faults] == ["ledger"]


def test_beside_a_server_it_reads_only(down: Running) -> None:
    with running(down.folder) as server:
        told = server.cli("fsck", "--deep", "--json")
        assert told.returncode == 0 and json.loads(told.stdout)["ok"] and "a server runs" in told.stderr
        refused = server.cli("fsck", "--repair")
        assert refused.returncode == 1 and "stop it first" in refused.stderr
        job = server.http.post("/api/ecotone/v1/store/check", json={"deep": True}).json()
        until(lambda: server.http.get(f"/api/ecotone/v1/jobs/{job['id']}").json()["state"] == "done")
        assert server.http.get(f"/api/ecotone/v1/jobs/{job['id']}").json()["result"]["ok"]
