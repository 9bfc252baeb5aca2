"""Discussions over plain HTTP: who may say what, what is kept, and what nobody learns."""

import base64
import re
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM
from ecotone.catalog.discussion_rows import DiscussionEventRow, DiscussionRow
from ecotone.catalog.events import Event
from tests.hub.test_wire import add, commit

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def opened(http: httpx.Client, repo: str, *, kind: str = "models", **more: Any) -> int:
    answer = http.post(f"/api/{kind}/{repo}/discussions", json={"title": "A question", "description": "Why?", **more})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["num"])


def of(repo: str, num: int, end: str = "") -> str:
    return f"/api/models/{repo}/discussions/{num}{end}"


@pytest.mark.parametrize("kind", ["models", "datasets", "spaces"])
def test_a_discussion_from_its_opening_to_its_end(
    people: dict[str, httpx.Client], as_admin: httpx.Client, kind: str
) -> None:
    repo = f"demo/talk-{kind}-{time.monotonic_ns()}"
    as_admin.post("/api/repos/create", json={"name": repo, "type": kind})
    rita = people["rita"]
    num = opened(rita, repo, kind=kind)
    at = f"/api/{kind}/{repo}/discussions/{num}"
    said = rita.post(at + "/comment", json={"comment": "first"}).json()["newMessage"]
    edited = rita.post(f"{at}/comment/{said['id']}/edit", json={"content": "second"}).json()["updatedComment"]
    assert (edited["data"]["latest"]["raw"], edited["data"]["edited"], edited["id"]) == ("second", True, said["id"])
    assert rita.post(at + "/title", json={"title": "Renamed"}).json()["newTitle"]["data"] == {
        "from": "A question",
        "to": "Renamed",
    }
    closed = rita.post(at + "/status", json={"status": "closed", "comment": "done"})
    assert closed.json()["newStatus"]["data"] == {"status": "closed"}
    whole = people["nobody"].get(at).json()
    assert [event["type"] for event in whole["events"]] == [
        "comment", "comment", "title-change", "comment", "status-change",
    ]  # fmt: skip
    assert (whole["title"], whole["status"], whole["num"], whole["isPullRequest"]) == ("Renamed", "closed", 1, False)
    assert whole["repo"] == {"name": repo, "type": kind[:-1]} and whole["author"] == {"name": "rita"}
    assert all(re.fullmatch(r"[0-9a-f]{24}", event["id"]) for event in whole["events"])
    assert rita.post(at + "/status", json={"status": "closed"}).status_code == 409
    assert rita.post(at + "/status", json={"status": "open"}).status_code == 200
    assert rita.post(at + "/status", json={"status": "merged"}).status_code == 400
    assert rita.post(at + "/merge", json={}).status_code in (403, 409)


def test_who_may_do_what(people: dict[str, httpx.Client], as_admin: httpx.Client) -> None:
    """A stranger who closes, renames or rewrites what others said would make a hub useless."""
    repo = f"will/own-{time.monotonic_ns()}"
    assert people["will"].post("/api/repos/create", json={"name": repo}).status_code == 200
    num = opened(people["rita"], repo)
    said = people["rita"].post(of(repo, num, "/comment"), json={"comment": "mine"}).json()["newMessage"]["id"]
    acts: list[tuple[str, dict[str, str]]] = [
        ("/title", {"title": "Taken"}),
        ("/status", {"status": "closed"}),
        (f"/comment/{said}/edit", {"content": "Not mine"}),
        (f"/comment/{said}/hide", {}),
    ]
    for end, body in acts:
        assert people["nobody"].post(of(repo, num, end), json=body).status_code == 401, end
        refused = people["wanda"].post(of(repo, num, end), json=body)
        assert refused.status_code == 403 and "rita" in refused.json()["error"], end
    assert people["nobody"].post(of(repo, num, "/comment"), json={"comment": "x"}).status_code == 401
    assert people["nobody"].post(f"/api/models/{repo}/discussions", json={"title": "x"}).status_code == 401
    assert people["wanda"].post(of(repo, num, "/comment"), json={"comment": "hello"}).status_code == 200
    for end, body in acts:  # the owner of the repository may
        assert people["will"].post(of(repo, num, end), json=body).status_code == 200, end


