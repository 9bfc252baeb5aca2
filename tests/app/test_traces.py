"""Traces: a real ledger, a real receiver at the wire, the process that an operator starts."""

import http.server
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.ledger import LedgerWriter, request_id
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError, Invalid
from tests.running import ECOTONE, clean_environment
from tests.serving import Serving

pytest.importorskip("opentelemetry.proto", reason="needs OpenTelemetry's messages: pip install 'ecotone[otel]'")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ecotone.app.spans import Place, Record, export_of, request_spans
from ecotone.app.tracing import Assembly, Exporter, alone, sampled

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector:
    """An OTLP receiver over HTTP. `answers` are the statuses of the next answers, 200 when there are none."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.resource: dict[str, str] = {}
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = collector.answers.pop(0) if collector.answers else 200
                if status == 200 and self.path == "/v1/traces":
                    collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                    for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
                        collector.resource = told(batch.resource)
                        collector.spans += [span for scope in batch.scope_spans for span in scope.spans]
                self.send_response(status if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._serving = Serving(self.server)

    def stop(self) -> None:
        self._serving.stop()

    def of(self, found: str) -> list[Any]:
        """The spans of a request, its own first."""
        roots = [s for s in self.spans if told(s).get("ecotone.request_id") == found]
        return roots + [s for s in self.spans if roots and s.parent_span_id == roots[0].span_id]

    def wait(self, found: str, seconds: float = 90) -> list[Any]:
        end = time.monotonic() + seconds
        while not (spans := self.of(found)):
            assert time.monotonic() < end, "the trace did not come"
            time.sleep(0.05)
        return spans


def told(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.stop()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LedgerWriter]:
    found = LedgerWriter(tmp_path / "ledger", "server")
    yield found
    found.close()


def opened(writer: LedgerWriter, **more: Any) -> str:
    found = request_id(writer.writer)
    record = {"request_id": found, "project": "shop", "face": "chat", "asked": "assistant", "route": "assistant"}
    record |= {"model": "far/gpt-4o", "backend": "far", "data_class": "personal", "stream": True}
    record |= {"decision": {"verdict": "allow", "reasons": [{"means": "granted"}]}, "prompt_hash": "hash of it"}
    writer.append("opened", record | {"caller_id": "customer-4711", "user": "ann@example.org"} | more)
    return found


def settled(writer: LedgerWriter, found: str, **more: Any) -> None:
    record = {"request_id": found, "project": "shop", "model": "far/gpt-4o", "backend": "far", "status": "done"}
    record |= {"prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 4, "cost": 2_500_000_000}
    record["cache_write_tokens"] = 3
    writer.append("settled", record | {"first": 0.25, "seconds": 0.75, "error": None} | more)


def exporting(tmp_path: Path, collector: Collector, **settings: Any) -> Exporter:
    found = Exporter(Settings(data=tmp_path, otlp_endpoint=collector.url, **{"traces_share": 1.0} | settings))
    found.thread = threading.Thread(target=found.run, daemon=True)  # type: ignore[attr-defined]
    found.thread.start()  # type: ignore[attr-defined]
    end = time.monotonic() + 120
    while not (tmp_path / "traces.json").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_a_request_is_a_trace_with_its_attempts_tokens_and_decision(
    tmp_path: Path, collector: Collector, writer: LedgerWriter
) -> None:
    exporter = exporting(tmp_path, collector, otlp_headers="Authorization=Bearer%20t%2Cu")
    found = opened(writer, trace=PARENT)
    writer.append(
        "failed", {"request_id": found, "model": "old/x", "backend": "old", "error": "timeout", "seconds": 0.1}
    )
    settled(writer, found, seconds=60.0)  # so long that the time between two records does not show
    root, first, second = collector.wait(found)
    assert root.trace_id.hex() == PARENT[3:35] and root.parent_span_id.hex() == PARENT[36:52], "the caller's trace"
    assert {first.trace_id, second.trace_id} == {root.trace_id}
    whole = told(root)
    assert whole["ecotone.project"] == "shop" and whole["ecotone.route"] == "assistant"
    assert whole["ecotone.decision"] == "allow" and whole["ecotone.data_class"] == "personal"
    assert whole["ecotone.cost_usd"] == 0.0025 and whole["gen_ai.request.model"] == "assistant"
    assert root.name == "POST /v1/chat/completions" and root.kind == root.SPAN_KIND_SERVER
    assert told(first)["error.type"] == "timeout" and first.status.code == first.status.STATUS_CODE_ERROR
    answered = told(second)
    assert second.kind == second.SPAN_KIND_CLIENT and second.name == "chat gpt-4o"
    assert answered["gen_ai.operation.name"] == "chat" and answered["gen_ai.provider.name"] == "ecotone"
    assert answered["gen_ai.request.model"] == answered["gen_ai.response.model"] == "gpt-4o"
    assert answered["gen_ai.usage.input_tokens"] == 11 and answered["gen_ai.usage.output_tokens"] == 7
    for name in ("cache_creation", "cache_write"):
        assert answered[f"gen_ai.usage.{name}.input_tokens"] == 3
    assert answered["gen_ai.usage.cache_read.input_tokens"] == 4 and "error.type" not in answered
    assert answered["gen_ai.response.time_to_first_chunk"] == 0.25
    assert "gen_ai.usage.input_tokens" not in whole, "whoever adds up spans would count twice"
    assert second.start_time_unix_nano == first.end_time_unix_nano < second.end_time_unix_nano
    assert 59e9 < root.end_time_unix_nano - root.start_time_unix_nano < 300e9
    assert abs(root.end_time_unix_nano / 1e9 - time.time()) < 600
    assert collector.headers[0]["authorization"] == "Bearer t,u"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    assert collector.resource["service.name"] == "ecotone"
    exporter.stop()


def test_no_prompt_key_or_end_user_leaves_with_a_trace(
    tmp_path: Path, collector: Collector, writer: LedgerWriter
) -> None:
    exporter = exporting(tmp_path, collector)
    found = opened(writer, key="key of shop")
    settled(writer, found)
    collector.wait(found)
    text = str(collector.spans)
    assert not [w for w in ("hash of it", "customer-4711", "ann@example", "key of shop", "granted") if w in text]
    exporter.stop()


def test_every_error_is_traced_and_of_the_rest_a_share(
    tmp_path: Path, collector: Collector, writer: LedgerWriter
) -> None:
    exporter = exporting(tmp_path, collector, traces_share=0.2)
    good = [opened(writer) for _ in range(200)]
    for found in good:
        settled(writer, found)
    gone, died = opened(writer), opened(writer)
    settled(writer, gone, status="client_gone")
    settled(writer, died, status="upstream_died", error="upstream_died")
    writer.append("refused", {"request_id": "req-server-no", "project": "shop", "status": 451, "code": "policy_denied"})
    assert told(collector.wait(died)[1])["error.type"] == "upstream_died"
    assert told(collector.wait("req-server-no")[0])["error.type"] == "policy_denied"
    traced = {name for name in good if collector.of(name)}
    assert traced == {name for name in good if sampled(name, 0.2)} and 5 < len(traced) < 100
    assert bool(collector.of(gone)) == sampled(gone, 0.2)
    assert not [n for n in good if sampled(n, 0.1) and not sampled(n, 0.2)], "who is in a share is in every larger one"
    exporter.stop()


def test_a_collector_that_is_away_costs_no_trace_and_no_memory(
    tmp_path: Path, collector: Collector, writer: LedgerWriter
) -> None:
    collector.answers = [503, 429]
    exporter = exporting(tmp_path, collector)
    found = opened(writer)
    settled(writer, found)
    collector.wait(found)
    exporter.stop()
    exporter.thread.join(60)  # type: ignore[attr-defined]  # it keeps its place after it has sent
    late = opened(writer)
    settled(writer, late)
    again = exporting(tmp_path, collector)
    collector.wait(late)
    assert len(collector.of(found)) == 2, "what was sent before is not sent again"
    collector.answers = [400]
    bad, good = opened(writer), None
    settled(writer, bad)
    end = time.monotonic() + 120
    while again.refused != 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    good = opened(writer)
    settled(writer, good)
    collector.wait(good)
    again.stop()


def test_a_million_requests_that_never_end_do_not_grow_the_exporter() -> None:
    assembly = Assembly(1.0)
    line = b'{"n":1,"at":"2026-11-28T08:00:00.000000Z","kind":"opened","request_id":"req-%d","project":"p"}'
    for number in range(60_000):
        assert assembly.take(line % number) is None
    assert len(assembly._open) == 20_000
    end = b'{"n":1,"at":"2026-11-28T08:00:01.000000Z","kind":"settled","request_id":"req-%d","status":"done"}'
    assert len(assembly.take(end % 1) or ()) == 1, "its end alone is told"
    assert len(assembly.take(end % 59_999) or ()) == 2


def test_a_decision_that_is_named_by_its_id_is_told() -> None:
    assembly = Assembly(1.0)
    head = b'{"n":1,"at":"2026-11-28T08:00:00.000000Z","kind":"%b",'
    assert (
        assembly.take(head % b"ruling" + b'"id":"abc","ruling":{"verdict":"allow_with_duties","reasons":[]}}') is None
    )
    assembly.take(head % b"opened" + b'"request_id":"r","ruling":"abc"}')
    records = assembly.take(head % b"settled" + b'"request_id":"r","status":"done","backend":"far","model":"far/m"}')
    assert records is not None
    root, attempt = request_spans(records, {"far": Place("api.openai.com", 443)})
    assert told(root)["ecotone.decision"] == "allow_with_duties"
    assert told(attempt)["gen_ai.provider.name"] == "openai" and told(attempt)["server.address"] == "api.openai.com"
    assert told(attempt)["server.port"] == 443
    assert ExportTraceServiceRequest.FromString(export_of([root], version="1", instance="i")).resource_spans


def test_a_decision_that_was_written_before_the_exporter_began_is_looked_up_once() -> None:
    asked: list[str] = []

    def find(ruling: str) -> bytes | None:
        asked.append(ruling)
        return b'{"verdict":"allow","message":"","reasons":[]}' if ruling == "abc" else None

    assembly = Assembly(1.0, find)
    head = b'{"n":1,"at":"2026-11-28T08:00:00.000000Z","kind":"%b","request_id":"%b",'
    verdicts = []
    for request, ruling in ((b"a", b"abc"), (b"b", b"abc"), (b"c", b"gone"), (b"d", b"gone")):
        assembly.take(head % (b"opened", request) + b'"ruling":"%b"}' % ruling)
        records = assembly.take(head % (b"settled", request) + b'"status":"done","backend":"far","model":"far/m"}')
        assert records is not None
        root, _ = request_spans(records, {})
        verdicts.append(told(root).get("ecotone.decision"))
    assert verdicts == ["allow", "allow", None, None]
    assert asked == ["abc", "gone"]


@pytest.mark.parametrize(
    "trace", ["", "00-0-0-0", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "x" * 500, PARENT.upper()]
)
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(trace: str) -> None:
    line = b'{"n":1,"at":"2026-11-28T08:00:00.000000Z","kind":"settled","request_id":"r","status":"done","trace":"%b"}'
    records = Assembly(1.0).take(line % trace.encode())
    assert records is not None
    root = request_spans(records, {})[0]
    assert root.parent_span_id == b"" and len(root.trace_id) == 16 and any(root.trace_id)


def test_settings_that_cannot_work_are_named(tmp_path: Path) -> None:
    for settings, word in (
        ({}, "ECOTONE_OTLP_ENDPOINT"),
        ({"otlp_endpoint": "http://169.254.169.254/"}, "ECOTONE_OTLP_ENDPOINT"),
        ({"otlp_endpoint": "ftp://x"}, "ECOTONE_OTLP_ENDPOINT"),
        ({"otlp_endpoint": "http://127.0.0.1:1", "otlp_headers": "secret-token"}, "ECOTONE_OTLP_HEADERS"),
    ):
        with pytest.raises(Invalid, match=word) as caught:
            Exporter(Settings(data=tmp_path, **settings))
        assert "secret-token" not in caught.value.message
    with pytest.raises(Invalid, match="ECOTONE_TRACES_SHARE"):
        Settings.from_environment({"ECOTONE_TRACES_SHARE": "1.5"})
    with alone(tmp_path), pytest.raises(EcotoneError, match="Another process"), alone(tmp_path):
        pass


def test_the_command_sends_traces_until_it_is_told_to_stop(
    tmp_path: Path, collector: Collector, writer: LedgerWriter
) -> None:
    env = clean_environment(ECOTONE_DATA=str(tmp_path))
    process = subprocess.Popen(
        [ECOTONE, "traces", "--endpoint", collector.url, "--share", "1"], env=env, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "traces.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    found = opened(writer)
    settled(writer, found)
    collector.wait(found)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "2 spans were sent" in said and os.fspath(tmp_path) not in said


def test_records_of_another_form_are_passed_over() -> None:
    assembly = Assembly(1.0)
    for line in (
        b"",
        b"{",
        b'{"kind":"settled"}',
        b'{"kind":"settled","at":"x","request_id":5}',
        b'\xff{"kind":"settled"',
    ):
        assert assembly.take(line) is None
    assert Record.__struct_fields__
