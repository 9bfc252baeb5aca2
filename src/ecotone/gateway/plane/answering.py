"""What comes from a backend on its way to the client: whole answers, streams, errors, silence."""

import zlib
from typing import Any, Final

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.cache import Kept
from ecotone.gateway.calls import OBJECT
from ecotone.gateway.charging import most_of
from ecotone.gateway.incoming import BadAnswer, read_answer
from ecotone.gateway.keys import without_key, without_key_bytes
from ecotone.gateway.metering import answers_of, choices_of
from ecotone.gateway.plane.course import IN_THREAD, MOST_ERROR, Course
from ecotone.gateway.plane.figures import answer_decoder
from ecotone.gateway.plane.passing import Passing, Unusual
from ecotone.gateway.plane.refused import told_by
from ecotone.gateway.plane.writing import cost_line
from ecotone.gateway.refusals import lost, outgrown
from ecotone.gateway.streams import DONE, EventCutter, StreamReader
from ecotone.ledger import LedgerFull

_MOST_TOLD: Final = 500
_ALIVE: Final = b": waiting\n\n"
_STEP: Final = 1024
"""Tokens for which more money is held at once."""
_LOOKS: Final = 8
"""At a stream that outgrew its money, two in each half second, until a slice must have come."""
_BESIDE: Final = 4
"""Events of an answer that hold no token: who speaks, the end, usage."""
_PLAIN_SECONDS: Final = 3600.0
_MOST_PLAIN: Final = 1024
OPENAI: Final = frozenset({"chat", "completions"})
"""Faces whose clients pass over comments in a stream."""