def test_the_text_of_a_hidden_comment_is_gone(
    server: SimpleNamespace, people: dict[str, httpx.Client], repo: str
) -> None:
    num = opened(people["rita"], repo)
    at = of(repo, num)
    secret = "my password is swordfish"
    said = people["rita"].post(at + "/comment", json={"comment": secret}).json()["newMessage"]["id"]
    people["rita"].post(f"{at}/comment/{said}/edit", json={"content": secret + "!"})
    hidden = people["rita"].post(f"{at}/comment/{said.upper()}/hide", json={})
    assert hidden.json()["updatedComment"]["data"]["hidden"] is True
    assert "swordfish" not in hidden.text and "swordfish" not in people["rita"].get(at).text
    with server.services.database.reading() as session:
        rows = session.query(DiscussionEventRow).filter_by(id=said).all()
    assert len(rows) == 1 and "swordfish" not in str(rows[0].data)
    again = people["rita"].post(f"{at}/comment/{said}/edit", json={"content": "back"})
    assert again.status_code == 409 and "hidden" in again.json()["error"]


def test_discussions_of_a_private_repository_look_absent(
    people: dict[str, httpx.Client], as_admin: httpx.Client
) -> None:
    secret, absent = f"demo/priv-{time.monotonic_ns()}", "demo/priv-absent"
    as_admin.post("/api/repos/create", json={"name": secret, "visibility": "private"})
    num = opened(people["rita"], secret, title="Codename")
    for end in ("", f"/{num}", f"/{num}?diff=1"):
        seen = [people["nobody"].get(f"/api/models/{name}/discussions{end}") for name in (secret, absent)]
        shown = [
            (a.status_code, a.headers["x-error-code"], a.text.replace(n, "N"))
            for a, n in zip(seen, (secret, absent), strict=True)
        ]
        assert shown[0] == shown[1] and shown[0][0] == 401, end
    assert people["rita"].get(of(secret, num)).json()["title"] == "Codename"


def test_a_comment_of_another_discussion_is_not_reached_through_this_one(
    people: dict[str, httpx.Client], as_admin: httpx.Client, repo: str
) -> None:
    one, two = opened(people["rita"], repo), opened(people["rita"], repo)
    said = people["rita"].post(of(repo, one, "/comment"), json={"comment": "x"}).json()["newMessage"]["id"]
    assert as_admin.post(of(repo, two, f"/comment/{said}/hide"), json={}).status_code == 404
    assert as_admin.post(of(repo, one, f"/comment/{'0' * 24}/hide"), json={}).status_code == 404
    assert as_admin.get(of(repo, 99)).status_code == 404
    for bad in ("x", "-1", "1e3", "9" * 30, "%C2%B2"):
        assert as_admin.get(f"/api/models/{repo}/discussions/{bad}").status_code in (400, 404), bad


def test_titles_and_comments_of_all_the_world_and_their_bounds(people: dict[str, httpx.Client], repo: str) -> None:
    rita = people["rita"]
    for title in ("Why 🤖👩‍👩‍👧?", "مشكلة في النموذج", "שאלה", "a" * 200):
        num = opened(rita, repo, title=title)
        assert rita.get(of(repo, num)).json()["title"] == title
    num = opened(rita, repo, title="safe\u202egpj.exe\nsecond\tline")
    assert rita.get(of(repo, num)).json()["title"] == "safegpj.exe second line"
    path = f"/api/models/{repo}/discussions"
    for title in ("", "  \n ", "\u202e", "a" * 201):
        assert rita.post(path, json={"title": title, "description": ""}).status_code == 400, title
    assert rita.post(of(repo, num, "/comment"), json={"comment": "é" * 65_536}).status_code == 200
    assert rita.post(of(repo, num, "/comment"), json={"comment": "a" * 65_537}).status_code == 413
    assert rita.post(of(repo, num, "/comment"), json={"comment": " \n"}).status_code == 400
    assert rita.post(of(repo, num, "/comment"), json={"comment": "a\0b"}).status_code == 200
    assert rita.post(path, json={"title": "x", "description": "a" * 65_537}).status_code == 413


