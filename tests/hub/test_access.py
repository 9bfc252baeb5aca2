"""Access requests through the unmodified client: whoever was let in has the bytes everywhere, nobody else anywhere."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from ecotone.hub import grants
from ecotone.vocabulary import Role
from tests.hub.test_wire import add, commit

DATA = bytes(range(256)) * 800


@pytest.fixture(autouse=True)
def asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Xet token allows is remembered for seconds; here it is looked up for each request."""
    monkeypatch.setattr(grants, "REMEMBERED_SECONDS", -1.0)


@pytest.fixture
def rita(server: SimpleNamespace) -> HfApi:
    return HfApi(endpoint=server.url, token="ect_reader")


@pytest.fixture
def gated(server: SimpleNamespace, api: Any) -> Callable[..., str]:
    def made(gate: str, **how: Any) -> str:
        name = f"gates/{gate}-{time.monotonic_ns()}"
        api.create_repo(name, **how)
        api.upload_file(path_or_fileobj=DATA, path_in_repo="w.bin", repo_id=name, repo_type=how.get("repo_type"))
        api.update_repo_settings(name, gated=gate, repo_type=how.get("repo_type"))
        return name

    return made


def ask(server: SimpleNamespace, name: str, token: str = "ect_reader", kind: str = "models") -> httpx.Response:
    return httpx.post(
        f"{server.url}/api/{kind}/{name}/user-access-request", headers={"authorization": f"Bearer {token}"}
    )


def ways_in(server: SimpleNamespace, name: str, token: str, cas: dict[str, Any]) -> dict[str, bool]:
    """Each way to a file's bytes, or to the hashes that stand for them, and whether it is open."""
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=120) as http:
        sha256, xet = cas["sha256"], cas["xet"]
        batch = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": sha256, "size": len(DATA)}]}
        lfs = http.post(f"/{name}.git/info/lfs/objects/batch", json=batch)
        found = {
            "resolve": http.get(f"/{name}/resolve/main/w.bin").status_code == 200,
            "head": http.head(f"/{name}/resolve/main/w.bin").status_code == 200,
            "raw": http.get(f"/{name}/raw/main/w.bin").status_code == 200,
            "lfs": lfs.status_code == 200 and "actions" in lfs.json()["objects"][0],
            "xet token": http.get(f"/api/models/{name}/xet-read-token/main").status_code == 200,
            "auth check": http.get(f"/api/models/{name}/auth-check").status_code == 200,
            "tree": xet in http.get(f"/api/models/{name}/tree/main").text,
            "info": sha256 in http.get(f"/api/models/{name}?blobs=true").text,
            "paths": xet in http.post(f"/api/models/{name}/paths-info/main", json={"paths": ["w.bin"]}).text,
        }
        if "token" in cas:
            told = http.get(
                f"{cas['url']}/v1/reconstructions/{xet}", headers={"authorization": f"Bearer {cas['token']}"}
            )
            found["held xet token"] = told.status_code == 200
        return found


def names_of(api: Any, name: str) -> dict[str, Any]:
    file = api.get_paths_info(name, ["w.bin"])[0]
    return {"sha256": file.lfs.sha256, "xet": file.xet_hash}


