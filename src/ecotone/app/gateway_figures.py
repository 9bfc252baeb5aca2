"""The gateway's part of `/metrics`, rendered from its counters when somebody reads them.

Labels are names that administrators chose (project, route, backend), models that have answered, and closed words; never
a key, an end user or a text. Latencies are told by route, backend and face alone, so that the page stays small.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ecotone.app.watching import Watch
from ecotone.gateway import counters
from ecotone.gateway.counters import BOUNDS, Cell, Labels
from ecotone.gateway.gathering import Totals

PICO = 10**12
_CALLED = ("project", "route", "backend", "model")


class GatewayFigures(Collector):
    """Figures of all gateway processes of this machine."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        self._watch.gather()
        totals = self._watch.totals
        cells = list(totals.cells.items())
        return [*_calls(cells), *_latencies(cells), *_rest(totals)]


def _calls(cells: list[tuple[Labels, Cell]]) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "ecotone_gateway_calls", "Calls that ended, by how", labels=(*_CALLED, "face", "status")
    )
    for labels, cell in cells:
        calls.add_metric(labels, cell[counters.REQUESTS])
    yield calls
    tokens = CounterMetricFamily("ecotone_gateway_tokens", "Tokens of calls", labels=(*_CALLED, "direction"))
    cost = CounterMetricFamily("ecotone_gateway_cost_usd", "Cost of calls in USD", labels=_CALLED)
    for told, cell in _summed(cells, (0, 1, 2, 3)).items():
        tokens.add_metric((*told, "in"), cell[counters.TOKENS_IN])
        tokens.add_metric((*told, "out"), cell[counters.TOKENS_OUT])
        cost.add_metric(told, cell[counters.COST] / PICO)
    yield tokens
    yield cost


def _latencies(cells: list[tuple[Labels, Cell]]) -> Iterator[Metric]:
    labels = ("route", "backend", "face")
    first = HistogramMetricFamily(
        "ecotone_gateway_first_byte_seconds", "From a call's head to its answer's first byte", labels=labels
    )
    whole = HistogramMetricFamily(
        "ecotone_gateway_call_duration_seconds", "From a call's head to its answer's end", labels=labels
    )
    for told, cell in _summed(cells, (1, 2, 4)).items():
        first.add_metric(told, _buckets(cell, counters.FIRST), cell[counters.FIRST_SECONDS])
        whole.add_metric(told, _buckets(cell, counters.WHOLE), cell[counters.SECONDS])
    yield first
    yield whole


def _rest(totals: Totals) -> Iterator[Metric]:
    refused = CounterMetricFamily(
        "ecotone_gateway_refused", "Requests that no backend saw, by the error's code", labels=("code",)
    )
    for code, number in list(totals.refusals.items()):
        refused.add_metric((code,), number)
    yield refused
    retries = CounterMetricFamily("ecotone_gateway_client_retries", "Requests that a client says it repeats")
    retries.add_metric((), totals.retries)
    yield retries
    yield GaugeMetricFamily("ecotone_gateway_open_calls", "Calls under way", value=totals.open)


def _summed(cells: list[tuple[Labels, Cell]], places: tuple[int, ...]) -> dict[tuple[str, ...], Cell]:
    """Sums over all labels but those at `places`."""
    found: dict[tuple[str, ...], Cell] = {}
    for labels, cell in cells:
        key = tuple(labels[place] for place in places)
        known = found.get(key)
        found[key] = list(cell) if known is None else [a + b for a, b in zip(known, cell, strict=True)]
    return found


def _buckets(cell: Cell, start: int) -> list[tuple[str, float]]:
    total, found = 0.0, []
    for place, bound in enumerate((*map(str, BOUNDS), "+Inf")):
        total += cell[start + place]
        found.append((bound, total))
    return found
