"""The data faces: nothing but what was announced, verified and signed gets in or out."""

import asyncio
import errno
import hashlib
import json
import secrets
import socket
import struct
import threading
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ecotone.hub import lfs, weights
from ecotone.hub import xet as xet_face
from ecotone.storage import hashes, shards
from ecotone.storage.objects import key
from tests.stores import on_disk

XORB = b"\0\1\0\0\0\1\0\0a"
NAME = "a4d4ed80fcb2fe5177fc59321d3e6f90faf23e35a48d58303114bf073f34178a"
_CHUNK = hashes.chunk_hash(b"a")
SHARD = b"".join(
    (
        shards.TAG + struct.pack("<QQ", 2, 0),
        hashes.file_hash([(_CHUNK, 1)]) + struct.pack("<4I", 1 << 31, 1, 0, 0),
        hashes.from_text(NAME) + struct.pack("<4I", 0, 1, 0, 1),
        hashes.verification_hash(_CHUNK) + bytes(16),
        (b"\xff" * 32 + bytes(16)) * 2,
    )
)


def xet(http: httpx.Client, repo: str, operation: str) -> tuple[str, dict[str, str]]:
    """The store's path and a header with a token."""
    told = http.get(f"/api/models/{repo}/xet-{operation}-token/main")
    body = told.json()
    assert told.headers["x-xet-access-token"] == body["accessToken"]
    assert told.headers["x-xet-token-expiration"] == str(body["exp"])
    return urlsplit(body["casUrl"]).path, {"authorization": f"Bearer {body['accessToken']}"}


def ask(http: httpx.Client, repo: str, data: bytes, *, size: int | None = None, **more: Any) -> Any:
    """An LFS batch for one object to upload; the answer's row."""
    item = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data) if size is None else size}
    body = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [item],
        "hash_algo": "sha256",
        **more,
    }
    return http.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"][0]


def test_a_xorb_is_taken_under_its_own_hash_only(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    cas, write = xet(as_admin, repo, "write")
    _, read = xet(as_admin, repo, "read")
    assert server.http.post(f"{cas}/v1/xorbs/default/{NAME[::-1]}", content=XORB, headers=write).status_code == 400
    assert server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB, headers=read).status_code == 403
    assert server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB).status_code == 401
    answer = server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB, headers=write)
    assert answer.status_code == 200 and "was_inserted" in answer.json()
    assert server.http.post(f"{cas}/v1/shards", content=b"no shard", headers=write).status_code == 400
    huge = {**write, "content-length": str(10**9)}
    with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), timeout=120) as raw:
        lines = [f"POST {cas}/v1/shards HTTP/1.1", "host: localhost", *(f"{k}: {v}" for k, v in huge.items())]
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b"413" in raw.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize("token", ["x", "x.y", "\u00e9.\u00e9", "e30.", "ect_admin"])
def test_wrong_tokens_are_refused(server: SimpleNamespace, token: str) -> None:
    headers = {"authorization": f"Bearer {token}".encode("latin-1")}
    assert server.http.get(f"/cas/any/v2/reconstructions/{NAME}", headers=headers).status_code == 401
    assert server.http.get(f"/cas/data/{'x.y'}").status_code == 403


