"""Interleaved rounds: each part of the benchmark asks every place in turn, in another order each round.

What is compared is the median over the rounds of one round's ratio: both sides of it were measured within seconds, so
that what else the machine did at that time weighs on both.
"""

import contextlib
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ground import Place, Window, cpu_seconds, load, tree

BAR_BUSY = 0.95
_FEW, _LONGER = 200, 3  # who answers so few in a second is measured for longer
Rounds = dict[str, list[Window]]


def rates(
    places: Sequence[Place], body: Callable[[Place], bytes], connections: int, rounds: int, seconds: float, folder: Path
) -> Rounds:
    """Windows of load by place, one for each round."""
    found: Rounds = {place.name: [] for place in places}
    for turn in range(rounds):
        first = turn % len(places)
        for place in (*places[first:], *places[:first]):
            with awake(place):
                warm = load(place, body(place), connections, 1, folder)
                longer = _LONGER if warm.requests < _FEW else 1
                window = load(place, body(place), connections, seconds * longer, folder)
            found[place.name].append(window)
            print(f"  {turn + 1}. {place.name:<18}{told(window)}", flush=True)
    return found


def told(window: Window) -> str:
    """A window as a line of text."""
    line = f"{window.rate:>10,.0f}/s  cpu {window.cpu_us:>9,.1f} us  core {window.busy:>4.0%}  p50 {window.p50:,.0f} us"
    if window.failed:
        line += f"  FAILED {window.failed} of {window.requests}"
    if window.others > 0.2:
        line += f"  (others took {window.others:.1f} cores)"
    return line


def table(title: str, found: Rounds, against: str = "nginx", times: float = 1.0, unit: str = "requests/s") -> None:
    """Medians, and each place's ratio to one of them; a core that was not kept busy is named."""
    print(f"{title}\n  {'':<18}{unit:>14}{'x ' + against:>12}{'cpu us':>10}{'core':>7}{'failed':>8}")
    for name, windows in found.items():
        share = ratio(found, name, against)
        busy = median([w.busy for w in windows])
        line = f"  {name:<18}{median([w.rate for w in windows]) * times:>14,.0f}"
        line += f"{'' if share is None else format(share, '.3f'):>12}{median([w.cpu_us for w in windows]):>10,.1f}"
        line += f"{busy:>7.0%}{sum(w.failed for w in windows):>8}"
        print(line + ("" if busy >= BAR_BUSY or name == "direct" else f"   core under {BAR_BUSY:.0%}"))
    print(flush=True)


def ratio(found: Rounds, name: str, against: str) -> float | None:
    """Median over the rounds of one place's rate over another's; None when one of them was not measured."""
    if not found.get(name) or not found.get(against):
        return None
    pairs = zip(found[name], found[against], strict=True)
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs if theirs.rate]
    return median(ratios) if ratios else None


def cpu_ratio(found: Rounds, name: str, against: str) -> float:
    """Another place's time on a core for a request over one's own, medians."""
    return median([w.cpu_us for w in found[against]]) / median([w.cpu_us for w in found[name]])


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


@contextlib.contextmanager
def awake(place: Place) -> Iterator[None]:
    """A place that `put_to_sleep` stopped runs within the block."""
    if not place.sleeps:
        yield
        return
    _signal(place, signal.SIGCONT)
    try:
        yield
    finally:
        _wait_until_idle(place)
        _signal(place, signal.SIGSTOP)


def put_to_sleep(place: Place) -> None:
    """Stop a place's processes until it is asked: what it does by itself is not to weigh on others."""
    place.sleeps = True
    _signal(place, signal.SIGSTOP)


def wake_up(place: Place) -> None:
    place.sleeps = False
    _signal(place, signal.SIGCONT)


def _wait_until_idle(place: Place, seconds: float = 10.0) -> None:
    """Let a place finish what its clients left behind."""
    end = time.monotonic() + seconds
    used = cpu_seconds(place.pids())
    while time.monotonic() < end:
        time.sleep(0.2)
        before, used = used, cpu_seconds(place.pids())
        if used - before < 0.02:
            return


def _signal(place: Place, what: signal.Signals) -> None:
    for pid in tree(place.pid) if place.pid is not None else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)
