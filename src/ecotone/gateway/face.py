"""The gateway's HTTP face: OpenAI's chat completions, completions, embeddings and models, as a raw ASGI application."""

import asyncio
import contextlib
import logging
import time
import traceback
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from ecotone.gateway.admission import Admission, admit, identify, look_into, visible
from ecotone.gateway.answers import Refusal
from ecotone.gateway.calls import Call
from ecotone.gateway.counters import Counters
from ecotone.gateway.parsing import Request, parse
from ecotone.gateway.relay import Relay
from ecotone.gateway.snapshot import Consumer, Snapshot
from ecotone.gateway.upstream import Upstreams
from ecotone.ledger import Ledger, LedgerWriter, request_id, settle_open
from ecotone.privacy import Findings
from ecotone.settings import Settings

log = logging.getLogger("ecotone.gateway")

FACES = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings"}
_IN_THREAD = 64 * 1024
_MODELS_SECONDS = 300.0


class Snapshots(Protocol):
    """Where the newest snapshot is."""

    @property
    def current(self) -> Snapshot: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Gateway:
    """An ASGI application for paths under `/v1`.

    Args:
        settings: limits and time-outs.
        writer: the chain of the ledger that this process writes.
    """

    def __init__(self, settings: Settings, writer: LedgerWriter, counters: Counters | None = None) -> None:
        self._settings = settings
        self._writer = writer
        self._upstreams = Upstreams(settings)
        self._counters = counters if counters is not None else Counters()
        self._relay = Relay(settings, writer, self._upstreams, self._counters)
        self._snapshots: Snapshots | None = None
        self._version = 0
        self._provider_models: dict[str, tuple[float, list[str]]] = {}

    def settle_open(self) -> int:
        """Settle, as estimates, what the last end of the process left open."""
        return settle_open(Ledger(self._settings.folder("ledger")), self._writer)

    def use(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def start(self) -> None:
        if self._snapshots is not None:
            self._snapshots.start()

    async def stop(self) -> None:
        if self._snapshots is not None:
            await asyncio.to_thread(self._snapshots.stop)
        await self._upstreams.close()

    # -- ASGI --------------------------------------------------------------------------------------------------------
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request."""
        call = Call(scope, receive, send, request_id(self._writer.writer), self._settings.upstream_idle)
        watcher: asyncio.Task[None] | None = None
        try:
            snapshot = self._snapshot()
            hashed, prefix = call.credential()
            consumer = identify(snapshot, hashed, prefix=prefix)
            path = scope["path"]
            if path == "/v1/models" or path.startswith("/v1/models/"):
                await self._models(call, snapshot, consumer, unquote(path.removeprefix("/v1/models").strip("/")))
                return
            face = FACES.get(path)
            if face is None:
                raise Refusal(404, "not_found", f"There is no endpoint {path}; known: {', '.join(FACES)}, /v1/models.")
            if scope["method"] != "POST":
                raise Refusal(405, "method_not_allowed", f"{path} takes POST.", headers={"allow": "POST"})
            body = await call.body(self._settings.max_request_bytes)
            request, findings = (
                await asyncio.to_thread(_read, face, body) if len(body) > _IN_THREAD else _read(face, body)
            )
            try:
                admission = await self._admitted(consumer, request, findings)
            except Refusal as refusal:
                await self._note_refused(call, consumer, request, findings, refusal)
                raise
            work = asyncio.current_task()
            assert work is not None
            watcher = asyncio.create_task(call.watch(work))
            await self._relay.carry(call.id, request, admission, call.caller_id, call.begin, call.write)
        except Refusal as refusal:
            if watcher is None:
                self._counters.refused(refusal.code)
            await _told(call, refusal)
        except (asyncio.CancelledError, ConnectionError):
            if not call.gone:
                raise
        except Exception as error:
            # the exception's own text may quote a prompt, so only its kind and place are logged
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("request %s failed: %s\n%s", call.id, type(error).__name__, place)
            await _told(call, Refusal(500, "internal_error", f"Something failed here; the request's id is {call.id}."))
        finally:
            if watcher is not None:
                watcher.cancel()

    def _snapshot(self) -> Snapshot:
        snapshot = self._snapshots.current if self._snapshots else Snapshot()
        if time.time() - snapshot.built > self._settings.snapshot_max_age:
            text = "The gateway has had no contact with the decisions for too long; it refuses until it has."
            raise Refusal(503, "snapshot_too_old", text, headers={"retry-after": "5"})
        if snapshot.version != self._version:
            self._version = snapshot.version
            self._upstreams.keep_only({t.socket for t in snapshot.targets.values() if t.socket})
        return snapshot

    async def _admitted(self, consumer: Consumer, request: Request, findings: Findings) -> Admission:
        """Candidates; an engine that is starting is waited for as long as the settings say."""
        end = time.monotonic() + self._settings.engine_wait
        while True:
            admission = admit(self._snapshot(), consumer, request, findings)
            ready = tuple(c for c in admission.candidates if c.target.ready)
            if ready:
                return msgspec.structs.replace(admission, candidates=ready)
            if time.monotonic() > end or not any(c.target.starting for c in admission.candidates):
                first = admission.candidates[0]
                text = f"The engine of {first.name} is not ready ({first.target.note}); `ecotone ps` shows its state."
                raise Refusal(503, "engine_not_ready", text, param="model", headers={"retry-after": "5"})
            await asyncio.sleep(0.1)

    async def _note_refused(
        self, call: Call, consumer: Consumer, request: Request, findings: Findings, refusal: Refusal
    ) -> None:
        if refusal.status not in (403, 451):
            return
        told = refusal.ecotone
        record = {
            "request_id": call.id,
            "caller_id": call.caller_id,
            "project": consumer.name,
            "face": request.face,
            "asked": request.model,
            "model": told.get("model", request.model),
            "status": refusal.status,
            "code": refusal.code,
            "message": refusal.message,
            "data_class": findings.data_class,
            "kinds": findings.kinds,
            "knowledge_base": told.get("knowledge_base"),
            "decision": {k: told[k] for k in ("verdict", "reasons", "would_allow", "knowledge_base") if k in told},
        }
        with contextlib.suppress(Exception):  # a refusal stands, written or not
            await self._writer.appended("refused", record)

    # -- models ------------------------------------------------------------------------------------------------------
    async def _models(self, call: Call, snapshot: Snapshot, consumer: Consumer, wanted: str) -> None:
        if call.scope["method"] not in ("GET", "HEAD"):
            raise Refusal(405, "method_not_allowed", "/v1/models takes GET.", headers={"allow": "GET"})
        found = {name: "local" for name in snapshot.targets if _callable(snapshot, consumer, name)}
        backends = [t for name, t in snapshot.backends.items() if _callable(snapshot, consumer, f"{name}/any")]
        lists = await asyncio.gather(*(self._models_of(t.name, t.url or "", t.key_env) for t in backends))
        for backend, models in zip(backends, lists, strict=True):
            found |= {f"{backend.name}/{model}": backend.name for model in models}
        for name, route in snapshot.routes.items():
            if any(_callable(snapshot, consumer, candidate.model) for candidate in route.candidates):
                found[name] = "route"
        rows = [{"id": n, "object": "model", "created": int(snapshot.built), "owned_by": o} for n, o in found.items()]
        if not wanted:
            await call.json(200, {"object": "list", "data": rows}, _NOT_CALLED)
            return
        row = next((r for r in rows if r["id"] == wanted), None)
        if row is None:
            raise Refusal(404, "model_not_found", f"The model {wanted!r} is not among those this key may call.")
        await call.json(200, row, _NOT_CALLED)

    async def _models_of(self, name: str, url: str, key_env: str | None) -> list[str]:
        known = self._provider_models.get(name)
        if known is None or known[0] < time.monotonic():
            models = await self._upstreams.models(url, key_env)
            known = (time.monotonic() + (_MODELS_SECONDS if models else 10.0), models)
            self._provider_models[name] = known
        return known[1]


_NOT_CALLED = {"x-ecotone-backend": "none", "x-ecotone-reason": "listed; no model was called"}


async def _told(call: Call, refusal: Refusal) -> None:
    """The refusal sent; a client that has gone meanwhile is no fault of ours, and no line in the log."""
    with contextlib.suppress(ConnectionError):
        await call.refuse(refusal)


def _read(face: str, body: bytes) -> tuple[Request, Findings]:
    request = parse(face, body)
    return request, look_into(request)


def _callable(snapshot: Snapshot, consumer: Consumer, name: str) -> bool:
    target = visible(snapshot, consumer, name)
    ruling = snapshot.ruling(target, consumer) if target is not None else None
    return ruling is not None and ruling.allowed
