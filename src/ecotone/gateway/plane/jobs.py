"""One request from its admission to its last byte: candidates in turn, the ledger before and after, money held between.

Nothing here waits: each step is called by what happened, on the event loop's thread. An `opened` record is written
before anything is sent, a `settled` one before the last byte of the answer leaves. Once a byte of content went to the
client no other candidate is called.
"""

import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.cache import Kept, Recording
from ecotone.gateway.incoming import BadAnswer, read_answer
from ecotone.gateway.keys import without_key, without_key_bytes
from ecotone.gateway.metering import MOST_TOKENS, Usage, reserved_completion
from ecotone.gateway.outgoing import outgoing
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane.connections import Client
from ecotone.gateway.plane.faults import log_fault
from ecotone.gateway.plane.lanes import Lane, Option
from ecotone.gateway.plane.passing import Passing, Unusual
from ecotone.gateway.plane.refused import refusal_of
from ecotone.gateway.plane.upstreams import Unreachable, Upstream
from ecotone.gateway.plane.writing import FEW
from ecotone.gateway.refusals import NotLeased, about
from ecotone.gateway.streams import DONE, EventCutter, StreamReader
from ecotone.ledger import LedgerFull
from ecotone.privacy import Findings, Pseudonyms
from ecotone.vocabulary import DataClass

if TYPE_CHECKING:
    from ecotone.gateway.plane.plane import Plane

IN_THREAD: Final = 64 * 1024
MOST_ERROR: Final = 64 * 1024
_MOST_TOLD: Final = 500
RESTING: Final = "resting"
NO_FAILURE: Final = frozenset({"personal_data", RESTING})
"""Refusals before anything was sent: they say nothing about a backend."""
_MAY_BE_BILLED: Final = frozenset({"upstream_died", "upstream_timeout", "internal_error", "key_revoked", "draining"})
"""Refusals that leave open whether the backend did what it was asked for, and takes money for it."""
_JSON: Final = b"content-type: application/json\r\n"


