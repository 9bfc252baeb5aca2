"""What stands behind a relay: how it is started, watched, asked and ended. One subclass for each make."""

import abc
import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from ecotone.settings.addresses import is_forbidden

_CONNECT_SECONDS = 10.0
_ASK_SECONDS = 10.0
_LARGEST_TOLD = 4 * 1024 * 1024  # of what we ask for ourselves: lists of models, figures


class Fault(Exception):
    """An answer of our own: the call could not be passed on.

    Args:
        status: HTTP status.
        again: whether the same call may be sent once more, as nothing of an answer has come.
    """

    def __init__(self, message: str, *, status: int = 502, code: str = "engine_unreachable", again: bool = False):
        super().__init__(message)
        self.message, self.status, self.code, self.again = message, status, code, again

    def body(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}


class Ended(Exception):
    """The engine ended before it could answer, or went wrong in a way that a new start may mend; how."""


class Far(abc.ABC):
    """An engine of another make.

    Args:
        spec: of the relay's process: `model`, `revision`, `options` and what the kind adds.
    """

    kind = ""
    dialect = "openai"
    attempts = 1
    """How often a call is sent while nothing of an answer has come."""
    speaks_ours = False
    """Whether behind it is an engine of ours, which answers tasks itself."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.model: str = spec["info"]["model"]
        self.revision: str = spec["info"]["revision"]
        self.options: Mapping[str, Any] = spec.get("options") or {}
        self.arguments: Mapping[str, str] = self.options.get("arguments") or {}
        self.progress: Callable[[str], None] = lambda _phase: None
        """Told what is done while it starts."""
        self.base = "http://engine"
        """Address in front of `/v1/...`, without a slash at its end."""
        self.headers: dict[str, str] = {}
        self.name: str = self.model
        """What the engine calls the model."""
        self.adapters: dict[str, dict[str, Any]] = {}
        self.running = 0
        """Calls that wait for the engine or for the end of its answer; `served` are those that are over."""
        self.served = 0
        self.session: aiohttp.ClientSession | None = None

    # -- life --------------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    async def start(self) -> dict[str, Any]:
        """Begin, and return what is known of the model once it answers.

        Raises:
            Unloadable: it never will, and why.
            Ended: it did not this time, and how.
        """

    @abc.abstractmethod
    async def well(self) -> bool:
        """Whether it can answer now."""

    async def ended(self) -> str:
        """Returns when the engine has ended or hangs for good, with how."""
        await asyncio.Event().wait()
        return ""

    async def stop(self, seconds: float) -> None:
        """End what was started here; calls have been answered, or their time is over."""
        if self.session is not None:
            await self.session.close()

    def open(self, *, unix: str | None = None) -> None:
        """Make ready to ask, over a Unix socket or the network."""
        connector = (
            aiohttp.UnixConnector(unix, limit=0) if unix else aiohttp.TCPConnector(limit=0, resolver=_Resolver())
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            skip_auto_headers=("user-agent", "accept-encoding"),
            trust_env=False,
        )

    # -- calls -------------------------------------------------------------------------------------------------------
    def known(self, name: str | None) -> str:
        """The engine's own name for a model of a body.

        Raises:
            Fault: it is neither the model nor a loaded adapter; another never answers in its place.
        """
        if name in (None, self.model, f"{self.model}@{self.revision}"):
            return self.name
        if name is not None and name in self.adapters:
            return name
        raise Fault(f"The model {name!r} is not served here; {self.model!r} is.", status=404, code="model_not_found")

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self.served += 1

    @contextlib.asynccontextmanager
    async def call(
        self, path: str, body: bytes | None, headers: Mapping[str, str] | None = None, seconds: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one call, its head read.

        Raises:
            Fault: there is none.
        """
        assert self.session is not None
        sent = {"content-type": "application/json", **(headers or {}), **self.headers}
        try:
            async with self.session.request(
                "GET" if body is None else "POST",
                self.base + path,
                data=body,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS),
            ) as answer:
                yield answer
        except TimeoutError:
            raise Fault("The engine did not answer in time.", status=504, code="engine_timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Fault(
                f"The engine ended before it answered ({type(error).__name__}); try again.", status=503, again=True
            ) from None

    async def ask(self, path: str, value: Any = None, seconds: float = _ASK_SECONDS) -> tuple[int, bytes]:
        """Status and body of a question of our own. Raises Fault."""
        body = None if value is None else json.dumps(value).encode()
        async with self.call(path, body, seconds=seconds) as answer:
            return answer.status, await whole(answer, _LARGEST_TOLD)

    # -- adapters ----------------------------------------------------------------------------------------------------
    async def load_adapter(self, name: str, folder: str) -> None:
        """Make an adapter callable by its name.

        Raises:
            Fault: it cannot be, and why.
        """
        raise Fault(
            f"Engines of kind {self.kind} take no adapters while they run; deploy it as a model of its own.",
            status=400,
            code="adapters_unsupported",
        )

    async def drop_adapter(self, name: str) -> None:
        """Take an adapter away. Raises Fault."""
        raise Fault(f"No adapter {name!r} is loaded.", status=404, code="adapter_not_found")

    async def figures(self) -> dict[str, Any]:
        """Throughput and memory, as far as the engine tells."""
        return {}


class _Resolver(ThreadedResolver):
    """Looks up names, and leaves out addresses that no request may go to, wherever a name leads by now."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = [told for told in await super().resolve(host, port, family) if not is_forbidden(told["host"])]
        if not found:
            raise OSError(None, f"the name {host} leads to an address that no request may go to")
        return found


async def whole(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The answer's body. Raises Fault when it is larger than the limit."""
    data = bytearray()
    async for piece in answer.content.iter_any():
        data += piece
        if len(data) > limit:
            raise Fault(f"The engine's answer is larger than {limit} bytes.", code="answer_too_large")
    return bytes(data)


async def first_answer(far: Far, path: str, seconds: float) -> tuple[int, bytes]:
    """The first answer at a path, waited for up to some seconds.

    Raises:
        Ended: nothing answers.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await far.ask(path)
        except Fault as fault:
            if asyncio.get_running_loop().time() > end:
                raise Ended(f"{far.base} does not answer: {fault.message}") from None
            await asyncio.sleep(0.3)
