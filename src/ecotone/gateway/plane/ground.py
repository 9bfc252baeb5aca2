"""What all requests of a process share: places, limits, prices, ids, threads, the ledger's turns."""

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from binascii import hexlify
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Final, Protocol

import blake3
import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.cache import Cache, Kept, Recording
from ecotone.gateway.chains import sums_folder
from ecotone.gateway.choosing import Chooser
from ecotone.gateway.counters import Counters
from ecotone.gateway.health import Outcome, wait_of
from ecotone.gateway.limits import Limiter
from ecotone.gateway.links import Links
from ecotone.gateway.metering import unlimited_completion
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane.callers import Client
from ecotone.gateway.plane.course import NO_FAILURE, Course
from ecotone.gateway.plane.heads import Head
from ecotone.gateway.plane.lanes import Lane, Lanes, Option, header_block
from ecotone.gateway.plane.listing import Listing
from ecotone.gateway.plane.marks import tags_of
from ecotone.gateway.plane.turns import Turns
from ecotone.gateway.prices import Price
from ecotone.gateway.snapshot import Snapshot
from ecotone.gateway.tasks.clients import body_of
from ecotone.ledger import Ledger, LedgerWriter, settle_open
from ecotone.ledger.lines import RequestIds
from ecotone.ledger.rulings import Rulings
from ecotone.ledger.texts import Texts
from ecotone.settings import Settings

FACES: Final = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings"}
PATHS: Final = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings", "tasks": "tasks"}
ALIVE_SECONDS: Final = 15.0
"""Silence of a stream after which its client gets a sign of life."""
_FEW: Final = 8 * 1024
_JSON: Final = b"content-type: application/json\r\n"


class Snapshots(Protocol):
    """Where the newest snapshot is."""

    @property
    def current(self) -> Snapshot: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Nothing:
    """Snapshots of a plane that has none yet."""

    def __init__(self, current: Snapshot) -> None:
        self.current = current

    def start(self) -> None: ...

    def stop(self) -> None: ...


def _nobody(_model: str) -> None:
    """There are no engines here."""


