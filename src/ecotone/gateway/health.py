"""Which candidates are worth a call: a circuit breaker for each, fed by how its calls ended.

One failure sends a candidate behind the others for a rest; some in a row, or a large share of a window, open its
circuit: nothing is sent there until the rest is over, then one call probes it. Rests double from one failed probe to
the next, have jitter, and are never shorter than the `retry-after` that the backend sent. A circuit belongs to
(backend, model, key): its name is the candidate's, and `Chooser.use` forgets it when the address or the key changes.

All times are seconds of a monotonic clock. Everything is bounded; nothing here waits or logs.
"""

import random
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Final, Literal

Outcome = Literal["ok", "failed", "busy", "client"]
"""How a call ended: answered; broke, timed out or 5xx; 429 or 503; by what the client sent or did."""

MOST_CIRCUITS: Final = 1024
WINDOW: Final = 10.0
_ENOUGH: Final = 10  # ended calls of a window before a share of them means anything
_SHARE: Final = 0.5
_MOST_REST: Final = 60.0
_MOST_WAIT: Final = 3600.0  # of what a backend asks for
_LEASE: Final = 5.0  # for a probe that was offered, until its call begins
_LOST: Final = 30.0  # after which another probe is made, whether the last one is slow or its end was never told
_TRANSIENT: Final = frozenset({408, 409, 425})
_BUSY: Final = frozenset({429, 503, 529})


def outcome_of(status: int | None) -> Outcome:
    """What a backend's status says about the backend.

    Args:
        status: None when no answer came: refused, reset, timed out, cut off.
    """
    if status is None:
        return "failed"
    if status in _BUSY:
        return "busy"
    if status in _TRANSIENT or status >= 500:
        return "failed"
    return "client" if status >= 400 else "ok"


def wait_of(retry_after: str | None, retry_after_ms: str | None, wall: float) -> float | None:
    """Seconds that a backend asks to be left alone: `retry-after-ms`, else `retry-after` in seconds or as a date.

    Args:
        wall: `time.time()`.

    Returns:
        None where it asks for nothing that can be understood.
    """
    for told, unit in ((retry_after_ms, 1000.0), (retry_after, 1.0)):
        if told is not None and told.isascii() and told.replace(".", "", 1).isdigit() and len(told) < 20:
            return float(told) / unit
    if retry_after is None or len(retry_after) > 64:
        return None
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - wall)
    except (ValueError, OverflowError):
        return None


class Circuit:
    """What is known of one candidate that failed lately.

    `until`: when its rest is over. `failures` in a row; `bad` of `seen` ended calls since `since`. `trips`: how often
    it opened in a row. `changed`: when it last failed or opened, so that older calls decide nothing. `listed`: when it
    was last offered for a probe; `probing`: its probe runs.
    """

    __slots__ = ("bad", "changed", "failures", "listed", "open", "probing", "seen", "since", "trips", "until")

    def __init__(self, now: float) -> None:
        self.open = self.probing = False
        self.failures = self.bad = self.seen = self.trips = 0
        self.since = now
        self.changed = self.until = self.listed = 0.0


