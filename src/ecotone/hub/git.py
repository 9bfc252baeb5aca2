"""Git's smart HTTP protocol, for reading (protocol section 1.8; git's gitprotocol-http). Served by git itself.

`git upload-pack` runs as a child over a copy that holds what the repository's refs reach (`catalog.clones`); here are
the addresses, who may read, and the bounds of each request. Whoever hangs up ends the child.
"""

import asyncio
import contextlib
import os
import re
import signal
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from ecotone.catalog import Model
from ecotone.catalog.clones import ENVIRONMENT, Stopped, command, limit_memory
from ecotone.hub.endpoint import PREFIXES, Call, failed, read_body, refuse_keys
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, RepoType, TooLarge, Unavailable

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
MOST_BODY = 4 * 1024 * 1024
MOST_UNPACKED = 8 * 1024 * 1024
MOST_WAITING = 64
PATIENCE = 20.0
_PIECE = 64 * 1024
_VERSION = re.compile(r"version=[012]\Z")
_NEVER_KEPT = {"cache-control": "no-cache, max-age=0, must-revalidate", "x-content-type-options": "nosniff"}
_CROWDED = "Many clones run here just now; try again soon."
_FLUSH = b"0000"


class NoPush(Forbidden):
    """Git may read here, not write."""

    code = "no_push"

    def __init__(self) -> None:
        super().__init__(
            "This hub takes no pushes by git. Upload with `hf upload NAMESPACE/NAME FOLDER` (pip install "
            "huggingface_hub), which sends large files in parts and tells what a licence forbids."
        )


