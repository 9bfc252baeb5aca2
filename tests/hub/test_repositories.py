"""Repositories as a whole: squashed, duplicated, rid of a large file for good."""

import hashlib
import json
import re
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.catalog.living import Living
from tests.hub.test_wire import add, commit

BIG = bytes(range(256)) * 64


def sent(server: SimpleNamespace, namespace: str, data: bytes) -> str:
    """A large object of a namespace; its sha256."""
    sha = hashlib.sha256(data).hexdigest()
    with server.services.storage.lfs.receiving(namespace, sha, len(data)) as upload:
        upload.write(data)
        upload.finish()
    return sha


def large(path: str, sha: str, size: int | None = None) -> dict[str, Any]:
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": sha, "size": size}}


def drop(path: str) -> dict[str, Any]:
    return {"key": "deletedFile", "value": {"path": path}}


def weights(count: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(count)


def as_user(server: SimpleNamespace, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=120)


# -- squash ----------------------------------------------------------------------------------------------------------
def test_a_squashed_branch_keeps_its_files_and_loses_its_history(as_admin: httpx.Client, repo: str) -> None:
    for n in range(3):
        commit(as_admin, repo, add(f"{n}.txt", b"%d" % n))
    as_admin.post(f"/api/models/{repo}/tag/main", json={"tag": "before"})
    before = as_admin.get(f"/api/models/{repo}?blobs=true").json()
    done = as_admin.post(f"/api/models/{repo}/super-squash/main", json={"message": "One"})
    assert done.status_code == 200, done.text
    after = as_admin.get(f"/api/models/{repo}?blobs=true").json()
    assert after["siblings"] == before["siblings"] and after["sha"] != before["sha"]
    history = as_admin.get(f"/api/models/{repo}/commits/main").json()
    assert [(c["title"], c["id"]) for c in history] == [("One", after["sha"])]
    expanded = as_admin.get(f"/api/models/{repo}/tree/main?expand=true").json()
    assert {item["lastCommit"]["id"] for item in expanded} == {after["sha"]}
    assert len(as_admin.get(f"/api/models/{repo}/commits/before").json()) == 4, "a tag keeps what it stands for"
    absent = as_admin.post(f"/api/models/{repo}/super-squash/none", json={})
    assert (absent.status_code, absent.headers["x-error-code"]) == (404, "RevisionNotFound")


def test_history_is_the_authors_to_rewrite(server: SimpleNamespace, as_admin: httpx.Client) -> None:
    as_admin.post("/api/repos/create", json={"name": "common/of-admin"})
    with as_user(server, "ect_writer") as will:
        for path, body in (("super-squash/main", {}), ("lfs-files/batch", {"deletions": {"sha": ["0" * 64]}})):
            refused = will.post(f"/api/models/common/of-admin/{path}", json=body)
            assert refused.status_code == 403 and "rewrite its history" in refused.json()["error"]


# -- large files -----------------------------------------------------------------------------------------------------
def listed(http: httpx.Client, repo: str) -> dict[str, str]:
    return {row["filename"]: row["fileOid"] for row in http.get(f"/api/models/{repo}/lfs-files").json()}


@pytest.fixture
def with_history(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> SimpleNamespace:
    """A secret weight file in two commits of main, gone from its head, and on a branch."""
    secret, kept = sent(server, "demo", weights(1000)), sent(server, "demo", weights(2000))
    commit(as_admin, repo, large("secret.safetensors", secret), add("a.txt"))
    commit(as_admin, repo, large("kept.safetensors", kept))
    as_admin.post(f"/api/models/{repo}/branch/side", json={})
    old = as_admin.get(f"/api/models/{repo}").json()["sha"]
    commit(as_admin, repo, drop("secret.safetensors"), add("b.txt"))
    return SimpleNamespace(secret=secret, kept=kept, old=old)


def test_large_files_are_listed_with_their_first_place(
    as_admin: httpx.Client, repo: str, with_history: SimpleNamespace
) -> None:
    rows = as_admin.get(f"/api/models/{repo}/lfs-files").json()
    assert {r["fileOid"] for r in rows} == {with_history.secret, with_history.kept}
    for row in rows:
        assert row["ref"] == "refs/heads/main" and row["pushedAt"].endswith("Z") and row["oid"]
    assert listed(as_admin, repo)["secret.safetensors"] == with_history.secret
    first = as_admin.get(f"/api/models/{repo}/lfs-files?limit=1")
    link = re.fullmatch(r'<([^>]+)>; rel="next"', first.headers["link"])
    assert link and [r["fileOid"] for r in first.json() + as_admin.get(link[1]).json()] == sorted(
        r["fileOid"] for r in rows
    )
    used = as_admin.get(f"/api/models/{repo}?expand=usedStorage").json()["usedStorage"]
    small = sum(
        i["size"]
        for i in as_admin.get(f"/api/models/{repo}/tree/main").json()
        if i["type"] == "file" and "lfs" not in i
    )
    assert used == len(weights(1000)) + len(weights(2000)) + small


def test_a_file_deleted_for_good_is_in_no_commit_of_any_branch(
    as_admin: httpx.Client, repo: str, with_history: SimpleNamespace
) -> None:
    answer = as_admin.post(
        f"/api/models/{repo}/lfs-files/batch",
        json={"deletions": {"sha": [with_history.secret], "rewriteHistory": True}},
    )
    assert answer.status_code == 200, answer.text
    assert listed(as_admin, repo) == {"kept.safetensors": with_history.kept}
    for ref in ("main", "side"):
        for entry in as_admin.get(f"/api/models/{repo}/commits/{ref}").json():
            paths = [i["path"] for i in as_admin.get(f"/api/models/{repo}/tree/{entry['id']}").json()]
            assert "secret.safetensors" not in paths
    assert [c["title"] for c in as_admin.get(f"/api/models/{repo}/commits/main").json()] == ["x"] * 3 + [
        "Initial commit"
    ]
    assert as_admin.get(f"/{repo}/resolve/side/kept.safetensors").content == weights(2000)
    assert as_admin.get(f"/{repo}/resolve/main/b.txt").status_code == 200
    gone = as_admin.get(f"/{repo}/resolve/{with_history.old}/secret.safetensors")
    assert (gone.status_code, gone.headers["x-error-code"]) == (404, "RevisionNotFound")
    assert as_admin.get(f"/api/models/{repo}/revision/side").json()["safetensors"]["total"] == 2000
    expanded = as_admin.get(f"/api/models/{repo}/tree/main?expand=true").json()
    commits = {c["id"] for c in as_admin.get(f"/api/models/{repo}/commits/main").json()}
    assert {item["lastCommit"]["id"] for item in expanded} <= commits, "no file points at a commit that is gone"
    batch = as_admin.post(
        f"/{repo}.git/info/lfs/objects/batch",
        json={"operation": "download", "objects": [{"oid": with_history.secret, "size": 1}]},
    )
    assert batch.json()["objects"][0]["error"]["code"] == 404
    again = commit(as_admin, repo, add("c.txt"))
    assert again.status_code == 200, "the rewritten branch can be written to"


def test_history_that_stays_names_a_file_that_cannot_be_read(
    as_admin: httpx.Client, repo: str, with_history: SimpleNamespace
) -> None:
    before = as_admin.get(f"/api/models/{repo}/commits/main").json()
    as_admin.get(f"/{repo}/resolve/side/secret.safetensors")
    body = {"deletions": {"sha": [with_history.secret], "rewriteHistory": False}}
    assert as_admin.post(f"/api/models/{repo}/lfs-files/batch", json=body).status_code == 200
    assert as_admin.get(f"/api/models/{repo}/commits/main").json() == before
    for rev in (with_history.old, "side"):
        assert "secret.safetensors" in [i["path"] for i in as_admin.get(f"/api/models/{repo}/tree/{rev}").json()]
        for method in ("GET", "HEAD"):
            gone = as_admin.request(method, f"/{repo}/resolve/{rev}/secret.safetensors")
            assert (gone.status_code, gone.headers["x-error-code"]) == (404, "EntryNotFound")
            assert gone.headers["x-repo-commit"] == with_history.old
    assert with_history.secret not in listed(as_admin, repo).values()
    assert commit(as_admin, repo, add("c.txt"), rev="side").status_code == 200


def test_a_file_that_was_deleted_for_good_can_be_sent_anew(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, with_history: SimpleNamespace
) -> None:
    body = {"deletions": {"sha": [with_history.secret], "rewriteHistory": False}}
    assert as_admin.post(f"/api/models/{repo}/lfs-files/batch", json=body).status_code == 200
    assert sent(server, "demo", weights(1000)) == with_history.secret
    again = commit(as_admin, repo, large("secret.safetensors", with_history.secret), rev="side")
    assert again.status_code == 200 and again.json()["commitOid"] != with_history.old
    assert as_admin.get(f"/{repo}/resolve/side/secret.safetensors").content == weights(1000)
    assert as_admin.get(f"/{repo}/resolve/{with_history.old}/secret.safetensors").status_code == 404
    assert listed(as_admin, repo)["secret.safetensors"] == with_history.secret


def test_neither_a_merge_nor_a_repair_brings_back_what_was_deleted_for_good(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, with_history: SimpleNamespace
) -> None:
    readme = sent(server, "demo", b"---\nlicense: mit\n---\n" + bytes(9000))
    changes = [large("again.safetensors", with_history.secret), large("README.md", readme), add("ours.txt")]
    proposed = commit(as_admin, repo, *changes, rev="main?create_pr=1")
    number = proposed.json()["pullRequestUrl"].rpartition("/")[2]
    shas = [with_history.secret, readme]
    body = {"deletions": {"sha": shas, "rewriteHistory": False}}
    assert as_admin.post(f"/api/models/{repo}/lfs-files/batch", json=body).status_code == 200
    merged = as_admin.post(f"/api/models/{repo}/discussions/{number}/merge", json={})
    assert merged.status_code == 200, merged.text
    assert as_admin.get(f"/{repo}/resolve/main/ours.txt").status_code == 200
    assert commit(as_admin, repo, add("later.txt")).status_code == 200
    living = Living(server.services.database)
    for kept in living.revisions():
        if kept.repository == repo:
            assert living.unlisted(kept) == []
            living.list_again(kept)
    assert not set(listed(as_admin, repo).values()) & set(shas)
    asked = {"operation": "download", "objects": [{"oid": sha, "size": 1} for sha in shas]}
    told = as_admin.post(f"/{repo}.git/info/lfs/objects/batch", json=asked).json()["objects"]
    assert [row["error"]["code"] for row in told] == [404, 404]


def test_a_used_model_loses_nothing(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, with_history: SimpleNamespace
) -> None:
    from ecotone.vocabulary import Conflict

    def guard(model: Any) -> None:
        if model.id == repo:
            raise Conflict("it is served")

    server.services.catalog.on_delete(guard)
    body = {"deletions": {"sha": [with_history.secret]}}
    assert as_admin.post(f"/api/models/{repo}/lfs-files/batch", json=body).status_code == 409
    assert "secret.safetensors" in listed(as_admin, repo)


def test_a_commit_in_the_midst_of_a_rewrite_is_not_lost(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, with_history: SimpleNamespace, monkeypatch: Any
) -> None:
    catalog = server.services.catalog
    plan = catalog._plan

    def planned(*args: Any) -> Any:
        found = plan(*args)
        assert commit(as_admin, repo, add("meanwhile.txt")).status_code == 200
        return found

    monkeypatch.setattr(catalog, "_plan", planned)
    answer = as_admin.post(f"/api/models/{repo}/lfs-files/batch", json={"deletions": {"sha": [with_history.secret]}})
    assert answer.status_code == 409 and "try again" in answer.json()["error"]
    assert as_admin.get(f"/{repo}/resolve/main/meanwhile.txt").status_code == 200


@pytest.mark.parametrize("sha", [["x"], ["0" * 64] * 1001, "text"])
def test_what_is_no_list_of_hashes_is_refused(as_admin: httpx.Client, repo: str, sha: Any) -> None:
    answer = as_admin.post(f"/api/models/{repo}/lfs-files/batch", json={"deletions": {"sha": sha}})
    assert answer.status_code in (400, 413)


# -- copies ----------------------------------------------------------------------------------------------------------
def share(http: httpx.Client, source: str, target: str, sha: str, **more: Any) -> httpx.Response:
    file = {"sha256": sha, "filename": "w", **more}
    return http.post(
        f"/api/models/{source}/lfs-files/duplicate", json={"target": {"type": "model", "name": target}, "files": [file]}
    )


def test_a_large_file_is_copied_to_another_namespace_without_its_bytes(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str
) -> None:
    sha = sent(server, "demo", BIG + b"copied")
    commit(as_admin, repo, large("w.bin", sha))
    as_admin.post("/api/repos/create", json={"name": "will/target"})
    assert commit(as_admin, "will/target", large("w.bin", sha)).status_code == 400, "not before it was duplicated"
    done = share(as_admin, repo, "will/target", sha)
    assert (done.status_code, done.json()) == (200, {"failed": []})
    assert commit(as_admin, "will/target", large("copy/w.bin", sha)).status_code == 200
    assert as_admin.get("/will/target/resolve/main/copy/w.bin").content == BIG + b"copied"
    as_admin.request("DELETE", "/api/repos/delete", json={"name": repo})
    assert as_admin.get("/will/target/resolve/main/copy/w.bin").content == BIG + b"copied"


def test_nobody_copies_what_they_may_not_read(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    sha, other = sent(server, "demo", BIG + b"secret"), sent(server, "demo", BIG + b"in no repository")
    commit(as_admin, repo, large("w.bin", sha))
    as_admin.post("/api/repos/create", json={"name": "wanda/loot"})
    with as_user(server, "ect_reader") as rita:
        assert share(rita, repo, "wanda/loot", sha).status_code == 403, "a token that may only read copies nothing"
    with as_user(server, "ect_writer") as will:
        assert share(will, repo, "wanda/loot", sha).status_code == 403, "not into another user's namespace"
        assert share(will, "demo/none", "wanda/loot", sha).status_code == 404
    assert share(server.http, repo, "wanda/loot", sha).status_code == 401
    for asked in ({"sha": other}, {"sha": sha, "xetHash": "0" * 64}, {"sha": "../../x"}):
        failed = share(as_admin, repo, "wanda/loot", **asked).json()["failed"]
        assert [f["sha256"] for f in failed] == [asked["sha"]] and failed[0]["error"]
    for name in (sha, other):
        assert commit(as_admin, "wanda/loot", large("w.bin", name)).status_code == 400


def test_xorbs_stay_with_the_namespace_that_sent_them(
    server: SimpleNamespace, as_admin: httpx.Client, api: Any
) -> None:
    """A shared xorb may hold other files too: whoever was given one file must not make others out of it."""
    api.create_repo("demo/xet-source", exist_ok=True)
    api.create_repo("will/xet-target", exist_ok=True)
    data = hashlib.sha256(b"x").digest() * 4000
    api.upload_file(path_or_fileobj=data, path_in_repo="w.safetensors.bin", repo_id="demo/xet-source")
    (info,) = api.get_paths_info("demo/xet-source", ["w.safetensors.bin"])
    assert info.xet_hash
    done = share(as_admin, "demo/xet-source", "will/xet-target", info.lfs.sha256, xetHash=info.xet_hash)
    assert done.json() == {"failed": []}
    assert commit(as_admin, "will/xet-target", large("w.bin", info.lfs.sha256)).status_code == 200
    xet = server.services.storage.xet
    terms = xet.file("will", info.xet_hash).terms
    assert all(xet.xorb_size("will", term.xorb) is None for term in terms)
    assert as_admin.get("/will/xet-target/resolve/main/w.bin").content == data
    from huggingface_hub import hf_hub_download

    local = hf_hub_download("will/xet-target", "w.bin", endpoint=server.url, token="ect_admin", local_dir=None)
    assert open(local, "rb").read() == data


@pytest.mark.parametrize("kind", ["models", "datasets", "spaces"])
def test_a_duplicate_holds_the_same_files_under_its_own_name(
    server: SimpleNamespace, as_admin: httpx.Client, kind: str
) -> None:
    source, copy = f"demo/dup-{kind}", f"will/dup-{kind}"
    as_admin.post("/api/repos/create", json={"name": source, "type": kind[:-1], "visibility": "private"})
    sha = sent(server, "demo", weights(3000))
    body = [{"key": "header", "value": {"summary": "x"}}, large("model.safetensors", sha), add("d/a.txt", b"hello"),
            add("README.md", b"---\nlicense: apache-2.0\n---\n# A\n")]  # fmt: skip
    lines = "\n".join(map(json.dumps, body))
    assert as_admin.post(f"/api/{kind}/{source}/commit/main", content=lines).status_code == 200
    as_admin.put(f"/api/{kind}/{source}/settings", json={"gated": "auto"})
    done = as_admin.post(f"/api/{kind}/{source}/duplicate", json={"repository": copy})
    prefix = "" if kind == "models" else f"{kind}/"
    assert done.status_code == 200 and done.json()["url"] == f"{server.url}/{prefix}{copy}", done.text
    old, new = (as_admin.get(f"/api/{kind}/{name}?blobs=true").json() for name in (source, copy))
    assert new["siblings"] == old["siblings"] and new["cardData"] == old["cardData"]
    assert (new["private"], new["gated"]) == (True, "auto"), "neither visibility nor gate is opened by a copy"
    assert as_admin.get(f"/{prefix}{copy}/resolve/main/model.safetensors").content == weights(3000)
    again = as_admin.post(f"/api/{kind}/{source}/duplicate", json={"repository": copy})
    assert again.status_code == 409 and again.json()["url"] == done.json()["url"]
    assert as_admin.get(f"/api/{kind}/{copy}").json()["sha"] == new["sha"]


def test_a_duplicate_cannot_shed_the_licence(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("README.md", b"---\nlicense: llama2\nbase_model: meta-llama/Llama-2-7b\n---\n# A\n"))
    assert as_admin.post(f"/api/models/{repo}/duplicate", json={"repository": "will/freed"}).status_code == 200
    freed = commit(as_admin, "will/freed", add("README.md", b"---\nlicense: mit\n---\n# Mine\n"))
    assert freed.status_code == 403 and "Llama 2" in freed.json()["error"]


def test_who_may_not_make_a_repository_makes_no_duplicate(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str
) -> None:
    with as_user(server, "ect_writer") as will:
        assert will.post(f"/api/models/{repo}/duplicate", json={"repository": "wanda/x"}).status_code == 403
        made = will.post(f"/api/models/{repo}/duplicate", json={"repository": "will/x", "visibility": "public"})
        assert made.status_code == 200
        as_admin.put(f"/api/models/{repo}/settings", json={"gated": "manual"})
    with as_user(server, "ect_reader") as rita:
        assert rita.post(f"/api/models/{repo}/duplicate", json={"repository": "rita/x"}).status_code == 403
    assert as_admin.post(f"/api/models/{repo}/duplicate", json={"repository": "no-namespace"}).status_code == 400
    absent = as_admin.post("/api/models/demo/none/duplicate", json={"repository": "demo/x"})
    assert (absent.status_code, absent.headers["x-error-code"]) == (404, "RepoNotFound")


# -- refs and settings -----------------------------------------------------------------------------------------------
def test_what_exists_already_is_409_and_what_is_not_there_404(as_admin: httpx.Client, repo: str) -> None:
    at = f"/api/models/{repo}"
    assert as_admin.post(f"{at}/branch/a/b", json={}).status_code == 200
    assert as_admin.post(f"{at}/branch/a%2Fb", json={}).status_code == 409
    assert as_admin.post(f"{at}/tag/a%2Fb", json={"tag": "v/1", "message": "m\0n"}).status_code == 200
    assert as_admin.post(f"{at}/tag/main", json={"tag": "v/1"}).status_code == 409
    assert as_admin.delete(f"{at}/tag/none").headers["x-error-code"] == "RevisionNotFound"
    assert as_admin.delete(f"{at}/branch/none").headers["x-error-code"] == "RevisionNotFound"
    assert as_admin.delete(f"{at}/branch/main").status_code == 400
    assert as_admin.delete(f"{at}/tag/v%2F1").status_code == 200
    none = as_admin.post(f"{at}/branch/c", json={"startingPoint": "none"})
    assert none.headers["x-error-code"] == "RevisionNotFound"
    for wrong in ("refs/heads/x", "a..b", "0" * 40, "-x", "x.lock"):
        assert as_admin.post(f"{at}/branch/{wrong.replace('/', '%2F')}", json={}).status_code == 400, wrong


def test_xet_that_cannot_be_switched_off_is_said(as_admin: httpx.Client, repo: str) -> None:
    answer = as_admin.put(f"/api/models/{repo}/settings", json={"xetEnabled": False, "private": True})
    assert answer.status_code == 200 and "Xet stays on" in answer.headers["x-hf-warning"]
    assert as_admin.get(f"/api/models/{repo}").json()["private"] is True


# -- commits ---------------------------------------------------------------------------------------------------------
def test_a_folder_is_deleted_with_all_that_is_below(as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, *(add(f"d/{n}/x.txt") for n in range(5)), add("d.txt"), add("d-e/x.txt"))
    gone = {"key": "deletedFolder", "value": {"path": "d/"}}
    late = commit(as_admin, repo, add("d/late.txt"), gone, add("d/kept.txt"))
    assert late.status_code == 200, late.text
    paths = [i["path"] for i in as_admin.get(f"/api/models/{repo}/tree/main?recursive=1").json() if i["type"] == "file"]
    assert paths == [".gitattributes", "d-e/x.txt", "d.txt", "d/kept.txt"]
    assert commit(as_admin, repo, gone, gone).status_code == 404


@pytest.mark.parametrize(
    "paths",
    [["a/B.txt", "a/b.txt"], ["Ä.txt", "ä.txt"], ["ﬁle", "file"], ["a", "a/b"], [".git/config"], ["x/.GIT/hooks"],
     ["a\u202eb"], ["a\x07b"], ["x" * 256], ["é" * 128], ["a/./b"], ["/a"], ["a//b"], ["a\\b"], ["git~1/x"],
     [".git./x"]],
)  # fmt: skip
def test_paths_that_no_machine_should_check_out(as_admin: httpx.Client, repo: str, paths: list[str]) -> None:
    answer = commit(as_admin, repo, *(add(path) for path in paths))
    assert answer.status_code == 400 and answer.json()["error"]
    known = as_admin.get(f"/api/models/{repo}/tree/main?recursive=1").json()
    assert [item["path"] for item in known] == [".gitattributes"]


def test_a_path_is_found_in_either_form_of_its_letters(as_admin: httpx.Client, repo: str) -> None:
    assert commit(as_admin, repo, add("cafe\u0301/a.txt", b"in NFD")).status_code == 200
    for word in ("cafe\u0301", "caf\u00e9"):
        assert as_admin.get(f"/{repo}/resolve/main/{word}/a.txt").content == b"in NFD"
        assert as_admin.get(f"/api/models/{repo}/tree/main/{word}").json()[0]["path"] == "caf\u00e9/a.txt"
        found = as_admin.post(f"/api/models/{repo}/paths-info/main", data={"paths": f"{word}/a.txt"}).json()
        assert [item["path"] for item in found] == ["caf\u00e9/a.txt"]


def test_names_that_differ_only_in_case_are_one(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    taken = as_admin.post("/api/repos/create", json={"name": repo.upper()})
    assert taken.status_code == 409 and taken.json()["url"] == f"{server.url}/{repo}"
    dataset = as_admin.post("/api/repos/create", json={"name": repo, "type": "dataset"})
    assert dataset.status_code == 200, "another type is another repository"