def test_what_is_not_offered_is_404(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    cas, write = xet(as_admin, repo, "write")
    for method, path in (
        ("GET", f"v1/chunks/default/{NAME}"),
        ("POST", f"v1/xorb-grants/default/{NAME}"),
        ("GET", f"v2/reconstructions/{'0' * 63}1"),
        ("GET", "v1/reconstructions/none"),
    ):
        assert server.http.request(method, f"{cas}/{path}", headers=write).status_code == 404, path


def test_a_shard_tells_how_far_it_is(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    """Clients wait five minutes for a silent answer; checking a large shard takes longer."""
    cas, write = xet(as_admin, repo, "write")
    server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB, headers=write)
    for body, last in ((b"no shard", "error"), (SHARD, "result")):
        answer = server.http.post(f"{cas}/v2/shards", content=body, headers=write)
        events = [json.loads(line) for line in answer.text.splitlines()]
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
        assert events[-1]["type"] == last
    assert events[-1]["result"] in (0, 1)
    assert server.http.post(f"{cas}/v2/shards", content=SHARD).status_code == 401
    _, read = xet(as_admin, repo, "read")
    assert server.http.post(f"{cas}/v2/shards", content=SHARD, headers=read).status_code == 403


def test_events_come_while_a_shard_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xet_face, "EVENT_SECONDS", 0.05)
    cas, told = xet_face.Cas(), threading.Event()

    def check(progress: Any) -> int:
        progress(5, 10)
        assert told.wait(60), "nothing is told until the end"
        return 1

    async def heard() -> list[Any]:
        events = []
        async for line in cas._events(cas._check(check)):
            events.append(json.loads(line))
            if events.count(far) == 2:
                told.set()
        return events

    far = {"type": "validating", "verified": 5, "total": 10}  # the first event may come before the thread has begun
    events = asyncio.run(heard())
    assert events.count(far) >= 2 and events[-1] == {"type": "result", "result": 1}
    assert cas._pending == 0


def test_plain_http_and_store_give_the_bytes_that_xet_took(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, repo: str
) -> None:
    data = secrets.token_bytes(700_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="w.bin", repo_id=repo)
    item = as_admin.post(f"/api/models/{repo}/paths-info/main", json={"paths": ["w.bin"]}).json()[0]
    assert item["lfs"]["oid"] == hashlib.sha256(data).hexdigest() and item["lfs"]["pointerSize"] > 100
    whole = as_admin.get(f"/{repo}/resolve/main/w.bin")
    assert whole.content == data and whole.headers["x-xet-hash"] == item["xetHash"]
    assert whole.headers["etag"] == whole.headers["x-linked-etag"] == f'"{item["lfs"]["oid"]}"'
    assert 'rel="xet-auth"' in whole.headers["link"]
    part = as_admin.get(f"/{repo}/resolve/main/w.bin", headers={"range": "bytes=300000-600000"})
    assert (part.status_code, part.content) == (206, data[300_000:600_001])
    assert as_admin.get(f"/{repo}/raw/main/w.bin").text.startswith("version https://git-lfs.github.com/spec/v1\noid")
    cas, read = xet(as_admin, repo, "read")
    for wanted in (None, (100_000, 400_000)):
        more = {} if wanted is None else {"range": f"bytes={wanted[0]}-{wanted[1]}"}
        told = server.http.get(f"{cas}/v2/reconstructions/{item['xetHash']}", headers=read | more).json()
        old = server.http.get(f"{cas}/v1/reconstructions/{item['xetHash']}", headers=read | more).json()
        assert told["terms"] == old["terms"] and set(old["fetch_info"]) == set(told["xorbs"])
        first = next(iter(told["xorbs"].values()))[0]
        span = first["ranges"][0]["bytes"]
        got = server.http.get(first["url"], headers={"range": f"bytes={span['start']}-{span['end']}"})
        assert got.status_code == 206 and len(got.content) == span["end"] - span["start"] + 1
        beyond = {"range": f"bytes={span['start']}-{span['end'] + 1}"}
        assert server.http.get(first["url"], headers=beyond).status_code in (206, 403)
    behind = server.http.get(f"{cas}/v2/reconstructions/{item['xetHash']}", headers=read | {"range": "bytes=700000-"})
    assert behind.status_code == 416


