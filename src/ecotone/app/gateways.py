"""`ecotone gateway`: the gateway alone, in workers on one port, with a supervisor that holds their sockets.

On Linux each worker has a listening socket of its own (`SO_REUSEPORT`), elsewhere they share one; the supervisor keeps
them while workers die and are replaced, so that connections that wait in their queues survive. At SIGHUP workers are
replaced one after another: the new one is ready before the old one stops accepting.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

from ecotone.app.adding import Adder
from ecotone.app.process import NOT_RESTARTED, SETTLE, Child
from ecotone.app.signals import terminal_is_gone, woken_by_signals
from ecotone.app.supervisor import listen, only_one
from ecotone.gateway.fetching import Fetcher
from ecotone.gateway.lender import Lender
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError

LOCK = "gateway.lock"
MOST_WORKERS = 256
_CALM_SECONDS = 60.0
_LONGEST_PAUSE = 30.0
_READY_SECONDS = 60.0
_FIXED = ("data", "host", "port", "limits_url")

Reading = Callable[[], tuple[Settings, Mapping[str, str]]]


def run(read: Reading, workers: int) -> int:
    """Run until told to stop; returns the exit status.

    Args:
        read: gives settings and the workers' environment, anew at each restart.
        workers: how many processes serve.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise EcotoneError(f"--workers is {workers}; a number from 1 to {MOST_WORKERS} is expected.")
    settings, environ = read()
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EcotoneError(f"The data folder {settings.data} cannot be made: {error.strerror}.") from None
    with only_one(settings.data, LOCK):
        return _Tree(settings, environ, listeners(settings, workers), read).run()


