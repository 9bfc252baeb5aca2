"""The whole program with the `hf` command: a person logs in, hooks are delivered over a crash, lists and gates work."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.receiver import receiving, status, until
from tests.running import ADMIN, Running, clean_environment, running

HF = Path(sys.executable).parent / "hf"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("community"), ECOTONE_WEBHOOK_ALLOW="127.0.0.1") as found:
        yield found


def hf(house: Running, home: Path, *argv: str, token: str | None = ADMIN) -> str:
    env = clean_environment(HF_ENDPOINT=house.url, HF_HOME=str(home), NO_COLOR="1", HF_HUB_DISABLE_TELEMETRY="1")
    if token:
        env["HF_TOKEN"] = token
    done = subprocess.run([HF, *argv], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (argv, done.stdout + done.stderr)
    return done.stdout


def test_a_person_logs_in_with_the_browser_and_the_terminal_goes_on(house: Running, tmp_path: Path) -> None:
    token = house.told("token", "create", "ann", "--role", "write")["token"]
    env = clean_environment(HF_ENDPOINT=house.url, HF_HOME=str(tmp_path), TERM="dumb", HF_HUB_DISABLE_TELEMETRY="1")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(HF, [str(HF), "auth", "login"], env)
    shown = ""

    def read_until(wanted: str, press: bytes = b"") -> None:
        """Reads until `wanted` is shown. A key may be pressed before the program listens, so it is pressed again."""
        nonlocal shown
        end = time.monotonic() + 120
        while not re.search(wanted, shown):
            assert time.monotonic() < end, shown
            os.write(terminal, press)
            if select.select([terminal], [], [], 1)[0]:
                try:
                    shown += os.read(terminal, 4096).decode(errors="replace")
                except OSError:  # the program has ended
                    break
        assert re.search(wanted, shown), shown

    try:
        # the client may ask how to log in first; its own choice is the browser
        read_until(r"enter the code: [A-Z]{4}-[A-Z]{4}", press=b"\r")
        address = re.search(r"http://\S+user_code=\S+", shown)
        assert address is not None
        browser = httpx.Client(base_url=house.url, follow_redirects=True)
        page = browser.get(address[0].strip())
        assert page.url.path == "/login" and "paste" in page.text.lower()
        page = browser.post("/login", data=fields(page.text) | {"token": token})
        assert page.url.path == "/login/device" and "Does your terminal show this code?" in page.text
        code = re.search(r"enter the code: (\S+)", shown)
        assert code is not None and code[1] in page.text and "write: read and write" in page.text
        done = browser.post("/login/device", data=fields(page.text) | {"act": "allow", "role": "write"})
        assert done.status_code == 200 and "Allowed." in done.text
        read_until("Login successful")
    finally:
        os.kill(pid, signal.SIGKILL) if os.waitpid(pid, os.WNOHANG)[0] == 0 else None
    assert "ann" in hf(house, tmp_path, "auth", "whoami", token=None)
    assert "ann" in hf(house, tmp_path, "auth", "list", token=None)
    hf(house, tmp_path, "repos", "create", "ann/made-after-login", token=None)
    rows = [row for row in house.told("token", "list") if row["user"] == "ann"]
    assert [bool(row["expires"]) for row in rows] == [False, True] and rows[1]["role"] == "write"
    assert (tmp_path / "token").read_text().strip() not in house.log


def fields(page: str) -> dict[str, str]:
    """The hidden fields of a page's last form."""
    form = page[page.rindex("<form class=") :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))


def test_what_happened_before_a_crash_is_told_after_it(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        running(tmp_path, ECOTONE_WEBHOOK_ALLOW="127.0.0.1", ECOTONE_WEBHOOK_PAUSE="3") as house,
    ):
        receiver.answer = status(503)
        asked = {"url": receiver.url, "watched": [{"type": "org", "name": "told"}], "domains": ["repo"], "secret": "s"}
        made = house.http.post("/api/settings/webhooks", json=asked).json()["webhook"]
        house.http.post("/api/repos/create", json={"name": "told/one"})
        receiver.bodies(1)
        house.publish("told/one", {"a.txt": b"a"})
        house.http.post("/api/repos/create", json={"name": "told/two"})
        house.kill()
        receiver.answer = status(200)
        house.start()
        house.cli("webhook", "list")
        first = receiver.got[0][1]["x-webhook-delivery"]

        def told() -> dict[str, str]:
            """The scope of each delivery, in the order in which they came first."""
            return {h["x-webhook-delivery"]: json.loads(body)["event"]["scope"] for _, h, body in receiver.got}

        until(lambda: len(told()) == 3, 200)  # up to two minutes lie between two tries
        assert [h["x-webhook-delivery"] for _, h, _ in receiver.got].count(first) >= 2
        assert list(told().values()) == ["repo", "repo.content", "repo"]
        until(lambda: {d["state"] for d in house.told("webhook", "deliveries", made["id"])} == {"delivered"})
        assert house.told("webhook", "show", made["id"])["signed"] is True
        page = house.http.get(f"/ecotone/webhooks/{made['id']}")
        assert "delivered" in page.text and "repo.content update" in page.text


