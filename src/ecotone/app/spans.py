"""Records of the ledger as OpenTelemetry spans, with the semantic conventions for generative AI. Pure: no file, no
network.

A request is one span of kind SERVER; each attempt at a backend is a child of kind CLIENT. Tokens stand on the attempts
alone, as whoever adds up spans would count them twice. Prompts, answers, keys and end users are in no record, and so in
no span. Ids are made from the request's id: sending a request twice makes no second trace.

Names: semantic conventions of OpenTelemetry 1.41 (registry `gen_ai`, `server`, `error`), which most collectors read,
and those of the conventions for generative AI 0.1.0 where they differ (`cache_write` beside `cache_creation`); ours
begin with `ecotone.`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "tasks": "/models/{model}",
}
PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.mistral.ai": "mistral_ai",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
"""Values of `gen_ai.provider.name` by the end of the backend's host; others are told by the backend's own name."""
FAULTLESS = frozenset({"done", "cached", "client_gone"})
PICO = 10**12
_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\Z")


class Decision(msgspec.Struct):
    """What a span tells of a decision."""

    verdict: str | None = None


class Record(msgspec.Struct):
    """The fields of a record that traces need; records have more. `cost` is in 10^-12 USD.

    A decision stands in a record of kind `ruling` with an `id`, or is named by that id, or stands in the record itself.
    """

    kind: str
    at: datetime
    request_id: str = ""
    project: str | None = None
    face: str | None = None
    asked: str | None = None
    route: str | None = None
    model: str | None = None
    response_model: str | None = None
    backend: str | None = None
    revision: str | None = None
    decision: Decision | None = None
    ruling: str | Decision | None = None
    id: str | None = None
    data_class: str | None = None
    pseudonymised: bool | None = None
    stream: bool | None = None
    trace: str | None = None
    status: str | int | None = None
    code: str | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimate: bool | None = None
    cost: int | None = None
    cost_usd: float | None = None
    price: str | None = None
    first: float | None = None
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        return self.kind in ("failed", "refused") or (self.kind == "settled" and self.status not in FAULTLESS)


class Place(msgspec.Struct, frozen=True):
    """Where a backend is: host and port, without any for a local engine."""

    host: str = ""
    port: int = 0


def request_spans(records: Sequence[Record], places: Mapping[str, Place]) -> list[Span]:
    """The spans of one request.

    Args:
        records: what the ledger has of it, in order; the first may be missing.
        places: where backends are, by name.
    """
    told = _merged(records)
    trace_id, parent = _trace(told)
    root = Span(
        trace_id=trace_id,
        span_id=_id(told.request_id, "request", 8),
        parent_span_id=parent,
        name=f"POST {PATHS[told.face]}" if told.face in PATHS else f"request {told.face or ''}".strip(),
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=min(_begin(record) for record in records),
        end_time_unix_nano=max(_nanoseconds(record.at) for record in records),
    )
    last = records[-1]
    _describe(root, _of_request(told))
    _judge(root, last)
    spans = [root]
    for record in records:
        if record.kind in ("failed", "settled"):
            spans.append(_attempt(root, told, record, len(spans), places))
    for before, span in pairwise(spans[1:]):  # a record's seconds run from the request's begin
        span.start_time_unix_nano = max(span.start_time_unix_nano, before.end_time_unix_nano)
    return spans


def export_of(spans: Sequence[Span], *, version: str, instance: str) -> bytes:
    """The body of an OTLP/HTTP export, as protobuf.

    Args:
        version: of this program.
        instance: which installation it is.
    """
    resource = Resource()
    _put(resource.attributes, {"service.name": "ecotone", "service.version": version, "service.instance.id": instance})
    scope = ScopeSpans(scope=InstrumentationScope(name="ecotone.gateway", version=version), spans=spans)
    message = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])])
    body: bytes = message.SerializeToString()
    return body


def _attempt(root: Span, told: Record, record: Record, number: int, places: Mapping[str, Place]) -> Span:
    model = record.model or told.model or ""
    backend = record.backend or told.backend or ""
    place = places.get(backend, Place())
    known_as = model.removeprefix(f"{backend}/")
    operation = OPERATIONS.get(told.face or "", told.face or "chat")
    span = Span(
        trace_id=root.trace_id,
        span_id=_id(told.request_id, f"attempt {number}", 8),
        parent_span_id=root.span_id,
        name=f"{operation} {known_as}",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_begin(record),
        end_time_unix_nano=_nanoseconds(record.at),
    )
    answered = record.kind == "settled" and not record.failed
    used = record.kind == "settled" and (record.prompt_tokens or record.completion_tokens)
    _describe(
        span,
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _provider(backend, place.host),
            "gen_ai.request.model": known_as,
            "gen_ai.response.model": record.response_model or known_as if answered else None,
            "gen_ai.request.stream": told.stream or None,
            "gen_ai.response.time_to_first_chunk": record.first or None if told.stream else None,
            "gen_ai.usage.input_tokens": record.prompt_tokens if used else None,
            "gen_ai.usage.output_tokens": record.completion_tokens if used else None,
            "gen_ai.usage.cache_read.input_tokens": record.cached_tokens or None,
            "gen_ai.usage.cache_creation.input_tokens": record.cache_write_tokens or None,
            "gen_ai.usage.cache_write.input_tokens": record.cache_write_tokens or None,
            "gen_ai.usage.reasoning.output_tokens": record.reasoning_tokens or None,
            "server.address": place.host or None,
            "server.port": place.port or None,
            "ecotone.backend": backend,
            "ecotone.model": model,
            "ecotone.usage.estimated": record.estimate or None,
        },
    )
    _judge(span, record)
    return span


def _of_request(told: Record) -> dict[str, Any]:
    cost = told.cost / PICO if told.cost is not None else told.cost_usd
    return {
        "gen_ai.operation.name": OPERATIONS.get(told.face or "", told.face),
        "gen_ai.request.model": told.asked,
        "http.request.method": "POST",
        "http.route": PATHS.get(told.face or ""),
        "ecotone.request_id": told.request_id,
        "ecotone.project": told.project,
        "ecotone.route": told.route,
        "ecotone.model": told.model,
        "ecotone.backend": told.backend,
        "ecotone.revision": told.revision,
        "ecotone.decision": told.decision.verdict if told.decision is not None else None,
        "ecotone.data_class": told.data_class,
        "ecotone.pseudonymised": told.pseudonymised or None,
        "ecotone.cost_usd": cost,
        "ecotone.price_version": told.price,
        "ecotone.status": str(told.status) if told.status is not None else None,
    }


def _merged(records: Sequence[Record]) -> Record:
    """One record with the last word on each field."""
    told = records[0]
    for record in records[1:]:
        if record.kind != "failed":
            new = {f: v for f in Record.__struct_fields__ if (v := getattr(record, f)) is not None}
            told = msgspec.structs.replace(told, **new)
    return told


def _judge(span: Span, record: Record) -> None:
    if record.failed:
        why = record.error or record.code or str(record.status or "unknown")
        span.status.code = Status.STATUS_CODE_ERROR
        _describe(span, {"error.type": why})


def _trace(told: Record) -> tuple[bytes, bytes]:
    """Trace and parent: the caller's, if it sent a `traceparent` (W3C Trace Context, section 3.2)."""
    found = _PARENT.match(told.trace or "")
    if found and int(found[1], 16) and int(found[2], 16):
        return bytes.fromhex(found[1]), bytes.fromhex(found[2])
    return _id(told.request_id, "trace", 16), b""


def _id(request_id: str, what: str, size: int) -> bytes:
    return hashlib.sha256(f"{what}:{request_id}".encode()).digest()[:size]


def _provider(backend: str, host: str) -> str:
    if not host:
        return "ecotone"
    return next((name for end, name in PROVIDERS.items() if host == end or host.endswith("." + end)), backend)


def _begin(record: Record) -> int:
    took = int((record.seconds or 0.0) * 1e9) if record.kind in ("failed", "settled") else 0
    return _nanoseconds(record.at) - took


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def _describe(span: Span, attributes: Mapping[str, Any]) -> None:
    _put(span.attributes, attributes)


def _put(target: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if isinstance(value, bool):
            told = AnyValue(bool_value=value)
        elif isinstance(value, int):
            told = AnyValue(int_value=value)
        elif isinstance(value, float):
            told = AnyValue(double_value=value)
        elif value is not None:
            told = AnyValue(string_value=str(value))
        else:
            continue
        target.append(KeyValue(key=name, value=told))