def listeners(settings: Settings, workers: int) -> list[socket.socket]:
    """A bound listening socket for each worker.

    Raises:
        EcotoneError: naming address and port when they cannot be had.
    """
    only = listen(settings)  # fails when the port is another's, whom SO_REUSEPORT would share it with
    if not sys.platform.startswith("linux"):
        return [only] * workers
    port = only.getsockname()[1]
    only.close()
    found = []
    for _ in range(workers):
        one = socket.socket(only.family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((settings.host, port))
        one.listen(2048)
        found.append(one)
    return found


class _Place:
    """One worker's place: its socket, who serves there, who is being started to follow, who ends with its requests."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number = number
        self.listener = listener
        self.current: Child | None = None
        self.next: Child | None = None
        self.leaving: list[Child] = []
        self.again_at: float | None = None
        self.pause = 0.05

    def alive(self) -> list[Child]:
        return [child for child in (self.current, self.next, *self.leaving) if child is not None]

    def put_off(self, *, calm: bool = False) -> None:
        """Start a worker again after a pause: twice the last one, or the shortest where the one before was calm."""
        self.pause = 0.05 if calm else min(self.pause * 2, _LONGEST_PAUSE)
        self.again_at = time.monotonic() + self.pause


class _Tree:
    """One loop over signals, the workers' reports and their ends."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], sockets: list[socket.socket], read: Reading
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._before = settings, environ
        self._read = read
        self._places = [_Place(number, listener) for number, listener in enumerate(sockets, 1)]
        self._signals: deque[int] = deque()
        self._to_renew: deque[_Place] = deque()
        self._stopping = False
        self._said = False
        self._status = 0
        self._fetcher: Fetcher | None = None

    def run(self) -> int:
        with woken_by_signals(self._signals) as wake:
            self._fetch()
            lender = None if self._settings.limits_url else Lender(self._settings)
            if lender is not None:
                lender.start()
            adder = Adder(self._settings)
            adder.start()
            for place in self._places:
                place.current = self._start(place)
            while not (self._stopping and not self._alive()):
                self._wait(wake)
                while self._signals:
                    self._obey(self._signals.popleft())
                for place in self._places:
                    for child in place.alive():
                        self._attend(place, child)
                self._look_after()
            adder.stop()
            if lender is not None:
                lender.stop()
        if self._fetcher is not None:
            self._fetcher.stop()
        return self._status

    def _alive(self) -> list[Child]:
        return [child for place in self._places for child in place.alive()]

    def _start(self, place: _Place) -> Child:
        arguments = str(place.number), str(len(self._places))
        listener = place.listener.fileno()
        return Child(listener, self._settings, self._environ, "ecotone.app.gateway_worker", *arguments)

    def _fetch(self) -> None:
        """Follow the server on another machine, if there is one."""
        if self._fetcher is not None:
            self._fetcher.stop()
            self._fetcher = None
        settings = self._settings
        if settings.snapshot_url:
            self._fetcher = Fetcher(settings.snapshot_url, settings.snapshot_secret, settings.folder("snapshot"))
            self._fetcher.start()

    def _wait(self, wake: int) -> None:
        times = [p.again_at for p in self._places if p.again_at is not None]
        times += [p.next.began + _READY_SECONDS for p in self._places if p.next is not None]
        soonest = min(times, default=time.monotonic() + 60.0)
        reports = [child.reports for child in self._alive() if not child.silent]
        found, _, _ = select.select([wake, *reports], [], [], max(0.0, soonest - time.monotonic()))
        if wake in found:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

    # -- signals -----------------------------------------------------------------------------------------------------
    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP and not terminal_is_gone():
            self._renew()
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if not self._stopping:
                for place in self._places:  # who comes now is told at once, not left in a queue
                    place.listener.close()
            for child in self._alive():
                child.kill() if self._stopping else child.stop()
            self._stopping = True

    def _renew(self) -> None:
        """Begin to replace all workers."""
        if self._stopping or self._to_renew or any(p.next is not None for p in self._places):
            _say("a restart is under way already")
            return
        try:
            settings, environ = self._read()
            if changed := [n for n in _FIXED if getattr(settings, n) != getattr(self._settings, n)]:
                names = ", ".join(f"ECOTONE_{n.upper()}" for n in changed)
                raise EcotoneError(f"{names} cannot change while the gateway runs; stop it and start it again.")
        except EcotoneError as error:
            _say(f"not restarted: {error.message}")
            return
        self._before = self._settings, self._environ
        self._settings, self._environ = settings, environ
        self._fetch()
        self._to_renew.extend(self._places)

    # -- what workers tell -------------------------------------------------------------------------------------------
    def _attend(self, place: _Place, child: Child) -> None:
        status = child.ended()
        self._hear(place, child, over=status is not None)  # asked first: what it said last is read in any case
        if status is not None:
            self._ended(place, child, status)

    def _hear(self, place: _Place, child: Child, *, over: bool = False) -> None:
        for word, text in child.heard():
            if word == "ready":
                child.ready = True
                if child is place.next and not over:
                    self._hand_over(place)
            elif word == "failed":
                child.failure = text

    def _hand_over(self, place: _Place) -> None:
        old, place.current, place.next = place.current, place.next, None
        if old is not None:
            old.drain()
            place.leaving.append(old)
        if self._to_renew and self._to_renew[0] is place:
            self._to_renew.popleft()
            if not self._to_renew:
                _say("all workers were replaced")

    def _ended(self, place: _Place, child: Child, status: int) -> None:
        child.close()
        if child in place.leaving:
            place.leaving.remove(child)
            if status and place.current is not None:  # it was killed: what it left open is settled by who follows
                place.current.tell(SETTLE)
        elif child is place.next:
            place.next = None
            self._not_renewed(child.failure or f"the new worker ended with status {status}; the log tells why")
        else:
            place.current = None
            self._died(place, child, status)

    def _not_renewed(self, why: str) -> None:
        self._to_renew.clear()
        self._settings, self._environ = self._before
        self._fetch()
        _say(f"not restarted: {why} The workers that were running go on.")

    def _died(self, place: _Place, child: Child, status: int) -> None:
        if self._stopping:
            return
        if place.next is not None:
            place.current, place.next = place.next, None
            if self._to_renew and self._to_renew[0] is place:
                self._to_renew.popleft()
            return
        if status == NOT_RESTARTED:
            self._status, self._stopping = 1, True
            for other in self._alive():
                other.stop()
            return
        calm = time.monotonic() - child.began > _CALM_SECONDS
        place.put_off(calm=calm)
        _say(f"worker {place.number} ended with status {status}; starting it again in {place.pause:g} s")

    def _look_after(self) -> None:
        if self._stopping:
            return
        now = time.monotonic()
        for place in self._places:
            if place.again_at is not None and now >= place.again_at:
                place.again_at = None
                try:
                    place.current = self._start(place)
                except OSError as error:  # memory or processes are short: the reason, perhaps, why the last one died
                    place.put_off()
                    _say(f"worker {place.number} cannot be started ({error.strerror}); again in {place.pause:g} s")
            if place.next is not None and now > place.next.began + _READY_SECONDS:
                place.next.failure = place.next.failure or f"it was not ready after {_READY_SECONDS:g} s."
                place.next.kill()
        if self._to_renew and self._to_renew[0].next is None:
            place = self._to_renew[0]
            if place.current is None:  # between two tries of a worker that dies
                place.again_at = now
                self._to_renew.popleft()
            else:
                try:
                    place.next = self._start(place)
                except OSError as error:
                    self._not_renewed(f"no process can be started ({error.strerror}).")
        if not self._said and all(p.current is not None and p.current.ready for p in self._places):
            self._said = True
            _say(f"the gateway answers at {self._settings.base_url}/v1 with {len(self._places)} workers")


def _say(text: str) -> None:
    print(f"ecotone: {text}", file=sys.stderr, flush=True)
