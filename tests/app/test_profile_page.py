"""The organisation is asked who it is, also where nobody reads without an account."""

import re
from pathlib import Path

import httpx

from tests.running import ADMIN, running


def token(page: httpx.Response, action: str) -> str:
    found = re.search(rf'action="{action}">\s*<input type="hidden" name="form_token" value="([0-9a-f]+)"', page.text)
    assert found, page.text[:2000]
    return found[1]


def test_the_profile_is_asked_at_the_first_start_and_told_on_a_page_behind_a_login(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_ANONYMOUS_READ="0") as server, httpx.Client(base_url=server.url) as browser:
        assert "/ecotone/profile" in server.log and "ecotone profile set" in server.log
        form = {"form_token": token(browser.get("/login"), "/login"), "token": ADMIN, "next": "/ecotone/profile"}
        assert browser.post("/login", data=form).headers["location"] == "/ecotone/profile"
        page = browser.get("/ecotone/profile")
        told = {"form_token": token(page, "/ecotone/profile"), "users": "1200", "mau.2024-06": "900"}
        with httpx.Client(base_url=server.url) as stranger:
            assert stranger.post("/ecotone/profile", data=told).status_code == 403
            assert stranger.get("/ecotone/profile").headers["location"].startswith("/login")
        assert browser.post("/ecotone/profile", data=told).status_code == 303
        assert server.told("profile", "show")["profile"]["mau_at"] == {"2024-06": 900}
        server.stop()
        server.start()
        assert server.told("profile", "show")["updated_by"] == "admin"
        assert server.log.count("ecotone profile set") == 1, "asked once"
