"""Every route of the built application: who must not, cannot; what is not shown, is not there; in every answer our own
address. The table is the application's, so that a route that is added tomorrow is asked too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ecotone.accounts import SYSTEM
from ecotone.catalog.models import LargeFileRow, ModelRow, RefRow, RevisionRow
from tests.hub.built import INDEX_NAME, PUBLIC, Built, bearer, routes

ROUTES = routes()
OF_REPOSITORY = [(method, path) for method, path in ROUTES if "{namespace}" in path and "{name}" in path]
VALUES = {
    "namespace": "will",
    "user": "will",
    "rev": "main",
    "path": "dir/a.txt",
    "file": INDEX_NAME,
    "branch": "side",
    "tag": "v1",
    "topic": "x/y",
    "scope": "0" * 20,
    "prefix": "default",
    "hash": "0" * 64,
    "token": "bm8.bm8",
    "rest": "/will/hidden/nothing",
}
HASH = "a" * 64
FILES = {"paths-info": {"paths": ["dir/a.txt"]}, "preupload": {"files": [{"path": "b.txt", "size": 1, "sample": ""}]}}
BODIES: dict[str, Any] = {
    **FILES,
    "branch": {"startingPoint": "main"},
    "tag": {"tag": "new"},
    "settings": {"private": False},
    "super-squash": {"message": "x"},
    "duplicate": {"repository": "will/copy"},
    "objects": {"operation": "download", "objects": [{"oid": HASH, "size": 1}]},
    "batch": {"deletions": {"sha": [HASH]}},
    "move": {"fromRepo": "will/{name}", "toRepo": "will/taken", "type": "model"},
    "delete": {"name": "{name}", "organization": "will", "type": "model"},
    "create": {"name": "{name}", "organization": "will", "type": "model"},
    "validate-yaml": {"content": "---\nbase_model: will/{name}\n---\n", "repoType": "model"},
}
TOO_OFTEN_DIFFERENT = {"date", "x-request-id", "content-length"}
STRANGERS = ("nobody", "garbage", "revoked", "key")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    found = Built(tmp_path_factory.mktemp("built"))
    found.fill()
    projects = found.admin.post("/api/ecotone/v1/projects", json={"name": "shop", "mode": "run", "purpose": "research"})
    assert projects.status_code < 300, projects.text
    found.tokens["key"] = found.services.accounts.create_key("shop", actor=SYSTEM)[1]
    yield found
    found.stop()


def address(path: str, name: str, **more: str) -> str:
    values = VALUES | more | {"name": name}
    return re.sub(r"\{(\w+)(?::path)?\}", lambda m: values.get(m[1], "1"), path)


def ask(built: Built, method: str, path: str, name: str, token: str | None = None, **more: str) -> httpx.Response:
    at = address(path, name, **more)
    body = None
    if method not in ("GET", "HEAD"):
        word = next((part for part in reversed(path.split("/")) if part in BODIES), "")
        body = json.dumps(BODIES.get(word, {})).replace("{name}", name)
        if path.endswith("/commit/{rev}"):
            added = {"key": "file", "value": {"path": "evil.txt", "content": "eA==", "encoding": "base64"}}
            body = json.dumps({"key": "header", "value": {"summary": "x"}}) + "\n" + json.dumps(added)
    headers = bearer(token) | ({"content-type": "application/json"} if body else {})
    return built.http.request(method, at, content=body, headers=headers)


def told(answer: httpx.Response, name: str) -> tuple[int, str, dict[str, str]]:
    """What an answer gives away, but for the name that was asked for."""
    headers = {k: v.replace(name, "NAME") for k, v in answer.headers.items() if k not in TOO_OFTEN_DIFFERENT}
    return answer.status_code, answer.text.replace(name, "NAME"), headers


def state(built: Built) -> Any:
    """All that a stranger's request could have changed."""
    with built.services.database.reading() as session:
        columns = (ModelRow.namespace, ModelRow.name, ModelRow.private, ModelRow.gated, ModelRow.head, ModelRow.buried)
        found = [session.execute(sa.select(*columns).where(ModelRow.namespace != "rita")).all()]
        for table in (RefRow, RevisionRow, LargeFileRow):
            keys = sa.inspect(table).primary_key
            found.append(session.execute(sa.select(*keys).order_by(*keys)).all())
    return found


def test_the_application_has_all_these_routes(built: Built) -> None:
    there = {
        (method, route.path) for route in built.app.router.routes for method in getattr(route, "methods", ()) or ()
    }
    assert set(ROUTES) <= there
    assert len(OF_REPOSITORY) > 60


@pytest.mark.parametrize("caller", STRANGERS)
def test_a_stranger_gets_nothing_of_a_private_repository(built: Built, caller: str) -> None:
    before = state(built)
    for method, path in ROUTES:
        if path.startswith("/api/telemetry") or path == "/v1/telemetry":
            continue
        hidden = ask(built, method, path, "hidden", built.tokens[caller])
        assert hidden.status_code < 500, (method, path, hidden.text)
        assert "dir/a.txt" not in hidden.text and "will/hidden" not in _without_the_question(hidden), (method, path)
        if (method, path) in OF_REPOSITORY and not path.endswith("/locks/verify"):
            assert hidden.status_code in (400, 401, 403, 404), (method, path, hidden.status_code)
        absent = ask(built, method, path, "absent", built.tokens[caller])
        assert told(hidden, "hidden") == told(absent, "absent"), (method, path)
    assert state(built) == before


