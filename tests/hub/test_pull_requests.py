"""Pull requests: what is merged is what both sides meant, and a stranger's request opens nothing of the namespace."""

import hashlib
import json
import secrets
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ecotone.accounts import SYSTEM
from ecotone.hub import grants
from ecotone.vocabulary import Role
from tests.hub.test_data_faces import NAME, SHARD, XORB, ask, xet
from tests.hub.test_discussions import of, opened
from tests.hub.test_wire import add, commit

People = dict[str, httpx.Client]


@pytest.fixture(autouse=True)
def asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a token allows is remembered for seconds; here it is looked up for each request."""
    monkeypatch.setattr(grants, "REMEMBERED_SECONDS", -1.0)


def propose(http: httpx.Client, repo: str, *lines: dict[str, Any], summary: str = "Better", **header: Any) -> int:
    answer = commit(http, repo, *lines, rev="main?create_pr=1", summary=summary, **header)
    assert answer.status_code == 200, answer.text
    url = answer.json()["pullRequestUrl"]
    assert f"/{repo}/discussions/" in url
    return int(url.rpartition("/")[2])


def to_pr(http: httpx.Client, repo: str, num: int, *lines: dict[str, Any], **header: Any) -> httpx.Response:
    return commit(http, repo, *lines, rev=quote(f"refs/pr/{num}", safe=""), **header)


def files(http: httpx.Client, repo: str, rev: str = "main") -> dict[str, str]:
    listed = http.get(f"/api/models/{repo}/tree/{quote(rev, safe='')}?recursive=true").json()
    return {
        f["path"]: http.get(f"/{repo}/resolve/{quote(rev, safe='')}/{f['path']}").text
        for f in listed
        if f["type"] == "file" and f["path"] != ".gitattributes"
    }


def merge(http: httpx.Client, repo: str, num: int, **body: Any) -> httpx.Response:
    return http.post(of(repo, num, "/merge"), json=body)


def delete(path: str) -> dict[str, Any]:
    return {"key": "deletedFile", "value": {"path": path}}


def test_a_request_from_proposal_to_merge(people: People, as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("README.md", b"# One\n"), add("old.txt", b"old"))
    num = propose(people["rita"], repo, add("README.md", b"# Two\n"), delete("old.txt"), description="It is better")
    shown = as_admin.get(of(repo, num) + "?diff=1").json()
    assert (shown["status"], shown["isPullRequest"], shown["title"]) == ("open", True, "Better")
    assert shown["changes"] == {"base": "refs/heads/main"} and shown["filesWithConflicts"] == []
    assert [e["type"] for e in shown["events"]] == ["comment", "commit"]
    assert "-# One\n+# Two\n" in shown["diff"] and "+++ /dev/null" in shown["diff"]
    assert "diff" not in as_admin.get(of(repo, num)).json() or as_admin.get(of(repo, num)).json()["diff"] == ""
    assert files(as_admin, repo)["README.md"] == "# One\n"
    before = as_admin.get(f"/api/models/{repo}").json()["sha"]
    refs = as_admin.get(f"/api/models/{repo}/refs?include_prs=1").json()
    assert [r["ref"] for r in refs["pullRequests"]] == [f"refs/pr/{num}"]
    assert "pullRequests" not in as_admin.get(f"/api/models/{repo}/refs").json()
    assert to_pr(people["rita"], repo, num, add("new/file.txt", b"new")).status_code == 200
    assert merge(people["rita"], repo, num).status_code == 403
    done = merge(people["will"], repo, num, comment="Thanks")
    assert done.status_code == 200
    assert files(as_admin, repo) == {"README.md": "# Two\n", "new/file.txt": "new"}
    after = as_admin.get(of(repo, num) + "?diff=1").json()
    head = as_admin.get(f"/api/models/{repo}").json()["sha"]
    assert after["status"] == "merged" and after["changes"]["mergeCommitId"] == head == done.json()["mergeCommitId"]
    assert [e["type"] for e in after["events"]] == ["comment", "commit", "commit", "comment", "status-change"]
    assert "+# Two" in after["diff"], "a merged request still shows what it changed"
    log = as_admin.get(f"/api/models/{repo}/commits/main").json()
    assert log[0]["title"] == f"Better (#{num})" and log[1]["id"] == before
    assert "- Better (" in log[0]["message"]
    for end, body in (("/merge", {}), ("/status", {"status": "closed"}), ("/status", {"status": "open"})):
        assert as_admin.post(of(repo, num, end), json=body).status_code == 409, end
    assert to_pr(as_admin, repo, num, add("late.txt")).status_code == 409
    assert as_admin.post(of(repo, num, "/comment"), json={"comment": "after"}).status_code == 200


def test_a_merge_is_a_git_commit_of_two_parents(
    server: SimpleNamespace, as_admin: httpx.Client, repo: str, tmp_path: Path
) -> None:
    commit(as_admin, repo, add("a.txt", b"a"))
    num = propose(as_admin, repo, add("b.txt", b"b"))
    theirs = as_admin.get(f"/api/models/{repo}/revision/{quote(f'refs/pr/{num}', safe='')}").json()["sha"]
    commit(as_admin, repo, add("c.txt", b"c"))
    ours = as_admin.get(f"/api/models/{repo}").json()["sha"]
    made = merge(as_admin, repo, num).json()["mergeCommitId"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    waiting, storage = [made], server.services.storage
    while waiting:
        oid = waiting.pop()
        kind, data = storage.git_object(oid)
        at = tmp_path / ".git" / "objects" / oid[:2] / oid[2:]
        if at.exists():
            continue
        at.parent.mkdir(exist_ok=True)
        at.write_bytes(zlib.compress(f"{kind} {len(data)}\0".encode() + data))
        if kind == "commit":
            heads = [line.split() for line in data.decode().split("\n\n")[0].splitlines()]
            waiting += [words[1] for words in heads if words[0] in ("tree", "parent")]
        if kind == "tree":
            rest = data
            while rest:
                _, _, tail = rest.partition(b"\0")
                waiting.append(tail[:20].hex())
                rest = tail[20:]
    git = ["git", "-C", str(tmp_path)]
    parents = subprocess.run([*git, "log", "-1", "--format=%P%n%s", made], capture_output=True, text=True, check=True)
    assert parents.stdout.splitlines() == [f"{ours} {theirs}", f"Better (#{num})"]
    assert "error" not in subprocess.run([*git, "fsck", "--strict", made], capture_output=True, text=True).stderr
    listed = subprocess.run([*git, "ls-tree", "--name-only", made], capture_output=True, text=True).stdout.split()
    assert listed == [".gitattributes", "a.txt", "b.txt", "c.txt"]


def test_both_sides_keep_what_they_changed(as_admin: httpx.Client, repo: str) -> None:
    start = {"same": b"1", "ours": b"1", "theirs": b"1", "both": b"1", "gone-ours": b"1", "gone-theirs": b"1"}
    commit(as_admin, repo, *(add(path, data) for path, data in start.items()))
    num = propose(
        as_admin, repo, add("theirs", b"2"), add("both", b"2"), add("new-theirs", b"t"), add("d/new", b"x"),
        delete("gone-theirs"),
    )  # fmt: skip
    commit(as_admin, repo, add("ours", b"3"), add("both", b"2"), add("new-ours", b"o"), delete("gone-ours"))
    assert as_admin.get(of(repo, num)).json()["filesWithConflicts"] == []
    assert merge(as_admin, repo, num).status_code == 200
    assert files(as_admin, repo) == {
        "same": "1", "ours": "3", "theirs": "2", "both": "2", "new-ours": "o", "new-theirs": "t", "d/new": "x",
    }  # fmt: skip


def test_what_both_sides_changed_is_a_conflict_and_named(as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, *(add(p, b"1") for p in ("edit", "we-delete", "they-delete", "fine")))
    num = propose(
        as_admin, repo, add("edit", b"2"), add("we-delete", b"2"), delete("they-delete"), add("added", b"2"),
        add("Case.txt", b"2"), add("folder/x", b"2"), add("fine", b"2"),
    )  # fmt: skip
    commit(
        as_admin, repo, add("edit", b"3"), delete("we-delete"), add("they-delete", b"3"), add("added", b"3"),
        add("case.txt", b"3"), add("folder", b"3"),
    )  # fmt: skip
    expected = ["Case.txt", "added", "edit", "folder/x", "they-delete", "we-delete"]
    assert as_admin.get(of(repo, num)).json()["filesWithConflicts"] == expected
    head = as_admin.get(f"/api/models/{repo}").json()["sha"]
    refused = merge(as_admin, repo, num)
    assert refused.status_code == 409 and refused.json()["filesWithConflicts"] == expected
    for path in expected:
        assert path in refused.json()["error"]
    assert as_admin.get(f"/api/models/{repo}").json()["sha"] == head
    assert as_admin.get(of(repo, num)).json()["status"] == "open"


def test_committing_the_branchs_version_resolves_a_conflict(as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("a", b"1"), add("b", b"1"))
    num = propose(as_admin, repo, add("a", b"2"), add("b", b"2"))
    commit(as_admin, repo, add("a", b"3"))
    assert as_admin.get(of(repo, num)).json()["filesWithConflicts"] == ["a"]
    assert to_pr(as_admin, repo, num, add("a", b"3")).status_code == 200
    assert as_admin.get(of(repo, num)).json()["filesWithConflicts"] == []
    assert merge(as_admin, repo, num).status_code == 200
    assert files(as_admin, repo) == {"a": "3", "b": "2"}


def test_updating_from_the_branch_with_a_side_for_each_file(
    people: People,
    as_admin: httpx.Client,
    repo: str,
) -> None:
    commit(as_admin, repo, add("a", b"1"), add("b", b"1"))
    num = propose(people["rita"], repo, add("a", b"2"), add("b", b"2"))
    commit(as_admin, repo, add("a", b"3"), add("b", b"3"), add("c", b"3"))
    update = of(repo, num, "/update")
    assert people["nobody"].post(update, json={}).status_code == 401
    refused = people["rita"].post(update, json={"keep": {"a": "theirs"}})
    assert refused.status_code == 409 and "changed b." in refused.json()["error"]
    to_pr(people["rita"], repo, num, add("b", b"both"))  # what neither side had
    done = people["rita"].post(update, json={"keep": {"a": "theirs", "b": "ours"}})
    assert done.status_code == 200
    assert files(as_admin, repo, f"refs/pr/{num}") == {"a": "3", "b": "both", "c": "3"}
    shown = as_admin.get(of(repo, num) + "?diff=1").json()
    assert shown["filesWithConflicts"] == [] and "+both" in shown["diff"] and "b/a" not in shown["diff"]
    assert people["rita"].post(update, json={}).status_code == 409
    assert merge(as_admin, repo, num).status_code == 200
    assert files(as_admin, repo) == {"a": "3", "b": "both", "c": "3"}


def test_a_draft_is_opened_before_it_is_merged(people: People, as_admin: httpx.Client, repo: str) -> None:
    num = opened(people["rita"], repo, title="Empty", pullRequest=True)
    assert as_admin.get(of(repo, num)).json()["status"] == "draft"
    assert to_pr(people["rita"], repo, num, add("a.txt", b"a")).status_code == 200
    refused = merge(as_admin, repo, num)
    assert refused.status_code == 409 and "`hf discussions reopen`" in refused.json()["error"]
    assert people["rita"].post(of(repo, num, "/status"), json={"status": "open"}).status_code == 200
    assert merge(as_admin, repo, num).status_code == 200 and files(as_admin, repo) == {"a.txt": "a"}
    empty = opened(as_admin, repo, title="Nothing in it", pullRequest=True)
    as_admin.post(of(repo, empty, "/status"), json={"status": "open"})
    assert merge(as_admin, repo, empty).status_code == 200
    assert as_admin.get(f"/api/models/{repo}/commits/main").json()[0]["title"] == f"Nothing in it (#{empty})"


def test_a_closed_request_takes_no_commit_until_it_is_reopened(as_admin: httpx.Client, repo: str) -> None:
    num = propose(as_admin, repo, add("a", b"1"))
    as_admin.post(of(repo, num, "/status"), json={"status": "closed"})
    assert merge(as_admin, repo, num).status_code == 409
    refused = to_pr(as_admin, repo, num, add("b", b"1"))
    assert refused.status_code == 409 and "reopen" in refused.json()["error"]
    as_admin.post(of(repo, num, "/status"), json={"status": "open"})
    assert to_pr(as_admin, repo, num, add("b", b"1")).status_code == 200
    assert merge(as_admin, repo, num).status_code == 200


def test_a_request_from_a_parent_commit_and_for_another_branch(as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("a", b"1"))
    first = as_admin.get(f"/api/models/{repo}").json()["sha"]
    commit(as_admin, repo, add("a", b"2"))
    num = propose(as_admin, repo, add("b", b"1"), parentCommit=first)
    assert files(as_admin, repo, f"refs/pr/{num}") == {"a": "1", "b": "1"}
    assert as_admin.get(of(repo, num) + "?diff=1").json()["diff"].count("diff --git") == 1
    assert merge(as_admin, repo, num).status_code == 200
    assert files(as_admin, repo) == {"a": "2", "b": "1"}
    as_admin.post(f"/api/models/{repo}/branch/dev", json={})
    answer = commit(as_admin, repo, add("c", b"1"), rev="dev?create_pr=1")
    num = int(answer.json()["pullRequestUrl"].rpartition("/")[2])
    assert as_admin.get(of(repo, num)).json()["changes"] == {"base": "refs/heads/dev"}
    assert merge(as_admin, repo, num).status_code == 200
    assert "c" in files(as_admin, repo, "dev") and "c" not in files(as_admin, repo)
    answer = commit(as_admin, repo, add("d", b"1"), rev="not-here?create_pr=1")
    num = int(answer.json()["pullRequestUrl"].rpartition("/")[2])
    assert as_admin.get(of(repo, num)).json()["changes"] == {"base": "refs/heads/main"}


def test_a_request_sent_twice_is_opened_once(as_admin: httpx.Client, repo: str) -> None:
    assert propose(as_admin, repo, add("a", b"1")) == propose(as_admin, repo, add("a", b"1"))
    assert propose(as_admin, repo, add("a", b"2")) == 2
    unchanged = commit(as_admin, repo, add("b", b""), delete("b"), rev="main?create_pr=1")
    assert unchanged.status_code == 400
    assert as_admin.get(f"/api/models/{repo}/discussions").json()["count"] == 2


def test_merges_at_once_lose_nothing(as_admin: httpx.Client, repo: str) -> None:
    nums = [propose(as_admin, repo, add(f"f{i}", b"x"), summary=f"Add f{i}") for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda num: merge(as_admin, repo, num).status_code, nums))
    assert done == [200] * 6
    assert set(files(as_admin, repo)) == {f"f{i}" for i in range(6)}
    one = propose(as_admin, repo, add("once", b"x"))
    with ThreadPoolExecutor(6) as pool:
        done = sorted(pool.map(lambda _: merge(as_admin, repo, one).status_code, range(6)))
    assert done == [200, 409, 409, 409, 409, 409]
    titles = [c["title"] for c in as_admin.get(f"/api/models/{repo}/commits/main").json()]
    assert len([t for t in titles if t == f"Better (#{one})"]) == 1


def test_a_commit_that_comes_while_it_is_merged_is_merged_or_refused(as_admin: httpx.Client, repo: str) -> None:
    for turn in range(4):
        num = propose(as_admin, repo, add(f"t{turn}", b"1"), summary=f"Turn {turn}")
        with ThreadPoolExecutor(2) as pool:
            merging = pool.submit(merge, as_admin, repo, num)
            late = pool.submit(to_pr, as_admin, repo, num, add(f"late{turn}", b"1"))
        assert merging.result().status_code == 200
        assert late.result().status_code in (200, 409)
        assert (f"late{turn}" in files(as_admin, repo)) == (late.result().status_code == 200)


def test_a_licence_that_is_refused_is_refused_in_a_request_and_when_it_is_merged(
    people: People,
    as_admin: httpx.Client,
    repo: str,
) -> None:
    """The card is fine on its branch, the ancestor on the other: only what both make together breaks the licence."""
    llama = b"---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b\n---\n"
    refused = commit(people["rita"], repo, add("README.md", llama), rev="main?create_pr=1")
    assert refused.status_code == 403 and "Llama 2" in refused.json()["error"]
    assert as_admin.get(f"/api/models/{repo}/discussions").json()["count"] == 0
    num = opened(as_admin, repo, pullRequest=True)
    assert to_pr(as_admin, repo, num, add("README.md", llama)).status_code == 403
    commit(as_admin, repo, add("README.md", b"---\nlicense: mit\n---\n"))
    adapter = json.dumps({"base_model_name_or_path": "meta-llama/Llama-2-7b", "peft_type": "LORA"}).encode()
    assert to_pr(as_admin, repo, num, add("adapter_config.json", adapter)).status_code == 200
    as_admin.post(of(repo, num, "/status"), json={"status": "open"})
    head = as_admin.get(f"/api/models/{repo}").json()["sha"]
    merging = merge(as_admin, repo, num)
    assert merging.status_code == 403 and "Llama 2" in merging.json()["error"], merging.text
    assert as_admin.get(f"/api/models/{repo}").json()["sha"] == head
    assert as_admin.get(of(repo, num)).json()["status"] == "open"


# -- whoever may not write -------------------------------------------------------------------------------------------
def theirs(server: SimpleNamespace, owner: httpx.Client) -> tuple[str, str, bytes]:
    """An open repository of will's, and a private one with a large file: ids and its bytes."""
    stamp = time.monotonic_ns()
    openly, shut = f"will/open-{stamp}", f"will/shut-{stamp}"
    owner.post("/api/repos/create", json={"name": openly})
    owner.post("/api/repos/create", json={"name": shut, "visibility": "private"})
    data = secrets.token_bytes(50_000)
    upload(server, owner, shut, data)
    assert commit(owner, shut, large("w.bin", data)).status_code == 200
    return openly, shut, data


