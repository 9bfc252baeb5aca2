"""`/metrics`: the server's figures in Prometheus' form. Labels come from closed lists: no name of a repository, no word
of a user; those of `gateway_figures` are bounded. What takes a query of the database is asked at most once a minute."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.pool import QueuePool

from ecotone import __version__
from ecotone.app.engine_figures import EngineFigures
from ecotone.app.gateway_figures import GatewayFigures
from ecotone.app.readiness import OK
from ecotone.app.services import Services
from ecotone.app.traffic import BOUNDS, FACES, Traffic
from ecotone.vocabulary import JobState

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_COSTLY_SECONDS = 60.0


class Metrics:
    """A registry of its own: nothing but what stands in the documentation's table."""

    def __init__(self, services: Services, traffic: Traffic) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._state = _State(services)
        self._passing = _Passing(traffic)
        self._registry.register(self._passing)
        self._registry.register(self._state)
        self._registry.register(GatewayFigures(services.watch))
        self._registry.register(EngineFigures(services.engines))

    def take(self, ready: dict[str, str]) -> None:
        """Take what passes as it is now; in the event loop's thread, where it is counted."""
        self._state.ready = ready
        self._passing.taken = list(self._passing.figures())

    def text(self) -> bytes:
        """All figures; blocks on database and disk."""
        return generate_latest(self._registry)


class _Passing(Collector):
    """What passed and passes: `Traffic`'s integers."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self.taken: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        return self.taken

    def figures(self) -> Iterator[Metric]:
        traffic = self._traffic
        requests = CounterMetricFamily(
            "ecotone_requests", "Requests answered", labels=("face", "route", "method", "status")
        )
        for (face, route, method, status), number in traffic.requests.items():
            requests.add_metric((face, route, method, f"{status}xx" if status else "none"), number)
        yield requests
        durations = HistogramMetricFamily(
            "ecotone_request_duration_seconds", "From the head of a request to the end of its answer", labels=("face",)
        )
        for face, found in traffic.durations.items():
            durations.add_metric((face,), list(_cumulative(found.counts)), found.seconds)
        yield durations
        received = CounterMetricFamily("ecotone_received_bytes", "Bytes of requests' bodies", labels=("face",))
        sent = CounterMetricFamily("ecotone_sent_bytes", "Bytes of answers' bodies", labels=("face",))
        for face in FACES:
            received.add_metric((face,), traffic.received(face))
            sent.add_metric((face,), traffic.sent(face))
        yield received
        yield sent
        under_way = GaugeMetricFamily("ecotone_transfers_in_flight", "Requests under way", labels=("face", "direction"))
        for face, direction, number in traffic.under_way():
            under_way.add_metric((face, direction), number)
        yield under_way
        refused = CounterMetricFamily(
            "ecotone_uploads_refused", "Uploads refused, by the code of the reason", labels=("face", "reason")
        )
        for (face, reason), number in traffic.refused.items():
            refused.add_metric((face, reason), number)
        yield refused


def _cumulative(counts: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, number in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
        total += number
        yield bound, total


class _State(Collector):
    """What is kept: objects, database, ledger, jobs, disk."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._costly: tuple[float, list[Metric]] = (0.0, [])
        self.ready: dict[str, str] = {}

    def collect(self) -> Iterable[Metric]:
        found = [*self._plain(), *self._disk(), *self._pool(), *self._ledger()]
        if self._costly[0] < time.monotonic():
            self._costly = (time.monotonic() + _COSTLY_SECONDS, [*self._objects(), *self._jobs()])
        return found + self._costly[1]

    def _plain(self) -> Iterator[Metric]:
        yield _gauge("ecotone_build_info", "The version that runs", ("version",), {(__version__,): 1})
        ready = {(name,): int(word == OK) for name, word in self.ready.items()}
        yield _gauge("ecotone_ready", "1 for each check of /health/ready that is well", ("check",), ready)
        verified = CounterMetricFamily("ecotone_verified", "Uploads whose content was verified", labels=("kind",))
        for kind, number in self._services.storage.xet.verified.items():
            verified.add_metric((kind,), number)
        yield verified

    def _disk(self) -> Iterator[Metric]:
        found = os.statvfs(self._services.settings.data)
        sizes = {("free",): found.f_bavail * found.f_frsize, ("whole",): found.f_blocks * found.f_frsize}
        yield _gauge("ecotone_disk_bytes", "Room on the data folder's disk", ("what",), sizes)

    def _pool(self) -> Iterator[Metric]:
        pool = self._services.database.engine.pool
        if isinstance(pool, QueuePool):
            sizes = {("in_use",): pool.checkedout(), ("idle",): pool.checkedin()}
            yield _gauge("ecotone_database_connections", "Connections to the database", ("state",), sizes)

    def _ledger(self) -> Iterator[Metric]:
        writer = self._services.ledger_writer
        heads = {(name,): head.records for name, head in self._services.ledger.heads(besides=writer.writer).items()}
        heads[writer.writer,] = writer.records
        yield _gauge("ecotone_ledger_records", "Records of each chain of the ledger", ("writer",), heads)
        age = max(0.0, time.time() - writer.last_checkpoint)
        yield _gauge("ecotone_ledger_checkpoint_age_seconds", "Since heads were last signed", (), {(): age})

    def _objects(self) -> Iterator[Metric]:
        number: dict[tuple[str, ...], float] = {}
        size: dict[tuple[str, ...], float] = {}
        for kind, (objects, their_bytes) in self._services.storage.totals().items():
            number[kind,], size[kind,] = objects, their_bytes
        yield _gauge("ecotone_stored_objects", "Large objects kept", ("kind",), number)
        yield _gauge("ecotone_stored_bytes", "Their bytes, as the clients count them", ("kind",), size)

    def _jobs(self) -> Iterator[Metric]:
        counts = self._services.jobs.counts()
        by_state: dict[tuple[str, ...], float] = {(str(state),): counts.get(str(state), 0) for state in JobState}
        yield _gauge("ecotone_jobs", "Jobs by state", ("state",), by_state)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    made = GaugeMetricFamily(name, text, labels=labels)
    for found, value in values.items():
        made.add_metric(found, value)
    return made