def _without_the_question(answer: httpx.Response) -> str:
    """The body without the repetition of the name that was asked for, which errors hold."""
    return answer.text if answer.status_code < 300 else ""


def test_the_same_statements_run_for_what_is_absent_and_what_is_hidden(built: Built) -> None:
    """Else the time that an answer takes would tell."""
    for method, path in OF_REPOSITORY:
        for word in ("hidden", "absent"):
            ask(built, method, path, word)  # what is prepared once is prepared now
        seen = []
        for word in ("hidden", "absent"):
            with built.statements() as statements:
                ask(built, method, path, word)
            seen.append(list(statements))
        assert seen[0] == seen[1], (method, path)


@pytest.mark.parametrize("caller", ["reader", "other"])
def test_who_may_only_read_or_owns_another_namespace_changes_nothing(built: Built, caller: str) -> None:
    before = state(built)
    for name in ("hidden", "shown"):
        for method, path in ROUTES:
            if method == "GET" or path.endswith(("/like", "/telemetry")):
                continue
            body = {"rest": f"/will/{name}/x"}
            answer = ask(built, method, path, name, built.tokens[caller], **body)
            assert answer.status_code < 500, (method, path, answer.text)
            reads = path.endswith(("/paths-info/{rev}", "/objects/batch", "/locks/verify", "/validate-yaml"))
            if not reads:
                assert not answer.is_success or "git-upload-pack" in path, (method, path, answer.text)
    assert state(built) == before


def test_head_says_what_get_says(built: Built) -> None:
    for name, token in (("shown", None), ("absent", None), ("hidden", built.tokens["owner"])):
        for method, path in ROUTES:
            if method != "GET":
                continue
            extra = {"rest": f"/will/{name}/x"}
            got = ask(built, "GET", path, name, token, **extra)
            head = ask(built, "HEAD", path, name, token, **extra)
            assert head.content == b"" and head.status_code == got.status_code, (path, name)
            kept = [{k: v for k, v in a.headers.items() if k not in ("date", "x-request-id")} for a in (got, head)]
            for headers in kept:
                _mask_tokens(headers, path)
            assert kept[0] == kept[1], (path, name)


def _mask_tokens(headers: dict[str, str], path: str) -> None:
    if "xet-" in path:  # a token is made at each call
        for name in ("x-xet-access-token", "x-xet-token-expiration"):
            headers.pop(name, None)


def test_every_absolute_address_is_the_public_one(built: Built) -> None:
    for caller in (None, built.tokens["owner"]):
        for method, path in ROUTES:
            if method != "GET":
                continue
            for query in ("", "?limit=1&full=true&recursive=true&expand=true"):
                answer = built.http.get("/prefix" + address(path, "shown") + query, headers=bearer(caller))
                text = answer.text if "json" in answer.headers.get("content-type", "") else ""
                for found in re.findall(r"https?://[^\s\"'<>\\]+", text + "\n" + "\n".join(answer.headers.values())):
                    assert found.startswith(PUBLIC + "/"), (path, found)
                assert answer.headers["x-request-id"]


def test_each_reason_has_its_code(built: Built) -> None:
    for prefix, kind in (("", "models"), ("datasets/", "datasets"), ("spaces/", "spaces")):
        at, shown = f"/api/{kind}/will/absent", f"/api/{kind}/will/shown"
        sha = built.admin.get(shown).json()["sha"]
        cases = {
            at: ("RepoNotFound", None), f"{at}/tree/main": ("RepoNotFound", None),
            f"/{prefix}will/absent/resolve/main/a": ("RepoNotFound", None),
            f"{shown}/revision/none": ("RevisionNotFound", None), f"{shown}/tree/none": ("RevisionNotFound", None),
            f"{shown}/commits/none": ("RevisionNotFound", None),
            f"{shown}/xet-read-token/none": ("RevisionNotFound", None),
            f"/{prefix}will/shown/resolve/none/a": ("RevisionNotFound", None),
            f"{shown}/tree/main/none": ("EntryNotFound", sha),
            f"/{prefix}will/shown/resolve/main/none": ("EntryNotFound", sha),
            f"/{prefix}will/shown/raw/main/none": ("EntryNotFound", sha),
        }  # fmt: skip
        for path, (code, commit) in cases.items():
            for method in ("GET", "HEAD"):
                answer = built.http.request(method, path, headers=bearer(built.tokens["reader"]))
                found = (answer.status_code, answer.headers.get("x-error-code"), answer.headers.get("x-repo-commit"))
                assert found == (404, code, commit), path
                assert answer.headers["x-error-message"]
    garbage = built.http.get("/api/models/will/shown", headers=bearer("ect_wrong"))
    assert garbage.headers["x-error-message"] == "Invalid credentials in Authorization header"
    unknown_host = built.http.get("/api/models", headers={"host": "evil.example"})
    assert unknown_host.status_code == 421 and unknown_host.headers["x-request-id"]


def test_a_slash_at_the_end_changes_nothing(built: Built) -> None:
    sha = built.admin.get("/api/models/will/shown").json()["sha"]
    for path in ("/api/models/will/shown", f"/api/models/will/shown/tree/{sha}", "/api/models", "/api/whoami-v2"):
        assert built.admin.get(path + "/").json() == built.admin.get(path).json(), path