def large(path: str, data: bytes) -> dict[str, Any]:
    value = {"path": path, "algo": "sha256", "oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return {"key": "lfsFile", "value": value}


def upload(server: SimpleNamespace, http: httpx.Client, repo: str, data: bytes, **more: Any) -> dict[str, Any]:
    row = ask(http, repo, data, **more)
    if "actions" in row:
        assert server.http.put(row["actions"]["upload"]["href"], content=data).status_code == 200
    return dict(row)


def test_only_its_author_and_writers_send_to_a_request(server: SimpleNamespace, people: People) -> None:
    repo, _, _ = theirs(server, people["will"])
    num = propose(people["rita"], repo, add("a", b"1"))
    rev = quote(f"refs/pr/{num}", safe="")
    paths = [f"/api/models/{repo}/preupload/{rev}", f"/api/models/{repo}/xet-write-token/{rev}"]
    for name, status in (("rita", 200), ("will", 200), ("wanda", 403), ("nobody", 401)):
        http = people[name]
        assert http.post(paths[0], json={"files": []}).status_code == status, name
        assert http.get(paths[1]).status_code == status, name
        assert to_pr(http, repo, num, add(f"by-{name}", b"1")).status_code == status, name
        batch = {"operation": "upload", "objects": [], "ref": {"name": f"refs/pr/{num}"}}
        assert http.post(f"/{repo}.git/info/lfs/objects/batch", json=batch).status_code == status, name
    assert set(files(people["will"], repo, f"refs/pr/{num}")) == {"a", "by-rita", "by-will"}
    for http in (people["rita"], people["wanda"]):  # the branch itself stays shut
        assert commit(http, repo, add("evil")).status_code == 403
        assert http.get(f"/api/models/{repo}/xet-write-token/main").status_code == 403
        assert http.post(f"/api/models/{repo}/preupload/main", json={"files": []}).status_code == 403
        assert http.get(f"/api/models/{repo}/xet-write-token/None?create_pr=1").status_code == 200
        assert commit(http, repo, add("evil"), rev=quote("refs/pr/99", safe="")).status_code == 404
    talk = opened(people["rita"], repo)
    assert to_pr(people["rita"], repo, talk, add("x")).status_code == 404, "a discussion has no files"


def test_a_request_cannot_name_what_others_sent_to_the_namespace(
    server: SimpleNamespace,
    people: People,
) -> None:
    """By a hash alone a stranger would copy a private model into a request, and read it there."""
    repo, _, data = theirs(server, people["will"])
    stranger = people["rita"]
    refused = commit(stranger, repo, large("stolen.bin", data), rev="main?create_pr=1")
    assert refused.status_code == 400 and "not" in refused.json()["error"]
    absent = commit(stranger, repo, large("stolen.bin", b"nobody has this"), rev="main?create_pr=1")
    oids = [hashlib.sha256(d).hexdigest() for d in (data, b"nobody has this")]
    assert refused.text.replace(oids[0], "X") == absent.text.replace(oids[1], "X")
    assert "actions" in ask(stranger, repo, data), "whether the namespace has it must not show"
    num = propose(stranger, repo, add("a", b"1"))
    assert to_pr(stranger, repo, num, large("stolen.bin", data)).status_code == 400
    cas, token = xet_to_pr(stranger, repo, num)
    assert server.http.post(f"{cas}/v1/shards", content=SHARD, headers=token).status_code == 400
    theirs_cas, write = xet(people["will"], repo, "write")
    assert theirs_cas != cas
    assert server.http.post(f"{theirs_cas}/v1/xorbs/default/{NAME}", content=XORB, headers=write).status_code == 200
    assert server.http.post(f"{cas}/v1/shards", content=SHARD, headers=token).status_code == 400, "not its own xorb"
    assert server.http.post(f"{theirs_cas}/v1/xorbs/default/{NAME}", content=XORB, headers=token).status_code == 401
    assert commit(people["will"], repo, large("mine.bin", data)).status_code == 200, "a writer may"


def test_a_token_ends_with_the_right_to_write_to_the_namespace(
    server: SimpleNamespace, people: People, as_admin: httpx.Client
) -> None:
    """A writer who became a guest there would go on to name what the namespace holds."""
    space = f"common-{time.monotonic_ns()}"
    as_admin.post("/api/repos/create", json={"name": f"{space}/x"})
    cas, write = xet(people["will"], f"{space}/x", "write")
    address = f"{cas}/v1/xorbs/default/{NAME}"
    assert server.http.post(address, content=XORB, headers=write).status_code == 200
    server.services.accounts.create_token(space, Role.WRITE)  # from now on the namespace is this user's
    assert server.http.post(address, content=XORB, headers=write).status_code == 401


def xet_to_pr(http: httpx.Client, repo: str, num: int) -> tuple[str, dict[str, str]]:
    told = http.get(f"/api/models/{repo}/xet-write-token/{quote(f'refs/pr/{num}', safe='')}").json()
    return httpx.URL(told["casUrl"]).path, {"authorization": f"Bearer {told['accessToken']}"}


def test_large_files_of_a_stranger_are_read_by_all_once_they_are_committed(
    server: SimpleNamespace,
    people: People,
) -> None:
    repo, _, _ = theirs(server, people["will"])
    data = secrets.token_bytes(30_000)
    upload(server, people["rita"], repo, data)
    assert commit(people["rita"], repo, large("w.bin", data)).status_code == 403
    num = propose(people["rita"], repo, large("w.bin", data))
    name = hashlib.sha256(data).hexdigest()
    asked = {"operation": "download", "objects": [{"oid": name, "size": len(data)}]}
    link = people["nobody"].post(f"/{repo}.git/info/lfs/objects/batch", json=asked).json()["objects"][0]
    assert people["nobody"].get(link["actions"]["download"]["href"]).content == data
    at = f"/{repo}/resolve/{quote(f'refs/pr/{num}', safe='')}/w.bin"
    assert people["nobody"].get(at).content == data
    shown = people["nobody"].get(of(repo, num) + "?diff=1").json()["diff"]
    assert f"sha256 {name}" in shown and "git-lfs" not in shown
    assert merge(people["will"], repo, num).status_code == 200
    assert people["nobody"].get(f"/{repo}/resolve/main/w.bin").content == data
    again = propose(people["rita"], repo, large("copy.bin", data))
    assert merge(people["will"], repo, again).status_code == 200, "what the branch holds may be named again"


def test_a_refused_or_abandoned_upload_gives_the_namespace_nothing(
    server: SimpleNamespace,
    people: People,
) -> None:
    repo, _, _ = theirs(server, people["will"])
    data = secrets.token_bytes(20_000)
    upload(server, people["rita"], repo, data)
    assert server.services.storage.large("will", hashlib.sha256(data).hexdigest()) is None
    llama = b"---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b\n---\n"
    refused = commit(people["rita"], repo, large("w.bin", data), add("README.md", llama), rev="main?create_pr=1")
    assert refused.status_code == 403
    assert server.services.storage.large("will", hashlib.sha256(data).hexdigest()) is None
    other = f"will/other-{time.monotonic_ns()}"
    people["will"].post("/api/repos/create", json={"name": other})
    elsewhere = commit(people["rita"], other, large("w.bin", data), rev="main?create_pr=1")
    assert elsewhere.status_code == 400, "what was sent for one repository is not there for another"


def test_a_gated_repository_gives_no_hash_and_no_line_to_whom_it_keeps_out(
    server: SimpleNamespace,
    people: People,
) -> None:
    repo, _, _ = theirs(server, people["will"])
    data = secrets.token_bytes(10_000)
    upload(server, people["will"], repo, data)
    commit(people["will"], repo, large("w.bin", data), add("words.txt", b"private words\n"))
    people["will"].put(f"/api/models/{repo}/settings", json={"gated": "manual"})
    oid = hashlib.sha256(data).hexdigest()
    asked = {"files": [{"path": "w.bin", "size": 10_000_000, "sample": ""}, {"path": "words.txt", "size": 3}]}
    told = people["rita"].post(f"/api/models/{repo}/preupload/main?create_pr=1", json=asked)
    assert told.status_code == 200 and "oid" not in told.text
    assert oid in people["will"].post(f"/api/models/{repo}/preupload/main", json=asked).text
    num = propose(people["rita"], repo, delete("words.txt"), delete("w.bin"))
    shown = people["rita"].get(of(repo, num) + "?diff=1").json()["diff"]
    assert "words.txt" in shown and "private words" not in shown and oid not in shown
    assert "-private words" in people["will"].get(of(repo, num) + "?diff=1").json()["diff"]
    at = f"/{repo}/resolve/{quote(f'refs/pr/{num}', safe='')}/.gitattributes"
    assert people["rita"].get(at).status_code == 403
    named = commit(people["rita"], repo, large("again.bin", data), rev="main?create_pr=1")
    assert named.status_code == 400, "whether a gated file has a hash must not show"


def test_a_reader_sees_private_requests_and_a_stranger_none(
    server: SimpleNamespace,
    people: People,
) -> None:
    _, shut, _ = theirs(server, people["will"])
    num = propose(people["rita"], shut, add("a", b"1"))
    assert people["wanda"].get(of(shut, num) + "?diff=1").json()["num"] == num
    for call in (
        people["nobody"].get(of(shut, num)),
        people["nobody"].get(f"/{shut}/resolve/{quote(f'refs/pr/{num}', safe='')}/a"),
    ):
        assert call.status_code == 401 and call.headers["x-error-code"] == "RepoNotFound"


def test_acts_are_in_the_ledger_and_texts_are_not(server: SimpleNamespace, people: People, repo: str) -> None:
    num = opened(people["rita"], repo, title="Quiet title", description="quiet words")
    people["rita"].post(of(repo, num, "/comment"), json={"comment": "quiet words"})
    request = propose(people["rita"], repo, add("a", b"1"))
    merge(people["will"], repo, request)
    folder = server.services.settings.folder("ledger")
    text = b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()).decode(errors="replace")
    assert "discussion.open" in text and "discussion.comment" in text and "pull_request.merge" in text
    assert f'"ref":"refs/pr/{request}"' in text.replace(" ", "")
    assert "quiet words" not in text and "Quiet title" not in text


def test_lineage_told_by_others_survives_a_merge(server: SimpleNamespace, as_admin: httpx.Client, repo: str) -> None:
    commit(as_admin, repo, add("README.md", b"---\nlicense: apache-2.0\nbase_model: demo/parent\n---\n"))
    num = propose(as_admin, repo, add("notes.txt", b"x"))
    merge(as_admin, repo, num)
    model = server.services.catalog.model(repo, viewer=SYSTEM)
    found = server.services.catalog.revision(model)
    assert [edge.parent for edge in found.edges] == ["demo/parent"] and found.declared_licence == "apache-2.0"