class Ground(ABC):
    """What requests stand on.

    Args:
        settings: limits and time-outs.
        writer: the chain of the ledger that this process writes.
        limiter: holds money and rates; None where nothing is limited.
        counters: what is shown of the traffic.
        texts: where prompts and answers go that a project wants kept.
    """

    def __init__(
        self,
        settings: Settings,
        writer: LedgerWriter,
        *,
        limiter: Limiter | None = None,
        counters: Counters | None = None,
        texts: Texts | None = None,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self.ids = RequestIds(writer.writer)
        self.limiter = limiter
        self.counters = counters
        self._texts = texts
        self._snapshot = Snapshot()
        self._snapshots: Snapshots = _Nothing(self._snapshot)
        self._stale: bool | None = None
        self._lanes = Lanes(settings, PATHS)
        self.chooser = Chooser(settings.backend_rest)
        self.resting = self.chooser.health.resting
        self.cache = Cache(settings.cache_bytes)
        self._links = Links(settings.request_allow)
        self._cache_key = hashlib.sha256(settings.secret("cache")).digest()
        self._listing = Listing(settings.egress)
        self._prompt_keys: dict[str, tuple[bytes, Any]] = {}
        self._prompt_key = settings.secret("prompt-hash")
        # one at a time: each takes the interpreter from the loop, and several would take it in turns
        self._threads = ThreadPoolExecutor(1, "gateway")
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self.rulings = Rulings(writer)
        self._ids_of: Any = None
        self._ids: set[str] = set()
        self.connections: set[Any] = set()
        self.jobs: set[Course] = set()
        self.patience = settings.upstream_idle
        self.stream_hold = settings.stream_hold
        self.alive_seconds = ALIVE_SECONDS
        self.most_body = settings.max_request_bytes
        self.most_answer = settings.max_answer_bytes
        self.now = time.monotonic
        self.wake: Callable[[str], None] = _nobody
        """Asks for a model's engine to be loaded; does not wait."""
        self.turns: Turns

    def settle_open(self) -> int:
        """Settle, as estimates, what the last end of the process left open."""
        settings = self._settings
        ledger = Ledger(settings.folder("ledger"), spill=settings.spill)
        return settle_open(ledger, self._writer, kept=sums_folder(settings))

    def use(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    @property
    def in_touch(self) -> bool:
        """Whether who lends limits answered last; where they are counted here, always."""
        return True

    async def start(self) -> None:
        """Begin, on the loop that runs."""
        self._begin(asyncio.get_running_loop())
        self._snapshots.start()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.turns = Turns(self._writer, loop, self.jobs)
        smallest = min(self._settings.upstream_first, self._settings.upstream_idle)
        self._pause = max(0.05, min(0.5, smallest / 4))
        self._sweeping = loop.call_later(self._pause, self._sweep)

    async def stop(self) -> None:
        """End: idle connections are closed, what runs is cut."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for job in list(self.jobs):
            job.drained()
        if self._loop is not None:
            self.turns.write()
        for connection in list(self.connections):
            connection.shutdown()
        await asyncio.to_thread(self._snapshots.stop)
        for task in list(self._tasks):
            task.cancel()
        for place in self._lanes.places:
            place.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- what jobs need ----------------------------------------------------------------------------------------------
    def new_id(self) -> bytes:
        return self.ids.next(self.now())

    def keyed_hash(self, project: str, raw: bytes) -> bytes:
        """Keyed hash of a request's body, 128 bits, with another key for each project.

        SHA-256 over key and body, of which half is shown, for short ones; BLAKE3 in keyed mode, three times as fast
        from some kilobytes on, for long ones.
        """
        known = self._prompt_keys.get(project)
        if known is None:
            if len(self._prompt_keys) > 10_000:
                self._prompt_keys.clear()
            own = hashlib.blake2b(project.encode(), key=self._prompt_key[:64], digest_size=32).digest()
            known = self._prompt_keys[project] = (own, sha256(own))
        own, begun = known
        if len(raw) < _FEW:
            hashed = begun.copy()
            hashed.update(raw)
            return hexlify(hashed.digest()[:16])
        return blake3.blake3(raw, key=own).hexdigest(16).encode()

    def mark(self, job: Course, head: Head) -> None:
        """Tags and end-user of a request, for its records and for the limits that are set for them."""
        lane = job.lane
        told, value = head.fields.get(b"x-ecotone-tags"), job.request.value
        user = value.get("user") or value.get("safety_identifier")
        if told is None and not lane.key.tags and not isinstance(user, str):
            return
        project = lane.consumer.name
        tags = tags_of(told, lane.key.tags)
        scopes: list[str] = []
        if isinstance(user, str):
            hashed = self.keyed_hash(project, b"user\0" + user.encode("utf-8", "replace"))
            job.marks += b',"user":"%b"' % hashed
            if lane.by_user:
                scopes.append(f"project:{project}/user:{hashed.decode()}")
        if tags:
            job.marks += b',"tags":%b' % msgspec.json.encode(tags)
            if lane.by_tag:
                scopes += [f"project:{project}/tag:{tag}" for tag in tags]
        job.scopes = tuple(scopes)

    def ordered(self, job: Course, options: list[Option]) -> list[Option]:
        """Candidates in the order in which they are tried.

        Raises:
            Refusal: 503 when none may be called now.
        """
        route, request = job.lane.route, job.request
        now = self.now()
        if route is not None and route.sticky:
            job.conversation = self._conversation(job.lane, request)
        found = self.chooser.order(
            route,
            options,
            now,
            job.conversation,
            prompt_tokens=request.size // 4,
            completion_tokens=job.completion or unlimited_completion(request, self._settings.max_completion),
            stream=request.stream,
        )
        if not found:
            wait = max(1, round(self.chooser.opens_in(options, now)))
            text = f"{options[0].name} failed too often and rests; try again in {wait} s, or call another model."
            raise Refusal(503, "resting", text, param="model", headers={"retry-after": str(wait)})
        if found[0] is not options[0] and self.chooser.rests(options[0].name):
            found[0] = self.because(job, found[0], f"fallback; {options[0].name} rests after a failure")
        return found

    def _conversation(self, lane: Lane, request: Request) -> bytes:
        """Names a conversation by its project and its messages up to the first of the user, which all turns have."""
        first: Any = []
        for message in request.messages or [str(request.value.get("prompt"))[:2000]]:
            first.append(message)
            if isinstance(message, dict) and message.get("role") == "user":
                break
        return self.keyed_hash(lane.consumer.name, msgspec.json.encode(first))

    def because(self, job: Course, option: Option, why: str) -> Option:
        """The option with one more reason in the answer's headers, and what was found in the text in its record."""
        told = "; ".join(filter(None, [option.candidate.why, why]))
        candidate = msgspec.structs.replace(option.candidate, why=told)
        return Option(job.lane, candidate, option.place, PATHS[job.lane.face], job.findings)

    def unlimited(self, job: Course, price: Price) -> int:
        """Completion tokens to hold money for where a request bounds its answers by nothing: no more than the model can
        write, else what the setting says."""
        return unlimited_completion(job.request, price.max_output or self._settings.max_completion)

    def failed(self, job: Course, refusal: Refusal) -> None:
        """A candidate failed: it rests for a while, as long as it said, when that says something about it."""
        if refusal.code in NO_FAILURE:
            return
        if refusal.status == 429 and job.option.party:
            return  # an engine of ours has too many answers of this project waiting: nothing that others have to bear
        wait = refusal.wait
        if wait is None:
            wait = wait_of(refusal.headers.get("retry-after"), None, time.time())
        self._ended(job, "busy" if refusal.status in (429, 503) else "failed", wait)

    def answered(self, job: Course) -> None:
        """A candidate answered, if only with a refusal that is the request's own fault."""
        self._ended(job, "ok", None)

    def client_left(self, job: Course) -> None:
        """A client left before its answer was complete."""
        self._ended(job, "client", None)

    def _ended(self, job: Course, outcome: Outcome, wait: float | None) -> None:
        now = self.now()
        self.chooser.ended(
            job.option.name,
            outcome,
            job.first - job.tried if job.first else None,
            now - job.tried,
            now,
            wait=wait,
            tokens=job.usage.completion_tokens,
            stream=job.request.stream,
        )

    def may_retry(self, job: Course) -> bool:
        """Whether the next candidate may be called. A fallback route is a list to go down, however long."""
        route = job.lane.route
        if route is not None and job.retries >= route.retries and route.strategy != "fallback":
            return False
        return self.chooser.may_retry(route, self.now())

    # -- work beside the loop ----------------------------------------------------------------------------------------
    async def in_thread(self, what: Callable[..., Any], *how: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, what, *how)

    def spawn(self, work: Coroutine[Any, Any, None], job: Course) -> None:
        """Run something of a job that waits."""

        async def run() -> None:
            try:
                await work
            except Exception as error:
                job.broke(error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep_texts(self, job: Course, answer: Recording) -> bytes:
        """Keep what went in and out for a project that wants it; what the record says of it."""
        if self._texts is None:
            return b""
        kept = msgspec.json.encode(
            {"request": msgspec.Raw(job.request.raw), "answer": answer.text().decode("utf-8", "replace")}
        )
        done = self._texts.keep(job.lane.consumer.name, job.request_id.decode(), kept)
        return b',"texts":"kept"' if done else b',"texts":"dropped"'

    def keep(self, job: Course, kept: Kept | None) -> None:
        """Keep an answer for the route's time. One by another candidate than the first is not kept."""
        if job.place == 0 and job.lane.route is not None:
            self.cache.put(job.cache_key, kept, job.lane.route.cache_seconds, self.now())

    def tell(self, client: Client, refusal: Refusal, own: bytes) -> None:
        """Answer with a refusal."""
        headers = dict(refusal.headers)
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        headers.setdefault("x-ecotone-reason", refusal.code)
        headers.setdefault("x-ecotone-backend", "none")
        if self.counters is not None:
            self.counters.refused(refusal.code)
        client.whole(
            refusal.status, b"x-request-id: %b\r\n%b%b" % (own, _JSON, header_block(headers)), body_of(client, refusal)
        )

    @abstractmethod
    def revives(self, job: Course, refusal: Refusal) -> bool:
        """Whether a request whose engine died goes on by itself once that is back."""

    @abstractmethod
    def _sweep(self) -> None:
        """What took too long, now and then."""
