"""Logging in: who may see what, and that no other site can act in a visitor's name."""

import re
import time
from types import SimpleNamespace

import httpx

from ecotone.vocabulary import Role

ADMIN = "ect_test-administrator-token"


def log_in(server: SimpleNamespace, token: str = ADMIN, target: str = "/") -> tuple[httpx.Client, httpx.Response]:
    client = httpx.Client(base_url=server.url, timeout=120)
    form = client.get("/login").text
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', form)
    assert found
    answer = client.post("/login", data={"token": token, "form_token": found.group(1), "next": target})
    return client, answer


def test_login_shows_private_models_and_logout_hides_them(server: SimpleNamespace) -> None:
    client, answer = log_in(server, target="/demo/secret")
    assert answer.status_code == 303 and answer.headers["location"] == "/demo/secret"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and ADMIN not in cookie
    page = client.get("/demo/secret")
    assert page.status_code == 200 and "Hidden words" in page.text
    assert "demo/secret" in client.get("/?search=secret").text
    found = re.search(r'action="/logout"><input type="hidden" name="form_token" value="([0-9a-f]+)"', page.text)
    assert found
    assert client.post("/logout", data={"form_token": "0" * 64}).status_code == 303
    assert client.get("/demo/secret").status_code == 200
    client.post("/logout", data={"form_token": found.group(1)})
    assert client.get("/demo/secret").status_code == 404


def test_absent_and_private_look_the_same(server: SimpleNamespace) -> None:
    for end in ("", "/tree/main", "/blob/main/README.md", "/commits/main"):
        answers = [server.http.get(f"/demo/{name}{end}") for name in ("secret", "absent")]
        assert [a.status_code for a in answers] == [404, 404]
        shown = [a.text.replace("secret", "NAME").replace("absent", "NAME") for a in answers]
        assert shown[0] == shown[1]
    assert "demo/secret" not in server.http.get("/?search=secret").text
    assert "demo/secret" not in server.http.get("/demo").text


def test_wrong_tokens_and_keys_are_refused_and_named(server: SimpleNamespace) -> None:
    for token, said in (
        ("ect_wrong", "not known here"),
        (server.services.key, "project&#39;s key"),
        ("", "Paste a token"),
    ):
        client, answer = log_in(server, token)
        assert answer.status_code == 403 and said in answer.text
        assert "ecotone_session" not in client.cookies
        assert not token or token not in answer.text


def test_a_login_form_from_elsewhere_is_refused(server: SimpleNamespace) -> None:
    assert server.http.post("/login", data={"token": ADMIN, "form_token": "0" * 64}).status_code == 403
    assert server.http.post("/login", data={"token": ADMIN}).status_code == 403


def test_a_cookie_alone_changes_nothing(server: SimpleNamespace) -> None:
    client, _ = log_in(server)
    body = {"name": "made", "organization": "demo", "type": "model"}
    assert client.post("/api/repos/create", json=body).status_code == 401
    page = client.get("/").text
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
    assert found
    done = client.post("/api/repos/create", json=body, headers={"x-csrf-token": found.group(1)})
    assert done.status_code == 200
    client.request("DELETE", "/api/repos/delete", json=body, headers={"x-csrf-token": found.group(1)})


def test_login_goes_on_only_to_this_server(server: SimpleNamespace) -> None:
    for target in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/%5cevil.example",
        "javascript:x",
        "/login",
    ):
        _, answer = log_in(server, target=target)
        assert answer.headers["location"] == "/", target


def test_a_revoked_token_ends_its_sessions(server: SimpleNamespace) -> None:
    info, token = server.services.accounts.create_token("tom", Role.READ)
    client, answer = log_in(server, token)
    assert answer.status_code == 303 and "tom" in client.get("/").text
    server.services.accounts.revoke_token(info.id)
    deadline = time.monotonic() + 90
    while "Log out" in client.get("/").text:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_cve_2026_12772_a_cookie_holds_no_token_and_a_copy_of_it_ends_when_its_user_logs_out(
    server: SimpleNamespace,
) -> None:
    _, token = server.services.accounts.create_token("una", Role.READ)
    client, _ = log_in(server, token)
    other, _ = log_in(server, token)
    secret = client.cookies["ecotone_session"]
    assert len(secret) == 43 and secret != other.cookies["ecotone_session"], "32 random bytes, for each login others"
    stranger, _ = log_in(server)
    page = client.get("/").text
    found = re.search(r'action="/logout"><input type="hidden" name="form_token" value="([0-9a-f]+)"', page)
    assert found
    client.post("/logout", data={"form_token": found.group(1)})
    for cookie in (secret, other.cookies["ecotone_session"]):
        deadline = time.monotonic() + 90
        while "Log out" in httpx.get(server.url + "/", cookies={"ecotone_session": cookie}, timeout=120).text:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert "Log out" in stranger.get("/").text, "nobody else's session ended"
    assert log_in(server, token)[1].status_code == 303, "the token is good for another one"


def test_forged_cookies_are_nobody(server: SimpleNamespace) -> None:
    for value in ("x", "gAAAAA" + "x" * 100, "é".encode().hex() * 30):
        answer = server.http.get("/demo/secret", headers={"cookie": f"ecotone_session={value}"})
        assert answer.status_code == 404


def test_operations_are_for_administrators(server: SimpleNamespace) -> None:
    assert server.http.get("/ecotone/status").status_code == 403
    reader, _ = log_in(server, server.services.reader)
    assert reader.get("/ecotone/status").status_code == 403
    admin, _ = log_in(server)
    page = admin.get("/ecotone/status?verify=1")
    assert page.status_code == 200 and "house" in page.text and "Whole" in page.text


def test_why_shows_a_request_to_users_only(server: SimpleNamespace) -> None:
    record = {"request_id": "req-test-7", "project": "shop", "model": "demo/<x>", "decision": {"reasons": [
        {"entry": "MIT", "clause": "1", "means": "grants use", "evaluation": "true"}]}}  # fmt: skip
    server.services.ledger_writer.append("opened", record, flush=True)
    assert server.http.get("/ecotone/why/req-test-7").status_code == 403
    client, _ = log_in(server, server.services.reader)
    page = client.get("/ecotone/why/req-test-7")
    assert page.status_code == 200 and "grants use" in page.text and "demo/&lt;x&gt;" in page.text
    assert client.get("/ecotone/why/req-none").status_code == 404
    assert client.get("/ecotone/why?id=req-test-7", follow_redirects=True).status_code == 200
    assert client.get("/ecotone/why?id=../../x").status_code == 200


def test_keys_cannot_read_pages(server: SimpleNamespace) -> None:
    answer = server.http.get("/", headers={"authorization": f"Bearer {server.services.key}"})
    assert answer.status_code == 403 and "gateway" in answer.text
