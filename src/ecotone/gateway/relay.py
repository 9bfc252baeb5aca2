"""One admitted request on its way to a backend and back: fallback, streaming, restoring, metering, the ledger.

An `opened` record is written before anything is sent, a `settled` one before the last byte of the answer leaves; a
candidate that failed before another answered leaves a `failed` one. What an upstream says may quote the prompt, so
records hold our code for an error, never its text.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import aiohttp
import msgspec

from ecotone.gateway.admission import Admission, Candidate
from ecotone.gateway.answers import Refusal
from ecotone.gateway.attempts import Attempt, because, died
from ecotone.gateway.counters import Counters
from ecotone.gateway.incoming import BadAnswer, read_answer, whole_answer
from ecotone.gateway.keys import without_key, without_key_bytes
from ecotone.gateway.metering import estimated_prompt, reserved_completion
from ecotone.gateway.outgoing import outgoing
from ecotone.gateway.parsing import Request
from ecotone.gateway.snapshot import Ruling, named
from ecotone.gateway.streams import DONE, EventCutter, StreamReader
from ecotone.gateway.upstream import Upstreams
from ecotone.ledger import LedgerFull, LedgerWriter
from ecotone.privacy import Pseudonyms
from ecotone.settings import Settings
from ecotone.vocabulary import Location

_IN_THREAD = 64 * 1024
_DRAIN_SECONDS = 0.5
_MOST_TOLD = 500
_PROMPT = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
# Failures behind which an upstream may have worked, and billed.
_MAY_BE_BILLED = {"upstream_died", "upstream_timeout"}

# A text that stays here says nothing about its backend.
_NO_FAILURE = "personal_data"

Begin = Callable[[int, dict[str, str]], Awaitable[None]]
Write = Callable[[bytes, bool], Awaitable[None]]


class Relay:
    """Carries requests over one set of upstream connections."""

    def __init__(self, settings: Settings, writer: LedgerWriter, upstreams: Upstreams, counters: Counters) -> None:
        self._settings = settings
        self._writer = writer
        self._upstreams = upstreams
        self._counters = counters
        self._prompt_key = settings.secret("prompt-hash")
        self._resting: dict[str, float] = {}
        self._told: dict[int, tuple[Ruling, bytes]] = {}

    async def carry(
        self, request_id: str, request: Request, admission: Admission, caller_id: str | None, begin: Begin, write: Write
    ) -> None:
        """Answer the request by the first candidate that works.

        Args:
            begin: called once with status and headers.
            write: called with pieces of the body; the second argument says that more follow.

        Raises:
            Refusal: when nothing was begun; after that, a stream ends with an error event instead.
        """
        candidates = self._in_order(admission)
        for place, candidate in enumerate(candidates, start=1):
            attempt = Attempt(request_id, request, admission, candidate)
            await self._opened(attempt, caller_id)
            try:
                await self._attempted(attempt, begin, write)
            except Refusal as refusal:
                if refusal.retry:
                    if refusal.code != _NO_FAILURE:
                        self._resting[candidate.name] = time.monotonic() + self._settings.backend_rest
                    if place < len(candidates):
                        await self._failed(attempt, refusal)
                        why = f"fallback; {candidate.name} failed ({refusal.code})"
                        candidates[place] = because(candidates[place], why)
                        continue
                await self._settled(attempt, "upstream_died" if refusal.code == "upstream_died" else "failed", refusal)
                refusal.headers.setdefault("x-ecotone-backend", candidate.target.backend)
                raise
            except (asyncio.CancelledError, ConnectionError):
                await asyncio.shield(self._settled(attempt, "client_gone"))
                raise
            except Exception:
                await self._settled(attempt, "failed", Refusal(500, "internal_error", ""))
                raise
            return

    # -- candidates --------------------------------------------------------------------------------------------------
    def _in_order(self, admission: Admission) -> list[Candidate]:
        """Candidates as the route has them, those that just failed last."""
        now = time.monotonic()
        if len(self._resting) > 1000:
            self._resting = {name: until for name, until in self._resting.items() if until > now}
        found = sorted(admission.candidates, key=lambda c: self._resting.get(c.name, 0.0) > now)
        first = admission.candidates[0]
        if found[0] is not first:
            found[0] = because(found[0], f"fallback; {first.name} rests after a failure")
        return found

    async def _attempted(self, attempt: Attempt, begin: Begin, write: Write) -> None:
        """Call one candidate. Raises Refusal as long as nothing was begun."""
        request, candidate = attempt.request, attempt.candidate
        names = Pseudonyms() if candidate.masked else None
        try:
            build = partial(outgoing, request, candidate, names)
            body = await asyncio.to_thread(build) if names and request.size > _IN_THREAD else build()
            answer = await self._upstreams.send(candidate, request.face, body)
            try:
                if request.stream:
                    await self._stream(attempt, answer, names, begin, write)
                else:
                    await self._whole(attempt, answer, names, begin, write)
            finally:
                answer.close()
        except Refusal as refusal:
            if names is not None:
                refusal.message = names.restore(refusal.message)
            raise

    # -- delivering --------------------------------------------------------------------------------------------------
    async def _whole(
        self,
        attempt: Attempt,
        answer: aiohttp.ClientResponse,
        names: Pseudonyms | None,
        begin: Begin,
        write: Write,
    ) -> None:
        try:
            data = await whole_answer(self._pieces(answer), self._settings.max_answer_bytes)
            read = partial(read_answer, data, attempt.usage, names)
            data = await asyncio.to_thread(read) if len(data) > _IN_THREAD else read()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            raise died(attempt, f"did not finish its answer ({type(error).__name__})") from None
        except BadAnswer as error:
            raise died(attempt, str(error), retry=error.retry) from None
        data = without_key_bytes(data, attempt.key)
        attempt.first = time.monotonic() - attempt.began
        await self._settled(attempt, "done")
        await begin(200, {**attempt.headers(), "content-type": "application/json", "content-length": str(len(data))})
        await write(data, False)

    async def _stream(
        self,
        attempt: Attempt,
        answer: aiohttp.ClientResponse,
        names: Pseudonyms | None,
        begin: Begin,
        write: Write,
    ) -> None:
        """Events as they come. The status is held back until the first one: it may be an error."""
        request = attempt.request
        reader = StreamReader(attempt.usage, request.face, hide_usage=not request.wants_usage, names=names)
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        headers |= {"x-accel-buffering": "no", **attempt.headers()}
        begun, failed = False, ""
        cutter = EventCutter()
        pieces = self._pieces(answer)
        while not (reader.done or reader.error or failed):
            try:
                piece = await anext(pieces, b"")
                shown = [event for data in cutter.feed(piece) if (event := reader.event(data)) is not None]
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                failed = "stalled" if isinstance(error, TimeoutError) else f"broke off ({type(error).__name__})"
                break
            if shown:
                if not begun:
                    await begin(200, headers)
                    begun = True
                    attempt.first = time.monotonic() - attempt.began
                await write(without_key_bytes(b"".join(shown), attempt.key), True)
            if not piece:
                break
        if reader.error:
            failed = f"reported an error: {without_key(reader.error, attempt.key)[:_MOST_TOLD]}"
        elif not failed and not reader.whole:
            failed = "ended before the answer was complete"
        if failed:
            refusal = died(attempt, failed)
            if not begun:
                raise refusal
            self._resting[attempt.candidate.name] = time.monotonic() + self._settings.backend_rest
            if names is not None:
                refusal.message = names.restore(refusal.message)
            await self._settled(attempt, "upstream_died", refusal)
            await write(refusal.event(), False)
            return
        await self._settled(attempt, "done")
        if not begun:
            await begin(200, headers)
        await write(without_key_bytes(reader.rest(), attempt.key) + DONE, False)
        await _drained(answer)

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Pieces as they come; TimeoutError when the upstream is silent for too long."""
        limit = self._settings.upstream_first
        while True:
            async with asyncio.timeout(limit):
                piece = await answer.content.readany()
            if not piece:
                return
            limit = self._settings.upstream_idle
            yield piece

    # -- ledger ------------------------------------------------------------------------------------------------------
    async def _opened(self, attempt: Attempt, caller_id: str | None) -> None:
        request, candidate = attempt.request, attempt.candidate
        project = attempt.admission.consumer.name
        prompt = hmac.new(self._prompt_key, project.encode() + b"\0", hashlib.sha256)
        prompt.update(bytes(request.fields[_PROMPT[request.face]]))
        record = {
            "request_id": attempt.request_id,
            "caller_id": caller_id,
            "project": project,
            "face": request.face,
            "asked": request.model,
            "route": attempt.admission.route,
            "model": candidate.name,
            "backend": candidate.target.backend,
            "location": candidate.target.location,
            "revision": candidate.target.revision,
            "legal_class": candidate.target.legal,
            "knowledge_base": candidate.ruling.knowledge_base,
            "decision": self._decision(candidate),
            "data_class": attempt.admission.findings.data_class,
            "kinds": attempt.admission.findings.kinds,
            "pseudonymised": candidate.masked,
            "why": candidate.why or None,
            "prompt_hash": prompt.hexdigest(),
            "stream": request.stream,
            "reserved_prompt_tokens": estimated_prompt(request),
            "reserved_completion_tokens": reserved_completion(request),
        }
        try:
            await self._writer.appended("opened", record)
        except LedgerFull as error:
            raise Refusal(503, error.code, error.message, headers={"retry-after": "30"}) from None

    def _decision(self, candidate: Candidate) -> msgspec.Raw:
        """The decision as it stands in the record; written once for each ruling, then only the model's name changes."""
        ruling = candidate.ruling
        known = self._told.get(id(ruling))
        if known is None or known[0] is not ruling:
            if len(self._told) > 1000:
                self._told.clear()
            told = {
                "verdict": ruling.verdict,
                "message": ruling.message,
                "reasons": ruling.reasons,
                "duties": ruling.duties,
                "rules": ruling.rules,
                "knowledge_base": ruling.knowledge_base,
            }
            known = self._told[id(ruling)] = (ruling, msgspec.json.encode(told))
        return msgspec.Raw(named(known[1], candidate.name))

    async def _failed(self, attempt: Attempt, refusal: Refusal) -> None:
        record = {
            "request_id": attempt.request_id,
            "model": attempt.candidate.name,
            "backend": attempt.candidate.target.backend,
            "error": refusal.code,
            "seconds": round(time.monotonic() - attempt.began, 4),
        }
        try:
            await self._writer.appended("failed", record)
        except LedgerFull as error:
            raise Refusal(503, error.code, error.message, headers={"retry-after": "30"}) from None

    async def _settled(self, attempt: Attempt, status: str, refusal: Refusal | None = None) -> None:
        if attempt.settled:
            return
        attempt.settled = True
        usage = attempt.usage
        if refusal is None or refusal.code in _MAY_BE_BILLED:
            usage.settled(attempt.request)
        else:
            usage.estimate = False
        free = attempt.candidate.target.location is Location.LOCAL or not (usage.prompt_tokens or usage.estimate)
        record = {
            "request_id": attempt.request_id,
            "project": attempt.admission.consumer.name,
            "model": attempt.candidate.name,
            "backend": attempt.candidate.target.backend,
            "status": status,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "estimate": usage.estimate,
            "cost_usd": 0.0 if free else None,
            "first_seconds": round(attempt.first, 4) if attempt.first is not None else None,
            "seconds": round(time.monotonic() - attempt.began, 4),
            "error": refusal.code if refusal is not None else None,
        }
        try:
            await self._writer.appended("settled", record)
        except LedgerFull:
            # the answer was paid for; the open record is settled as an estimate at the next start
            attempt.settled = False
        self._counters.done(
            attempt.admission.consumer.name,
            attempt.admission.route,
            attempt.candidate.target.backend,
            attempt.candidate.name,
            attempt.request.face,
            status,
            usage.prompt_tokens,
            usage.completion_tokens,
            0 if free else None,
            attempt.first,
            time.monotonic() - attempt.began,
        )


async def _drained(answer: aiohttp.ClientResponse) -> None:
    """Read what follows the end of a stream, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await answer.content.readany():
                pass
    except (aiohttp.ClientError, OSError, TimeoutError):
        answer.close()
