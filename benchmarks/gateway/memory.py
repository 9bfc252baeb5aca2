"""Memory of a worker: after a number of requests, and after streams that their clients cut."""

from pathlib import Path

from delays import cut
from ground import Place, answered, load
from texts import chat

_WARM_STREAMS = 1_000


def growth_by_requests(place: Place, provider: Place, first: int, last: int, folder: Path) -> tuple[float, float]:
    """Memory in MB after the last request, and by which share it is more than after request `first`."""
    began = answered(provider)
    before = _until(place, provider, began + first, folder)
    after = _until(place, provider, began + last, folder)
    print(f"  after {first:,} requests {before:.1f} MB, after {last:,} {after:.1f} MB", flush=True)
    return after, after / before - 1


def growth_by_cut_streams(place: Place, streams: int) -> float:
    """By which share memory is more after streams that were cut, of which the first thousand do not count."""
    cut(place, _WARM_STREAMS)
    before = place.memory_mb()
    cut(place, streams)
    after = place.memory_mb()
    print(f"  before {streams:,} cut streams {before:.1f} MB, after {after:.1f} MB", flush=True)
    return after / before - 1


def _until(place: Place, provider: Place, wanted: int, folder: Path) -> float:
    while (left := wanted - answered(provider)) > 0:
        window = load(place, chat(place.model), 64, min(20.0, max(1.0, left / 20_000)), folder)
        if window.failed:
            raise SystemExit(f"{place.name}: {window.failed} of {window.requests} requests failed")
    return place.memory_mb()
