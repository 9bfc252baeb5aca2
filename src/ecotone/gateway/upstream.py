"""Calling a backend: pooled connections, time-outs for connecting and for the first byte, errors as refusals.

Nothing of the caller's headers goes out but what is needed; redirects are not followed; the provider's key is read from
the environment at the moment of the call and stands in no message.
"""

import asyncio
import os
from typing import Any

import aiohttp
import msgspec

from ecotone.gateway.admission import Candidate
from ecotone.gateway.answers import Refusal
from ecotone.settings import Settings

PATHS = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings"}
_MOST_ERROR = 64 * 1024
_OWN_FAULT = {400, 404, 409, 413, 415, 422}


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
                answer = await session.post(url, data=body, headers=headers, allow_redirects=False)
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
            raise await self._refused(answer, name)
        return answer

    async def models(self, url: str, key_env: str | None) -> list[str]:
        """Names of a provider's models; empty when it does not tell within three seconds."""
        key = os.environ.get(key_env or "", "")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with asyncio.timeout(3), self._session().get(f"{url}/models", headers=headers) as answer:
                found = await answer.json(content_type=None) if answer.status == 200 else {}
            data = found.get("data") if isinstance(found, dict) else None
            return [str(m["id"]) for m in data or [] if isinstance(m, dict) and "id" in m][:500]
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
            self._network = self._made(aiohttp.TCPConnector(limit=0, limit_per_host=0, ttl_dns_cache=60))
        return self._network

    def _made(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.upstream_connect)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            read_bufsize=256 * 1024,
        )

    @staticmethod
    def _credentials(candidate: Candidate) -> dict[str, str]:
        variable = candidate.target.key_env
        if variable is None:
            return {}
        key = os.environ.get(variable)
        if not key:
            raise Refusal(
                503,
                "backend_without_key",
                f"The backend {candidate.target.backend} has no key: set {variable} in the server's environment and "
                "start it again.",
                retry=True,
            )
        return {"authorization": f"Bearer {key}"}

    @staticmethod
    async def _refused(answer: aiohttp.ClientResponse, name: str) -> Refusal:
        """The upstream's error as ours; what it says about our own credentials is not passed on."""
        try:
            async with asyncio.timeout(10):
                raw = await answer.content.read(_MOST_ERROR)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raw = b""
        finally:
            answer.close()
        told = _message(raw)
        if answer.status == 429:
            after = answer.headers.get("retry-after", "1")
            headers = {"retry-after": after if after.isdigit() else "1"}
            text = f"The backend {name} limits its rate: {told or 'try again later'}"
            return Refusal(429, "rate_limit_exceeded", text, headers=headers, retry=True)
        if answer.status in (401, 403):
            text = (
                f"The backend {name} refused the server's own key ({answer.status}); an administrator must look at it."
            )
            return Refusal(502, "backend_refused_key", text, retry=True)
        if answer.status in _OWN_FAULT:
            return Refusal(answer.status, "upstream_refused", told or f"The backend {name} refused the request.")
        text = f"The backend {name} failed ({answer.status}){': ' + told if told else ''}."
        return Refusal(502, "upstream_failed", text, retry=True)


def _message(raw: bytes) -> str:
    try:
        body: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    told = error.get("message") if isinstance(error, dict) else error
    return str(told)[:500] if told else ""
