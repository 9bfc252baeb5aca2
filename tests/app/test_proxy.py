"""Behind a real nginx with the configuration of `deploy/`: https, a path prefix, unmodified clients."""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.running import ADMIN, Running, free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
CARD = b"---\nlicense: apache-2.0\n---\n# A model\n\n[more](more.md) ![picture](p.png)\n"
MIB = 1024 * 1024
TOOLS = ("nginx", "openssl")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """`.url` as clients know it, `.running` the server behind it, `.env` of a client that trusts its certificate."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")
    folder = tmp_path_factory.mktemp("site")
    port = free_port()
    url = f"https://localhost:{port}/hub"
    authority, pem, key = certificate(folder)
    found = Running(folder / "server", ECOTONE_PUBLIC_URL=url, ECOTONE_TRUSTED_PROXIES="127.0.0.1")
    found.start()
    proxy = nginx(folder, configured(port, found.port, pem, key))
    env = {k: v for k, v in found.env.items() if not k.startswith("ECOTONE_")}
    env |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(authority))
    env |= {"HF_ENDPOINT": url, "HF_TOKEN": ADMIN, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    with httpx.Client(verify=trusting(authority), headers={"authorization": f"Bearer {ADMIN}"}, timeout=60) as http:
        wait_for(http, url + "/health", proxy)
        yield SimpleNamespace(url=url, running=found, env=env, http=http, authority=authority, folder=folder, port=port)
    proxy.send_signal(signal.SIGQUIT)
    proxy.wait(60)
    found.http.close()
    found.stop()


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate authority, and what it signed for the site: authority, certificate, key."""
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    pem, key, request, more = (folder / f"site.{end}" for end in ("pem", "key", "csr", "ext"))
    more.write_text(
        "subjectAltName=DNS:localhost,DNS:hub.example\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
    )

    def openssl(*argv: str | Path) -> None:
        subprocess.run(["openssl", *argv], check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes", "-subj")
    may_sign = ("-addext", "keyUsage=critical,keyCertSign", "-days", "2")
    openssl("req", "-x509", *new, "/CN=Test authority", *may_sign, "-keyout", authority_key, "-out", authority)
    openssl("req", *new, "/CN=localhost", "-keyout", key, "-out", request)
    signing = ("-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", "2", "-extfile", more)
    openssl("x509", "-req", "-in", request, *signing, "-out", pem)
    return authority, pem, key


def configured(port: int, behind: int, pem: Path, key: Path) -> str:
    """The file of `deploy/` with this test's port, addresses and certificate in it, and nothing else changed."""
    text = CONFIGURATION.read_text()
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("server 127.0.0.1:7070;", f"server 127.0.0.1:{behind};"),
        ("server_name hub.example;", "server_name localhost hub.example;"),
        ("/etc/ssl/certs/hub.example.pem", str(pem)),
        ("/etc/ssl/private/hub.example.key", str(key)),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, site: str) -> "subprocess.Popen[bytes]":
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = folder / "nginx.conf"
    whole.write_text(
        f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx-error.log warn;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{site}\n}}\n"
    )
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert binary is not None
    return subprocess.Popen([binary, "-p", str(folder), "-c", str(whole)])


