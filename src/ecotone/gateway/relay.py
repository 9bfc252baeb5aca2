"""One admitted request on its way to a backend and back: fallback, streaming, restoring, metering, the ledger.

An `opened` record is written before anything is sent, a `settled` one before the last byte of the answer leaves.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec

from ecotone.gateway.admission import Admission, Candidate
from ecotone.gateway.answers import Refusal
from ecotone.gateway.metering import Usage, estimated_prompt
from ecotone.gateway.parsing import Request
from ecotone.gateway.streams import DONE, EventCutter, StreamReader
from ecotone.gateway.upstream import Upstreams
from ecotone.ledger import LedgerFull, LedgerWriter
from ecotone.privacy import Pseudonyms
from ecotone.settings import Settings
from ecotone.vocabulary import Location

_MOST_ANSWER = 256 * 1024 * 1024

Begin = Callable[[int, dict[str, str]], Awaitable[None]]
Write = Callable[[bytes, bool], Awaitable[None]]


class Relay:
    """Carries requests over one set of upstream connections."""

    def __init__(self, settings: Settings, writer: LedgerWriter, upstreams: Upstreams) -> None:
        self._settings = settings
        self._writer = writer
        self._upstreams = upstreams
        self._prompt_key = settings.secret("prompt-hash")
        self._resting: dict[str, float] = {}

    async def carry(
        self, request_id: str, request: Request, admission: Admission, caller_id: str | None, begin: Begin, write: Write
    ) -> None:
        """Answer the request.

        Args:
            begin: called once with status and headers.
            write: called with pieces of the body; the second argument says that more follow.

        Raises:
            Refusal: when nothing was begun; after that, a stream ends with an error event instead.
        """
        usage = Usage()
        last: Refusal | None = None
        for candidate in self._in_order(admission):
            names = Pseudonyms() if candidate.masked else None
            attempt = _Attempt(request_id, request, admission, candidate, usage)
            await self._opened(attempt, caller_id)
            try:
                answer = await self._upstreams.send(candidate, request.face, self._body(request, candidate, names))
            except Refusal as refusal:
                if names is not None:
                    refusal.message = names.restore(refusal.message)
                last = refusal
                if refusal.retry:
                    self._rest(candidate)
                if refusal.retry and admission.route is not None:
                    continue
                await self._settled(attempt, "failed", error=refusal.message)
                raise
            except asyncio.CancelledError:
                await asyncio.shield(self._settled(attempt, "client_gone"))
                raise
            await self._deliver(attempt, answer, names, begin, write)
            return
        assert last is not None
        await self._settled(
            _Attempt(request_id, request, admission, admission.candidates[-1], usage), "failed", last.message
        )
        raise last

    # -- candidates --------------------------------------------------------------------------------------------------
    def _in_order(self, admission: Admission) -> list[Candidate]:
        """Candidates as the route has them, those of a backend that just failed last."""
        now = time.monotonic()
        return sorted(admission.candidates, key=lambda c: self._resting.get(_place(c), 0.0) > now)

    def _rest(self, candidate: Candidate) -> None:
        self._resting[_place(candidate)] = time.monotonic() + self._settings.backend_rest

    @staticmethod
    def _body(request: Request, candidate: Candidate, names: Pseudonyms | None) -> bytes:
        replaced: dict[str, Any] = {}
        if names is not None:
            replaced = dict(names.mask_json(request.value))
        if request.stream and not request.wants_usage:
            options = request.value.get("stream_options")
            replaced["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        if names is not None:
            return msgspec.json.encode({**replaced, "model": candidate.model})
        return request.forwarded(candidate.model, replaced)

    # -- delivering --------------------------------------------------------------------------------------------------
    async def _deliver(
        self,
        attempt: "_Attempt",
        answer: aiohttp.ClientResponse,
        names: Pseudonyms | None,
        begin: Begin,
        write: Write,
    ) -> None:
        try:
            if attempt.request.stream:
                await self._stream(attempt, answer, names, begin, write)
            else:
                await self._whole(attempt, answer, names, begin, write)
        except (asyncio.CancelledError, ConnectionError):
            await asyncio.shield(self._settled(attempt, "client_gone"))
            raise
        finally:
            answer.close()

    async def _whole(
        self,
        attempt: "_Attempt",
        answer: aiohttp.ClientResponse,
        names: Pseudonyms | None,
        begin: Begin,
        write: Write,
    ) -> None:
        parts, size = [], 0
        try:
            async for piece in self._pieces(answer):
                parts.append(piece)
                size += len(piece)
                if size > _MOST_ANSWER:
                    raise ValueError("the answer is too large")
            body = msgspec.json.decode(b"".join(parts))
            if not isinstance(body, dict):
                raise ValueError("the answer is not an object")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            message = (
                f"The backend {attempt.candidate.target.backend} did not finish its answer ({type(error).__name__})."
            )
            self._rest(attempt.candidate)
            await self._settled(attempt, "upstream_died", error=message)
            raise Refusal(502, "upstream_died", message) from None
        attempt.usage.take(body.get("usage"))
        body["model"] = attempt.candidate.name
        if names is not None:
            body = names.restore_json(body)
        for choice in body.get("choices") or ():
            said = choice.get("message") if isinstance(choice, dict) else None
            text = said.get("content") if isinstance(said, dict) else None
            attempt.usage.saw(text if isinstance(text, str) else "")
        data = msgspec.json.encode(body)
        await self._settled(attempt, "done")
        await begin(200, {**attempt.headers(), "content-type": "application/json", "content-length": str(len(data))})
        await write(data, False)

    async def _stream(
        self,
        attempt: "_Attempt",
        answer: aiohttp.ClientResponse,
        names: Pseudonyms | None,
        begin: Begin,
        write: Write,
    ) -> None:
        request = attempt.request
        reader = StreamReader(
            attempt.usage, hide_usage=not request.wants_usage, names=names, model=attempt.candidate.name
        )
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        await begin(200, {**attempt.headers(), **headers})
        failed: str | None = None
        cutter = EventCutter()
        try:
            async for piece in self._pieces(answer):
                out = [shown for data in cutter.feed(piece) if (shown := reader.event(data)) is not None]
                if out:
                    await write(b"".join(out), True)
                if reader.done or reader.error:
                    break
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            failed = "stalled" if isinstance(error, TimeoutError) else f"broke off ({type(error).__name__})"
        if reader.error:
            failed = f"reported an error: {reader.error}"
        elif failed is None and not (reader.done or reader.finished):
            failed = "ended before the answer was complete"
        if failed is not None:
            name = attempt.candidate.target.backend
            refusal = Refusal(
                502, "upstream_died", f"The stream of the backend {name} {failed}; the answer is incomplete."
            )
            self._rest(attempt.candidate)
            await self._settled(attempt, "upstream_died", error=refusal.message)
            await write(refusal.event(), False)
            return
        await self._settled(attempt, "done")
        await write(DONE, False)

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Pieces as they come; TimeoutError when the upstream is silent for too long."""
        first = True
        while True:
            limit = self._settings.upstream_first if first else self._settings.upstream_idle
            async with asyncio.timeout(limit):
                piece = await answer.content.readany()
            if not piece:
                return
            first = False
            yield piece

    # -- ledger ------------------------------------------------------------------------------------------------------
    async def _opened(self, attempt: "_Attempt", caller_id: str | None) -> None:
        request, candidate = attempt.request, attempt.candidate
        ruling = candidate.ruling
        field = {"chat": "messages", "completions": "prompt", "embeddings": "input"}[request.face]
        prompt = hmac.new(self._prompt_key, bytes(request.fields[field]), hashlib.sha256).hexdigest()
        record = {
            "request_id": attempt.request_id,
            "caller_id": caller_id,
            "project": attempt.admission.consumer.name,
            "face": request.face,
            "asked": request.model[:200],
            "route": attempt.admission.route,
            "model": candidate.name[:200],
            "backend": candidate.target.backend,
            "location": candidate.target.location,
            "revision": candidate.target.revision,
            "legal_class": candidate.target.legal,
            "knowledge_base": ruling.knowledge_base,
            "decision": {
                "verdict": ruling.verdict,
                "message": ruling.message,
                "reasons": ruling.reasons,
                "duties": ruling.duties,
                "rules": ruling.rules,
                "knowledge_base": ruling.knowledge_base,
            },
            "data_class": attempt.admission.findings.data_class,
            "kinds": attempt.admission.findings.kinds,
            "pseudonymised": candidate.masked,
            "why": candidate.why or None,
            "prompt_hash": prompt,
            "stream": request.stream,
            "reserved_prompt_tokens": estimated_prompt(request),
        }
        try:
            await self._writer.appended("opened", record)
        except LedgerFull as error:
            raise Refusal(503, error.code, error.message, headers={"retry-after": "30"}) from None

    async def _settled(self, attempt: "_Attempt", status: str, error: str | None = None) -> None:
        if attempt.settled:
            return
        attempt.settled = True
        usage = attempt.usage.settled(attempt.request)
        free = attempt.candidate.target.location is Location.LOCAL
        record = {
            "request_id": attempt.request_id,
            "project": attempt.admission.consumer.name,
            "model": attempt.candidate.name[:200],
            "backend": attempt.candidate.target.backend,
            "status": status,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "estimate": usage.estimate,
            "cost_usd": 0.0 if free else None,
            "seconds": round(time.monotonic() - attempt.began, 4),
            "error": error,
        }
        try:
            await self._writer.appended("settled", record)
        except LedgerFull:
            # the answer was paid for; the open record is settled as an estimate at the next start
            attempt.settled = False


class _Attempt:
    """One request at one candidate."""

    def __init__(
        self, request_id: str, request: Request, admission: Admission, candidate: Candidate, usage: Usage
    ) -> None:
        self.request_id = request_id
        self.request = request
        self.admission = admission
        self.candidate = candidate
        self.usage = usage
        self.began = time.monotonic()
        self.settled = False

    def headers(self) -> dict[str, str]:
        target = self.candidate.target
        found = {"x-ecotone-backend": target.backend, "x-ecotone-model": self.candidate.name}
        if self.admission.route is not None:
            found["x-ecotone-reason"] = (
                self.candidate.why or f"route {self.admission.route}: decision and data class allow"
            )
        else:
            found["x-ecotone-reason"] = self.candidate.why or f"asked for; verdict {self.candidate.ruling.verdict}"
        return found


def _place(candidate: Candidate) -> str:
    return candidate.target.backend if candidate.target.url else candidate.name
