"""A gateway on a real socket, in front of a fake provider that speaks OpenAI's chat completions at the wire."""

import asyncio
import hashlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop

from ecotone.gateway import Plane, Snapshot
from ecotone.gateway.snapshot import Consumer, Key, Route, RouteCandidate, Ruling, Target
from ecotone.ledger import Ledger, LedgerWriter
from ecotone.settings import Settings
from ecotone.vocabulary import Location, PersonalData, Verdict
from tests.gateway import sdk as openai_client
from tests.gateway.wires import Scene
from tests.running import KEPT
from tests.serving import Serving

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Provider:
    """Remembers what it saw; misbehaves by the model's name: refuses, fails, stalls, is slow, dies, cuts, ..."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.stopped = threading.Event()
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": "gpt-test"}]})

            def do_POST(self) -> None:
                size = self.headers.get("content-length")
                body = json.loads(self.rfile.read(int(size))) if size else {}
                provider.seen.append(body)
                provider.paths.append(self.path)
                provider.headers.append({k.lower(): v for k, v in self.headers.items()})
                model = body["model"]
                if "refuses" in model:
                    return self.answer(429, {"error": {"message": "slow down"}}, {"retry-after": "7"})
                if "quotes" in model:
                    told = f"cannot read {body['messages'][-1]['content']!r}"
                    return self.answer(400, {"error": {"message": told, "code": "context_length_exceeded"}})
                if "parrot" in model:
                    return self.parrot(model, body)
                if "overloaded" in model:
                    return self.answer(529, {"error": {"message": "overloaded"}}, {"retry-after": "99999999"})
                if "fails" in model:
                    return self.answer(500, {"error": {"message": "boom"}})
                if "key" in model:
                    return self.answer(401, {"error": {"message": "sk-upstream is wrong"}})
                if "redirects" in model:
                    return self.answer(307, {}, {"location": "http://169.254.169.254/"})
                if "stalls" in model and not body.get("stream"):
                    provider.stopped.wait(90)
                if self.path.endswith("/embeddings"):
                    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
                    return self.answer(200, {"object": "list", "data": data, "model": model, "usage": USAGE})
                text = f"You said: {body['messages'][-1]['content']}"
                if not body.get("stream"):
                    if "cuts" in model:
                        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{")
                        self.close_connection = True
                        return None
                    message = {"role": "assistant", "content": text}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    return self.answer(200, {"id": "c", "model": model, "choices": [choice], "usage": USAGE})
                return self.stream(model, text, body)

            def stream(self, model: str, text: str, body: dict[str, Any]) -> None:
                if "plain" in model:
                    return self.answer(200, {"message": "no stream today"})
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                self.close_connection = True
                if "first-error" in model:
                    return self.event({"error": {"message": f"overloaded by {text}", "code": 503}})
                if "calls" in model:
                    return self.calls(body["messages"][-1]["content"])
                if "junk" in model:
                    self.wfile.write(b"data: {not json\n\n")
                    return None
                for i in range(0, len(text), 2):
                    self.event(
                        {"choices": [{"index": 0, "delta": {"content": text[i : i + 2]}, "finish_reason": None}]}
                    )
                    if "slow" in model:
                        time.sleep(0.2)
                    if i > 5 and "dies" in model:
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return None
                    if i > 5 and "stalls" in model:
                        provider.stopped.wait(90)
                        return None
                    if i > 5 and "errs" in model:
                        self.event({"error": {"message": f"overloaded by {text}"}})
                        return None
                if "short" in model:
                    return None
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                if (body.get("stream_options") or {}).get("include_usage"):
                    self.event({"choices": [], "usage": USAGE})
                if "no-done" not in model:
                    self.wfile.write(b"data: [DONE]\n\n")
                return None

            def parrot(self, model: str, body: dict[str, Any]) -> None:
                """Says what it was sent as credentials: as an error, as one in a stream, or as an answer."""
                told = f"no such key: {self.headers['authorization']}"
                code = f"code {self.headers['authorization']}"
                error = {"error": {"message": told, "code": code, "param": told, "type": told}}
                if not body.get("stream"):
                    if "kind" in model:
                        choice = {
                            "index": 0,
                            "message": {"role": "assistant", "content": told},
                            "finish_reason": "stop",
                        }
                        return self.answer(200, {"choices": [choice]})
                    return self.answer(500 if "fails" in model else 400, error)
                self.send_response(200)
                self.send_header("connection", "close")
                self.end_headers()
                self.close_connection = True
                self.event({"choices": [{"index": 0, "delta": {"content": f"{told} "}, "finish_reason": None}]})
                return self.event(error)

            def calls(self, text: str) -> None:
                """A tool call whose arguments hold what was said, torn into pieces of three letters."""
                arguments = json.dumps({"to": text})
                head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
                calls = [head] + [
                    {"index": 0, "function": {"arguments": arguments[i : i + 3]}} for i in range(0, len(arguments), 3)
                ]
                for call in calls:
                    self.event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
                self.wfile.write(b"data: [DONE]\n\n")

            def event(self, value: dict[str, Any]) -> None:
                head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                self.wfile.write(b"data: " + json.dumps({**head, **value}).encode() + b"\n\n")
                self.wfile.flush()

            def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                for name, text in (headers or {}).items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:  # before its thread looks at the socket, which is another one behind this
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._serving = Serving(self.server)

    def stop(self) -> None:
        self.stopped.set()
        self._serving.stop()


class Fixed:
    """Snapshots made by hand."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.current = snapshot

    def start(self) -> None: ...

    def stop(self) -> None: ...


