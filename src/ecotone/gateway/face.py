"""The gateway's HTTP face: OpenAI's chat completions, completions, embeddings and models, as a raw ASGI application."""

import asyncio
import contextlib
import hashlib
import logging
import time
from typing import Any, Protocol

import msgspec

from ecotone.gateway.admission import Admission, admit, identify, look_into, visible
from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request, parse
from ecotone.gateway.relay import Relay
from ecotone.gateway.snapshot import Consumer, Snapshot
from ecotone.gateway.upstream import Upstreams
from ecotone.ledger import Ledger, LedgerWriter, request_id, settle_open
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

    def __init__(self, settings: Settings, writer: LedgerWriter) -> None:
        self._settings = settings
        self._writer = writer
        self._upstreams = Upstreams(settings)
        self._relay = Relay(settings, writer, self._upstreams)
        self._snapshots: Snapshots | None = None
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
        call = _Call(scope, receive, send, request_id("server"))
        watcher: asyncio.Task[None] | None = None
        try:
            snapshot = self._snapshot()
            consumer = identify(snapshot, call.key_hash())
            path = scope["path"]
            if path == "/v1/models" or path.startswith("/v1/models/"):
                await self._models(call, snapshot, consumer, path.removeprefix("/v1/models").strip("/"))
                return
            face = FACES.get(path)
            if face is None:
                raise Refusal(404, "not_found", f"There is no endpoint {path}; known: {', '.join(FACES)}, /v1/models.")
            if scope["method"] != "POST":
                raise Refusal(405, "method_not_allowed", f"{path} takes POST.", headers={"allow": "POST"})
            body = await call.body(self._settings.max_request_bytes)
            request = parse(face, body)
            findings = await asyncio.to_thread(look_into, request) if len(body) > _IN_THREAD else look_into(request)
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
            await call.refuse(refusal)
        except (asyncio.CancelledError, ConnectionError):
            if not call.gone:
                raise
        except Exception:
            log.exception("a request failed (%s)", call.id)
            await call.refuse(Refusal(500, "internal_error", f"Something failed here; the request's id is {call.id}."))
        finally:
            if watcher is not None:
                watcher.cancel()

    def _snapshot(self) -> Snapshot:
        snapshot = self._snapshots.current if self._snapshots else Snapshot()
        if time.time() - snapshot.built > self._settings.snapshot_max_age:
            text = "The gateway has had no contact with the decisions for too long; it refuses until it has."
            raise Refusal(503, "snapshot_too_old", text, headers={"retry-after": "5"})
        return snapshot

    async def _admitted(self, consumer: Consumer, request: Request, findings: Any) -> Admission:
        """Candidates; an engine that is starting is waited for as long as the settings say."""
        end = time.monotonic() + self._settings.engine_wait
        while True:
            admission = admit(self._snapshot(), consumer, request, findings)
            ready = tuple(c for c in admission.candidates if c.target.ready)
            if ready:
                return msgspec.structs.replace(admission, candidates=ready)
            if time.monotonic() > end or all(c.target.note != "starting" for c in admission.candidates):
                first = admission.candidates[0]
                text = f"The engine of {first.name} is not ready ({first.target.note}); `ecotone ps` shows its state."
                raise Refusal(503, "engine_not_ready", text, param="model", headers={"retry-after": "5"})
            await asyncio.sleep(0.1)

    async def _note_refused(
        self, call: "_Call", consumer: Consumer, request: Request, findings: Any, refusal: Refusal
    ) -> None:
        if refusal.status not in (403, 451):
            return
        told = refusal.ecotone
        record = {
            "request_id": call.id,
            "caller_id": call.caller_id,
            "project": consumer.name,
            "face": request.face,
            "model": request.model[:200],
            "status": refusal.status,
            "code": refusal.code,
            "data_class": findings.data_class,
            "kinds": findings.kinds,
            "knowledge_base": told.get("knowledge_base"),
            "decision": {k: told[k] for k in ("verdict", "reasons", "would_allow", "knowledge_base") if k in told},
        }
        with contextlib.suppress(Exception):  # a refusal stands, written or not
            await self._writer.appended("refused", record)

    # -- models ------------------------------------------------------------------------------------------------------
    async def _models(self, call: "_Call", snapshot: Snapshot, consumer: Consumer, wanted: str) -> None:
        if call.scope["method"] not in ("GET", "HEAD"):
            raise Refusal(405, "method_not_allowed", "/v1/models takes GET.", headers={"allow": "GET"})
        found = {}
        for name, target in snapshot.targets.items():
            ruling = snapshot.ruling(target, consumer)
            if visible(snapshot, consumer, name) is not None and ruling is not None and ruling.allowed:
                found[name] = "local"
        for name, target in snapshot.backends.items():
            ruling = snapshot.ruling(target, consumer)
            if ruling is not None and ruling.allowed:
                for model in await self._models_of(name, target.url or "", target.key_env):
                    found[f"{name}/{model}"] = name
        for name, targets in snapshot.routes.items():
            if any(t in found or t.partition("/")[0] in snapshot.backends for t in targets):
                found[name] = "route"
        rows = [{"id": n, "object": "model", "created": int(snapshot.built), "owned_by": o} for n, o in found.items()]
        if not wanted:
            await call.json(200, {"object": "list", "data": rows})
            return
        row = next((r for r in rows if r["id"] == wanted), None)
        if row is None:
            raise Refusal(404, "model_not_found", f"The model {wanted!r} is not among those this key may call.")
        await call.json(200, row)

    async def _models_of(self, name: str, url: str, key_env: str | None) -> list[str]:
        known = self._provider_models.get(name)
        if known is None or known[0] < time.monotonic():
            models = await self._upstreams.models(url, key_env)
            known = (time.monotonic() + (_MODELS_SECONDS if models else 10.0), models)
            self._provider_models[name] = known
        return known[1]


class _Call:
    """One ASGI request: reading its body, writing its answer, noticing that the client has gone."""

    def __init__(self, scope: Any, receive: Any, send: Any, call_id: str) -> None:
        self.scope = scope
        self.id = call_id
        self.gone = False
        self._receive = receive
        self._send = send
        self._begun = False
        self._headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.caller_id = self._headers.get("x-request-id", "")[:128] or None

    def key_hash(self) -> str | None:
        """SHA-256 of the key that was sent, None when there is none."""
        scheme, _, key = self._headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return None
        return hashlib.sha256(key.strip().encode("utf-8", "replace")).hexdigest()

    async def body(self, most: int) -> bytes:
        """The whole body. Raises Refusal (413) as soon as it is too large."""
        length = self._headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise Refusal(413, "body_too_large", f"The body has {length} bytes; at most {most} are taken.")
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ConnectionError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise Refusal(413, "body_too_large", f"The body is larger than {most} bytes, the most that is taken.")
            if not message.get("more_body"):
                return b"".join(parts)

    async def watch(self, work: asyncio.Task[Any]) -> None:
        """Cancel the work when the client goes away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        work.cancel()

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        self._begun = True
        fields = [(n.encode(), v.encode("latin-1", "replace")) for n, v in {"x-request-id": self.id, **headers}.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, data: bytes, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        told = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        await self.begin(status, told)
        await self.write(b"" if self.scope["method"] == "HEAD" else data, False)

    async def refuse(self, refusal: Refusal) -> None:
        """Say why; as an event when the answer has begun."""
        if self._begun:
            await self.write(refusal.event(), False)
            return
        headers = dict(refusal.headers)
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        headers.setdefault("x-ecotone-reason", refusal.code)
        await self.json(refusal.status, refusal.body(), headers)
