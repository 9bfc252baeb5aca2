"""Starts an engine by its kind, as supervision does, and hears what it tells."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ecotone.engines.kinds import named
from ecotone.engines.kinds.kind import Beat, Event, Options, Ready, Refused, Running, Spec
from ecotone.engines.sockets import Sockets

REVISION = f"{1:040x}"
Told = TypeVar("Told")


class Heard:
    """The events of one engine, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.running: Running
        self._news = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def of(self, kind: type[Told], seconds: float = 120, *, like: Callable[[Told], bool] = lambda _: True) -> Told:
        """The first event of a kind (and a likeness) from now on or before."""

        def found() -> Told | None:
            return next((e for e in self.events if isinstance(e, kind) and like(e)), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None or self.running.wait(0), seconds), self.events
            event = found()
        assert event is not None, self.running.failure("it ended")
        return event

    def beat(self, like: Callable[[Beat], bool], seconds: float = 120) -> Beat:
        """A beat that is told after this call."""
        with self._news:
            self.events = [e for e in self.events if not isinstance(e, Beat)]
        return self.of(Beat, seconds, like=like)

    @property
    def client(self) -> httpx.Client:
        where = self.of(Ready).where
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(where.socket)), base_url="http://e", timeout=120)

    def refusal(self) -> str:
        return self.of(Refused).reason


@contextlib.contextmanager
def started(
    kind: str,
    root: Path,
    folder: Path | None = None,
    *,
    base: Path | None = None,
    model: str = "demo/llama",
    **options: Any,
) -> Iterator[Heard]:
    """An engine of a kind for a model, ended at the end."""
    found = named(kind)
    chosen = Options(kind=kind, **options)
    found.check(chosen)
    heard = Heard()
    spec = Spec(
        model=model,
        revision=REVISION,
        options=chosen,
        folder=folder,
        base=base,
        replica=0,
        sockets=Sockets(root / "run"),
        log_file=root / "log",
        root=root,
        info={},
    )
    heard.running = found.start(spec, heard)
    try:
        yield heard
    finally:
        heard.running.stop(5)
        assert heard.running.wait(60), "it was stopped and runs on"


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
