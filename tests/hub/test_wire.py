"""The protocol where it bites: statuses, codes and headers that the clients read, over plain HTTP."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.hub.infos import moment


def commit(http: httpx.Client, repo: str, *lines: dict[str, Any], rev: str = "main", **header: Any) -> httpx.Response:
    body = [{"key": "header", "value": {"summary": "x", "description": "", **header}}, *lines]
    return http.post(
        f"/api/models/{repo}/commit/{rev}",
        content="\n".join(json.dumps(line) for line in body),
        headers={"content-type": "application/x-ndjson"},
    )


def add(path: str, data: bytes = b"x") -> dict[str, Any]:
    content = base64.b64encode(data).decode()
    return {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}


def test_absent_and_private_are_told_apart_by_nothing(server: SimpleNamespace, as_admin: httpx.Client) -> None:
    as_admin.post("/api/repos/create", json={"name": "demo/wire-private", "visibility": "private"})
    paths = [
        "/api/models/demo/{}", "/api/models/demo/{}/tree/main", "/demo/{}/resolve/main/README.md",
        "/api/models/demo/{}/revision/main", "/api/models/demo/{}/refs", "/api/models/demo/{}/xet-read-token/main",
        "/api/models/demo/{}/commits/main", "/demo/{}/raw/main/README.md", "/api/models/demo/{}/auth-check",
    ]  # fmt: skip
    for path in paths:
        seen = []
        for name in ("wire-private", "wire-absentt"):
            answer = server.http.get(path.format(name))
            kept = {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}
            seen.append(
                (answer.status_code, answer.text.replace(name, ""), {k: v.replace(name, "") for k, v in kept.items()})
            )
        assert seen[0] == seen[1], path
        assert seen[0][0] == 401 and seen[0][2]["x-error-code"] == "RepoNotFound", path
    with_token = as_admin.get("/api/models/demo/wire-absentt")
    assert with_token.status_code == 404 and with_token.headers["x-error-code"] == "RepoNotFound"
    assert server.http.get("/api/models/..%2f..%2fetc/passwd").headers["x-error-code"] == "RepoNotFound"


def test_error_codes_of_revisions_and_files(as_admin: httpx.Client, repo: str) -> None:
    answer = as_admin.get(f"/api/models/{repo}/revision/nope")
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RevisionNotFound")
    head = as_admin.get(f"/api/models/{repo}").json()["sha"]
    for method in ("GET", "HEAD"):
        answer = as_admin.request(method, f"/{repo}/resolve/main/none.json")
        assert (answer.status_code, answer.headers["x-error-code"]) == (404, "EntryNotFound")
        assert answer.headers["x-repo-commit"] == head
    answer = as_admin.get(f"/api/models/{repo}/tree/main/additional_chat_templates")
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "EntryNotFound")


def test_create_twice_carries_the_url(as_admin: httpx.Client, server: SimpleNamespace, repo: str) -> None:
    answer = as_admin.post(
        "/api/repos/create", json={"name": repo.split("/")[1], "organization": "demo", "type": "model"}
    )
    assert answer.status_code == 409 and answer.json()["url"] == f"{server.url}/{repo}"


def test_who_may_not(server: SimpleNamespace, repo: str) -> None:
    body = {"name": "demo/nobody"}
    assert server.http.post("/api/repos/create", json=body).status_code == 401
    reader = {"authorization": "Bearer ect_reader"}
    assert server.http.post("/api/repos/create", json=body, headers=reader).status_code == 403
    key = server.http.get("/api/whoami-v2", headers={"authorization": "Bearer eck_key"})
    assert key.status_code == 401 and "eck_" in key.json()["error"]
    assert server.http.get(f"/api/models/{repo}/xet-write-token/main", headers=reader).status_code == 403
    assert server.http.request("DELETE", "/api/repos/delete", json={"name": repo}, headers=reader).status_code == 403


def test_a_file_has_the_headers_that_caches_need(as_admin: httpx.Client, server: SimpleNamespace, repo: str) -> None:
    done = commit(as_admin, repo, add("dir/a b%é#?.txt", b"hello world"))
    assert done.status_code == 200
    oid = done.json()["commitOid"]
    assert done.json()["commitUrl"] == f"{server.url}/{repo}/commit/{oid}"
    path = f"/{repo}/resolve/main/dir/a%20b%25%C3%A9%23%3F.txt"
    head, got = as_admin.head(path), as_admin.get(path)
    assert got.content == b"hello world" and head.content == b""
    for answer in (head, got):
        assert answer.headers["x-repo-commit"] == oid
        assert answer.headers["etag"] == '"95d09f2b10159347eece71399a7e2e907ea3df4f"'
        assert answer.headers["content-length"] == "11"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment")
    part = as_admin.get(path, headers={"range": "bytes=6-8"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"wor", "bytes 6-8/11")
    assert as_admin.get(path, headers={"range": "bytes=99-"}).status_code == 416


def test_tree_paths_info_and_info_agree(as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("README.md", b"---\nlicense: apache-2.0\ntags: [x]\n---\n# Hi\n"), add("d/e/f.txt"))
    tree = as_admin.get(f"/api/models/{repo}/tree/main/").json()
    assert [(i["type"], i["path"]) for i in tree] == [
        ("file", ".gitattributes"),
        ("file", "README.md"),
        ("directory", "d"),
    ]
    whole = as_admin.get(f"/api/models/{repo}/tree/main?recursive=True&expand=true").json()
    assert [i["path"] for i in whole] == [".gitattributes", "README.md", "d", "d/e", "d/e/f.txt"]
    assert all(re.fullmatch(r"[0-9a-f]{40}", i["lastCommit"]["id"]) for i in whole)
    below = as_admin.get(f"/api/models/{repo}/tree/main/d%2Fe").json()
    assert [i["path"] for i in below] == ["d/e/f.txt"]
    for asked in (
        {"data": {"paths": ["d", "README.md", "none"], "expand": "True"}},
        {"json": {"paths": ["d", "README.md"]}},
    ):
        found = as_admin.post(f"/api/models/{repo}/paths-info/main", **asked).json()
        assert [(i["path"], i["type"]) for i in found] == [("d", "directory"), ("README.md", "file")]
    info = as_admin.get(f"/api/models/{repo}?blobs=true").json()
    assert info["cardData"] == {"license": "apache-2.0", "tags": ["x"]} and "license:apache-2.0" in info["tags"]
    assert {s["rfilename"]: s["size"] for s in info["siblings"]}["d/e/f.txt"] == 1
    assert as_admin.get(f"/api/models/{repo}?expand=tags&expand=sha").json().keys() == {"_id", "id", "tags", "sha"}
    listed = as_admin.get("/api/models", params={"search": repo, "full": "true"}).json()
    assert [m["id"] for m in listed] == [repo] and listed[0]["lastModified"].endswith("Z")


def test_pages_are_linked_absolutely(as_admin: httpx.Client, server: SimpleNamespace, repo: str) -> None:
    commit(as_admin, repo, *(add(f"{n:02}.txt") for n in range(5)))
    seen, url = [], f"{server.url}/api/models/{repo}/tree/main?limit=2"
    while url:
        answer = as_admin.get(url)
        seen += [i["path"] for i in answer.json()]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        url = link.group(1) if link else ""
        assert not url or url.startswith(f"{server.url}/api/models/{repo}/tree/main?")
    assert seen == [".gitattributes", *(f"{n:02}.txt" for n in range(5))]


def test_a_stale_parent_is_412_and_a_repeat_is_the_same_commit(as_admin: httpx.Client, repo: str) -> None:
    head = as_admin.get(f"/api/models/{repo}").json()["sha"]
    first = commit(as_admin, repo, add("a"), parentCommit=head)
    again = commit(as_admin, repo, add("a"), parentCommit=head)
    assert first.json()["commitOid"] == again.json()["commitOid"]
    stale = commit(as_admin, repo, add("b"), parentCommit=head)
    assert stale.status_code == 412 and "again" in stale.json()["error"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"key": "file", "value": {"path": "../../evil", "content": "eA==", "encoding": "base64"}}], "evil"),
        ([{"key": "file", "value": {"path": "a", "content": "!", "encoding": "base64"}}], "base64"),
        ([{"key": "file", "value": {"content": "eA=="}}], "path"),
        ([{"key": "magic", "value": {"path": "a"}}], "magic"),
        ([{"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": "../../x"}}], "oid"),
        ([{"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": "0" * 64, "size": 3}}], ""),
        ([{"key": "deletedFile", "value": {"path": "none"}}], "none"),
    ],
)
def test_bad_commits_change_nothing(as_admin: httpx.Client, repo: str, lines: list[dict[str, Any]], said: str) -> None:
    before = as_admin.get(f"/api/models/{repo}").json()["sha"]
    answer = commit(as_admin, repo, add("good.txt"), *lines)
    assert 400 <= answer.status_code < 500 and said in answer.json()["error"]
    assert as_admin.get(f"/api/models/{repo}").json()["sha"] == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"key":"file","value":{"path":"a"}}', b"[" * 100_000, b"\n\n"])
def test_bodies_that_are_no_commit(as_admin: httpx.Client, repo: str, body: bytes) -> None:
    answer = as_admin.post(f"/api/models/{repo}/commit/main", content=body)
    assert answer.status_code == 400 and answer.json()["error"]


def test_preupload_says_how_each_file_travels(as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("a.txt", b"text"))
    text, binary = base64.b64encode(b"text").decode(), base64.b64encode(b"\0\1\2").decode()
    cut = base64.b64encode("é".encode() * 255 + b"ab"[:1] + "é".encode()[:1]).decode()
    files = [
        {"path": "a.txt", "size": 4, "sample": text}, {"path": "w.safetensors", "size": 4, "sample": text},
        {"path": "b.dat", "size": 3, "sample": binary}, {"path": "big.txt", "size": 10**7, "sample": text},
        {"path": "empty.bin", "size": 0, "sample": ""}, {"path": "c.txt", "size": 600, "sample": cut},
        {"path": "x.log", "size": 4, "sample": text},
    ]  # fmt: skip
    answer = as_admin.post(f"/api/models/{repo}/preupload/main", json={"files": files, "gitIgnore": "*.log"}).json()
    assert [f["uploadMode"] for f in answer["files"]] == [
        "regular",
        "lfs",
        "lfs",
        "lfs",
        "regular",
        "regular",
        "regular",
    ]
    assert [f["shouldIgnore"] for f in answer["files"]] == [False] * 6 + [True]
    assert answer["files"][0]["oid"] == hashlib.sha1(b"blob 4\0text").hexdigest()
    bad = as_admin.post(f"/api/models/{repo}/preupload/main", json={"files": [{"path": "../x", "size": 1}]})
    assert bad.status_code == 400


def test_branches_tags_and_encoded_revisions(as_admin: httpx.Client, repo: str) -> None:
    assert as_admin.post(f"/api/models/{repo}/branch/feature%2Fx", json={}).status_code == 200
    assert as_admin.post(f"/api/models/{repo}/branch/feature%2Fx").status_code == 409
    assert as_admin.post(f"/api/models/{repo}/tag/main", json={"tag": "v1", "message": "m"}).status_code == 200
    refs = as_admin.get(f"/api/models/{repo}/refs?include_prs=1").json()
    assert refs["converts"] == [] and refs["pullRequests"] == []
    assert [b["name"] for b in refs["branches"]] == ["feature/x", "main"] and refs["tags"][0]["ref"] == "refs/tags/v1"
    commit(as_admin, repo, add("only-here.txt"), rev="feature%2Fx")
    assert as_admin.get(f"/{repo}/resolve/feature%2Fx/only-here.txt").status_code == 200
    assert as_admin.get(f"/{repo}/resolve/refs%2Fheads%2Ffeature%2Fx/only-here.txt").status_code == 200
    assert as_admin.get(f"/{repo}/resolve/main/only-here.txt").status_code == 404
    commits = as_admin.get(f"/api/models/{repo}/commits/feature%2Fx?limit=1")
    assert len(commits.json()) == 1 and 'rel="next"' in commits.headers["link"]
    assert as_admin.delete(f"/api/models/{repo}/branch/feature%2Fx").status_code == 200
    assert as_admin.delete(f"/api/models/{repo}/tag/v1").status_code == 200


def test_validate_yaml_speaks_of_licences(as_admin: httpx.Client) -> None:
    good = as_admin.post("/api/validate-yaml", json={"content": "---\nlicense: mit\n---\n", "repoType": "model"})
    assert good.status_code == 200 and good.json()["errors"] == []
    llama = "---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b\n---\n"
    bad = as_admin.post("/api/validate-yaml", json={"content": llama, "repoType": "model"})
    assert bad.status_code == 400 and "Llama 2" in bad.json()["errors"][0]["message"]
    assert as_admin.post("/api/validate-yaml", content=b"{").status_code == 400


def test_what_is_not_spoken_says_so_in_json(as_admin: httpx.Client, repo: str) -> None:
    for path in ("/api/kernels/a/b", "/api/buckets/a/b", "/api/models/a/b/c/d", "/api/daily_papers", "/api/no-such"):
        answer = as_admin.get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": "not supported by this hub"})


def test_gated_files_need_a_user(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("a.txt"))
    assert as_admin.put(f"/api/models/{repo}/settings", json={"gated": "auto"}).status_code == 200
    answer = server.http.get(f"/{repo}/resolve/main/a.txt")
    assert (answer.status_code, answer.headers["x-error-code"]) == (401, "GatedRepo")
    assert server.http.get(f"/api/models/{repo}").json()["gated"] == "auto"
    manual = as_admin.put(f"/api/models/{repo}/settings", json={"gated": "manual"})
    assert manual.status_code == 200
    reader = {"authorization": "Bearer ect_reader"}
    answer = server.http.get(f"/{repo}/resolve/main/a.txt", headers=reader)
    assert (answer.status_code, answer.headers["x-error-code"]) == (403, "GatedRepo")


def test_move_keeps_the_old_name(as_admin: httpx.Client, repo: str) -> None:
    new = repo + "x"
    assert as_admin.post("/api/repos/move", json={"fromRepo": repo, "toRepo": new, "type": "model"}).status_code == 200
    for path, at in ((f"/api/models/{repo}?blobs=true", f"/api/models/{new}?blobs=true"),
                     (f"/{repo}/resolve/main/.gitattributes", f"/{new}/resolve/main/.gitattributes"),
                     (f"/api/models/{new.upper()}/refs", f"/api/models/{new}/refs")):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = as_admin.request(method, path)
            assert (answer.status_code, answer.headers["location"]) == (307, at)
    assert as_admin.get(f"/api/models/{repo}", follow_redirects=True).json()["id"] == new
    sent = as_admin.post(f"/api/models/{repo}/paths-info/main", data={"paths": ".gitattributes"}, follow_redirects=True)
    assert [item["path"] for item in sent.json()] == [".gitattributes"]


def test_moments_end_in_z() -> None:
    assert moment(datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)) == "2026-01-02T03:04:05.006Z"


def test_noise_is_answered(as_admin: httpx.Client) -> None:
    assert as_admin.get("/api/agent-harnesses").status_code == 404  # a list would crash the client
    assert as_admin.head("/api/telemetry/x/y").status_code < 300
    assert as_admin.post("/v1/telemetry", content=b"x").status_code < 300
