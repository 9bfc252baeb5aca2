"""Bytes and hashes stay with those who may have them: a user would lose a gated or private model to anybody."""

import hashlib
import secrets
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.hub import grants
from ecotone.vocabulary import Role
from tests.hub.test_data_faces import NAME, SHARD, XORB, xet
from tests.hub.test_wire import add, commit


@pytest.fixture(autouse=True)
def asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a token allows is remembered for seconds; here it is looked up for each request."""
    monkeypatch.setattr(grants, "REMEMBERED_SECONDS", -1.0)


@pytest.fixture
def as_wanda(server: SimpleNamespace) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_other"}, timeout=120) as http:
        yield http


def pair(server: SimpleNamespace, as_admin: httpx.Client, api: Any, **closed: Any) -> tuple[str, str, str, bytes]:
    """Two repositories of one namespace, the second closed: their ids, the Xet hash and the bytes of the second."""
    stamp = time.monotonic_ns()
    openly, shut = f"pairs/open-{stamp}", f"pairs/shut-{stamp}"
    for name in (openly, shut):
        as_admin.post("/api/repos/create", json={"name": name})
    data = secrets.token_bytes(200_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="w.bin", repo_id=shut)
    name = as_admin.post(f"/api/models/{shut}/paths-info/main", json={"paths": ["w.bin"]}).json()[0]["xetHash"]
    assert as_admin.put(f"/api/models/{shut}/settings", json=closed).status_code == 200
    return openly, shut, name, data


@pytest.mark.parametrize("closed", [{"gated": "manual"}, {"private": True}])
def test_a_token_of_an_open_repository_reads_nothing_of_a_closed_one(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, closed: dict[str, Any]
) -> None:
    openly, shut, name, data = pair(server, as_admin, api, **closed)
    for http, operation in ((server.http, "read"), (as_admin, "write")):
        cas, token = xet(http, openly, operation)
        for version in ("v1", "v2"):
            assert server.http.get(f"{cas}/{version}/reconstructions/{name}", headers=token).status_code == 404
        assert server.http.head(f"{cas}/v1/files/{name}", headers=token).status_code == 404
        asked = server.http.get(f"{cas}/v1/reconstructions", params={"file_id": name}, headers=token)
        assert asked.json() == {"files": {}, "fetch_info": {}}
    cas, token = xet(as_admin, shut, "read")
    told = server.http.get(f"{cas}/v1/reconstructions/{name}", headers=token).json()
    one = next(iter(told["fetch_info"].values()))[0]
    assert server.http.get(one["url"]).status_code in (200, 206)
    assert as_admin.get(f"/{shut}/resolve/main/w.bin").content == data


def test_listings_of_a_gated_repository_show_its_hashes_to_nobody_outside(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any
) -> None:
    _, shut, name, data = pair(server, as_admin, api, gated="manual")
    sha256 = hashlib.sha256(data).hexdigest()
    paths = (f"/api/models/{shut}/tree/main", f"/api/models/{shut}?blobs=true", f"/api/models?search={shut}&full=true")
    for path in paths:
        seen = server.http.get(path)
        assert seen.status_code == 200 and "w.bin" in seen.text
        assert name not in seen.text and sha256 not in seen.text, path
    info = server.http.post(f"/api/models/{shut}/paths-info/main", json={"paths": ["w.bin"]})
    assert info.json()[0]["path"] == "w.bin" and name not in info.text and sha256 not in info.text
    assert name in as_admin.get(f"/api/models/{shut}/tree/main").text


def test_files_of_old_revisions_and_moved_repositories_are_still_read(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, tmp_path: Any
) -> None:
    from huggingface_hub import hf_hub_download

    _, shut, _, data = pair(server, as_admin, api)
    old = as_admin.get(f"/api/models/{shut}").json()["sha"]
    assert commit(as_admin, shut, {"key": "deletedFile", "value": {"path": "w.bin"}}).status_code == 200
    moved = {"fromRepo": shut, "toRepo": f"{shut}-moved", "type": "model"}
    assert as_admin.post("/api/repos/move", json=moved).status_code == 200
    for name in (shut, f"{shut}-moved"):
        found = hf_hub_download(
            name, "w.bin", revision=old, endpoint=server.url, local_dir=tmp_path / name, token=False
        )
        with open(found, "rb") as file:
            assert file.read() == data


def test_a_token_ends_with_its_holder_and_with_what_it_stood_for(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any
) -> None:
    """A revoked user would write, and a stranger read what was closed meanwhile, for an hour."""
    _, shut, name, _ = pair(server, as_admin, api)
    cas, anonymous = xet(server.http, shut, "read")
    path = f"{cas}/v1/reconstructions/{name}"
    assert server.http.get(path, headers=anonymous).status_code == 200
    info, secret = server.services.accounts.create_token("leaver", Role.WRITE)
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {secret}"}) as leaver:
        _, write = xet(leaver, shut, "write")
    assert server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB, headers=write).status_code == 200
    server.services.accounts.revoke_token(info.id)
    assert server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB, headers=write).status_code == 401
    as_admin.put(f"/api/models/{shut}/settings", json={"private": True})
    assert server.http.get(path, headers=anonymous).status_code == 401


def test_an_upload_is_not_told_whether_its_bytes_were_here_before(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str
) -> None:
    cas, write = xet(as_admin, repo, "write")
    seen = set()
    for _ in range(2):
        seen.add(server.http.post(f"{cas}/v1/xorbs/default/{NAME}", content=XORB, headers=write).text)
        seen.add(server.http.post(f"{cas}/v1/shards", content=SHARD, headers=write).text)
    assert seen == {'{"was_inserted":true}', '{"result":1}'}
    assert server.http.head(f"{cas}/v1/xorbs/default/{NAME}", headers=write).status_code == 404


def test_nobody_else_writes_in_a_users_namespace(
    server: SimpleNamespace, as_admin: httpx.Client, as_wanda: httpx.Client
) -> None:
    name = f"wanda/priv-{time.monotonic_ns()}"
    assert as_wanda.post("/api/repos/create", json={"name": name, "private": True}).status_code == 200
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_writer"}) as will:
        batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}], "ref": {"name": "refs/heads/main"}}
        namespace, _, short = name.partition("/")
        refused = [
            commit(will, name, add("evil.txt")),
            will.put(f"/api/models/{name}/settings", json={"private": False}),
            will.post("/api/repos/move", json={"fromRepo": name, "toRepo": f"{name}-mine", "type": "model"}),
            will.request("DELETE", "/api/repos/delete", json={"name": short, "organization": namespace}),
            will.post("/api/repos/create", json={"name": f"{name}-new"}),
            will.post(f"/api/models/{name}/branch/evil", json={}),
            will.get(f"/api/models/{name}/xet-write-token/main"),
            will.get(f"/api/models/{name}/auth-check/write"),
            will.post(f"/{name}.git/info/lfs/objects/batch", json=batch),
            will.post(f"/api/models/{name}/preupload/main", json={"files": []}),
        ]
    for answer in refused:
        assert answer.status_code == 403, answer.request.url
        assert "belongs to the user" in answer.headers["x-error-message"], answer.request.url
    assert as_wanda.get(f"/api/models/{name}").json()["private"] is True
    assert commit(as_wanda, name, add("mine.txt")).status_code == 200
    assert commit(as_admin, name, add("help.txt")).status_code == 200


def test_an_old_reserved_address_never_leads_to_what_a_writer_may_change(
    server: SimpleNamespace, as_admin: httpx.Client
) -> None:
    name = "meta-llama/Llama-2-13b-hf"
    assert as_admin.post("/api/repos/create", json={"name": name}).status_code == 200
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_writer"}) as will:
        for answer in (
            will.post("/api/repos/move", json={"fromRepo": name, "toRepo": "meta-llama/zz", "type": "model"}),
            will.put(f"/api/models/{name}/settings", json={"private": True}),
            will.post(f"/api/models/{name}/branch/evil", json={}),
            will.request("DELETE", f"/api/models/{name}/tag/v1"),
            will.request(
                "DELETE", "/api/repos/delete", json={"name": name.split("/")[1], "organization": "meta-llama"}
            ),
        ):
            assert answer.status_code == 403 and "reserved" in answer.headers["x-error-message"], answer.request.url
        moved = {"fromRepo": name, "toRepo": "meta-llama/zz", "type": "model"}
        assert as_admin.post("/api/repos/move", json=moved).status_code == 200
        assert commit(will, "meta-llama/zz", add("config.json")).status_code == 403
    assert server.http.get(f"/{name}/resolve/main/.gitattributes").status_code == 401
    assert server.http.get("/meta-llama/zz/resolve/main/.gitattributes").status_code == 200
