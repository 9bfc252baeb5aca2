"""Changing files and refs in the browser: through the same decision as every upload, and in nobody else's name."""

import contextlib
import dataclasses
import re
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM
from ecotone.vocabulary import Role
from ecotone.web import takes_form
from tests.receiver import until
from tests.web.conftest import publish
from tests.web.test_sessions import log_in

FIELD = r'name="{}" value="([^"]*)"'


@pytest.fixture
def admin(server: SimpleNamespace) -> Iterator[httpx.Client]:
    client, _ = log_in(server)
    yield client
    client.close()


def hidden(client: httpx.Client, path: str) -> dict[str, str]:
    """The hidden fields of the form at an address."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text[:800]
    form = answer.text.split('<form class="write"')[1].split("</form>")[0]
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))


def send(
    client: httpx.Client, path: str, fields: dict[str, str], files: dict[str, bytes] | None = None
) -> httpx.Response:
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields.items()]
    parts += [("files", (name, data, "application/octet-stream")) for name, data in (files or {}).items()]
    return client.post(path.split("?")[0], files=parts)


def upload(server: SimpleNamespace, path: str, files: dict[str, bytes], **fields: str) -> httpx.Response:
    client, _ = log_in(server)
    with contextlib.closing(client):
        return send(client, path, hidden(client, path) | fields, files)


def files_of(server: SimpleNamespace, name: str, rev: str = "main") -> dict[str, Any]:
    catalog = server.services.catalog
    model = catalog.model(name, viewer=SYSTEM)
    return dict(catalog.manifest(catalog.revision(model, rev)))


def test_several_files_go_into_a_folder_of_a_branch_in_one_commit(server: SimpleNamespace, admin: httpx.Client) -> None:
    publish(server.services, "demo/up", {"README.md": b"---\nlicense: mit\n---\n# Up\n"})
    model = server.services.catalog.model("demo/up", viewer=SYSTEM)
    server.services.catalog.create_branch(model, "side", actor=SYSTEM)
    path = "/demo/up/upload/main/data"
    fields = hidden(admin, path) | {"folder": "data/new", "branch": "side", "message": "Two <files>"}
    answer = send(admin, path, fields, {"a.txt": b"one\n", "C:\\fake\\b.bin": b"\0\1\2", "w.safetensors": b"12"})
    assert answer.status_code == 303
    page = admin.get(answer.headers["location"]).text
    assert "Two &lt;files&gt;" in page and "3 files changed" in page
    found = files_of(server, "demo/up", "side")
    assert found["data/new/a.txt"].content.kind == "git"
    assert found["data/new/b.bin"].content.kind == "lfs" and found["data/new/w.safetensors"].content.kind == "lfs"
    assert "data/new/a.txt" not in files_of(server, "demo/up")
    assert b"".join(server.services.storage.read(found["data/new/b.bin"].content)) == b"\0\1\2"


def test_a_licence_that_may_not_be_is_refused_with_its_clause_and_nothing_is_made(
    server: SimpleNamespace, admin: httpx.Client
) -> None:
    publish(server.services, "demo/laundry", {"a.txt": b"a"})
    card = b"---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b-hf\n---\n# Mine\n"
    answer = upload(server, "/demo/laundry/upload/main", {"README.md": card, "b.txt": b"b"}, message="Wash")
    assert answer.status_code == 403
    assert "clause" in answer.text and "may not be published under licence" in answer.text
    assert "Nothing was uploaded" in answer.text and 'value="Wash"' in answer.text
    path = "/demo/laundry/edit/main/README.md"
    answer = send(admin, path, hidden(admin, path) | {"text": card.decode()})
    assert answer.status_code == 403 and "clause" in answer.text and "base_model: meta-llama" in answer.text
    assert sorted(files_of(server, "demo/laundry")) == [".gitattributes", "a.txt"]


@pytest.mark.parametrize(
    ("files", "fields", "said"),
    [
        ({}, {}, "No file was chosen"),
        ({"a.txt": b"x"}, {"folder": "../up"}, "refused"),
        ({"a.txt": b"x"}, {"folder": ".git"}, "refused"),
        ({"\u202etxt.exe": b"x"}, {}, "invisible"),
        ({"a.txt": b"x"}, {"branch": "nowhere"}, "no branch"),
        ({"x/a.txt": b"x", "y/a.txt": b"y"}, {}, "Two of the files"),
    ],
)
def test_what_cannot_be_taken_is_told_on_the_form(
    server: SimpleNamespace, files: dict[str, bytes], fields: dict[str, str], said: str
) -> None:
    publish(server.services, "demo/told", {"keep.txt": b"kept"})
    before = files_of(server, "demo/told")
    answer = upload(server, "/demo/told/upload/main", files, **fields)
    assert answer.status_code in (400, 404) and said in answer.text and "<form" in answer.text
    assert files_of(server, "demo/told") == before


def test_a_form_is_bounded(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(server.services.settings, upload_form_bytes=1000, upload_form_files=2)
    monkeypatch.setattr(server.services, "settings", small)
    publish(server.services, "demo/bounds", {"a.txt": b"a"})
    many = {f"f{number}.txt": b"x" for number in range(3)}
    for files in ({"big.txt": b"x" * 1001}, {"huge.txt": b"x" * 2_000_000}, many):
        answer = upload(server, "/demo/bounds/upload/main", files)
        assert answer.status_code == 413 and "hf upload" in answer.text, answer.text[:300]
        assert "<form" in answer.text and "Log out" in answer.text, "it comes back on the form, to whom is logged in"
    assert upload(server, "/demo/bounds/upload/main", {"ok.txt": b"x"}, message="m" * 600_000).status_code == 413
    assert sorted(files_of(server, "demo/bounds")) == [".gitattributes", "a.txt"]


FORMS = (
    ("/demo/forms/upload/main", {"folder": "", "branch": "main"}),
    ("/demo/forms/edit/main/a.txt", {"text": "changed"}),
    ("/demo/forms/delete/main/a.txt", {}),
    ("/demo/forms/refs", {"kind": "branch", "name": "made", "start": "main"}),
    ("/demo/forms/refs/delete?ref=refs/heads/side", {}),
)


@pytest.mark.parametrize(("path", "fields"), FORMS, ids=[path for path, _ in FORMS])
def test_no_other_site_and_no_reader_changes_anything(
    server: SimpleNamespace, admin: httpx.Client, path: str, fields: dict[str, str]
) -> None:
    publish(server.services, "demo/forms", {"a.txt": b"a"})
    catalog = server.services.catalog
    model = catalog.model("demo/forms", viewer=SYSTEM)
    if all(r.name != "side" for r in catalog.refs(model).branches):
        catalog.create_branch(model, "side", actor=SYSTEM)
    state = (files_of(server, "demo/forms"), catalog.refs(model))
    full = hidden(admin, path) | fields
    files = {"new.txt": b"x"} if "upload" in path else None
    forged = full | {"form_token": "0" * 64}
    assert send(admin, path, forged, files).status_code == 403
    assert send(admin, path, {k: v for k, v in full.items() if k != "form_token"}, files).status_code == 403
    assert send(server.http, path, full, files).status_code == 403
    reader, _ = log_in(server, server.services.reader)
    with contextlib.closing(reader):
        assert reader.get(path).status_code == (200 if path.endswith("/refs") else 403)
        token = re.search(FIELD.format("form_token"), reader.get("/").text)
        assert token
        assert send(reader, path, full | {"form_token": token.group(1)}, files).status_code == 403
    assert server.http.get(path).status_code == (200 if path.endswith("/refs") else 401)
    assert (files_of(server, "demo/forms"), catalog.refs(model)) == state
    key = {"authorization": f"Bearer {server.services.key}"}
    assert server.http.post(path.split("?")[0], headers=key, files=[("a", (None, "b"))]).status_code == 403


def test_nobody_writes_in_the_namespace_of_another_user(server: SimpleNamespace) -> None:
    writer = server.services.accounts.create_token("wilma", Role.WRITE)[1]
    server.services.accounts.create_token("fred", Role.WRITE)
    publish(server.services, "fred/own", {"a.txt": b"a"})
    client, _ = log_in(server, writer)
    with contextlib.closing(client):
        answer = client.get("/fred/own/upload/main")
        assert answer.status_code == 403 and "belongs to the user" in answer.text
        assert "/fred/own/edit" not in client.get("/fred/own/blob/main/a.txt").text


def test_a_text_is_edited_and_keeps_its_line_ends(server: SimpleNamespace, admin: httpx.Client) -> None:
    publish(server.services, "demo/edit", {"unix.txt": b"\n a\n", "dos.txt": b"a\r\nb\r\n"})
    for name, typed, kept in (
        ("unix.txt", "\r\n a\r\nb", b"\n a\nb\n"),
        ("dos.txt", "a\r\nc\r\n", b"a\r\nc\r\n"),
        ("docs/new.md", "# New\r\n", b"# New\n"),
    ):
        path = f"/demo/edit/edit/main/{name}"
        answer = send(admin, path, hidden(admin, path) | {"text": typed, "message": ""})
        assert answer.status_code == 303, answer.text
        content = files_of(server, "demo/edit")[name].content
        assert b"".join(server.services.storage.read(content)) == kept
    assert "Add docs/new.md" in admin.get("/demo/edit/commits/main").text


def test_who_sends_what_is_there_already_is_not_shown_somebody_elses_commit_as_theirs(
    server: SimpleNamespace, admin: httpx.Client
) -> None:
    publish(server.services, "demo/same", {"a.txt": b"a\n"})
    again = upload(server, "/demo/same/upload/main", {"a.txt": b"a\n"})
    assert again.status_code == 400 and "nothing to commit" in again.text and "<form" in again.text
    path = "/demo/same/edit/main/a.txt"
    same = send(admin, path, hidden(admin, path) | {"text": "a\r\n"})
    assert same.status_code == 400 and "nothing to commit" in same.text


def test_two_who_edit_one_file_lose_nothing(server: SimpleNamespace, admin: httpx.Client) -> None:
    publish(server.services, "demo/both", {"a.txt": b"first\n", "b.txt": b"b\n"})
    path = "/demo/both/edit/main/a.txt"
    fields = hidden(admin, path)
    publish(server.services, "demo/both", {"a.txt": b"theirs\n"})
    answer = send(admin, path, fields | {"text": "mine"})
    assert answer.status_code == 409 and "mine" in answer.text and "somebody else" in answer.text
    gone = hidden(admin, "/demo/both/delete/main/b.txt")
    publish(server.services, "demo/both", {"b.txt": b"newer\n"})
    assert send(admin, "/demo/both/delete/main/b.txt", gone).status_code == 409
    found = files_of(server, "demo/both")
    assert b"".join(server.services.storage.read(found["a.txt"].content)) == b"theirs\n" and "b.txt" in found
    assert send(admin, path, hidden(admin, path) | {"text": "mine"}).status_code == 303


def test_large_and_binary_files_are_not_edited(server: SimpleNamespace, admin: httpx.Client) -> None:
    publish(server.services, "demo/no-edit", {"raw.txt": b"\0\1"})
    answer = admin.get("/demo/no-edit/edit/main/raw.txt")
    assert answer.status_code == 400 and "no small text" in answer.text
    assert admin.get("/demo/no-edit/edit/main/.git/config").status_code == 400


def test_a_file_is_deleted_after_a_question(server: SimpleNamespace, admin: httpx.Client) -> None:
    publish(server.services, "demo/gone", {"a.txt": b"a"})
    path = "/demo/gone/delete/main/a.txt"
    assert "Delete a.txt?" in admin.get(path).text and "a.txt" in files_of(server, "demo/gone")
    assert send(admin, path, hidden(admin, path)).status_code == 303
    assert "a.txt" not in files_of(server, "demo/gone")
    assert admin.get(path).status_code == 404


def test_branches_and_tags_are_made_and_deleted_by_writers(server: SimpleNamespace, admin: httpx.Client) -> None:
    oid = publish(server.services, "demo/refs", {"a.txt": b"a"})
    path = "/demo/refs/refs"
    for kind, name in (("branch", "try/one"), ("tag", "v1.0")):
        made = send(admin, path, hidden(admin, path) | {"kind": kind, "name": name, "start": oid, "message": "m"})
        assert made.status_code == 303
        assert name in server.http.get(path).text
        again = send(admin, path, hidden(admin, path) | {"kind": kind, "name": name, "start": "main"})
        assert again.status_code == 409 and "already" in again.text and f'value="{name}"' in again.text
    bad = send(admin, path, hidden(admin, path) | {"kind": "branch", "name": "a b", "start": "main"})
    assert bad.status_code == 404 or bad.status_code == 400
    for ref in ("refs/heads/try/one", "refs/tags/v1.0"):
        asked = f"/demo/refs/refs/delete?ref={ref}"
        fields = hidden(admin, asked)
        assert send(admin, asked, fields | {"target": "0" * 40}).status_code == 409
        assert send(admin, asked, fields).status_code == 303
    assert admin.get("/demo/refs/refs/delete?ref=refs/heads/main").status_code == 404
    assert "try/one" not in server.http.get(path).text


def test_a_lost_connection_leaves_nothing(server: SimpleNamespace, admin: httpx.Client) -> None:
    publish(server.services, "demo/lost", {"a.txt": b"a"})
    fields = hidden(admin, "/demo/lost/upload/main")
    edge = "xyz"
    part = f'--{edge}\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n{fields["form_token"]}\r\n'
    part += f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="w.bin"\r\n\r\n'
    cookie = "; ".join(f"{k}={v}" for k, v in admin.cookies.items())
    head = (
        "POST /demo/lost/upload/main HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n"
        f"Cookie: {cookie}\r\nContent-Type: multipart/form-data; boundary={edge}\r\n\r\n"
    )
    staging = server.services.settings.folder("staging")
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port)) as client:
        client.sendall((head + part).encode() + bytes(1_500_000))
        time.sleep(0.3)
    until(lambda: not list(staging.iterdir()))
    assert sorted(files_of(server, "demo/lost")) == [".gitattributes", "a.txt"]
    assert server.http.get("/").status_code == 200


def test_strangers_send_no_files_at_all(server: SimpleNamespace) -> None:
    """Somebody without a session would fill the disk with bodies that are refused at their end."""
    publish(server.services, "demo/strangers", {"a.txt": b"a"})
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port)) as client:
        head = "POST /demo/strangers/upload/main HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000000\r\n"
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())
        client.settimeout(60)
        assert client.recv(100).startswith(b"HTTP/1.1 403")


def test_forms_work_where_strangers_may_not_read(server: SimpleNamespace) -> None:
    """With ECOTONE_ANONYMOUS_READ=0 the gate leaves it to the form to say who sent it; nothing else gets past it."""
    assert (
        takes_form("/demo/x/upload/main") and takes_form("/datasets/demo/x/refs") and takes_form("/spaces/a/b/edit/m/f")
    )
    for path in (
        "/api/models/upload/x/commit/main",
        "/api/models/refs/x/commit/main",
        "/api/datasets/delete/x/commit/main",
        "/API/models/edit/x/paths-info/main",
        "/lfs/upload/upload",
        "/demo/x/git-upload-pack",
        "/demo/upload",
        "/datasets/demo/upload",
        "/demo/x/uploads/main",
        "/v1/x/upload",
    ):
        assert not takes_form(path), path