def wait_for(http: httpx.Client, url: str, proxy: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and proxy.poll() is None:
        try:
            if http.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError("nginx does not pass requests on")


def publish(site: SimpleNamespace, repo: str, files: dict[str, bytes]) -> None:
    assert site.http.post(site.url + "/api/repos/create", json={"name": repo}).status_code == 200
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "Add"}}]
    for path, data in files.items():
        value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    answer = site.http.post(
        f"{site.url}/api/models/{repo}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"content-type": "application/x-ndjson"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["commitUrl"].startswith(f"{site.url}/{repo}/commit/")


def trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def python(site: SimpleNamespace, code: str, *argv: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=site.env | env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


ROUND = """
import hashlib, os, sys
from huggingface_hub import CommitOperationAdd, HfApi
name, home = sys.argv[1:]
api = HfApi()
repo = f"proxied/{name}"
url = api.create_repo(repo)
data = os.urandom(12 * 1024 * 1024)
commit = api.create_commit(
    repo, [CommitOperationAdd("big.bin", data), CommitOperationAdd("README.md", b"# x")], commit_message="Add"
)
assert open(api.hf_hub_download(repo, "big.bin", cache_dir=home), "rb").read() == data
folder = api.snapshot_download(repo, cache_dir=home + "2")
assert open(folder + "/big.bin", "rb").read() == data
print(url)
print(commit.commit_url)
"""


@pytest.mark.parametrize("xet", ["on", "off"])
def test_the_python_client_uploads_and_downloads_through_the_prefix(site: SimpleNamespace, xet: str) -> None:
    off = {} if xet == "on" else {"HF_HUB_DISABLE_XET": "1"}
    told = python(site, ROUND, f"round-{xet}", str(site.folder / f"cache-{xet}"), **off).split()
    assert told[0] == f"{site.url}/proxied/round-{xet}"
    assert told[1].startswith(f"{site.url}/proxied/round-{xet}/commit/")
    assert site.http.get(told[1]).status_code == 200
    stored = site.running.http.get("/metrics").text
    kind = "xet" if xet == "on" else "lfs"
    assert re.search(rf'ecotone_received_bytes_total{{face="{kind}"}} 1\.\d+e\+07', stored), (
        "the bytes went another way"
    )


def test_ecotones_own_command_reaches_a_site_whose_certificate_the_house_signed(site: SimpleNamespace) -> None:
    """An administrator beside the proxy could use no command at all, and was told to start a server."""
    env = {"ECOTONE_URL": site.url, "ECOTONE_TOKEN": ADMIN, "SSL_CERT_FILE": str(site.authority)}
    listed = site.running.cli("token", "list", env=env)
    assert listed.returncode == 0 and "admin" in listed.stdout, listed.stderr
    strange = site.running.cli("token", "list", env=env | {"SSL_CERT_FILE": ""})
    assert strange.returncode == 1 and "not trusted" in strange.stderr and "SSL_CERT_FILE" in strange.stderr
    absent = site.running.cli("token", "list", env=env | {"SSL_CERT_FILE": "absent.pem"})
    assert absent.returncode == 1 and "cannot be read" in absent.stderr and "Traceback" not in absent.stderr


def test_the_command_line_uploads_and_downloads(site: SimpleNamespace, tmp_path: Path) -> None:
    hf = Path(sys.executable).parent / "hf"
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(secrets.token_bytes(11 * MIB))
    (source / "README.md").write_bytes(CARD)
    for argv in (
        ["upload", "proxied/cli", str(source)],
        ["download", "proxied/cli", "--local-dir", str(tmp_path / "got")],
    ):
        done = subprocess.run([hf, *argv], env=site.env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "got" / "a.bin").read_bytes() == (source / "a.bin").read_bytes()


def test_every_address_in_an_answer_is_the_public_one(site: SimpleNamespace) -> None:
    """An address without the prefix, or of the server behind, leads a client nowhere."""
    http, url = site.http, site.url
    assert http.post(url + "/api/repos/create", json={"name": "proxied/addresses"}).json()["url"].startswith(url)
    body = {"operation": "upload", "objects": [{"oid": hashlib.sha256(b"x").hexdigest(), "size": 1}]}
    batch = http.post(url + "/proxied/addresses.git/info/lfs/objects/batch", json=body).json()
    assert all(a["href"].startswith(url + "/lfs/") for a in batch["objects"][0]["actions"].values())
    token = http.get(url + "/api/models/proxied/addresses/xet-write-token/main")
    assert token.json()["casUrl"].startswith(url + "/cas/")
    listed = http.get(url + "/api/models?limit=1")
    assert f"<{url}/api/models?" in listed.headers["link"], dict(listed.headers)
    assert http.get(url + "/api/ecotone/v1/openapi.json").json()["servers"] == [{"url": url}]
    data = secrets.token_bytes(11 * MIB)
    python(site, ROUND.replace("12 * 1024", "11 * 1024"), "told", str(site.folder / "cache-told"))
    head = http.head(url + "/proxied/told/resolve/main/big.bin")
    for link in re.findall(r"<([^>]+)>", head.headers.get("link", "")):
        assert link.startswith(url), link
    if "location" in head.headers:
        assert urljoin(url, head.headers["location"]).startswith(url)
    assert len(data)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {v for n, v in attrs if v and n in ("href", "src", "action")}


def links(page: httpx.Response) -> set[str]:
    found = Links()
    found.feed(page.text)
    return {urljoin(str(page.url), link).split("#")[0] for link in found.found}


def test_no_link_of_any_page_leaves_the_prefix(site: SimpleNamespace) -> None:
    """From the front page on, as far as links lead: each answers, none leads out."""
    publish(site, "proxied/pages", {"README.md": CARD, "more.md": b"# more", "p.png": b"\x89PNG", "a/b.txt": b"b"})
    start = [f"{site.url}/", f"{site.url}/proxied/pages", f"{site.url}/ecotone/status", f"{site.url}/login"]
    seen, todo, outside = set(), list(start), set()
    while todo and len(seen) < 120:
        url = todo.pop(0)
        if url in seen or url.endswith("/logout"):  # which takes a form alone
            continue
        seen.add(url)
        page = site.http.get(url)
        assert page.status_code in (200, 405), (url, page.status_code)
        if page.headers.get("content-type", "").startswith("text/html"):
            for link in sorted(links(page)):
                if link.startswith(site.url + "/"):
                    todo.append(link) if "proxied" in link or "/static/" in link or len(seen) < 60 else None
                elif "localhost" in link or link.startswith("/"):
                    outside.add((url, link))
    assert not outside
    assert any("/static/" in url for url in seen) and any("/blob/" in url for url in seen)


def test_redirects_stay_below_the_prefix(site: SimpleNamespace) -> None:
    base = site.url.removesuffix("/hub")
    for path in ("/hub", "/hub/models/", "/hub/proxied/", "/hub/ecotone/licences/"):
        answer = site.http.get(base + path)
        if answer.is_redirect:
            assert urljoin(base, answer.headers["location"]).startswith(site.url + "/"), (path, answer.headers)
        final = site.http.get(base + path, follow_redirects=True)
        assert final.status_code in (200, 404) and str(final.url).startswith(site.url + "/"), path


def test_the_login_cookie_is_for_the_prefix_and_https_alone(site: SimpleNamespace) -> None:
    with httpx.Client(verify=trusting(site.authority), timeout=120) as http:
        form = http.get(site.url + "/login")
        token = re.search(r'name="form_token" value="([^"]+)"', form.text)
        assert token is not None
        answer = http.post(
            site.url + "/login", data={"form_token": token[1], "token": ADMIN, "next": "/ecotone/status"}
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/hub/ecotone/status")
        cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("ecotone_session"))
        assert "path=/hub" in cookie.lower() and "secure" in cookie.lower() and "httponly" in cookie.lower()
        page = http.get(site.url + "/ecotone/status")
        assert page.status_code == 200 and "Log out" in page.text


def test_git_and_lfs_addresses_of_a_clone_answer(site: SimpleNamespace) -> None:
    publish(site, "proxied/git", {"README.md": CARD})
    for path in ("/proxied/git", "/proxied/git.git"):
        body = {"operation": "download", "objects": []}
        answer = site.http.post(f"{site.url}{path}/info/lfs/objects/batch", json=body)
        assert answer.status_code == 200, (path, answer.text)


def test_only_the_public_name_and_our_own_are_answered(site: SimpleNamespace) -> None:
    for host, status in ((f"localhost:{site.port}", 200), ("evil.example", 421)):
        assert site.http.get(site.url + "/health", headers={"host": host}).status_code == status, host


def test_a_public_name_is_answered_and_others_are_not(tmp_path: Path) -> None:
    found = Running(tmp_path, ECOTONE_PUBLIC_URL="https://hub.example/hub")
    try:
        found.start()
        for host, status in (("hub.example", 200), ("hub.example.evil", 421), ("other.example", 421)):
            assert httpx.get(found.url + "/hub/health", headers={"host": host}).status_code == status
    finally:
        found.http.close()
        found.stop()


def test_metrics_do_not_pass_the_proxy_and_its_word_is_not_taken_for_loopback(site: SimpleNamespace) -> None:
    assert site.http.get(site.url + "/metrics").status_code == 404
    assert httpx.get(site.running.url + "/metrics").status_code == 401, "behind a proxy all seem to come from loopback"
    assert httpx.get(site.running.url + "/health/ready").status_code == 200


def test_a_large_upload_is_passed_on_as_it_comes(site: SimpleNamespace) -> None:
    """A proxy that first collects the body would make the server see nothing until the end."""
    publish(site, "proxied/stream", {"README.md": CARD})
    data = secrets.token_bytes(4 * MIB)
    body = {"operation": "upload", "objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}]}
    batch = site.http.post(site.url + "/proxied/stream.git/info/lfs/objects/batch", json=body).json()
    seen: list[float] = []

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), MIB):
            yield data[start : start + MIB]
            if start == 2 * MIB:
                end = time.monotonic() + 90
                while (arrived := received(site)) - before < 2 * MIB and time.monotonic() < end:
                    time.sleep(0.05)
                seen.append(arrived)

    before = received(site)
    href = batch["objects"][0]["actions"]["upload"]["href"]
    answer = site.http.put(href, content=pieces(), headers={"content-length": str(len(data))})
    assert answer.status_code == 200
    assert seen[0] - before >= 2 * MIB


def received(site: SimpleNamespace) -> float:
    text = site.running.http.get("/metrics").text
    found: Any = re.search(r'ecotone_received_bytes_total{face="lfs"} (\S+)', text)
    return float(found[1])