def test_the_list_is_filtered_and_paged(people: dict[str, httpx.Client], repo: str) -> None:
    for number in range(53):
        opened(people["rita" if number % 2 else "will"], repo, title=f"T{number}", pullRequest=number >= 50)
    people["will"].post(of(repo, 1, "/status"), json={"status": "closed"})
    path = f"/api/models/{repo}/discussions"
    first, second = (people["nobody"].get(path, params={"p": p}).json() for p in (0, 1))
    assert (first["count"], first["start"], len(first["discussions"])) == (53, 0, 50)
    assert (second["count"], second["start"], len(second["discussions"])) == (53, 50, 3)
    nums = [d["num"] for d in first["discussions"] + second["discussions"]]
    assert nums == list(range(53, 0, -1))

    def count(**query: str) -> int:
        return int(people["nobody"].get(path, params=query).json()["count"])

    assert (count(type="pull_request"), count(type="discussion"), count(type="all")) == (3, 50, 53)
    assert (count(status="open"), count(status="closed"), count(status="all")) == (52, 1, 53)
    assert (count(author="rita"), count(author="nobody"), count(author="rita", type="pull_request")) == (26, 0, 1)
    assert people["nobody"].get(path, params={"type": "x"}).status_code == 400
    assert people["nobody"].get(path, params={"p": "9999999999"}).json()["discussions"] == []


def test_no_two_discussions_get_one_number(people: dict[str, httpx.Client], repo: str) -> None:
    def make(number: int) -> int:
        return opened(people["rita" if number % 2 else "will"], repo, pullRequest=number % 3 == 0)

    with ThreadPoolExecutor(8) as pool:
        nums = sorted(pool.map(make, range(24)))
    assert nums == list(range(1, 25))


def test_comments_at_once_are_all_kept_in_order(people: dict[str, httpx.Client], repo: str) -> None:
    num = opened(people["rita"], repo)
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(
                lambda i: people["rita"].post(of(repo, num, "/comment"), json={"comment": f"c{i}"}).status_code,
                range(24),
            )
        )
    assert set(done) == {200}
    said = [e["data"]["latest"]["raw"] for e in people["rita"].get(of(repo, num)).json()["events"]][1:]
    assert sorted(said) == sorted(f"c{i}" for i in range(24))


def test_a_deleted_repository_takes_its_discussions_along(
    server: SimpleNamespace, people: dict[str, httpx.Client], as_admin: httpx.Client, repo: str
) -> None:
    opened(people["rita"], repo, title="Old secret")
    opened(people["rita"], repo, pullRequest=True)
    key = server.services.catalog.model(repo, viewer=SYSTEM).key
    namespace, _, name = repo.partition("/")
    again = {"name": name, "organization": namespace}
    assert as_admin.request("DELETE", "/api/repos/delete", json=again).status_code == 200
    assert people["rita"].get(of(repo, 1)).status_code == 404
    with server.services.database.reading() as session:
        assert session.query(DiscussionRow).filter_by(model_key=key).count() == 0
        assert session.query(DiscussionEventRow).filter_by(model_key=key).count() == 0
    as_admin.post("/api/repos/create", json=again)
    assert people["rita"].get(f"/api/models/{repo}/discussions").json()["count"] == 0
    assert opened(people["rita"], repo) == 1


