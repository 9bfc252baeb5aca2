"""A hub that answers to known users only: git asks for a login, and forms of pages still reach their page."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.running import ADMIN, Running, running


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("closed"), ECOTONE_ANONYMOUS_READ="0") as server:
        server.publish("team/notes", {"notes.txt": b"words\n"})
        yield server


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git: apt-get install git")
@pytest.mark.parametrize("suffix", ["", ".git"])
def test_git_is_asked_for_a_login_and_clones_with_it(closed: Running, tmp_path: Path, suffix: str) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}

    def clone(url: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["git", "clone", f"{url}/team/notes{suffix}", "out"], env=env, cwd=tmp_path, capture_output=True, text=True
        )

    asked = clone(closed.url)
    assert asked.returncode != 0 and "could not read Username" in asked.stderr
    assert httpx.post(f"{closed.url}/team/notes{suffix}/git-upload-pack").status_code == 401
    done = clone(closed.url.replace("http://", f"http://user:{ADMIN}@"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "notes.txt").read_text() == "words\n"
    wrong = httpx.get(f"{closed.url}/team/notes{suffix}/info/refs?service=git-upload-pack", auth=("user", "ect_wrong"))
    assert wrong.status_code == 401 and wrong.headers["www-authenticate"].startswith("Basic")


def test_a_form_is_taken_from_a_session_and_from_nobody_else(closed: Running) -> None:
    with httpx.Client(base_url=closed.url) as browser:
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', browser.get("/login").text)
        assert token
        browser.post("/login", data={"token": ADMIN, "form_token": token.group(1), "next": "/"})
        form = browser.get("/team/notes/upload/main").text.split('class="write"')[1]
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', form)
        assert token
        parts = [("form_token", (None, token.group(1))), ("files", ("new.txt", b"new\n", "text/plain"))]
        done = browser.post("/team/notes/upload/main", files=parts)
        assert done.status_code == 303 and "/commit/" in done.headers["location"]
    assert httpx.post(f"{closed.url}/team/notes/upload/main", files=parts).status_code == 403
    assert closed.http.get("/team/notes/resolve/main/new.txt").text == "new\n"
