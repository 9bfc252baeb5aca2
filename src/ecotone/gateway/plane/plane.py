"""The data plane: takes requests in from connections and from ASGI, and has what all of them share."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from ecotone.gateway.admission import look_into
from ecotone.gateway.answers import Refusal
from ecotone.gateway.cache import Kept, Recording, key_of
from ecotone.gateway.links import may_hold
from ecotone.gateway.parsing import HEAVY, Request, parse
from ecotone.gateway.paths import MISTAKEN, is_task
from ecotone.gateway.plane.asgi import AsgiClient
from ecotone.gateway.plane.callers import Client, Work
from ecotone.gateway.plane.connections import Connection
from ecotone.gateway.plane.faults import log_fault
from ecotone.gateway.plane.ground import FACES
from ecotone.gateway.plane.heads import Head
from ecotone.gateway.plane.jobs import Job
from ecotone.gateway.plane.lanes import Lane, header_block
from ecotone.gateway.plane.later import Asked, Dropped, Later, Who
from ecotone.gateway.plane.listing import row_of
from ecotone.gateway.plane.marks import trace_of
from ecotone.gateway.refusals import budget_of
from ecotone.gateway.snapshot import Consumer, Key
from ecotone.gateway.tasks.addresses import TASKS
from ecotone.gateway.tasks.clients import faced
from ecotone.gateway.tasks.desk import TaskDesk
from ecotone.privacy import Findings, TooDeep, inspect, quick

_MODELS: Final = "/v1/models"
_SCAN_HERE: Final = 4 * 1024
_WAKE_SECONDS: Final = 1.0
_MOST_KNOWN: Final = 64
_MOST_TEXT: Final = 4 * 1024 * 1024
_JSON: Final = b"content-type: application/json\r\n"
_NOT_CALLED: Final = {"x-ecotone-backend": "none", "x-ecotone-reason": "listed; no model was called"}


class Plane(TaskDesk):
    """Everything between a client's connection and a backend's."""

    # -- taking requests in ------------------------------------------------------------------------------------------
    def connection(self) -> Connection:
        """The protocol of a client's connection."""
        if self._loop is None:
            self._begin(asyncio.get_running_loop())
        return Connection(self, self.connections)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request that came through an ASGI server."""
        if self._loop is None:
            self._begin(asyncio.get_running_loop())
        await AsgiClient(self, scope, receive, send).run()

    def refused_early(self, head: Head, address: str) -> Refusal | None:
        """Why a request is refused before its body is read; None when it is not."""
        try:
            self._asker(head, address)
        except Refusal as refusal:
            return refusal
        if head.fields.get(b"content-encoding", b"identity").lower() != b"identity":
            return Refusal(415, "encoded_body", "The body has a content-encoding; send it as plain JSON.")
        return None

    def take(self, client: Client, head: Head, body: bytes, address: str) -> Work | None:
        """Answer a request, now or later; returns what is under way."""
        try:
            who: Who | None = head.who
            if (
                who is None
                or who.snapshot is not self._snapshots.current
                or self._stale is not False
                or 0 < who.expires <= time.time()
            ):
                who = self._asker(head, address)
            face = who.face
            if face is None:
                if is_task(head.path.encode(), head.method):
                    return self._at_model(client, head, who, body)
                return self._other(client, head, who.key, who.consumer)
            if len(body) > HEAVY:
                return self._later(client, self._taken_away(client, head, who, face, body))
            request = parse(face, body, skimming=not who.consumer.scan)
            asked = Asked(client, head, who, request)
            if who.consumer.scan:
                asked.findings = found = _looked(request)
                if found is None:
                    return self._later(client, self._taken_away(client, head, who, face, body))
                if found.kinds or found.unscanned:
                    return self._admitted(asked)
            lane = who.lanes.get(request.model)
            return self._admitted(asked) if lane is None else self._go(asked, lane)
        except Refusal as refusal:
            self.refuse(client, refusal, head)
        except Exception as error:
            self.broke(faced(client, head), error)
        return None

    async def _taken_away(self, client: Client, head: Head, who: Who, face: str, body: bytes) -> Work | None:
        """A body that takes long to look through is looked through in a thread."""
        request, findings = await self.in_thread(self._read, face, body, who.consumer.scan)
        return self._admitted(Asked(client, head, who, request, findings))

    def _read(self, face: str, body: bytes, scan: bool) -> tuple[Request, Findings | None]:
        """Runs in a thread. Raises Refusal."""
        request = parse(face, body)
        self._links.check(request)
        return request, look_into(request) if scan else None

    def _asker(self, head: Head, address: str) -> Who:
        """Who asks, by the newest snapshot: as was found for the same head before, while that holds. Raises Refusal."""
        self._look()
        who: Who | None = head.who
        if who is None or who.snapshot is not self._snapshot or 0 < who.expires <= time.time():
            who = head.who = self._who(head, address)
        return who

    def _who(self, head: Head, address: str) -> Who:
        if head.path.encode() in MISTAKEN:
            raise _unknown(head.path, " The base address of a client ends with /v1.")
        secret = head.secret()
        if secret is None:
            raise Refusal(
                401, "missing_key", "No key was sent; send `Authorization: Bearer KEY` with a project's key (eck_...)."
            )
        hashed = hashlib.sha256(secret).hexdigest()
        key, consumer = self._lanes.known(hashed, secret[:4].decode("latin-1"), address, time.time())
        has_tags = bool(key.tags) or b"x-ecotone-tags" in head.fields
        face = FACES.get(head.path) if head.method == b"POST" else None
        trace = trace_of(head.fields.get(b"traceparent"))
        repeats = head.fields.get(b"x-stainless-retry-count", b"0") != b"0"
        return Who(hashed, key, consumer, self._snapshot, face, _caller(head), has_tags, trace, repeats)

    def _look(self) -> None:
        """Take over a new snapshot. Raises Refusal when the one at hand is too old."""
        snapshot = self._snapshots.current
        if snapshot is not self._snapshot:
            self._lanes.use(snapshot)
            self.chooser.use(snapshot, snapshot.prices)
            if self.limiter is not None and snapshot.limits is not self._snapshot.limits:
                self.limiter.use(snapshot.limits)
            self._snapshot = snapshot
            self._stale = None
        if self._stale or (self._stale is None and self._is_stale()):
            text = "The gateway has had no contact with the decisions for too long; it refuses until it has."
            raise Refusal(503, "snapshot_too_old", text, headers={"retry-after": "5"})

    def _is_stale(self) -> bool:
        """Whether the snapshot at hand is too old to serve; looked at anew at each sweep."""
        self._stale = time.time() - self._snapshot.built > self._settings.snapshot_max_age
        return self._stale

    def _admitted(self, asked: Asked) -> Work | None:
        try:
            lane = self._lane(asked)
        except Refusal as refusal:
            self._note_refused(asked, refusal)
            return None
        if not lane.ready:
            try:
                self._check_room(asked, lane)
            except Refusal as refusal:
                return self._no_room(asked, lane, refusal)
        if len(lane.ready) < len(lane.options):
            self._wake(lane)
        if not lane.ready:
            return self._later(asked.client, self._waited(asked))
        return self._go(asked, lane)

    def _check_room(self, asked: Asked, lane: Lane) -> None:
        """Whether limits would let the request go on, before an engine is loaded for it. Raises Refusal."""
        if self.limiter is None:
            return
        refused: Refusal | None = None
        for option in lane.options:
            price = option.price
            try:
                self.limiter.check(option.scopes, None if price is None else price.most(1, 1), self.now())
                return
            except Refusal as refusal:
                refused = refused or refusal
        if refused is not None:
            raise refused

    def _lane(self, asked: Asked) -> Lane:
        """Who may answer. Raises Refusal."""
        who, request, findings = asked.who, asked.request, asked.findings
        if findings is not None and (findings.kinds or findings.unscanned):
            return self._lanes.made(who.key, who.consumer, request, findings)
        lane = self._lanes.lane(who.hashed, who.key, who.consumer, request)
        if len(lane.ready) == len(lane.options) and len(who.lanes) < _MOST_KNOWN and who.snapshot is self._snapshot:
            who.lanes[request.model] = lane
        return lane

    def _go(self, asked: Asked, lane: Lane) -> Work | None:
        """Begin. Raises Refusal."""
        who, value, route = asked.who, asked.request.value, lane.route
        if asked.request.size <= HEAVY and may_hold(asked.request):
            self._links.check(asked.request)
        job = asked.job(self, lane)
        job.findings = asked.findings
        if lane.consumer.keep_days:
            job.texts = Recording(_MOST_TEXT)
        if who.has_tags or "user" in value or "safety_identifier" in value:
            self.mark(job, asked.head)
        if who.repeats and self.counters is not None:
            self.counters.retries += 1
        if who.trace:
            job.marks += b',"trace":"%b"' % who.trace
        if route is not None or self.resting:
            job.choose(self.ordered(job, lane.ready))
        kept = self._kept(job) if route is not None and route.cache_seconds else None
        try:
            if kept is not None:
                job.replay(*kept)
            else:
                job.start()
        except Refusal as refusal:
            return self._no_room(asked, lane, refusal)
        if route is not None and route.shadow is not None and kept is None:
            self._shadowed(job)
        return job

    def _no_room(self, asked: Asked, lane: Lane, refusal: Refusal) -> Work | None:
        """A request has no room under a limit. Raises the refusal where it stays out of the ledger."""
        if not refusal.is_about_money:
            raise refusal
        self._note_refused(asked, refusal)
        return None

    def _kept(self, job: Job) -> tuple[Kept, bytes] | None:
        """What is kept of the same question, as this request wants it; else the job will keep its answer."""
        lane, candidate, request = job.lane, job.option.candidate, job.request
        if candidate.masked or lane.face == TASKS:
            return None
        assert lane.route is not None
        job.cache_key = key_of(
            self._cache_key,
            project=lane.consumer.name,
            scope=lane.key.id if lane.key.models else "project",
            route=lane.route.name,
            model=candidate.name,
            revision=candidate.target.revision,
            legal=candidate.target.legal,
            face=lane.face,
            data_class=str(job.data_class),
            fields=msgspec.json.decode(request.raw, type=dict[str, msgspec.Raw]),
            alias=lane.route.alias,
        )
        kept = self.cache.get(job.cache_key, self.now())
        if kept is not None:
            body = kept.stream(wants_usage=request.wants_usage) if request.stream else kept.whole()
            if body is not None:
                return kept, body
        if request.stream:
            job.recording = Recording(self.cache.most_bytes // 8)
        return None

    def _shadowed(self, job: Job) -> None:
        """Send a copy to the route's shadow where this request's turn has come and the same rules allow it."""
        route = job.lane.route
        assert route is not None
        name = self.chooser.shadow(route, self.now()) if job.lane.face != TASKS else None
        if name is None:
            return
        lane = job.lane
        copy = job.request.under(name)
        try:
            found = self._lanes.made(lane.key, lane.consumer, copy, job.findings or inspect({}), any_model=True)
            if found.ready:
                shadow = Job(self, Dropped(), job.request, found, found.ready[:1], job.caller_id)
                shadow.marks, shadow.scopes, shadow.findings = job.marks, job.scopes, job.findings
                why = f"shadow of route {route.name}, for request {job.request_id.decode()}"
                shadow.choose([self.because(shadow, shadow.option, why)])
                shadow.start()
        except Refusal:
            return

    async def _waited(self, asked: Asked) -> Work | None:
        """An engine that is starting is waited for as long as the settings say. Who gives up before it is there had it
        loaded all the same, so that counts as a request."""
        try:
            lane = await self._loaded(asked)
        except (asyncio.CancelledError, Refusal):
            with contextlib.suppress(Refusal):
                self._count(asked)
            raise
        return self._go(asked, lane)

    async def _loaded(self, asked: Asked) -> Lane:
        """A lane of which an engine answers. Raises Refusal."""
        end = self.now() + self._settings.engine_wait
        asked_at = self.now()
        while True:
            self._look()
            lane = self._lane(asked)
            if lane.ready:
                return lane
            first = lane.options[0].candidate
            if self.now() > end or not any(o.candidate.target.starting for o in lane.options):
                text = f"The engine of {first.name} is not ready ({first.target.note}); `ecotone ps` shows its state."
                raise Refusal(503, "engine_not_ready", text, param="model", headers={"retry-after": "5"})
            if self.now() - asked_at > _WAKE_SECONDS:
                asked_at = self.now()
                self._wake(lane)
            await asyncio.sleep(0.1)

    def _wake(self, lane: Lane) -> None:
        """Have engines loaded that this request may use."""
        for option in lane.options:
            target = option.candidate.target
            if target.wakes and not target.ready:
                self.wake(option.candidate.name)

    def _note_refused(self, asked: Asked, refusal: Refusal) -> None:
        """A refusal by decision, data class or budget stands in the ledger; it is told, written or not."""
        client, head, request, findings = asked.client, asked.head, asked.request, asked.findings
        if not refusal.is_ruled:
            self.refuse(client, refusal, head)
            return
        try:
            self._count(asked)  # it stands in the ledger
        except Refusal as limited:
            self.refuse(client, limited, head)
            return
        told, own = refusal.ecotone, self.new_id()
        record = {
            "request_id": own.decode(),
            "caller_id": msgspec.Raw(asked.who.caller),
            "project": asked.who.consumer.name,
            "key": asked.who.key.id,
            "face": request.face,
            "asked": request.model,
            "model": told.get("model", request.model),
            "status": refusal.status,
            "code": refusal.code,
            "message": refusal.message,
            "data_class": findings.data_class if findings is not None else None,
            "kinds": findings.kinds if findings is not None else {},
            "knowledge_base": told.get("knowledge_base"),
            "decision": {k: told[k] for k in ("verdict", "reasons", "would_allow", "knowledge_base") if k in told},
        }
        if refusal.is_about_money:
            record["budget"] = budget_of(refusal)
        if asked.who.trace:
            record["trace"] = asked.who.trace.decode()
        self.turns.add("refused", msgspec.json.encode(record), lambda _: self.tell(client, refusal, own))

    def _count(self, asked: Asked) -> None:
        """Count a request that came to nothing. Raises Refusal when it is one too many."""
        if self.limiter is not None:
            scopes = (f"key:{asked.who.key.id}", f"project:{asked.who.consumer.name}", "organisation")
            self.limiter.reserve(scopes, 0, 0, self.now()).release()

    # -- other endpoints ---------------------------------------------------------------------------------------------
    def _other(self, client: Client, head: Head, key: Key, consumer: Consumer) -> "Work | None":
        path = head.path
        if path in FACES:
            raise Refusal(405, "method_not_allowed", f"{path} takes POST.", headers={"allow": "POST"})
        if path != _MODELS and not path.startswith(_MODELS + "/"):
            raise _unknown(path)
        if head.method not in (b"GET", b"HEAD"):
            raise Refusal(405, "method_not_allowed", f"{_MODELS} takes GET.", headers={"allow": "GET"})
        wanted = unquote(path.removeprefix(_MODELS).strip("/"))
        return self._later(client, self._models(client, key, consumer, wanted))

    async def _models(self, client: Client, key: Key, consumer: Consumer, wanted: str) -> None:
        found = await self._listing.rows(self._snapshot, consumer)
        rows = [
            row for row in found + self._listing.unlisted(self._snapshot, consumer, wanted) if key.allows(row["id"])
        ]
        body = msgspec.json.encode(row_of(rows, wanted) if wanted else {"object": "list", "data": rows})
        block = b"x-request-id: %b\r\n%b%b" % (self.new_id(), _JSON, header_block(_NOT_CALLED))
        client.whole(200, block, body)

    # -- refusing ----------------------------------------------------------------------------------------------------
    def refuse(self, client: Client, refusal: Refusal, head: Head | None) -> None:
        self.tell(faced(client, head), refusal, self.new_id())

    def broke(self, client: Client, error: Exception) -> None:
        """A fault of our own before a job was made."""
        own = self.new_id()
        log_fault(error, own)
        text = f"Something failed here; the request's id is {own.decode()}."
        self.tell(client, Refusal(500, "internal_error", text), own)

    # -- work beside the loop ----------------------------------------------------------------------------------------
    def _later(self, client: Client, work: Coroutine[Any, Any, Any]) -> "Later":
        later = Later(self, client)
        later.task = asyncio.get_running_loop().create_task(later.run(work))
        self._tasks.add(later.task)
        later.task.add_done_callback(self._tasks.discard)
        return later

    def _sweep(self) -> None:
        """What took too long, and keys that were revoked meanwhile."""
        assert self._loop is not None
        self._sweeping = self._loop.call_later(self._pause, self._sweep)
        now = self.now()
        self._stale = None
        with contextlib.suppress(Refusal):
            self._look()
        known = self._known_keys(self._snapshot.keys)
        for job in list(self.jobs):
            try:
                if job.lane.key.id not in known:
                    job.revoked()
                elif job.late_at(now):
                    job.late()
                else:
                    job.keep_alive(now)
                    job.reserve_more()
            except Exception as error:
                job.broke(error)
        for connection in list(self.connections):
            connection.sweep(now, self.patience)
        for place in self._lanes.places:
            place.sweep(now)
        self.turns.write()  # what is owed to the ledger since it was full

    def _known_keys(self, keys: dict[str, Key]) -> set[str]:
        if self._ids_of is not keys:
            self._ids_of, self._ids = keys, {key.id for key in keys.values()}
        return self._ids


def _looked(request: Request) -> Findings | None:
    """What the text holds, where that is told quickly; None where it has to be looked at in a thread."""
    try:
        found = quick(request.value)
    except TooDeep as error:
        raise Refusal(400, "too_deep", error.message) from None
    return look_into(request) if found is None and request.size < _SCAN_HERE else found


def _unknown(path: str, more: str = "") -> Refusal:
    return Refusal(404, "not_found", f"There is no endpoint {path}; known: {', '.join(FACES)}, {_MODELS}.{more}")


def _caller(head: Head) -> bytes:
    """The caller's own id of the request as JSON."""
    told = head.fields.get(b"x-request-id")
    return b"null" if told is None else msgspec.json.encode(told[:128].decode("latin-1"))
