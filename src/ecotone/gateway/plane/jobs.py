"""One request from its admission to its last byte: candidates in turn, the ledger before and after, money held between.

Nothing here waits: each step is called by what happened, on the event loop's thread. An `opened` record is written
before anything is sent, a `settled` one before the last byte of the answer leaves. Once a byte of content went to the
client no other candidate is called.
"""

from typing import Final

from ecotone.gateway.accounts import is_backends
from ecotone.gateway.answers import Refusal
from ecotone.gateway.cache import Kept
from ecotone.gateway.charging import most_of
from ecotone.gateway.outgoing import outgoing
from ecotone.gateway.plane.answering import OPENAI, Answering
from ecotone.gateway.plane.course import IN_THREAD, RESTING
from ecotone.gateway.plane.lanes import Option
from ecotone.gateway.plane.upstreams import Unreachable, Upstream
from ecotone.gateway.plane.writing import FEW, ONE_WRITE
from ecotone.gateway.refusals import NotLeased, about
from ecotone.ledger import LedgerFull
from ecotone.privacy import Pseudonyms

_OPENED: Final = (
    b'{"request_id":"%b","caller_id":%b,%b,"prompt_hash":"%b","stream":%b,"reserved_prompt_tokens":%d,'
    b'"reserved_completion_tokens":%d,"reserved_cost":%b%b}'
)
_OLD_RATES: Final = 0.01
"""Seconds: so old may be what callers are told of their rates where many call at once."""
_UNKNOWN_FIELD: Final = frozenset({400, 422})