def test_the_hf_command_does_collections_and_webhooks(house: Running, tmp_path: Path) -> None:
    house.http.post("/api/repos/create", json={"name": "demo/held"})
    out = hf(house, tmp_path, "collections", "create", "My models", "--namespace", "demo", "--description", "Those")
    slug = re.search(r"demo/my-models-[0-9a-f]{24}", out)
    assert slug is not None, out
    hf(house, tmp_path, "collections", "add-item", slug[0], "demo/held", "model", "--note", "good")
    whole = hf(house, tmp_path, "collections", "info", slug[0])
    item = re.search(r"[0-9a-f]{24}", whole.replace(slug[0], ""))
    assert "demo/held" in whole and item is not None
    hf(house, tmp_path, "collections", "update-item", slug[0], item[0], "--note", "better", "--position", "0")
    hf(house, tmp_path, "collections", "update", slug[0], "--title", "Ours", "--theme", "green")
    assert "Ours" in hf(house, tmp_path, "collections", "ls", "--owner", "demo")
    page = house.http.get(f"/collections/{slug[0]}").text
    assert "<h1>Ours</h1>" in page and "better" in page and "/demo/held" in page
    hf(house, tmp_path, "collections", "delete-item", slug[0], item[0])
    hf(house, tmp_path, "collections", "delete", slug[0])
    url = "https://ci.example.org/hook"
    of = ("--url", url, "--watch", "model:demo/held", "--secret", "sesame-of-the-hook")
    out = hf(house, tmp_path, "webhooks", "create", *of)
    found = re.search(r"[0-9a-f]{24}", out)
    assert found is not None
    for argv in (("ls",), ("info", found[0]), ("update", found[0], "--domain", "repo"), ("disable", found[0])):
        hf(house, tmp_path, "webhooks", *argv)
    hf(house, tmp_path, "webhooks", "enable", found[0])
    assert "sesame-of-the-hook" not in hf(house, tmp_path, "webhooks", "info", found[0], "--format", "json")
    hf(house, tmp_path, "webhooks", "delete", found[0], "--yes")
    assert house.told("webhook", "list") == []


def test_a_person_asks_for_access_on_the_page_and_an_owner_answers_there(house: Running) -> None:
    house.http.post("/api/repos/create", json={"name": "demo/gate"})
    house.publish("demo/gate", {"README.md": b"---\nlicense: mit\n---\n# Gate\n", "a.txt": b"a"})
    house.http.put("/api/models/demo/gate/settings", json={"gated": "manual"})
    reader = house.told("token", "create", "rea", "--role", "read")["token"]
    rea, owner = browser(house, reader), browser(house, ADMIN)
    assert "Ask for access" in rea.get("/demo/gate").text
    assert rea.get("/demo/gate/blob/main/a.txt").status_code == 403
    page = rea.get("/demo/gate/access")
    assert "Let somebody in" not in page.text
    assert "The owners: admin and the administrators." in page.text, "errors say that they are named here"
    form = re.search(r'name="form_token" value="([^"]+)"[^>]*><p>The owners', page.text)
    assert form is not None
    there = "/ecotone/access/models/demo/gate"
    assert rea.post(there, data={"act": "ask"}).status_code == 403, "no other site asks in somebody's name"
    asked = rea.post(there, data={"act": "ask", "form_token": form[1]})
    assert asked.status_code == 200 and "have not answered yet" in asked.text
    assert rea.post(there, data={"act": "grant", "user": "rea", "form_token": form[1]}).status_code == 403
    shown = owner.get("/demo/gate/access").text
    request = re.search(r'name="request" value="([0-9a-f]{24})"', shown)
    token = re.search(r'name="form_token" value="([^"]+)"', shown[shown.index("Let somebody in") :])
    assert request is not None and token is not None and ">rea</th>" in shown
    answer: dict[str, Any] = {"act": "accept", "request": request[1], "form_token": token[1]}
    assert owner.post(there, data=answer).status_code == 200
    assert "You are in" in rea.get("/demo/gate/access").text
    assert rea.get("/demo/gate/blob/main/a.txt").status_code == 200
    house.http.post("/api/repos/create", json={"name": "demo/hidden-gate", "private": True})
    house.http.put("/api/models/demo/hidden-gate/settings", json={"gated": "manual"})
    stranger = httpx.Client(base_url=house.url)
    seen = [stranger.get(f"/demo/{name}/access") for name in ("hidden-gate", "absent-gate")]
    assert [s.status_code for s in seen] == [404, 404]
    assert seen[0].text.replace("hidden-gate", "") == seen[1].text.replace("absent-gate", "")


def browser(house: Running, token: str) -> httpx.Client:
    """Somebody logged in with cookies alone."""
    found = httpx.Client(base_url=house.url, follow_redirects=True)
    page = found.get("/login").text
    assert found.post("/login", data=fields(page) | {"token": token}).status_code == 200
    return found
