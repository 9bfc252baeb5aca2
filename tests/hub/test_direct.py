"""Clients that load from the object store itself, and put xorbs there: unmodified, against a real S3 server."""

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.stores import ENDPOINT, in_a_bucket

pytestmark = in_a_bucket
HF = Path(sys.executable).parent / "hf"


@pytest.fixture(scope="module")
def more_settings() -> dict[str, Any]:
    return {"s3_public_endpoint": ENDPOINT}


def hf(server: SimpleNamespace, home: Path, *argv: str, token: str = "ect_admin") -> str:
    """The installed `hf`, with a cache of its own; what it prints, its log of requests among it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "AWS_"))}
    env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([HF, *argv], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def lfs_put(server: SimpleNamespace, http: httpx.Client, repo: str, data: bytes, path: str) -> str:
    name = hashlib.sha256(data).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": name, "size": len(data)}]}
    told = http.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()
    assert server.http.put(told["objects"][0]["actions"]["upload"]["href"], content=data).status_code == 200
    lines = {"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": path, "oid": name}}
    line = "\n".join(map(json.dumps, lines))
    assert http.post(f"/api/models/{repo}/commit/main", content=line).status_code == 200
    return name


def test_hf_uploads_and_downloads_through_the_store(
    server: SimpleNamespace, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte of the xorbs passes through the hub: neither its upload nor its data address is asked."""
    data = secrets.token_bytes(90_000_000)
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "model.safetensors").write_bytes(data)
    storage = server.services.storage
    committed: list[str] = []
    commit, signed = storage.direct.commit, storage.xet.signed_range
    monkeypatch.setattr(storage.direct, "commit", lambda *a: (committed.append(a[1]), commit(*a)))
    asked: list[str] = []
    monkeypatch.setattr(storage.xet, "signed_range", lambda t: (asked.append(t), signed(t))[1])
    hf(server, tmp_path / "one", "upload", repo, str(tmp_path / "up"))
    assert len(committed) >= 2 and not list(storage.objects.listed("staging"))
    hf(server, tmp_path / "two", "download", repo, "--local-dir", str(tmp_path / "down"))
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == data
    assert not asked
    plain = httpx.get(
        f"{server.url}/{repo}/resolve/main/model.safetensors", headers={"range": "bytes=70000000-70000999"}
    )
    assert plain.status_code == 206 and plain.content == data[70_000_000:70_001_000]


def test_an_lfs_object_is_loaded_from_the_store(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, repo: str, tmp_path: Path
) -> None:
    data = secrets.token_bytes(3_000_000)
    name = lfs_put(server, as_admin, repo, data, "weights dé.bin")
    address = f"{server.url}/{repo}/resolve/main/weights%20d%C3%A9.bin"
    head = as_admin.head(address)
    assert head.status_code == 200 and head.headers["x-linked-size"] == str(len(data))
    told = as_admin.get(address)
    assert told.status_code == 302 and told.headers["location"].startswith(ENDPOINT)
    assert told.headers["x-linked-etag"] == f'"{name}"' and told.headers["x-repo-commit"]
    got = httpx.get(told.headers["location"])
    assert got.content == data and "weights%20d%C3%A9.bin" in got.headers["content-disposition"]
    assert got.headers["content-type"] == "application/octet-stream"
    part = httpx.get(address, headers={"range": "bytes=1000-1999"}, follow_redirects=True)
    assert part.status_code == 206 and part.content == data[1000:2000]
    assert as_admin.get(address, headers={"if-none-match": f'"{name}"'}).status_code == 304
    assert Path(api.hf_hub_download(repo, "weights dé.bin", cache_dir=tmp_path)).read_bytes() == data
    done = subprocess.run(["curl", "-sfL", address], capture_output=True, check=True)
    assert done.stdout == data
    body = {"operation": "download", "objects": [{"oid": name, "size": len(data)}]}
    row = as_admin.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"][0]
    assert httpx.get(row["actions"]["download"]["href"]).content == data


def test_who_may_not_read_gets_no_address(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    lfs_put(server, as_admin, repo, secrets.token_bytes(100_000), "w.bin")
    for closed in ({"gated": "manual"}, {"private": True}):
        as_admin.put(f"/api/models/{repo}/settings", json=closed).raise_for_status()
        told = server.http.get(f"/{repo}/resolve/main/w.bin")
        assert told.status_code in (401, 403, 404) and "location" not in told.headers and ENDPOINT not in told.text


def test_grants_are_for_writers(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    body = {"length": 1000, "checksum": {"algo": "crc64nvme", "value": "1"}}
    for operation, status in (("read", 403), ("write", 201)):
        token = as_admin.get(f"/api/models/{repo}/xet-{operation}-token/main").json()
        cas = httpx.Client(base_url=token["casUrl"], headers={"authorization": f"Bearer {token['accessToken']}"})
        address = f"/v1/xorb-grants/default/{'ab' * 32}"
        told = cas.post(token["casUrl"] + address, json=body)
        assert told.status_code == status
    made = told.json()
    assert (
        made["method"] == "PUT" and made["headers"] == {"if-none-match": "*"} and re.fullmatch(r"[\w.-]+", made["id"])
    )
    commit = f"{token['casUrl']}/v1/xorb-commits/default/{'ab' * 32}/grant/{made['id']}"
    assert cas.post(commit).status_code == 404
    assert httpx.put(made["url"], content=bytes(1000), headers=made["headers"]).status_code == 200
    assert cas.post(commit).status_code == 400
    assert cas.post(commit.replace("ab" * 32, "cd" * 32)).status_code == 403
    assert cas.post(token["casUrl"] + address, json={"length": 1 << 40}).status_code == 400