class Turns:
    """At most so many children at a time; who waits too long is sent away."""

    def __init__(self) -> None:
        self._free: asyncio.Semaphore | None = None
        self._waiting = 0

    def check(self) -> None:
        """Raises Unavailable while too many wait already."""
        if self._waiting >= MOST_WAITING:
            raise Unavailable(_CROWDED, retry_after=30)

    @contextlib.asynccontextmanager
    async def turn(self, most: int) -> AsyncIterator[None]:
        """Raises Unavailable when none becomes free in time."""
        self.check()
        if self._free is None:
            self._free = asyncio.Semaphore(most)
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable(_CROWDED, retry_after=30) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class Served(Response):
    """An ASGI answer: what `git upload-pack` says to `body`, as it says it.

    Args:
        call: the request.
        model: a repository that the caller may read.
        turns: shared by all requests.
        body: what the child reads; None to ask for its advertisement.
    """

    def __init__(self, call: Call, model: Model, turns: Turns, body: bytes | None) -> None:
        super().__init__()
        self._call, self._model, self._turns, self._body = call, model, turns, body
        self._stop = threading.Event()
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._call.services.settings
        work = asyncio.create_task(self._work(scope, receive, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({work, gone}, timeout=settings.clone_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.set()
            for task in (work, gone):
                task.cancel()
            results = await asyncio.gather(work, gone, return_exceptions=True)
        problem = results[0]
        if isinstance(problem, EcotoneError) and not self._begun:
            await told(self._call.request, problem)(scope, receive, send)
        elif isinstance(problem, Exception) and not isinstance(problem, (EcotoneError, Stopped)):
            raise problem

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._call.services
        async with self._turns.turn(services.settings.clone_workers):
            copy = services.clones.opened(self._model, self._stop)
            opening = asyncio.create_task(run_in_threadpool(copy.__enter__))
            try:
                await self._relay(await asyncio.shield(opening), send)
            finally:
                await _left(opening, copy)

    async def _relay(self, path: Path, send: Send) -> None:
        flags = ["--stateless-rpc", *(["--advertise-refs"] if self._body is None else []), "--strict"]
        child = await asyncio.create_subprocess_exec(
            *command("upload-pack", *flags, str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=ENVIRONMENT | _version(self._call.request),
            start_new_session=True,
        )
        limit_memory(child.pid, self._call.services.settings.clone_memory_bytes)
        feeding = asyncio.create_task(_feed(child, self._body or b""))
        try:
            assert child.stdout is not None
            piece = await child.stdout.read(_PIECE)
            if not piece and await child.wait() != 0:
                raise Invalid("git could not read that request; ask with a current git client.")
            await self._begin(send)
            while piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await child.stdout.read(_PIECE)
            if await child.wait() == 0 or self._body is not None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            feeding.cancel()
            await asyncio.shield(_ended(child))

    async def _begin(self, send: Send) -> None:
        self._begun = True
        kind = "advertisement" if self._body is None else "result"
        headers = {"content-type": f"application/x-{UPLOAD}-{kind}", **_NEVER_KEPT}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        if self._body is None and not _version(self._call.request).get("GIT_PROTOCOL", "").endswith("2"):
            line = f"# service={UPLOAD}\n".encode()
            head = b"%04x" % (len(line) + 4) + line + _FLUSH
            await send({"type": "http.response.body", "body": head, "more_body": True})


async def _feed(child: asyncio.subprocess.Process, body: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(ConnectionError):
        child.stdin.write(body)
        await child.stdin.drain()
    child.stdin.close()


async def _ended(child: asyncio.subprocess.Process) -> None:
    """Ends a child and those that it started, which are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.wait()


async def _left(opening: asyncio.Task[Path], copy: AbstractContextManager[Path]) -> None:
    """Leaves a copy that was opened, also by a thread that was still at it when its request ended."""
    with contextlib.suppress(Exception):
        await opening
        await run_in_threadpool(copy.__exit__, None, None, None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _version(request: Request) -> dict[str, str]:
    asked = request.headers.get("git-protocol", "")
    return {"GIT_PROTOCOL": asked} if _VERSION.match(asked) else {}


def told(request: Request, error: EcotoneError) -> Response:
    """A failure in plain text: git prints it to its user when it arrives with the first request."""
    answer = failed(request, error, request.state.actor)
    kept = {n: v for n, v in answer.headers.items() if n not in ("content-type", "content-length")}
    return Response(f"{error.message}\n", answer.status_code, headers=kept, media_type="text/plain")


def readable(call: Call) -> Model:
    """The repository, when the caller may have its files. Raises ModelNotFound or GatedRepo."""
    call.path["name"] = call.path["name"].removesuffix(".git")
    model = call.model()
    call.check_gate(model)
    return model


async def advertise(request: Request, call: Call, turns: Turns) -> Response:
    """GET /{prefix}{id}[.git]/info/refs?service=git-upload-pack"""
    service = call.query.get("service")
    if service == RECEIVE:
        raise NoPush
    if service != UPLOAD:
        raise Forbidden("This hub speaks git's smart protocol over HTTP only; use a git newer than 1.6.6.")
    return Served(call, await run_in_threadpool(readable, call), turns, None)


async def upload_pack(request: Request, call: Call, turns: Turns) -> Response:
    """POST /{prefix}{id}[.git]/git-upload-pack"""
    turns.check()
    model = await run_in_threadpool(readable, call)
    body = await read_body(request, MOST_BODY)
    if request.headers.get("content-encoding", "identity") in ("gzip", "x-gzip"):
        body = await run_in_threadpool(unpacked, body)
    return Served(call, model, turns, body)


async def receive_pack(request: Request, call: Call, turns: Turns) -> Response:
    """POST /{prefix}{id}[.git]/git-receive-pack"""
    raise NoPush


def unpacked(body: bytes) -> bytes:
    """A gzipped body.

    Raises:
        Invalid: when it is none.
        TooLarge: when it unpacks to more than is read.
    """
    reading = zlib.decompressobj(wbits=31)
    try:
        data = reading.decompress(body, MOST_UNPACKED)
    except zlib.error:
        raise Invalid("The body is not gzip, although its Content-Encoding says so.") from None
    if reading.unconsumed_tail:
        raise TooLarge(f"The body unpacks to more than {MOST_UNPACKED} bytes, the most that is read here.")
    if not reading.eof:
        raise Invalid("The body ends in the midst of its gzip stream; send it again.")
    return data


Handler = Callable[[Request, Call, Turns], Awaitable[Response]]


def handled(handler: Handler, repo_type: RepoType, turns: Turns) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint around a handler; known failures become plain text."""

    async def endpoint(request: Request) -> Response:
        try:
            refuse_keys(request.state.actor)
            return await handler(request, Call(request, repo_type), turns)
        except EcotoneError as error:
            return told(request, error)

    return endpoint


def routes() -> list[BaseRoute]:
    made: list[BaseRoute] = []
    turns = Turns()
    for repo_type, prefix in sorted(PREFIXES.items(), key=lambda p: -len(p[1])):
        start = f"/{prefix}{{namespace}}/{{name}}"
        for path, method, handler in (
            ("/info/refs", "GET", advertise),
            (f"/{UPLOAD}", "POST", upload_pack),
            (f"/{RECEIVE}", "POST", receive_pack),
        ):
            made.append(Route(start + path, handled(handler, repo_type, turns), methods=[method]))
    return made