class Health:
    """The circuits of all candidates that failed lately; of others nothing is kept.

    Args:
        rest: seconds for which a candidate is left alone at first.
        failures: in a row, that open a circuit.
        draw: gives numbers from 0 to 1 for the jitter.
    """

    def __init__(self, rest: float = 5.0, failures: int = 5, draw: Callable[[], float] = random.random) -> None:
        self._rest = rest
        self._failures = failures
        self._draw = draw
        self._circuits: dict[str, Circuit] = {}
        self.resting: dict[str, Circuit] = {}
        """Those that are open or stand behind the others. Empty while all is well, which is quick to see."""

    def may_begin(self, name: str) -> bool:
        """Whether a call may begin now. False: another call is probing this candidate; a True one may be the probe."""
        circuit = self.resting.get(name)
        if circuit is None or not circuit.open:
            return True
        if circuit.probing:
            return False
        circuit.probing = True
        return True

    def usable(self, name: str, now: float) -> bool | None:
        """Whether a candidate is fit to be called. None: as a last choice only; False: not at all."""
        circuit = self.resting.get(name)
        if circuit is None:
            return True
        if circuit.open:
            return (not circuit.probing and circuit.until <= now) or circuit.listed + _LOST < now
        if circuit.until > now:
            return None
        del self.resting[name]
        return True

    def offered(self, name: str, now: float, *, first: bool) -> None:
        """A candidate whose rest is over stands in an answer; as the `first` of it the probe is its own."""
        circuit = self.resting.get(name)
        if circuit is not None and circuit.open:
            circuit.listed = now
            circuit.probing = False
            if first:
                circuit.until = now + _LEASE

    def opens_in(self, names: Iterable[str], now: float) -> float:
        """Seconds until the first of these may be called again; 0 when one may be now."""
        waits = [self._wait(circuit, now) if (circuit := self.resting.get(name)) else 0.0 for name in names]
        return min(waits, default=0.0)

    def _wait(self, circuit: Circuit, now: float) -> float:
        if not circuit.open:
            return 0.0
        return max(circuit.until - now, 1.0 if circuit.probing else 0.0)

    def answered(self, name: str) -> None:
        """A call's first content came: a long stream need not end before its probe has told enough."""
        circuit = self.resting.get(name)
        if circuit is not None and circuit.open and circuit.probing:
            self.forget(name)

    def ended(
        self, name: str, outcome: Outcome, *, came: bool, seconds: float, now: float, wait: float | None = None
    ) -> None:
        """A call's end.

        Args:
            came: whether anything came from the backend.
            seconds: how long the call took.
            wait: what a busy backend asked for, in seconds.
        """
        circuit = self._circuits.get(name)
        if outcome == "failed" or outcome == "busy":
            self._failed(name, circuit or self._new(name, now), seconds, now, wait if outcome == "busy" else None)
        elif circuit is not None:
            self._worked(name, circuit, outcome, came=came, began=now - seconds, now=now)

    def forget(self, name: str) -> None:
        self._circuits.pop(name, None)
        self.resting.pop(name, None)

    def names(self) -> list[str]:
        return list(self._circuits)

    def _new(self, name: str, now: float) -> Circuit:
        if len(self._circuits) >= MOST_CIRCUITS:
            self.forget(next(iter(self._circuits)))
        circuit = self._circuits[name] = Circuit(now)
        return circuit

    def _worked(self, name: str, circuit: Circuit, outcome: Outcome, *, came: bool, began: float, now: float) -> None:
        if circuit.open:
            if began < circuit.changed:
                return
            if outcome == "ok" or came:
                self.forget(name)
            else:
                circuit.probing = False
                circuit.until = min(circuit.until, now)
            return
        if outcome == "client":
            return
        circuit.failures = 0
        if now - circuit.since > WINDOW:
            self.forget(name)
            return
        circuit.seen += 1
        if began >= circuit.changed:
            self.resting.pop(name, None)

    def _failed(self, name: str, circuit: Circuit, seconds: float, now: float, wait: float | None) -> None:
        if circuit.open:
            if not wait and now - seconds < circuit.changed:
                return
            self._open(name, circuit, now, wait, again=now - seconds >= circuit.changed)
            return
        if now - circuit.since > WINDOW:
            circuit.since, circuit.bad, circuit.seen = now, 0, 0
        circuit.failures += 1
        circuit.bad += 1
        circuit.seen += 1
        share = circuit.seen >= _ENOUGH and circuit.bad >= _SHARE * circuit.seen
        if wait or share or circuit.failures >= self._failures:
            self._open(name, circuit, now, wait, again=True)
            return
        circuit.changed = now
        circuit.until = now + self._rest * (0.75 + 0.5 * self._draw())
        self.resting[name] = circuit

    def _open(self, name: str, circuit: Circuit, now: float, wait: float | None, *, again: bool) -> None:
        """Open, or keep open. Not `again`: only a longer wait counts, of a call that began before."""
        if wait:
            until = now + min(wait, _MOST_WAIT) * (1.0 + 0.1 * self._draw())
        else:
            rest = min(self._rest * 2 ** min(circuit.trips, 10), _MOST_REST)
            until = now + rest * (0.75 + 0.5 * self._draw())
        if not again:
            circuit.until = max(circuit.until, until)
            return
        circuit.open, circuit.probing = True, False
        circuit.trips += 1
        circuit.changed, circuit.until, circuit.listed = now, until, until
        self.resting[name] = circuit
