"""What is known of a request under way, and its ends: settled, refused, left by its client."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.cache import Kept, Recording
from ecotone.gateway.charging import cost_of
from ecotone.gateway.metering import Usage, reserved_completion
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane.callers import Client
from ecotone.gateway.plane.faults import log_fault
from ecotone.gateway.plane.lanes import Lane, Option
from ecotone.gateway.plane.passing import Passing
from ecotone.gateway.plane.refused import refusal_of
from ecotone.gateway.plane.upstreams import Upstream
from ecotone.gateway.refusals import budget_of
from ecotone.gateway.streams import EventCutter, StreamReader
from ecotone.gateway.tasks.clients import event_of
from ecotone.ledger import LedgerFull
from ecotone.privacy import Findings, Pseudonyms
from ecotone.vocabulary import DataClass

if TYPE_CHECKING:
    from ecotone.gateway.plane.ground import Ground

IN_THREAD: Final = 64 * 1024
MOST_ERROR: Final = 64 * 1024
RESTING: Final = "resting"
NO_FAILURE: Final = frozenset({"privacy_denied", RESTING})
"""Refusals before anything was sent: they say nothing about a backend."""
_MAY_BE_BILLED: Final = frozenset({"upstream_died", "timeout", "internal_error", "key_revoked", "draining"})
"""Refusals that leave open whether the backend did what it was asked for, and takes money for it."""

_NONE: Final[dict[bytes, bytes]] = {}
_SETTLED: Final = (
    b'{"request_id":"%b",%b,"status":"%b","prompt_tokens":%d,"completion_tokens":%d,%b,"cost":%b,"first":%.4f,'
    b'"seconds":%.4f,"error":%b%b%b}'
)
_DETAILS: Final = b'"cached_tokens":%d,"cache_write_tokens":%d,"reasoning_tokens":%d,"estimate":%b'
_ORDINARY: Final = _DETAILS % (0, 0, 0, b"false")


class Course(ABC):
    """A request under way: what is known of it, and its ends.

    Args:
        plane: what it stands on.
        client: gets the answer.
        request_id: ours.
        lane: who asks for what, and who may answer.
        options: candidates in the order in which they are tried.
        names: placeholders, when the text goes out with some.

    `retries` counts further candidates that were called; `place` moves past those without room, too.
    """

    __slots__ = (
        "_bare", "_begun", "_cutter", "_headers", "_inflate", "_masked_body", "_parts", "_passing", "_reader",
        "_retried", "_sent", "_settled", "_size", "_status", "_upstream", "_waiting", "beat", "began", "bound",
        "cache_key", "caller_id", "client", "completion", "conversation", "cost", "deadline", "findings",
        "first", "gone", "hold", "kept", "lane", "lost", "marks", "names", "option", "options", "place",
        "plane", "rates", "recording", "request", "request_id", "retries", "revived", "scopes", "short", "shown",
        "texts", "tried", "usage",
    )  # fmt: skip

    def __init__(
        self, plane: "Ground", client: Client, request: Request, lane: Lane, options: list[Option], caller_id: bytes
    ) -> None:
        self.plane = plane
        self.client = client
        self.request = request
        self.began = self.deadline = now = plane.now()
        self.request_id = plane.ids.next(now)
        self.caller_id = caller_id
        self.lane = lane
        self.options = options
        self.option = options[0]
        self.usage = Usage()
        self.completion = reserved_completion(request)
        self.first = self.tried = self.beat = 0.0
        self.place = self.retries = self._status = self._size = self.bound = self.short = 0
        self.cache_key = self.conversation = self.marks = self.rates = b""
        self.scopes: tuple[str, ...] = ()
        self.hold: Any = None
        self.cost: int | None = None
        self.findings: Findings | None = None
        self.names: Pseudonyms | None = None
        self.kept: Kept | None = None
        self.recording: Recording | None = None
        self.texts: Recording | None = None
        self.lost = self.revived = self.shown = False
        self._bare = self.gone = self._begun = self._settled = self._retried = self._waiting = self._sent = False
        self._masked_body: bytes | None = None
        self._upstream: Upstream | None = None
        self._passing: Passing | None = None
        self._reader: StreamReader | None = None
        self._cutter: EventCutter | None = None
        self._inflate: Any = None
        self._headers: dict[bytes, bytes] = _NONE
        self._parts: list[bytes] = []

    @property
    def data_class(self) -> DataClass | None:
        """Of the prompt; None when it was not looked through."""
        return self.findings.data_class if self.findings is not None else None

    @abstractmethod
    def start(self) -> None:
        """Try the candidate whose turn it is."""

    @abstractmethod
    def late_at(self, now: float) -> bool:
        """Whether the upstream should have said something by now."""

    @abstractmethod
    def late(self) -> None:
        """The upstream is silent for too long."""

    @abstractmethod
    def keep_alive(self, now: float) -> None:
        """Give a stream whose upstream is silent a sign of life, when it is time for one."""

    @abstractmethod
    def reserve_more(self, *, parked: bool = False) -> None:
        """Hold more money for a stream that outgrows what is held for it."""

    @abstractmethod
    async def _dial(self) -> None:
        """Make a new connection to it."""

    # -- ends --------------------------------------------------------------------------------------------------------
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
            is_last = self._begun or self.place + 1 >= len(self.options)
            if is_last and self.plane.revives(self, refusal):
                return
            self.plane.failed(self, refusal)
            if not is_last and self.plane.may_retry(self):
                self._next(refusal)
                return
        elif refusal.code == "upstream_died":
            self.plane.failed(self, refusal)
        elif refusal.status != 503:
            self.plane.answered(self)
        refusal.headers.setdefault("x-ecotone-backend", self.option.candidate.target.backend)
        self._end("upstream_died" if refusal.code == "upstream_died" else "failed", refusal)

    def again(self, option: Option, refusal: Refusal) -> None:
        """Go on with an engine that came in the place of one that died; what that one did is in no account."""
        self._sent = False
        self.options = [*self.options, option]
        self.place = len(self.options) - 2
        self._next(refusal)

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
        self.retries += 1
        before = self.option.candidate.name
        self.option = self.plane.because(self, self.options[self.place], f"fallback; {before} failed ({refusal.code})")
        self.usage = Usage()
        self._forget_answer()
        self.short = 0
        self.names = self._upstream = self._passing = self._reader = self._cutter = None
        self._bare = False
        self.plane.turns.add("failed", failed, _nothing)
        try:
            self.start()
        except Refusal:  # the next one has no room: what is told is why the one before gave no answer
            refusal.headers.setdefault("x-ecotone-backend", told["backend"])
            self._settled = True
            self.plane.jobs.discard(self)
            self._refuse(refusal)

    def _forget_answer(self) -> None:
        """Of what a backend answered; the next call begins anew."""
        self._parts, self._status, self._size, self.first = [], 0, 0, 0.0
        self._inflate = self._masked_body = None
        self._retried = self._sent = self.lost = False

    def _is_billed(self, refusal: Refusal | None) -> bool:
        """Whether the backend may take money for the call."""
        return self._sent and (refusal is None or refusal.code in _MAY_BE_BILLED or self.shown or self.short > 0)

    def _attempt(self) -> dict[str, Any]:
        """What a call that failed may have cost, for its record; the money that it held is settled."""
        usage, option, lane = self.usage, self.option, self.lane
        if usage.estimate:
            usage.settled(self.request)
        cost = 0 if option.free else cost_of(option.price, usage) if option.price is not None else None
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.settle(usage.prompt_tokens + usage.completion_tokens, cost)
        self._count("failed", cost, self.plane.now())
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
        if refusal.is_about_money:
            self.marks += b',"budget":%b' % msgspec.json.encode(budget_of(refusal))

        def tell(_: LedgerFull | None) -> None:
            self._refuse(refusal)

        self._settle(status, tell, refusal)

    def _refuse(self, refusal: Refusal) -> None:
        if self.gone:
            return
        if self._begun:
            self.client.end(event_of(self.client, refusal))
        else:
            self.plane.tell(self.client, refusal, self.request_id)

    def _settle(self, status: str, after: Any, refusal: Refusal | None = None) -> None:
        """Write what was used, give back what was held too much, then go on."""
        if self._settled:
            return
        self._settled = True
        plane, usage, option = self.plane, self.usage, self.option
        plane.jobs.discard(self)
        billed = self._sent if refusal is None else self._is_billed(refusal)
        if usage.estimate:
            if billed or self.kept is not None:
                usage.settled(self.request)
            else:
                usage.estimate = False
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if option.free or not billed:
            cost: int | None = 0
        else:
            cost = cost_of(option.price, usage) if option.price is not None else None
        self.cost = cost
        hold = self.hold
        if hold is not None:
            self.hold = None
            hold.settle(prompt + completion, cost)
        now = plane.now()
        cached, written = usage.cached_tokens, usage.cache_write_tokens + usage.cache_write_1h_tokens
        details = _ORDINARY
        if cached or written or usage.reasoning_tokens or usage.estimate:
            estimate = b"true" if usage.estimate else b"false"
            details = _DETAILS % (cached, written, usage.reasoning_tokens, estimate)
        record = _SETTLED % (
            self.request_id,
            option.settled,
            status.encode(),
            prompt,
            completion,
            details,
            b"null" if cost is None else b"%d" % cost,
            self.first - self.began if self.first else 0.0,
            now - self.began,
            b"null" if refusal is None else b'"%b"' % refusal.code.encode(),
            self.marks,
            b"" if self.texts is None else plane.keep_texts(self, self.texts),
        )
        self._count(status, cost, now)
        plane.turns.add("settled", record, after or _nothing)

    def _count(self, status: str, cost: int | None, now: float) -> None:
        """Show the call in the figures, as its record shows it in the ledger's sums."""
        counters, lane, option = self.plane.counters, self.lane, self.option
        if counters is not None:
            counters.done(
                lane.consumer.name,
                lane.route.name if lane.route is not None else None,
                option.candidate.target.backend,
                option.name,
                lane.face,
                status,
                self.usage.prompt_tokens,
                self.usage.completion_tokens,
                cost,
                self.first - self.began if self.first else None,
                now - self.began,
            )

    def _let_go(self) -> None:
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.release()

    def _leave(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.leave()

    def _head_block(self) -> bytes:
        return b"x-request-id: %b\r\n%b%b" % (self.request_id, self.option.block, self.rates)

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