def consumer(name: str, personal: PersonalData = PersonalData.LOCAL_ONLY, *, private: bool = False) -> Consumer:
    return Consumer(name=name, use="commercial", personal_data=personal, may_call_private=private)


def snapshot(provider: Provider, dead_port: int) -> Snapshot:
    yes = Ruling(
        allowed=True,
        verdict=Verdict.ALLOW,
        message="\x01 may be called",
        reasons=({"node": "\x01", "entry": "Apache-2.0", "clause": "2", "means": "granted"},),
        knowledge_base="2026.11.24",
    )
    no = Ruling(
        allowed=False,
        verdict=Verdict.DENY,
        message="\x01 may not be called",
        reasons=({"node": "\x01", "entry": "CC-BY-NC-4.0", "clause": "2(a)(1)", "means": "not commercial"},),
        would_allow=({"change": "purpose research", "verdict": "allow"},),
        knowledge_base="2026.11.24",
    )
    out = {"legal": "free", "location": Location.EXTERNAL, "key_env": "FAKE_API_KEY"}
    local = {"legal": "free", "location": Location.LOCAL, "backend": "local", "revision": "a" * 40}
    return Snapshot(
        version=1,
        built=time.time(),
        keys={
            hashlib.sha256(f"eck_{n}".encode()).hexdigest(): Key(id=n, project=n) for n in ("shop", "masked", "house")
        },
        consumers={
            "shop": consumer("shop"),
            "masked": consumer("masked", PersonalData.PSEUDONYMISE),
            "house": consumer("house", private=True),
        },
        targets={
            # a local engine: the fake provider stands in for it over TCP
            "demo/local": Target(name="demo/local", url=provider.url, **local),
            "demo/private": Target(name="demo/private", url=provider.url, private=True, **local),
            "demo/only": Target(name="demo/only", url=provider.url, projects=("house",), **local),
            "demo/nc": Target(name="demo/nc", url=provider.url, **{**local, "legal": "nc"}),
            "demo/dead": Target(name="demo/dead", ready=False, note="failed: out of memory", **local),
        },
        backends={
            "fake": Target(name="fake", backend="fake", url=provider.url, **out),
            "gone": Target(name="gone", backend="gone", url=f"http://127.0.0.1:{dead_port}/v1", **out),
            "keyless": Target(name="keyless", backend="keyless", url=provider.url, **{**out, "key_env": "NO_API_KEY"}),
        },
        routes={
            "assistant": route("assistant", "fake/gpt-test", "demo/local"),
            "rescue": route("rescue", "gone/x", "fake/gpt-fails", "fake/gpt-test"),
            "denied": route("denied", "demo/nc"),
            "stream-rescue": route("stream-rescue", "fake/gpt-first-error", "fake/gpt-plain", "fake/gpt-test"),
            "hopeless": route("hopeless", "gone/x", "fake/gpt-refuses"),
        },
        rulings={"free|commercial": yes, "nc|commercial": no},
    )