class Job(Answering):
    """A request from its admission on: candidates in turn."""

    __slots__ = ()

    readings = 1
    """How often the engine reads the prompt."""

    def choose(self, options: list[Option]) -> None:
        """Try these, in this order."""
        self.options = options
        self.option = options[0]

    # -- trying ------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Reserve, write that it was opened, and go on once that is written. Raises Refusal when there is no room.

        Money is held for the longest answers that may come: as the request allows, else as the setting says, and never
        more than the model can write. Rates take what the request says, as most answers are far shorter.
        """
        plane, request, option = self.plane, self.request, self.option
        prompt, completion = (len(request.raw) + 2) // 3 * self.readings, self.completion
        if plane.limiter is not None:
            price, cost = option.price, None
            if self.kept is not None:
                cost = 0  # what is kept costs nothing, and needs no budget
            elif price is not None:  # an answer that the request does not bound costs, too
                self.bound = completion or plane.unlimited(self, price)
                cost = most_of(price, prompt, self.bound)
            try:
                scopes = option.scopes + self.scopes
                self.hold = plane.limiter.reserve(scopes, prompt + completion, cost, plane.now())
            except Refusal as refusal:
                if not self._leads_on(refusal):
                    raise about(refusal, option.name) from None
                self._start_next(about(refusal, option.name))
                return
        hold = self.hold
        if hold is not None and hold.plan.rated:
            self.rates = hold.plan.tell(plane.now(), 0.0 if len(plane.jobs) <= FEW else _OLD_RATES)
        record = _OPENED % (
            self.request_id,
            self.caller_id,
            option.record,
            plane.keyed_hash(self.lane.consumer.name, request.raw),
            b"true" if request.stream else b"false",
            prompt,
            completion,
            b"null" if hold is None or hold.cost is None else b"%d" % hold.cost,
            self.marks,
        )
        self._waiting = True
        plane.jobs.add(self)
        ruling = plane.rulings.missing(option.ruling_id, option.ruling)
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
        return refusal.is_about_money or is_backends(str(refusal.ecotone.get("scope")))

    def _start_next(self, refusal: Refusal) -> None:
        """Start the next candidate, as there is no room for this one. Raises the first refusal when none has room."""
        before, found = self.option.name, (self.place, self.option)
        self.place += 1
        why = f"fallback; {before} had no room ({refusal.code})"
        self.option = self.plane.because(self, self.options[self.place], why)
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
        elif self.gone:
            self._settle("client_gone", None)
        elif self.kept is not None:
            self._replayed(self.kept)
        elif self.option.candidate.masked:
            self.plane.spawn(self._masked(), self)
        else:
            self._dispatch()

    def _replayed(self, kept: Kept) -> None:
        self.usage = kept.usage()
        if self.texts is not None:
            self.texts.add(self._parts[0])
        self._settle("cached", self._end_stream if self.request.stream else self._deliver)

    async def _masked(self) -> None:
        """Put placeholders in, away from the loop when there is much to look through."""
        self.names = names = Pseudonyms()
        try:
            salt = self._salt() if self.option.salted else None
            how = (self.request, self.option.candidate, names, self._asks_usage(), salt)
            if self.request.size > IN_THREAD:
                self._masked_body = await self.plane.in_thread(outgoing, *how)
            else:
                self._masked_body = outgoing(*how)
        except Refusal as refusal:
            self.fail(refusal)
        else:
            if not self.gone:
                self._dispatch()

    def _salt(self) -> str:
        """Parts this project's prefix cache from all others' (CVE-2025-46570)."""
        return self.plane.keyed_hash(self.lane.consumer.name, b"cache_salt").decode()

    def _dispatch(self) -> None:
        plane, option = self.plane, self.option
        self.tried = now = plane.now()
        if plane.resting and not plane.chooser.began(option.name):
            text = f"{option.name} failed and is being tried by another request; try again in a moment."
            self.fail(Refusal(503, RESTING, text, param="model", headers={"retry-after": "1"}, retry=True))
            return
        if option.lacks_key:
            target = option.candidate.target
            text = f"The backend {target.backend} has no key: set {target.key_env} in the server's environment and "
            self.fail(Refusal(503, "backend_without_key", text + "start it again.", retry=True))
            return
        found = option.place.take()
        if found is None:
            plane.spawn(self._dial(), self)
        else:
            self._send(found, now)

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
            self._send(found, self.plane.now())

    def _send(self, upstream: Upstream, now: float) -> None:
        """Send the body: with another name of the model in it and as it came, where nothing else has to be changed."""
        request, option = self.request, self.option
        self._upstream = upstream
        self._sent = True
        self.deadline = now + self.lane.wait
        raw, told, own = request.raw, option.told, option.own
        if request.canonical and option.plain and (request.wants_usage or not request.stream) and raw.startswith(told):
            begin = len(told)
            head = b"%b%d\r\n\r\n%b" % (option.head, len(own) + len(raw) - begin, own)
            if len(raw) < ONE_WRITE:
                upstream.send(self, head + raw[begin:], is_alone=len(self.plane.jobs) <= FEW)
            else:
                upstream.send_parts(self, (head, memoryview(raw)[begin:]))
            return
        body = self._masked_body
        if body is None:
            ask_usage, salt = self._asks_usage(), self._salt() if option.salted else None
            body = request.forwarded(option.candidate.model, ask_usage=ask_usage, salt=salt)
        upstream.send_parts(self, (b"%b%d\r\n\r\n" % (option.head, len(body)), body))

    def _asks_usage(self) -> bool:
        """Whether a stream is asked for usage, as the client does not: of all models but those that refuse it."""
        if not self.request.stream or self.request.wants_usage or self._bare:
            return False
        option = self.option
        plain = option.place.plain
        return not plain or plain.get(option.candidate.model, 0.0) <= self.plane.now()

    def _refused_by_upstream(self) -> None:
        """Tell it; but where it names what we added, which old servers do not know, ask once more without that."""
        request = self.request
        ours = request.stream and not request.wants_usage and not self._bare and self.lane.face in OPENAI
        if not ours or self._status not in _UNKNOWN_FIELD or self.gone or self._settled:
            super()._refused_by_upstream()
            return
        told = b"".join(self._parts)
        if b"stream_options" not in told and b"include_usage" not in told:
            super()._refused_by_upstream()
            return
        self._bare = True
        self.plane.answered(self)
        self._forget_answer()
        if self.option.candidate.masked:
            self.plane.spawn(self._masked(), self)
        else:
            self._dispatch()
