"""What the engines of this server do, as gauges: sums over all of them, as no label names a model."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ecotone.engines import Deployment, Engines
from ecotone.vocabulary import DeploymentState


class EngineFigures(Collector):
    """An engine that answers for a base and its adapters counts once."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        deployments = self._engines.deployments()
        fleets = _fleets(deployments)
        replicas = [replica for fleet in fleets for replica in fleet.replicas]
        models = GaugeMetricFamily("ecotone_deployments", "Models deployed, by state", labels=("state",))
        engines = GaugeMetricFamily("ecotone_engines", "Engines, by state", labels=("state",))
        for state in DeploymentState:
            models.add_metric((str(state),), sum(d.state is state for d in deployments))
            engines.add_metric((str(state),), sum(r.state is state for r in replicas))
        requests = GaugeMetricFamily("ecotone_engine_requests", "Requests in engines", labels=("what",))
        requests.add_metric(("running",), sum(r.running for r in replicas))
        requests.add_metric(("waiting",), sum(r.waiting for r in replicas))
        yield from (models, engines, requests)
        memory, restarts = sum(r.memory or 0 for r in replicas), sum(r.restarts for r in replicas)
        yield GaugeMetricFamily("ecotone_engine_memory_bytes", "Memory that engines have", value=memory)
        yield GaugeMetricFamily("ecotone_engine_restarts", "Restarts of the engines that are there", value=restarts)
        speed = sum(fleet.tokens_per_second for fleet in fleets)
        yield GaugeMetricFamily("ecotone_engine_tokens_per_second", "Tokens written a second", value=speed)


def _fleets(deployments: Iterable[Deployment]) -> list[Deployment]:
    """One deployment for each set of engines: adapters of a base share them."""
    found: dict[tuple[object, ...], Deployment] = {}
    for deployment in deployments:
        pids = tuple(replica.pid for replica in deployment.replicas)
        found.setdefault(pids if any(pids) else (deployment.on_base or deployment.model,), deployment)
    return list(found.values())