class Answering(Course):
    """A request whose candidate answers."""

    __slots__ = ()

    # -- what the upstream does --------------------------------------------------------------------------------------
    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._status = status
        self._headers = headers
        self.first = self.plane.now()
        if not (self.lane.to_event and self.request.stream and status == 200):
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
            self._whole(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        else:
            self._refused_by_upstream()

    def answer_whole(self, headers: dict[bytes, bytes], body: bytes, now: float) -> None:
        """A whole plain answer at once."""
        if self.request.stream or len(body) > self.plane.most_answer:
            self.answer_began(200, headers)
            self.answer_data([body], True)
            return
        self._upstream = None
        self._status = 200
        self._headers = headers
        self.first = now
        self._whole(body)

    def answer_lost(self, how: str, again: bool) -> None:
        self._upstream = None
        self.lost = True
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
            self.fail(Refusal(504, "timeout", text, retry=True))
        elif self.request.stream and self._status == 200:
            self._stream_failed("stalled")
        else:
            self.fail(self.died("did not finish its answer (it stalled)"))

    def late_at(self, now: float) -> bool:
        """Whether the upstream should have said something by now; one that waits for its client is not late."""
        return self._upstream is not None and now > self.deadline and not self.client.slow

    def keep_alive(self, now: float) -> None:
        """Begin a stream whose first event is long in coming, and comment on each long silence: nothing between here
        and the client takes the connection for a dead one. No other backend is called from then on."""
        if not self.request.stream or self._settled or self.gone or self.client.slow:
            return
        if self._upstream is None and not self._begun:  # once it began, it lives while another engine is waited for
            return
        if self._status not in (0, 200) or self.lane.face not in OPENAI:
            return
        if not self._begun:
            if now - self.began < self.plane.stream_hold:
                return
            self._begun = True
            self.client.begin(self._head_block())
        elif now - self.beat < self.plane.alive_seconds:
            return
        self.beat = now
        self.client.write(_ALIVE)

    def reserve_more(self, *, parked: bool = False) -> None:
        """Hold money for a stream that is longer than what was thought of, step by step, until a budget refuses: then
        it is cut. Its calls at the same time would overspend together else.

        Args:
            parked: it is looked at between its turns, as a coordinator was asked for a slice and has answered.

        Where the request sets a limit it is reserved already, and letters tell too little of tokens to cut an answer
        that keeps to it: what counts is what the backend reports, and events, of which each holds one token at least.
        """
        hold, price, follower = self.hold, self.option.price, self._passing or self._reader
        if follower is None or hold is None or hold.cost is None or price is None or price.free or self._settled:
            return
        request, bound = self.request, self.bound
        produced = follower.pieces - _BESIDE * answers_of(request) if self.completion else follower.produced
        lack = max(produced, self.usage.completion_tokens) - bound
        if lack <= 0:
            return
        prompt = (len(request.raw) + 2) // 3
        before, cost = most_of(price, prompt, bound), 0
        for step in (max(lack, _STEP), lack):  # the last of a budget is used up as well
            cost = most_of(price, prompt, bound + step) - before
            if hold.extend(0, cost):
                self.bound += step
                self.short = 0
                return
        account = hold.lacking(cost)
        self.short += 1
        if account is None:
            return
        limiter = hold.limiter
        waits = limiter.is_lent and (self.short == 1 or not account.dry)
        if waits and self.short <= _LOOKS:
            if not parked:  # a slice was asked for; the budget may be dry, or hold more by now
                limiter.park(self._slices_came)
            return
        self._leave()
        self.plane.client_left(self)
        self._end("failed", outgrown(account) if not waits or limiter.in_touch else lost(account))

    def _slices_came(self) -> None:
        """Look again at once: what comes unpaid from the provider is less."""
        try:
            self.reserve_more(parked=True)
        except Exception as error:
            self.broke(error)

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
            if self.shown:
                self._stream_failed("sent what cannot be unpacked")
            else:
                self.fail(self.died("sent what cannot be unpacked, or too much of it", retry=False))
            return None
        return found

    # -- whole answers -----------------------------------------------------------------------------------------------
    def _whole(self, data: bytes) -> None:
        if self.names is None and not (b'"arguments"' in data and OBJECT.search(data) is not None):
            try:
                found = answer_decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                found = None
            if (
                found is not None
                and found.error is None
                and found.usage is not None
                and self.usage.take_decoded(found.usage)
            ):
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
        route, key = self.lane.route, self.option.key
        if route is not None or self.plane.resting:
            self._told_ok()
        if key:
            data = without_key_bytes(data, key)
        if route is not None and route.alias:
            data = _renamed(data, self.lane.asked)
        self._parts = [data]
        if self.texts is not None:
            self.texts.add(data)
        if self.cache_key:
            self.plane.keep(self, Kept.of_whole(self.request.face, data))
        self._settle("done", self._deliver)

    def _deliver(self, wrong: LedgerFull | None) -> None:
        if not self.gone:
            block = b"x-request-id: %b\r\n%b%b%bcontent-type: application/json\r\n" % (
                self.request_id,
                self.option.block,
                self.rates,
                b"" if self.cost is None or self.option.free else cost_line(self.cost),
            )
            self.client.whole(200, block, self._parts[0])

    # -- streams -----------------------------------------------------------------------------------------------------
    def _stream(self, data: bytes, ended: bool) -> None:
        now = self.plane.now()
        if self.shown or not self.lane.to_event:
            self.deadline = now + self.lane.idle
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
            self.beat, self.deadline = now, now + self.lane.idle
            self._show(shown)
        if follower.error is not None:
            self._leave()
            told = follower.error
            text = told if isinstance(told, str) else told.get("message") if isinstance(told, dict) else str(told)
            self._stream_failed(f"reported an error: {without_key(str(text), self.option.key)[:_MOST_TOLD]}")
        elif follower.done or ended:
            if not follower.whole:
                self._leave()
                self._stream_failed(self._unfinished())
            else:
                self._stream_ended(follower)

    def _unfinished(self) -> str:
        """How a stream ended that was none: some say in plain JSON why."""
        left = (
            self._passing.rest if self._passing is not None else self._cutter.left if self._cutter is not None else b""
        )
        told = "" if self.shown else told_by(left[:MOST_ERROR], self.option.key)
        return f"answered with no stream: {told}" if told else "ended before the answer was complete"

    def _follow(self) -> None:
        """Begin to follow the stream, in the cheapest way that there is."""
        request = self.request
        if self._bare:
            self._knows_no_usage()
        told, route = request.value.get("logprobs"), self.lane.route
        plain = told is None or told is False  # they would be taken for text, many times as long as the answer
        if plain and self.names is None and not (route is not None and route.alias):
            self._passing = Passing(self.usage, hide_usage=not request.wants_usage, choices=choices_of(request))
        else:
            self._read_on()

    def _knows_no_usage(self) -> None:
        """The model refused to tell usage, and streams when it is not asked: remember that for a while. An error alone
        may quote what a client wrote."""
        plain = self.option.place.plain
        if len(plain) >= _MOST_PLAIN:
            plain.clear()
        plain[self.option.candidate.model] = self.plane.now() + _PLAIN_SECONDS

    def _read_on(self) -> None:
        """Follow the stream event by event from here."""
        request, passing = self.request, self._passing
        if passing is not None:
            passing.estimate()  # what passed until now
        self._passing = None
        self._cutter = EventCutter()
        alias = self.lane.asked if self.lane.route is not None and self.lane.route.alias else None
        self._reader = StreamReader(
            self.usage,
            request.face,
            hide_usage=not request.wants_usage,
            names=self.names,
            alias=alias,
            choices=choices_of(request),
            ended=None if passing is None else passing.ended,
            calls=None if passing is None else passing.calls,
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
        if not self.shown:
            self.shown = True
            if self.plane.resting:
                self.plane.chooser.answered(self.option.name)  # others need not wait for the end of a probe
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
        if route is not None or plane.resting:
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
        if self.texts is not None:
            self.texts.add(self._parts[0])
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
        if not self.shown:
            self.fail(refusal)
            return
        self.plane.failed(self, refusal)
        if self.names is not None:
            refusal.message = self.names.restore(refusal.message)
        self._end("upstream_died", refusal)


def _renamed(data: bytes, name: str) -> bytes:
    """An answer under the name that was asked for."""
    fields: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, "model": name})
