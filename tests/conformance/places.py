"""Three ways to one provider: directly, through bare nginx, and through Ecotone, for a client with a fixed key."""

import hashlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.running import Running, free_port, running

HERE = Path(__file__).parent
COLUMNS = ("direct", "nginx", "Ecotone")
MODEL = re.compile(r'model="([^"/]+)"|models\.(?:\w+\.)?retrieve\(\s*"([^"/]+)"')


@contextmanager
def places(folder: Path, python: Path, listing: Path, tests: list[Path], key: str) -> Iterator[dict[str, str]]:
    """Base addresses by column.

    Args:
        folder: where servers keep what they need.
        python: of the client library's environment; it runs the provider.
        listing: the library's `api.md`.
        tests: files whose model names must be callable.
        key: the text that the client sends as its key.
    """
    with ExitStack() as opened:
        provider = opened.enter_context(_provider(python, listing))
        proxy = opened.enter_context(_nginx(folder, provider))
        server = opened.enter_context(running(folder / "ecotone", LISTED_API_KEY="sk-provider"))
        _furnish(server, provider, model_names(tests), key)
        ports = dict(zip(COLUMNS, (provider, proxy, server.port), strict=True))
        yield {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}


def model_names(tests: list[Path]) -> list[str]:
    """Every model that the tests call or look up, in order."""
    texts = [file.read_text() for path in tests for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    return sorted({name for text in texts for match in MODEL.finditer(text) for name in match.groups() if name})


@contextmanager
def _provider(python: Path, listing: Path) -> Iterator[int]:
    port = free_port()
    with _child([str(python), str(HERE / "answerer.py"), str(listing), str(port)], port):
        yield port


@contextmanager
def _nginx(folder: Path, upstream: int) -> Iterator[int]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        raise FileNotFoundError("nginx is not installed; on Debian: apt-get install nginx-light")
    port, config = free_port(), folder / "nginx.conf"
    kept = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("proxy", "fastcgi", "uwsgi", "scgi", "client_body")
    )
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\nevents {{}}\n"
        f"http {{ access_log off;\n{kept}"
        f"server {{ listen 127.0.0.1:{port}; client_max_body_size 0; location / {{\n"
        f"proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_buffering off; }} }} }}\n"
    )
    with _child([program, "-c", str(config), "-p", str(folder)], port):
        yield port


@contextmanager
def _child(argv: list[str], port: int) -> Iterator[None]:
    child = subprocess.Popen(argv)
    try:
        end = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert child.poll() is None and time.monotonic() < end, f"{argv[0]} does not answer"
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait(60)


def _furnish(server: Running, provider: int, models: list[str], key: str) -> None:
    """A backend in the house, a rule that lets it pass, a route for each model, a project with the client's key."""

    def made(method: str, path: str, **body: object) -> dict[str, str]:
        answer = server.http.request(method, f"/api/ecotone/v1{path}", json=body)
        assert answer.is_success, answer.text
        told: dict[str, str] = answer.json()
        return told

    address = f"http://127.0.0.1:{provider}/v1"
    made("POST", "/backends", name="listed", url=address, key_env="LISTED_API_KEY", location="local")
    made("POST", "/rules", kind="pass_unknown", subject="backend:listed", reason="the tests' own provider")
    for model in models:
        made("PUT", f"/routes/{model}", to=[f"listed/{model}"])
    made("POST", "/projects", name="suite", mode="serve_api", purpose="commercial")
    made("POST", "/keys", project="suite", sha256=hashlib.sha256(key.encode()).hexdigest())
    _wait_until_taken(server, models[0], key)


def _wait_until_taken(server: Running, model: str, key: str) -> None:
    end = time.monotonic() + 90
    body = {"model": model, "messages": [{"role": "user", "content": "string"}]}
    while True:
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=120)
        if answer.status_code == 200:
            return
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