def route(name: str, *models: str) -> Route:
    return Route(name=name, candidates=tuple(RouteCandidate(model=model) for model in models))


class House:
    """The running gateway with its provider, ledger and a client."""

    def __init__(self, folder: Path, port: int, provider: Provider, gateway: Plane, snapshots: Fixed) -> None:
        self.folder, self.port, self.provider = folder, port, provider
        self.gateway, self.snapshots = gateway, snapshots
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def post(self, model: str, text: str = "Hello", key: str = "eck_shop", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def raw(self, body: bytes, path: str = "/v1/chat/completions") -> httpx.Response:
        headers = {"authorization": "Bearer eck_shop", "content-type": "application/json"}
        return self.client.post(path, content=body, headers=headers)

    def records(self, request_id: str) -> list[dict[str, Any]]:
        return Ledger(self.folder / "ledger").find(request_id)

    def settled(self, answer: httpx.Response) -> dict[str, Any]:
        end = time.monotonic() + 90
        while time.monotonic() < end:
            found = [r for r in self.records(answer.headers["x-request-id"]) if r["kind"] == "settled"]
            if found:
                return found[0]
            time.sleep(0.02)
        raise AssertionError("the request was never settled")


@pytest.fixture(params=["connections", "asgi"])
def through(request: pytest.FixtureRequest) -> str:
    """How requests reach the gateway: by its own protocol, or through an ASGI server."""
    return str(request.param)


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> dict[str, float]:
    """Seconds that a provider may be silent: more than a busy machine takes for anything, and few where a test is about
    one that stalls; and that an engine is waited for, which a test overrides where one comes."""
    few = request.node.get_closest_marker("stalls") is not None
    provider = {"upstream_first": 4.0, "upstream_idle": 3.0} if few else {"upstream_first": 15.0, "upstream_idle": 15.0}
    return provider | {"engine_wait": 1.0}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str, patience: dict[str, float]) -> Iterator[House]:
    monkeypatch.setenv("FAKE_API_KEY", "sk-upstream-secret")
    provider = Provider()
    with socket.socket() as dead, socket.socket() as listener:
        dead.bind(("127.0.0.1", 0))
        listener.bind(("127.0.0.1", 0))
        settings = Settings(data=tmp_path, max_request_bytes=300_000, **patience)
        writer = LedgerWriter(settings.folder("ledger"), "server")
        gateway = Plane(settings, writer)
        snapshots = Fixed(snapshot(provider, dead.getsockname()[1]))
        gateway.use(snapshots)
        started, over = threading.Event(), threading.Event()

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            await gateway.start()
            if through == "asgi":
                server = uvicorn.Server(
                    uvicorn.Config(
                        gateway.asgi, log_config=None, lifespan="off", interface="asgi3", timeout_keep_alive=KEPT
                    )
                )
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                while not server.started:
                    await asyncio.sleep(0.01)
                started.set()
                await asyncio.to_thread(over.wait)
                server.should_exit = True
                await serving
            else:
                listening = await loop.create_server(gateway.connection, sock=listener)
                started.set()
                await asyncio.to_thread(over.wait)
                listening.close()
            await gateway.stop()

        def run() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert started.wait(60)
        yield House(tmp_path, listener.getsockname()[1], provider, gateway, snapshots)
        provider.stop()
        over.set()
        thread.join(60)
        assert not thread.is_alive(), "the gateway does not end"
        writer.close()


@pytest.fixture(scope="module")
def sdk() -> Iterator[openai_client.Sdk]:
    with openai_client.running() as found:
        yield found


@pytest.fixture
def scene(house: House, sdk: openai_client.Sdk) -> Iterator[Scene]:
    found = Scene(house, sdk)
    yield found
    found.stop()