def test_a_manual_gate_opens_every_way_when_the_owners_accept_and_closes_them_when_they_take_it_back(
    server: SimpleNamespace, api: Any, rita: HfApi, gated: Callable[..., str], tmp_path: Any
) -> None:
    name = gated("manual")
    cas = names_of(api, name)
    assert not any(ways_in(server, name, "ect_reader", cas).values())
    with pytest.raises(GatedRepoError, match=r"ask for it on .*/access"):
        hf_hub_download(name, "w.bin", endpoint=server.url, token="ect_reader", local_dir=tmp_path / "no")
    assert ask(server, name).json()["status"] == "pending"
    assert ask(server, name).json()["status"] == "pending", "asking twice is one request"
    assert not any(ways_in(server, name, "ect_reader", cas).values())
    with pytest.raises(GatedRepoError, match="waits for its owners"):
        rita.auth_check(name)
    waiting = list(api.list_pending_access_requests(name))
    assert [(r.username, r.status) for r in waiting] == [("rita", "pending")] and waiting[0].request_id
    api.accept_access_request(name, "rita")
    assert [r.username for r in api.list_accepted_access_requests(name)] == ["rita"]
    assert all(ways_in(server, name, "ect_reader", cas).values())
    down = hf_hub_download(name, "w.bin", endpoint=server.url, token="ect_reader", local_dir=tmp_path / "yes")
    with open(down, "rb") as file:
        assert file.read() == DATA
    told = httpx.get(
        f"{server.url}/api/models/{name}/xet-read-token/main", headers={"authorization": "Bearer ect_reader"}
    ).json()
    cas |= {"url": told["casUrl"], "token": told["accessToken"]}
    assert ways_in(server, name, "ect_reader", cas)["held xet token"]
    api.reject_access_request(name, "rita", rejection_reason="Not for\r\nyou")
    assert not any(ways_in(server, name, "ect_reader", cas).values())
    with pytest.raises(GatedRepoError, match=r"rejected \(Not for you\)"):
        rita.auth_check(name)
    assert ask(server, name).status_code == 403, "who was rejected cannot ask the list away"
    api.accept_access_request(name, request_id=waiting[0].request_id)
    assert all(ways_in(server, name, "ect_reader", cas).values())
    api.cancel_access_request(name, "rita")
    assert not any(ways_in(server, name, "ect_reader", cas).values())
    assert [r.username for r in api.list_pending_access_requests(name)] == ["rita"]


def test_an_automatic_gate_lets_in_whoever_asked_and_nobody_else(
    server: SimpleNamespace, api: Any, rita: HfApi, gated: Callable[..., str]
) -> None:
    name = gated("auto")
    cas = names_of(api, name)
    assert not any(ways_in(server, name, "ect_reader", cas).values())
    with pytest.raises(GatedRepoError, match="granted at once"):
        rita.auth_check(name)
    assert httpx.post(f"{server.url}/api/models/{name}/user-access-request").status_code == 401
    assert ask(server, name).json()["status"] == "accepted"
    assert all(ways_in(server, name, "ect_reader", cas).values())
    assert all(ways_in(server, name, "ect_writer", cas).values()), "who may write there needs no request"
    api.cancel_access_request(name, "rita")
    assert ask(server, name).json()["status"] == "pending", "what the owners took back is not got by asking again"
    assert not any(ways_in(server, name, "ect_reader", cas).values())