class _In(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _Out(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = -1
    completion_tokens: int = -1
    prompt_tokens_details: _In | None = None
    completion_tokens_details: _Out | None = None

    def into(self, usage: Usage) -> bool:
        """Whether the figures are plain, and were taken over."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if not (0 <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS):
            return False
        inside, out = self.prompt_tokens_details, self.completion_tokens_details
        if inside is not None:
            read, written, audio = inside.cached_tokens or 0, inside.cache_write_tokens or 0, inside.audio_tokens or 0
            if read < 0 or written < 0 or audio < 0 or read + written + audio > MOST_TOKENS:
                return False
            if read + written > prompt:
                return False
            usage.cached_tokens, usage.cache_write_tokens, usage.audio_prompt_tokens = read, written, audio
        if out is not None:
            reasoning, audio = out.reasoning_tokens or 0, out.audio_tokens or 0
            if reasoning < 0 or audio < 0 or reasoning + audio > MOST_TOKENS:
                return False
            usage.reasoning_tokens, usage.audio_completion_tokens = reasoning, audio
        usage.prompt_tokens, usage.completion_tokens = prompt, completion
        usage.estimate = False
        return True


class _Answer(msgspec.Struct):
    usage: _Usage | None = None
    error: Any = None
    service_tier: str | None = None


_answer = msgspec.json.Decoder(_Answer)


class Job:
    """A request under way.

    Args:
        plane: what it stands on.
        client: gets the answer.
        request_id: ours.
        lane: who asks for what, and who may answer.
        options: candidates in the order in which they are tried.
        names: placeholders, when the text goes out with some.
    """

    names: Pseudonyms | None = None
    hold: Any = None
    kept: Kept | None = None
    recording: Recording | None = None
    cache_key = b""
    conversation = b""
    scopes: tuple[str, ...] = ()
    marks = b""
    texts: Recording | None = None
    findings: Findings | None = None
    gone = False
    first = tried = 0.0
    place = 0
    _body = b""
    _upstream: Upstream | None = None
    _status = 0
    _headers: dict[bytes, bytes] = {}  # noqa: RUF012
    _size = 0
    _passing: Passing | None = None
    _reader: StreamReader | None = None
    _cutter: EventCutter | None = None
    _inflate: Any = None
    _begun = _settled = _retried = _waiting = _sent = False

    def __init__(
        self, plane: "Plane", client: Client, request: Request, lane: Lane, options: list[Option], caller_id: bytes
    ) -> None:
        self.plane = plane
        self.client = client
        self.request = request
        self.request_id = plane.new_id()
        self.caller_id = caller_id
        self.lane = lane
        self.options = options
        self.option = options[0]
        self.usage = Usage()
        self.completion = reserved_completion(request)
        self.began = self.deadline = plane.now()
        self._parts: list[bytes] = []

    @property
    def data_class(self) -> DataClass | None:
        """Of the prompt; None when it was not looked through."""
        return self.findings.data_class if self.findings is not None else None

    def choose(self, options: list[Option]) -> None:
        """Try these, in this order."""
        self.options = options
        self.option = options[0]

    # -- trying ------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Reserve, write that it was opened, and go on once that is written. Raises Refusal when there is no room."""
        plane, request, option = self.plane, self.request, self.option
        prompt = (request.size + 2) // 3
        if plane.limiter is not None:
            try:
                self.hold = plane.reserved(self, option, prompt)
            except Refusal as refusal:
                if not self._leads_on(refusal):
                    raise about(refusal, option.name) from None
                self._start_next(about(refusal, option.name))
                return
        record = (
            b'{"request_id":"%b","caller_id":%b,%b,"prompt_hash":"%b","stream":%b,"reserved_prompt_tokens":%d,'
            b'"reserved_completion_tokens":%d,"reserved_cost":%b%b}'
            % (
                self.request_id,
                self.caller_id,
                option.record,
                plane.keyed_hash(self.lane.consumer.name, request.raw),
                b"true" if request.stream else b"false",
                prompt,
                self.completion,
                b"null" if self.hold is None or self.hold.cost is None else b"%d" % self.hold.cost,
                self.marks,
            )
        )
        self._waiting = True
        plane.jobs.add(self)
        _, ruling = plane.rulings.record(option.ruling)
        if ruling is not None:
            plane.turns.before(*ruling)
        plane.turns.add("opened", record, self._opened)

    def _leads_on(self, refusal: Refusal) -> bool:
        """Whether a further candidate of the route may have room: be free, have a known price, or be less busy."""
        lane = self.lane
        if lane.route is None or self.kept is not None or self.place + 1 >= len(self.options):
            return False
        if isinstance(refusal, NotLeased):
            return False
        return refusal.status == 402 or str(refusal.ecotone.get("scope")).startswith("backend:")

    def _start_next(self, refusal: Refusal) -> None:
        """Start the next candidate, as there is no room for this one. Raises the first refusal when none has room."""
        before, found = self.option.name, (self.place, self.option)
        self.place += 1
        why = f"fallback; {before} had no room ({refusal.code})"
        self.option = self.plane.because(self.lane, self.options[self.place], why)
        try:
            self.start()
        except NotLeased:
            raise
        except Refusal:
            self.place, self.option = found
            raise refusal from None

    def replay(self, kept: Kept, body: bytes) -> None:
        """Answer with what was kept of the same question; it costs nothing.

        Args:
            body: the answer as this request wants it.
        """
        self.kept = kept
        self._parts = [body]
        self.start()

    def _opened(self, wrong: LedgerFull | None) -> None:
        self._waiting = False
        if wrong is not None:
            self._let_go()
            self._settled = True
            self.plane.jobs.discard(self)
            self._refuse(Refusal(503, wrong.code, wrong.message, headers={"retry-after": "30"}))
            return
        if self.gone:
            self._settle("client_gone", None)
            return
        if self.kept is not None:
            self._replayed(self.kept)
            return
        option = self.option
        if option.candidate.masked:
            self.plane.spawn(self._masked(), self)
            return
        request = self.request
        self._body = request.forwarded(
            option.candidate.model,
            ask_usage=request.stream and not request.wants_usage,
            salt=self._salt() if option.salted else None,
        )
        self._dispatch()

    def _replayed(self, kept: Kept) -> None:
        self.usage = kept.usage()
        self._settle("cached", self._end_stream if self.request.stream else self._deliver)

    async def _masked(self) -> None:
        """Put placeholders in, away from the loop when there is much to look through."""
        self.names = names = Pseudonyms()
        try:
            how = (self.request, self.option.candidate, names, self._salt() if self.option.salted else None)
            if self.request.size > IN_THREAD:
                self._body = await self.plane.in_thread(outgoing, *how)
            else:
                self._body = outgoing(*how)
        except Refusal as refusal:
            self.fail(refusal)
        else:
            if not self.gone:
                self._dispatch()

    def _salt(self) -> str:
        """Parts this project's prefix cache from all others' (CVE-2025-46570)."""
        return self.plane.keyed_hash(self.lane.consumer.name, b"cache_salt").decode()

    def _dispatch(self) -> None:
        self.tried = self.plane.now()
        if self.plane.chooser.health.resting and not self.plane.chooser.began(self.option.name):
            text = f"{self.option.name} failed and is being tried by another request; try again in a moment."
            self.fail(Refusal(503, RESTING, text, param="model", headers={"retry-after": "1"}, retry=True))
            return
        target = self.option.candidate.target
        if target.key_env is not None and not self.option.key:
            text = f"The backend {target.backend} has no key: set {target.key_env} in the server's environment and "
            self.fail(Refusal(503, "backend_without_key", text + "start it again.", retry=True))
            return
        found = self.option.place.take()
        if found is None:
            self.plane.spawn(self._dial(), self)
        else:
            self._send(found)

    async def _dial(self) -> None:
        target = self.option.candidate.target
        if target.socket is None and target.url is None:
            text = f"The engine of {self.option.candidate.name} is not ready ({target.note}); `ecotone ps` shows it."
            self.fail(Refusal(503, "engine_not_ready", text, headers={"retry-after": "5"}, retry=True))
            return
        try:
            found = await self.option.place.connect(self.lane.connect)
        except Unreachable as error:
            text = f"The backend {target.backend} cannot be reached ({error}); try again later."
            if not self.gone:
                self.fail(Refusal(502, "upstream_unreachable", text, retry=True))
            return
        if self.gone:
            found.close()
        else:
            self._send(found)

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._sent = True
        self.deadline = self.plane.now() + self.lane.wait
        upstream.send(
            self,
            b"%b%d\r\n\r\n" % (self.option.head, len(self._body)),
            self._body,
            is_alone=len(self.plane.jobs) <= FEW,
        )

    # -- what the upstream does --------------------------------------------------------------------------------------
    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._status = status
        self._headers = headers
        self.first = self.plane.now()
        self.deadline = self.first + self.lane.idle
        if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
            self._inflate = zlib.decompressobj(47)

    def answer_data(self, parts: list[bytes], ended: bool) -> None:
        if self._inflate is not None:
            unpacked = self._inflated(parts)
            if unpacked is None:
                return
            parts = unpacked
        if self._status == 200 and self.request.stream:
            if ended:
                self._upstream = None
            self._stream(parts[0] if len(parts) == 1 else b"".join(parts), ended)
            return
        for part in parts:
            self._size += len(part)
        most = self.plane.most_answer if self._status == 200 else MOST_ERROR
        if self._size > most:
            self._leave()
            if self._status == 200:
                self.fail(self.died(f"sent more than {most} bytes (ECOTONE_MAX_ANSWER_BYTES)", retry=False))
            else:
                self._refused_by_upstream()
            return
        self._parts += parts
        if not ended:
            self.deadline = self.plane.now() + self.lane.idle
            return
        self._upstream = None
        if self._status == 200:
            self._whole()
        else:
            self._refused_by_upstream()

    def answer_lost(self, how: str, again: bool) -> None:
        self._upstream = None
        if again and not self._retried and not self._status:
            self._retried = True  # the connection had been closed before it took the request
            self.plane.spawn(self._dial(), self)
            return
        if not self._status:
            name = self.option.candidate.target.backend
            text = f"The backend {name} cannot be reached ({how}); try again later."
            self.fail(Refusal(502, "upstream_unreachable", text, retry=True))
        elif self._status != 200:
            self._refused_by_upstream()
        elif self.request.stream:
            self._stream_failed(f"broke off ({how})")
        else:
            self.fail(self.died(f"did not finish its answer ({how})"))

    def late(self) -> None:
        """The upstream is silent for too long."""
        self._leave()
        name = self.option.candidate.target.backend
        if not self._status:
            text = f"The backend {name} did not begin to answer in time; try again."
            self.fail(Refusal(504, "upstream_timeout", text, retry=True))
        elif self.request.stream and self._status == 200:
            self._stream_failed("stalled")
        else:
            self.fail(self.died("did not finish its answer (it stalled)"))

    def broke(self, error: Exception) -> None:
        """A fault of our own: logged, settled, told."""
        log_fault(error, self.request_id)
        self._leave()
        if self._settled:
            if not self.gone:
                self.gone = True
                self.client.cut()
            return
        text = f"Something failed here; the request's id is {self.request_id.decode()}."
        self._end("failed", Refusal(500, "internal_error", text))

    def late_at(self, now: float) -> bool:
        """Whether the upstream should have said something by now; one that waits for its client is not late."""
        return self._upstream is not None and now > self.deadline and not self.client.slow

    def revoked(self) -> None:
        """The key is no longer good: what runs is cut, and told."""
        self._leave()
        refusal = Refusal(401, "key_revoked", "The key was revoked while the answer came; it is cut here.")
        self._end("revoked", refusal)

    def drained(self) -> None:
        """The server ends; so does this answer."""
        self._leave()
        text = "The gateway is ending and could not wait for the rest of this answer; send the request again."
        self._end("failed", Refusal(503, "draining", text, headers={"retry-after": "1"}))

    def _inflated(self, parts: list[bytes]) -> list[bytes] | None:
        """Packed parts unpacked, a bounded amount; None when that went wrong, which was told then."""
        found: list[bytes] = []
        size = self._size
        try:
            for part in parts:
                piece = self._inflate.decompress(part, self.plane.most_answer + 1 - size)
                size += len(piece)
                found.append(piece)
                if self._inflate.unconsumed_tail:
                    raise zlib.error("too much")
        except zlib.error:
            self._leave()
            if self._begun:
                self._stream_failed("sent what cannot be unpacked")
            else:
                self.fail(self.died("sent what cannot be unpacked, or too much of it", retry=False))
            return None
        return found

    # -- whole answers -----------------------------------------------------------------------------------------------
    def _whole(self) -> None:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if self.names is None:
            try:
                found = _answer.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                found = None
            if found is not None and found.error is None and found.usage is not None and found.usage.into(self.usage):
                self.usage.service_tier = found.service_tier
                self._answered(data)
                return
        if len(data) > IN_THREAD:
            self.plane.spawn(self._read_away(data), self)
        else:
            try:
                self._answered(read_answer(data, self.usage, self.names))
            except BadAnswer as error:
                self.fail(self.died(str(error), retry=error.retry))

    async def _read_away(self, data: bytes) -> None:
        try:
            data = await self.plane.in_thread(read_answer, data, self.usage, self.names)
        except BadAnswer as error:
            self.fail(self.died(str(error), retry=error.retry))
        else:
            self._answered(data)

    def _answered(self, data: bytes) -> None:
        self._told_ok()
        key = self.option.key
        if key:
            data = without_key_bytes(data, key)
        if self.lane.route is not None and self.lane.route.alias:
            data = _renamed(data, self.lane.asked)
        self._parts = [data]
        if self.texts is not None:
            self.texts.add(data)
        if self.cache_key:
            self.plane.keep(self, Kept.of_whole(self.request.face, data))
        self._settle("done", self._deliver)

    def _deliver(self, wrong: LedgerFull | None) -> None:
        if not self.gone:
            self.client.whole(200, self._head_block() + _JSON, self._parts[0])

    # -- streams -----------------------------------------------------------------------------------------------------
    def _stream(self, data: bytes, ended: bool) -> None:
        self.deadline = self.plane.now() + self.lane.idle
        if self._settled:
            return
        shown = b""
        if self._reader is None and self._passing is None:
            self._follow()
        if self._passing is not None:
            try:
                shown = self._passing.feed(data)
            except Unusual as unusual:
                self._read_on()
                data = unusual.rest
        if self._reader is not None:
            try:
                shown = self._read(data, ended)
            except ValueError as error:
                self._leave()
                self._stream_failed(f"broke off ({error})")
                return
        follower: Any = self._reader or self._passing
        if shown:
            self._show(shown)
        if follower.error is not None:
            self._leave()
            told = follower.error
            text = told if isinstance(told, str) else told.get("message") if isinstance(told, dict) else str(told)
            self._stream_failed(f"reported an error: {without_key(str(text), self.option.key)[:_MOST_TOLD]}")
        elif follower.done or ended:
            if not follower.whole:
                self._leave()
                self._stream_failed("ended before the answer was complete")
            else:
                self._stream_ended(follower)

    def _follow(self) -> None:
        """Begin to follow the stream, in the cheapest way that there is."""
        request = self.request
        if self.names is None and not (self.lane.route is not None and self.lane.route.alias):
            choices = request.value.get("n")
            count = choices if isinstance(choices, int) and 0 < choices < 1000 else 1
            self._passing = Passing(self.usage, hide_usage=not request.wants_usage, choices=count)
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Follow the stream event by event from here."""
        request = self.request
        self._passing = None
        self._cutter = EventCutter()
        alias = self.lane.asked if self.lane.route is not None and self.lane.route.alias else None
        self._reader = StreamReader(
            self.usage, request.face, hide_usage=not request.wants_usage, names=self.names, alias=alias
        )

    def _read(self, data: bytes, ended: bool) -> bytes:
        assert self._cutter is not None
        reader = self._reader
        assert reader is not None
        shown = []
        for told in self._cutter.feed(data):
            if reader.done or reader.error:
                break
            event = reader.event(told)
            if event is not None:
                shown.append(event)
        return b"".join(shown)

    def _show(self, data: bytes) -> None:
        client = self.client
        if not self._begun:
            self._begun = True
            client.begin(self._head_block())
        key = self.option.key
        if key:
            data = without_key_bytes(data, key)
        if self.recording is not None:
            self.recording.add(data)
        if self.texts is not None:
            self.texts.add(data)
        client.write(data)
        if client.slow and self._upstream is not None:
            self._upstream.pause()

    def _told_ok(self) -> None:
        """The candidate answered well: worth knowing where there is a choice, or where it failed before."""
        plane, route = self.plane, self.lane.route
        if route is not None or plane.chooser.health.resting:
            plane.answered(self)
            if self.place and route is not None:
                plane.chooser.moved(route, self.conversation, self.option.name, plane.now())

    def _stream_ended(self, follower: Any) -> None:
        self._told_ok()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:  # it said that it is done, and goes on
            upstream.finish()
        rest = b""
        if isinstance(follower, StreamReader):
            rest = follower.rest()
        else:
            follower.estimate()
        self._parts = [without_key_bytes(rest, self.option.key) + DONE]
        if self.recording is not None:
            self.recording.add(self._parts[0])
            told = None if self.usage.estimate else self.usage.told()
            self.plane.keep(self, self.recording.stream(self.request.face, told))
        self._settle("done", self._end_stream)

    def _end_stream(self, wrong: LedgerFull | None) -> None:
        if self.gone:
            return
        if not self._begun:
            self._begun = True
            self.client.begin(self._head_block())
        self.client.end(self._parts[0])

    def _stream_failed(self, how: str) -> None:
        refusal = self.died(how)
        if not self._begun:
            self.fail(refusal)
            return
        self.plane.failed(self, refusal)
        if self.names is not None:
            refusal.message = self.names.restore(refusal.message)
        self._end("upstream_died", refusal)

    # -- ends --------------------------------------------------------------------------------------------------------
    def died(self, how: str, *, retry: bool = True) -> Refusal:
        """The refusal for an upstream whose answer is no good."""
        name = self.option.candidate.target.backend
        return Refusal(502, "upstream_died", f"The backend {name} {how}; the answer is incomplete.", retry=retry)

    def _refused_by_upstream(self) -> None:
        told = b"".join(self._parts)[:MOST_ERROR]
        self.fail(refusal_of(self._status, self._headers, told, self.option.candidate.target.backend, self.option.key))

    def fail(self, refusal: Refusal) -> None:
        """This candidate gives no answer: the next one, or the refusal."""
        if self.gone or self._settled:
            return
        if self.names is not None:
            refusal.message = self.names.restore(refusal.message)
        if refusal.retry:
            self.plane.failed(self, refusal)
            if self.place + 1 < len(self.options) and self.plane.may_retry(self):
                self._next(refusal)
                return
        elif refusal.code == "upstream_died":
            self.plane.failed(self, refusal)
        elif refusal.status != 503:
            self.plane.answered(self)
        refusal.headers.setdefault("x-ecotone-backend", self.option.candidate.target.backend)
        self._end("upstream_died" if refusal.code == "upstream_died" else "failed", refusal)

    def _next(self, refusal: Refusal) -> None:
        told: dict[str, Any] = {
            "request_id": self.request_id.decode(),
            "model": self.option.candidate.name,
            "backend": self.option.candidate.target.backend,
            "error": refusal.code,
            "seconds": round(self.plane.now() - self.began, 4),
        }
        if self._is_billed(refusal):
            told |= self._attempt()
        failed = msgspec.json.encode(told)
        self._let_go()
        self.place += 1
        before = self.option.candidate.name
        self.option = self.plane.because(
            self.lane, self.options[self.place], f"fallback; {before} failed ({refusal.code})"
        )
        self.usage = Usage()
        self._parts = []
        self._status, self._size, self.first = 0, 0, 0.0
        self.names = self._upstream = self._passing = self._reader = self._cutter = self._inflate = None
        self._retried = self._sent = False
        self.plane.turns.add("failed", failed, _nothing)
        try:
            self.start()
        except Refusal:  # the next one has no room: what is told is why the one before gave no answer
            refusal.headers.setdefault("x-ecotone-backend", told["backend"])
            self._settled = True
            self.plane.jobs.discard(self)
            self._refuse(refusal)

    def _is_billed(self, refusal: Refusal | None) -> bool:
        """Whether the backend may take money for the call."""
        return self._sent and (refusal is None or refusal.code in _MAY_BE_BILLED or self._begun)

    def _attempt(self) -> dict[str, Any]:
        """What a call that failed may have cost, for its record; the money that it held is settled."""
        usage, option, lane = self.usage, self.option, self.lane
        if usage.estimate:
            usage.settled(self.request)
        cost = 0 if option.free else option.price.cost(usage) if option.price is not None else None
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.settle(usage.prompt_tokens + usage.completion_tokens, cost)
        told = {
            "project": lane.consumer.name,
            "key": lane.key.id,
            "route": lane.route.name if lane.route is not None else None,
            "face": lane.face,
            "status": "failed",
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "estimate": usage.estimate,
            "cost": cost,
        }
        marks = msgspec.json.decode(b"{%b}" % self.marks[1:])
        return {**told, **marks}

    def _end(self, status: str, refusal: Refusal) -> None:
        """Settle, then tell the client why. What a stream had produced until now is counted, whoever cut it."""
        if self._passing is not None:
            self._passing.estimate()

        def tell(_: LedgerFull | None) -> None:
            if self.gone:
                return
            if self._begun:
                self.client.end(refusal.event())
            else:
                self._refuse(refusal)

        self._settle(status, tell, refusal)

    def _refuse(self, refusal: Refusal) -> None:
        if not self.gone:
            self.plane.tell(self.client, refusal, self.request_id)

    def _settle(self, status: str, after: Any, refusal: Refusal | None = None) -> None:
        """Write what was used, give back what was held too much, then go on."""
        if self._settled:
            return
        self._settled = True
        plane, usage = self.plane, self.usage
        plane.jobs.discard(self)
        billed = self._is_billed(refusal)
        if not billed and self.kept is None:
            usage.estimate = False
        elif usage.estimate:
            usage.settled(self.request)
        option = self.option
        if option.free or not billed:
            cost: int | None = 0
        else:
            cost = option.price.cost(usage) if option.price is not None else None
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.settle(usage.prompt_tokens + usage.completion_tokens, cost)
        now = plane.now()
        record = (
            b'{"request_id":"%b",%b,"status":"%b","prompt_tokens":%d,"completion_tokens":%d,"cached_tokens":%d,'
            b'"cache_write_tokens":%d,"reasoning_tokens":%d,"estimate":%b,"cost":%b,"price":%b,"first":%.4f,"seconds":%.4f,"error":%b%b%b}'
            % (
                self.request_id,
                option.settled,
                status.encode(),
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens + usage.cache_write_1h_tokens,
                usage.reasoning_tokens,
                b"true" if usage.estimate else b"false",
                b"null" if cost is None else b"%d" % cost,
                option.version,
                self.first - self.began if self.first else 0.0,
                now - self.began,
                b"null" if refusal is None else b'"%b"' % refusal.code.encode(),
                self.marks,
                b"" if self.texts is None else plane.keep_texts(self, self.texts),
            )
        )
        plane.counted(self, status, cost, now)
        plane.turns.add("settled", record, after or _nothing)

    def _let_go(self) -> None:
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.release()

    def _leave(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.leave()

    def _head_block(self) -> bytes:
        return b"x-request-id: %b\r\n%b" % (self.request_id, self.option.block)

    # -- what the client does ----------------------------------------------------------------------------------------
    def client_gone(self) -> None:
        """The client left: what was produced until now is counted."""
        if self.gone:
            return
        self.gone = True
        self._leave()
        if not self._settled and not self._waiting:
            if self._passing is not None:
                self._passing.estimate()
            self.plane.client_left(self)
            self._settle("client_gone", None)

    def client_slow(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def client_ready(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()
            self.deadline = self.plane.now() + self.lane.idle


def _nothing(_: LedgerFull | None) -> None:
    """Nobody waits for it."""


def _renamed(data: bytes, name: str) -> bytes:
    """An answer under the name that was asked for."""
    fields: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, "model": name})