def test_a_file_of_another_namespace_is_unknown(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, repo: str
) -> None:
    data = secrets.token_bytes(50_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="w.bin", repo_id=repo)
    name = as_admin.post(f"/api/models/{repo}/paths-info/main", json={"paths": ["w.bin"]}).json()[0]["xetHash"]
    as_admin.post("/api/repos/create", json={"name": "other/repo"})
    cas, read = xet(as_admin, "other/repo", "read")
    assert server.http.get(f"{cas}/v2/reconstructions/{name}", headers=read).status_code == 404
    own, owner = xet(as_admin, repo, "read")
    assert own != cas, "a client that remembers by address what it sent must not take it for sent here"
    assert server.http.get(f"{own}/v2/reconstructions/{name}", headers=read).status_code == 401
    assert server.http.get(f"{own}/v2/reconstructions/{name}", headers=owner).status_code == 200
    claim = {"path": "stolen.bin", "algo": "sha256", "oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    lines = (
        b'{"key":"header","value":{"summary":"x"}}\n'
        + httpx.Request("POST", "http://x", json={"key": "lfsFile", "value": claim}).content
    )
    assert as_admin.post("/api/models/other/repo/commit/main", content=lines).status_code == 400


def test_lfs_takes_what_was_announced(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    data = secrets.token_bytes(300_000)
    row = ask(as_admin, repo, data)
    href = row["actions"]["upload"]["href"]
    for wrong in (data[:-1], data + b"x", secrets.token_bytes(len(data))):
        assert server.http.put(href, content=wrong).status_code in (400, 413)
    assert server.http.post(row["actions"]["verify"]["href"], json={}).status_code == 400
    assert server.http.put(href, content=data).status_code == 200
    assert server.http.post(row["actions"]["verify"]["href"], json={}).status_code == 200
    assert "actions" not in ask(as_admin, repo, data)
    assert "error" in ask(as_admin, repo, data, size=5)
    assert server.http.put(href.replace("/upload/", "/download/"), content=data).status_code == 405
    assert server.http.get(href.replace("/upload/", "/download/")).status_code == 403


def staged(server: SimpleNamespace) -> list[str]:
    return [p.name for p in (server.services.settings.data / "staging").rglob("*") if p.is_file()]


@pytest.mark.parametrize("face", ["lfs", "part", "xorb"])
def test_an_upload_cut_off_leaves_nothing(
    face: str, server: SimpleNamespace, as_admin: httpx.Client, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, headers, method = secrets.token_bytes(4_000_000), {}, "PUT"
    if face == "xorb":
        cas, headers = xet(as_admin, repo, "write")
        method, path = "POST", f"{cas}/v1/xorbs/default/{NAME}"
    else:
        if face == "part":
            monkeypatch.setattr(lfs, "MULTIPART_FROM", 100)
        upload = ask(as_admin, repo, data)["actions"]["upload"]
        path = urlsplit(upload["href"] if face == "lfs" else upload["header"]["1"]).path
    said = {**headers, "host": "localhost", "content-length": str(len(data))}
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in said.items()), "", ""]).encode()
    with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), timeout=120) as raw:
        raw.sendall(head + data[:3_000_000])
        for _ in range(9000):
            if staged(server):
                break
            time.sleep(0.01)
        assert staged(server)
    for _ in range(9000):
        if not staged(server):
            break
        time.sleep(0.01)
    assert not staged(server)
    if face == "lfs":
        assert server.http.put(path, content=data).status_code == 200