def test_a_grant_needs_no_request_and_names_what_is_wrong(
    server: SimpleNamespace, api: Any, rita: HfApi, gated: Callable[..., str]
) -> None:
    name = gated("manual", repo_type="dataset")
    api.grant_access(name, "RITA", repo_type="dataset")
    rita.auth_check(name, repo_type="dataset")
    for call, status in (
        (lambda: api.grant_access(name, "rita", repo_type="dataset"), 400),
        (lambda: api.grant_access(name, "nobody-at-all", repo_type="dataset"), 404),
        (lambda: api.accept_access_request(name, "rita", repo_type="dataset"), 404),
        (lambda: api.accept_access_request(name, "nobody-at-all", repo_type="dataset"), 404),
        (lambda: api.accept_access_request(name, request_id="0" * 24, repo_type="dataset"), 404),
        (lambda: rita.grant_access(name, "will", repo_type="dataset"), 403),
        (lambda: list(rita.list_pending_access_requests(name, repo_type="dataset")), 403),
        (lambda: rita.accept_access_request(name, "will", repo_type="dataset"), 403),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == status
    api.update_repo_settings(name, gated=False, repo_type="dataset")
    for call in (
        lambda: list(api.list_accepted_access_requests(name, repo_type="dataset")),
        lambda: api.grant_access(name, "will", repo_type="dataset"),
        lambda: api.accept_access_request(name, "will", repo_type="dataset"),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 400
    assert ask(server, name, kind="datasets").status_code == 400


def test_many_requests_come_in_pages_and_whole_to_old_clients(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any, gated: Callable[..., str]
) -> None:
    name = gated("manual")
    users = [f"user{number}" for number in range(7)]
    for user in users:
        server.services.accounts.create_token(user, Role.READ)
        as_admin.post(f"/api/models/{name}/user-access-request/grant", json={"user": user})
    url, found = f"/api/models/{name}/user-access-request/accepted?limit=3", []
    pages = 0
    while url:
        answer = as_admin.get(url)
        found += [row["user"]["user"] for row in answer.json()]
        url, pages = answer.links.get("next", {}).get("url", ""), pages + 1
    assert (found, pages) == (users, 3)
    old = {"user-agent": "unknown/None; hf_hub/0.36.2; python/3.11"}
    whole = as_admin.get(f"/api/models/{name}/user-access-request/accepted?limit=3", headers=old)
    assert len(whole.json()) == 7 and "next" not in whole.links
    assert as_admin.get(f"/api/models/{name}/user-access-request/accepted?cursor=-1").status_code == 400


def test_the_gate_of_a_private_repository_is_as_absent_as_the_repository(
    server: SimpleNamespace, as_admin: httpx.Client, gated: Callable[..., str]
) -> None:
    name = gated("manual", private=True)
    for token in (None, "ect_key"):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        for method, path in (
            ("GET", "pending"), ("POST", "handle"), ("POST", "grant"), ("POST", ""),
        ):  # fmt: skip
            seen = []
            for one in (name, name + "-absent"):
                url = f"{server.url}/api/models/{one}/user-access-request/{path}".rstrip("/")
                answer = httpx.request(
                    method, url, headers=headers, json={"user": "rita"} if method == "POST" else None
                )
                seen.append((answer.status_code, answer.text.replace(one, "")))
            assert seen[0] == seen[1] and seen[0][0] == 401, (method, path)


def test_only_the_owners_of_a_namespace_answer_and_bad_bodies_say_what_is_wrong(
    server: SimpleNamespace, as_admin: httpx.Client
) -> None:
    with (
        httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_other"}) as wanda,
        httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_writer"}) as will,
    ):
        name = f"wanda/gate-{time.monotonic_ns()}"
        wanda.post("/api/repos/create", json={"name": name})
        commit(wanda, name, add("a.txt"))
        wanda.put(f"/api/models/{name}/settings", json={"gated": "manual"})
        assert will.get(f"/{name}/resolve/main/a.txt").status_code == 403, "a writer elsewhere is a stranger here"
        assert will.post(f"/api/models/{name}/user-access-request").json()["status"] == "pending"
        handle = f"/api/models/{name}/user-access-request/handle"
        assert will.post(handle, json={"user": "will", "status": "accepted"}).status_code == 403
        assert will.post(handle, json={"nonsense": 1}).status_code == 403, "who may not answer learns nothing"
        for body in (
            {"user": "will"},
            {"status": "accepted"},
            {"user": "will", "requestId": "x", "status": "accepted"},
            {"user": "will", "status": "owner"},
            {"user": "will", "status": "accepted", "rejectionReason": "x"},
            {"user": ["will"], "status": "accepted"},
        ):
            assert wanda.post(handle, json=body).status_code == 400, body
        assert wanda.post(handle, content=b"{" * 70_000).status_code == 413
        assert wanda.post(f"/api/models/{name}/user-access-request/grant").status_code == 400
        assert wanda.post(handle, json={"user": "will", "status": "accepted"}).status_code == 200
        assert will.get(f"/{name}/resolve/main/a.txt").status_code == 200
        assert as_admin.get(f"/{name}/resolve/main/a.txt").status_code == 200
