"""Calling a backend: pooled connections, time-outs for connecting and for the first byte, errors as refusals.

Nothing of the caller's headers goes out but what is needed; redirects are not followed; the provider's key is read from
the environment at the moment of the call and stands in no message.
"""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec

from ecotone.gateway.addresses import GuardedResolver, guarded_socket
from ecotone.gateway.admission import Candidate
from ecotone.gateway.answers import Refusal
from ecotone.gateway.keys import provider_key, without_key
from ecotone.settings import Settings

PATHS = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings"}
_MOST_ERROR = 64 * 1024
_MOST_LIST = 4 * 1024 * 1024
_MOST_LISTED = 50_000
_MOST_WAIT = 3600
_OWN_FAULT = {400, 404, 409, 413, 415, 422}
_BUSY = {503, 529}
_CODE = re.compile(r"[A-Za-z][A-Za-z_.-]{1,63}")


class Upstreams:
    """Client sessions: one for the network, one for each engine's socket."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._network: aiohttp.ClientSession | None = None
        self._engines: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        sessions = [s for s in (self._network, *self._engines.values()) if s is not None]
        self._network, self._engines = None, {}
        for session in sessions:
            await session.close()

    def keep_only(self, sockets: set[str]) -> None:
        """Forget sessions of engines that are gone."""
        for path in [p for p in self._engines if p not in sockets]:
            session = self._engines.pop(path)
            asyncio.get_running_loop().create_task(session.close())

    async def send(self, candidate: Candidate, face: str, body: bytes) -> aiohttp.ClientResponse:
        """The upstream's answer, its head read.

        Raises:
            Refusal: with `retry` set when another candidate may be tried.
        """
        session, url = self._place(candidate, PATHS[face])
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        headers |= self._credentials(candidate)
        name = candidate.target.backend
        try:
            async with asyncio.timeout(self._settings.upstream_first):
                answer = await _posted(session, url, body, headers)
        except TimeoutError:
            raise Refusal(
                504, "upstream_timeout", f"The backend {name} did not begin to answer in time; try again.", retry=True
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            word = type(error).__name__
            raise Refusal(
                502,
                "upstream_unreachable",
                f"The backend {name} cannot be reached ({word}); try again later.",
                retry=True,
            ) from None
        if answer.status != 200:
            raise await self._refused(answer, name, provider_key(candidate.target.key_env))
        return answer

    async def models(self, url: str, key_env: str | None) -> list[str]:
        """Names of a provider's models; empty when it does not tell within three seconds."""
        try:
            async with (
                asyncio.timeout(3),
                self._session().get(f"{url}/models", headers=_bearer(key_env), allow_redirects=False) as answer,
            ):
                raw = await _read(answer, _MOST_LIST) if answer.status == 200 else b"{}"
            found = msgspec.json.decode(raw) if raw.count(b"{") + raw.count(b"[") < _MOST_LISTED else {}
            data = found.get("data") if isinstance(found, dict) else None
            names = [m.get("id") for m in data or () if isinstance(m, dict)] if isinstance(data, list) else []
            key = provider_key(key_env)
            return [n for n in names if isinstance(n, str) and n and without_key(n, key) == n][:500]
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return []

    def _place(self, candidate: Candidate, path: str) -> tuple[aiohttp.ClientSession, str]:
        target = candidate.target
        if target.socket is None:
            if target.url is None:
                raise Refusal(
                    503,
                    "engine_not_ready",
                    f"The engine of {candidate.name} is not ready ({target.note}); `ecotone ps` shows its state.",
                    headers={"retry-after": "5"},
                    retry=True,
                )
            return self._session(), f"{target.url}/{path}"
        found = self._engines.get(target.socket)
        if found is None:
            connector = aiohttp.UnixConnector(path=target.socket, limit=0)
            found = self._engines[target.socket] = self._made(connector)
        return found, f"http://engine/v1/{path}"

    def _session(self) -> aiohttp.ClientSession:
        if self._network is None:
            connector = aiohttp.TCPConnector(
                limit=0, limit_per_host=0, ttl_dns_cache=60, resolver=GuardedResolver(), socket_factory=guarded_socket
            )
            self._network = self._made(connector)
        return self._network

    def _made(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.upstream_connect)
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": "ecotone", "accept-encoding": "identity"},
            trace_configs=[tracing],
            auto_decompress=True,
            read_bufsize=256 * 1024,
        )

    @staticmethod
    def _credentials(candidate: Candidate) -> dict[str, str]:
        variable = candidate.target.key_env
        found = _bearer(variable)
        if variable is not None and not found:
            raise Refusal(
                503,
                "backend_without_key",
                f"The backend {candidate.target.backend} has no key: set {variable} in the server's environment and "
                "start it again.",
                retry=True,
            )
        return found

    @staticmethod
    async def _refused(answer: aiohttp.ClientResponse, name: str, key: str) -> Refusal:
        """The upstream's error as ours; what it says about our own credentials is not passed on, nor the key itself."""
        try:
            async with asyncio.timeout(10):
                raw = await _read(answer, _MOST_ERROR)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raw = b""
        finally:
            answer.close()
        told = _error(raw, key)
        text = told.get("message", "")
        after = answer.headers.get("retry-after", "")
        wait = {"retry-after": str(min(int(after), _MOST_WAIT)) if after.isdecimal() and len(after) < 9 else "1"}
        if answer.status == 429:
            text = f"The backend {name} limits its rate: {text or 'try again later'}"
            return Refusal(429, "rate_limit_exceeded", text, headers=wait, retry=True)
        if answer.status in (401, 403):
            text = (
                f"The backend {name} refused the server's own key ({answer.status}); an administrator must look at it."
            )
            return Refusal(502, "backend_refused_key", text, retry=True)
        if answer.status in _OWN_FAULT:
            code = told.get("code") or "upstream_refused"
            return Refusal(
                answer.status, code, text or f"The backend {name} refused the request.", param=told.get("param")
            )
        text = f"The backend {name} failed ({answer.status}){': ' + text if text else ''}."
        if answer.status in _BUSY:
            return Refusal(503, "upstream_busy", text, headers=wait, retry=True)
        return Refusal(502, "upstream_failed", text, retry=True)


async def _posted(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]
) -> aiohttp.ClientResponse:
    """Post; once more when a kept connection turns out to have been closed by the other side before it took a byte."""
    trace: dict[str, bool] = {}
    try:
        return await session.post(url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=trace)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        if not trace.get("reused"):
            raise
    return await session.post(url, data=body, headers=headers, allow_redirects=False)


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    if isinstance(context.trace_request_ctx, dict):
        context.trace_request_ctx["reused"] = True


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, as much of it as is bearable."""
    raw = b""
    while len(raw) < most and (piece := await answer.content.read(most - len(raw))):
        raw += piece
    return raw


def _bearer(variable: str | None) -> dict[str, str]:
    key = provider_key(variable)
    return {"authorization": f"Bearer {key}"} if key else {}


def _error(raw: bytes, key: str) -> dict[str, str]:
    """Message, code and param of an error body, as far as it has them; a code is a word, as it enters records."""
    try:
        body: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return {}
    most = {"message": 500, "code": 64, "param": 100}
    told = {k: without_key(v, key)[:n] for k, n in most.items() if isinstance(v := error.get(k), str)}
    if not _CODE.fullmatch(told.get("code", "")):
        told.pop("code", None)
    return told