@on_disk
def test_a_full_disk_is_said_and_can_be_tried_again(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = secrets.token_bytes(100_000)
    href = ask(as_admin, repo, data)["actions"]["upload"]["href"]

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr("ecotone.storage.files.os.fsync", full)
        answer = server.http.put(href, content=data)
    assert answer.status_code == 503 and "disk is full" in answer.json()["message"] and answer.headers["retry-after"]
    assert not staged(server) and server.http.put(href, content=data).status_code == 200


def test_a_file_that_is_gone_has_no_status_200(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, repo: str
) -> None:
    data = secrets.token_bytes(3_000_000)
    name = hashlib.sha256(data).hexdigest()
    server.http.put(ask(as_admin, repo, data)["actions"]["upload"]["href"], content=data)
    line = (
        f'{{"key":"header","value":{{"summary":"x"}}}}\n{{"key":"lfsFile","value":{{"path":"w.bin","oid":"{name}"}}}}'
    )
    assert as_admin.post(f"/api/models/{repo}/commit/main", content=line).status_code == 200
    server.services.storage.objects.remove(key("lfs", name))
    assert as_admin.get(f"/{repo}/resolve/main/w.bin").status_code == 404


def test_lfs_refuses_bad_objects(as_admin: httpx.Client, repo: str) -> None:
    item = {"oid": "../../etc/passwd", "size": 1}
    body = {"operation": "upload", "objects": [item]}
    row = as_admin.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"][0]
    assert isinstance(row["error"]["code"], int) and row["error"]["message"] and "actions" not in row
    assert as_admin.post(f"/{repo}.git/info/lfs/objects/batch", json={"operation": "x"}).status_code == 400


def test_lfs_in_parts(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lfs, "MULTIPART_FROM", 100)
    monkeypatch.setattr(lfs, "PART_BYTES", 1000)
    data = secrets.token_bytes(2500)
    upload = ask(as_admin, repo, data)["actions"]["upload"]
    assert upload["header"]["chunk_size"] == "1000" and len(upload["header"]) == 4
    for number in (1, 2, 3):
        piece = data[(number - 1) * 1000 : number * 1000]
        if number == 3:
            assert server.http.post(upload["href"], json={}).status_code == 400
        sent = server.http.put(upload["header"][str(number)], content=piece)
        assert sent.status_code == 200 and sent.headers["etag"]
    parts = [{"partNumber": n, "etag": "x"} for n in (1, 2, 3)]
    assert server.http.post(upload["href"], json={"oid": "x", "parts": parts[:2]}).status_code == 400
    assert server.http.post(upload["href"], json={"oid": "x", "parts": parts}).status_code == 200
    assert "actions" not in ask(as_admin, repo, data)


def test_lfs_gives_out_what_the_repository_names(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    data = secrets.token_bytes(5000)
    server.http.put(ask(as_admin, repo, data)["actions"]["upload"]["href"], content=data)
    oid = hashlib.sha256(data).hexdigest()
    body = {"operation": "download", "objects": [{"oid": oid, "size": len(data)}]}
    before = as_admin.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"][0]
    assert before["error"]["code"] == 404
    line = f'{{"key":"header","value":{{"summary":"x"}}}}\n{{"key":"lfsFile","value":{{"path":"w.bin","oid":"{oid}"}}}}'
    assert as_admin.post(f"/api/models/{repo}/commit/main", content=line).status_code == 200
    row = as_admin.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"][0]
    got = server.http.get(row["actions"]["download"]["href"], headers={"range": "bytes=4000-"})
    assert (got.status_code, got.content) == (206, data[4000:])


def test_headers_of_sharded_weights_are_read_once_and_never_without_bound(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask for them: each call would take a processor for seconds."""
    entry = {f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(10)}
    text = json.dumps(entry).encode()
    for name in ("a.safetensors", "b.safetensors"):
        api.upload_file(path_or_fileobj=len(text).to_bytes(8, "little") + text, path_in_repo=name, repo_id=repo)
    table = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
    api.upload_file(path_or_fileobj=table, path_in_repo="m.safetensors.index.json", repo_id=repo)
    path = f"/api/models/{repo}/safetensors-metadata/m.safetensors.index.json"
    monkeypatch.setattr(weights, "MOST_TENSORS", 19)
    refused = server.http.get(path)
    assert refused.status_code == 413 and "19 tensors" in refused.headers["x-error-message"]
    monkeypatch.setattr(weights, "MOST_TENSORS", 20)
    first = server.http.get(path)
    assert first.status_code == 200 and len(first.json()["headers"]["a.safetensors"]) == 11
    monkeypatch.setattr(weights, "read_safetensors", None)
    assert server.http.get(path).content == first.content