def test_whoever_asked_is_told_of_each_change_once(
    server: SimpleNamespace, people: dict[str, httpx.Client], as_admin: httpx.Client, repo: str
) -> None:
    heard: list[Event] = []
    server.services.catalog.events.listen(lambda _session, event: heard.append(event))
    num = opened(people["rita"], repo)
    said = people["rita"].post(of(repo, num, "/comment"), json={"comment": "x"}).json()["newMessage"]["id"]
    people["rita"].post(of(repo, num, f"/comment/{said}/edit"), json={"content": "y"})
    people["rita"].post(of(repo, num, f"/comment/{said}/hide"), json={})
    people["rita"].post(of(repo, num, "/title"), json={"title": "New"})
    people["rita"].post(of(repo, num, "/status"), json={"status": "closed", "comment": "bye"})
    commit(as_admin, repo, add("a.txt"), rev="main?create_pr=1")
    mine = [(t.scope, t.action, t.discussion.num) for t in heard if t.model.id == repo and t.discussion]
    assert mine == [
        ("discussion", "create", 1),
        ("discussion.comment", "create", 1),
        ("discussion.comment", "update", 1),
        ("discussion.comment", "update", 1),
        ("discussion", "update", 1),
        ("discussion.comment", "create", 1),
        ("discussion", "update", 1),
        ("discussion", "create", 2),
    ]


def test_pictures_are_attached_and_nothing_else(people: dict[str, httpx.Client], server: SimpleNamespace) -> None:
    rita = people["rita"]
    url = rita.post("/uploads", content=PNG, headers={"content-type": "image/png"})
    assert url.status_code == 200 and url.text.startswith(f"{server.url}/uploads/") and url.text.endswith(".png")
    shown = people["nobody"].get(url.text)
    assert shown.content == PNG and shown.headers["content-type"] == "image/png"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in shown.headers["content-security-policy"]
    assert people["nobody"].post("/uploads", content=PNG).status_code == 401
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    for data in (svg, b"<html><script>alert(1)</script>", b"", b"%PDF-1.4", b"GIF", b"\0" * 100):
        assert rita.post("/uploads", content=data, headers={"content-type": "image/png"}).status_code == 400
    assert rita.post("/uploads", content=PNG + bytes(10 * 1024 * 1024)).status_code == 413
    name = url.text.rpartition("/")[2]
    for bad in (name.replace(".png", ".gif"), name.replace(".png", ".svg"), "..%2f..%2fecotone.db", "0" * 64 + ".png"):
        assert people["nobody"].get(f"/uploads/{bad}").status_code == 404, bad


def test_one_person_cannot_make_a_discussion_too_large_to_be_shown(people: dict[str, httpx.Client], repo: str) -> None:
    rita = people["rita"]
    num = opened(rita, repo)
    text, said = "a" * 65_536, 0
    while (answer := rita.post(of(repo, num, "/comment"), json={"comment": text})).status_code == 200:
        said += 1
        last = answer.json()["newMessage"]["id"]
        assert said <= 128
    assert said == 127 and answer.status_code == 413 and "open another one" in answer.json()["error"]
    kept = of(repo, num, f"/comment/{last}")
    assert rita.post(kept + "/edit", json={"content": "short"}).status_code == 200
    assert rita.post(of(repo, num, "/comment"), json={"comment": "a" * 65_000}).status_code == 200
    assert rita.post(kept + "/edit", json={"content": text}).status_code == 413
    assert rita.post(of(repo, num, "/status"), json={"status": "closed"}).status_code == 200


def test_a_discussion_is_not_renamed_without_end(
    people: dict[str, httpx.Client], repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecotone.catalog.discussion_rows.MOST_EVENTS", 5)
    rita = people["rita"]
    num = opened(rita, repo)
    done = [rita.post(of(repo, num, "/title"), json={"title": f"t{n}"}).status_code for n in range(12)]
    assert done == [200] * done.count(200) + [413] * done.count(413) and 5 <= done.count(200) <= 10
