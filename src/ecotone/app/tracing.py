"""`ecotone traces`, and the child of the server that does the same: sampled records of the ledger to a collector.

Reads the segments of all writers as they grow, in a process of its own: no call waits for it. While the collector does
not answer nothing more is read, so the ledger is the queue, and what was not taken is sent later. Where it stands is
kept in `DATA/traces.json`; without that file it begins at the ledger's present end.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import msgspec

from ecotone import __version__
from ecotone.app.trace_child import NOT_STARTED
from ecotone.gateway.addresses import check_address
from ecotone.gateway.snapshot import load
from ecotone.ledger import Ledger
from ecotone.ledger.tail import Position, Tail
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError, Invalid

try:
    from ecotone.app.spans import Decision, Place, Record, export_of, request_spans
except ModuleNotFoundError as error:  # pragma: no cover  tested in a process of its own
    if not (error.name or "").startswith(("opentelemetry", "google")):
        raise
    raise EcotoneError('Traces need OpenTelemetry\'s messages: pip install "ecotone[otel]"') from None

log = logging.getLogger("ecotone.traces")

POSITIONS = "traces.json"
LOCK = "traces.lock"
_IDLE_SECONDS = 1.0
_MOST_SPANS = 512
_MOST_OPEN = 20_000
_MOST_RULINGS = 10_000
_TIMEOUT = 10.0
_LONGEST_PAUSE = 30.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_PATH = "/v1/traces"
_KINDS = (b'"kind":"ruling"', b'"kind":"opened"', b'"kind":"failed"', b'"kind":"settled"', b'"kind":"refused"')
_AT = slice(0, 80)
"""Where in a line its kind stands; what comes behind may hold any words."""


class Assembly:
    """Requests put together from records as they come.

    Args:
        share: of requests that are traced, chosen by the hash of their id, so that every process chooses the same;
            those that failed always are.
        find: the content of a decision by its id, for one that was written before the reading began; None when it is
            nowhere.

    Of a request that is under way for longer than `_MOST_OPEN` others, the end alone is told.
    """

    def __init__(self, share: float, find: Callable[[str], bytes | None] = lambda _: None) -> None:
        self._share = share
        self._find = find
        self._open: dict[str, list[Record]] = {}
        self._rulings: dict[str, Decision] = {}
        self._decoder = msgspec.json.Decoder(Record)

    def take(self, line: bytes) -> list[Record] | None:
        """The records of a request that ended with this line and is traced, else None."""
        if not any(kind in line[_AT] for kind in _KINDS):
            return None
        try:
            record = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if record.kind == "ruling":
            self._rule(record)
            return None
        if isinstance(record.ruling, str):
            record.decision = self._ruling(record.ruling)
        if record.kind in ("opened", "failed"):
            if record.request_id not in self._open and len(self._open) >= _MOST_OPEN:
                del self._open[next(iter(self._open))]
            known = self._open.setdefault(record.request_id, [])
            if len(known) < 64:
                known.append(record)
            return None
        records = [*self._open.pop(record.request_id, ()), record]
        wanted = any(found.failed for found in records) or sampled(record.request_id, self._share)
        return records if wanted else None

    def _rule(self, record: Record) -> None:
        if record.id is not None and isinstance(record.ruling, Decision):
            self._know(record.id, record.ruling)

    def _know(self, ruling: str, decision: Decision) -> None:
        if len(self._rulings) >= _MOST_RULINGS:
            self._rulings.clear()
        self._rulings[ruling] = decision

    def _ruling(self, ruling: str) -> Decision:
        found = self._rulings.get(ruling)
        if found is None:
            found = Decision()
            with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                if content := self._find(ruling):
                    found = msgspec.json.decode(content, type=Decision)
            self._know(ruling, found)
        return found


def sampled(request_id: str, share: float) -> bool:
    """Whether a request is among the share that is traced; one that is in a share is in every larger one."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:7], "big") < share * 2**56


class Exporter:
    """Sends traces until told to stop.

    Raises:
        Invalid: for settings with which it cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.otlp_endpoint:
            raise Invalid(
                "No collector is named; set ECOTONE_OTLP_ENDPOINT, e.g. http://127.0.0.1:4318.",
                param="ECOTONE_OTLP_ENDPOINT",
            )
        try:
            check_address(settings.otlp_endpoint)
        except Invalid as error:
            raise Invalid(f"ECOTONE_OTLP_ENDPOINT: {error.message}", param="ECOTONE_OTLP_ENDPOINT") from None
        self._url = _traces_url(settings.otlp_endpoint)
        self._headers = _headers(settings.otlp_headers)
        self._settings = settings
        self._assembly = Assembly(settings.traces_share, Ledger(settings.folder("ledger")).ruling)
        self._file = settings.data / POSITIONS
        self._tail = Tail(settings.folder("ledger"), self._kept())
        self._stop = threading.Event()
        self._pause = 0.0
        self._instance = settings.secret("instance")[:8].hex()
        self._places: tuple[float, dict[str, Place]] = (0.0, {})
        self.sent = 0
        self.refused = 0

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Read, send, and keep the place, until stopped; returns with what was read until then sent, or not kept."""
        self._keep(self._tail.positions)
        with httpx.Client(headers=self._headers, timeout=_TIMEOUT, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    worked = self._round(client)
                except OSError as error:
                    log.warning("the ledger could not be read (%s); it is tried again", error.strerror)
                    worked = False
                if not worked:
                    self._stop.wait(_IDLE_SECONDS)

    def _round(self, client: httpx.Client) -> bool:
        """Send what has come since; returns whether there was any."""
        spans: list[Any] = []
        worked = False
        for line in self._tail.lines():
            worked = True
            records = self._assembly.take(line)
            if records is not None:
                spans += request_spans(records, self._backends())
            if len(spans) >= _MOST_SPANS:
                if not self._delivered(client, spans):
                    return False
                spans = []
        if spans and not self._delivered(client, spans):
            return False
        if worked:
            self._keep(self._tail.positions)
        return worked

    def _delivered(self, client: httpx.Client, spans: list[Any]) -> bool:
        """Send until the collector has taken or refused them; False when we are stopped before."""
        body = export_of(spans, version=__version__, instance=self._instance)
        self._pause = 0.5
        while True:
            pause, problem = self._posted(client, body)
            if pause is None:
                if problem:
                    self.refused += len(spans)
                    log.error("the collector refused %d spans: %s", len(spans), problem)
                else:
                    self.sent += len(spans)
                return True
            log.warning("the collector did not take spans (%s); tried again in %.1f s", problem, pause)
            if self._stop.wait(pause):
                return False

    def _posted(self, client: httpx.Client, body: bytes) -> tuple[float | None, str]:
        """One try: after how many seconds to try again, None for never, and what was wrong."""
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        try:
            answer = client.post(self._url, content=body, headers={"content-type": "application/x-protobuf"})
        except httpx.HTTPError as error:
            return self._pause, type(error).__name__
        if answer.is_success:
            return None, ""
        if answer.status_code not in _TRY_AGAIN:
            return None, f"status {answer.status_code}"
        wanted = answer.headers.get("retry-after", "")
        pause = min(float(wanted), 10 * _LONGEST_PAUSE) if wanted.isascii() and wanted.isdigit() else self._pause
        return pause, f"status {answer.status_code}"

    def _backends(self) -> Mapping[str, Place]:
        """Where backends are, as the newest snapshot has it; looked at again every 10 s."""
        if time.monotonic() > self._places[0]:
            found: dict[str, Place] = {}
            with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
                for name, target in load(self._settings.folder("snapshot")).backends.items():
                    parts = urlsplit(target.url or "")
                    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
                    found[name] = Place(parts.hostname or "", port)
            self._places = (time.monotonic() + 10.0, found)
        return self._places[1]

    def _kept(self) -> dict[str, Position] | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, Position])
        except (OSError, msgspec.DecodeError):
            return None

    def _keep(self, positions: Mapping[str, Position]) -> None:
        draft = self._file.with_name(f".{POSITIONS}.new")
        draft.write_bytes(msgspec.json.encode(positions))
        draft.chmod(0o600)
        draft.rename(self._file)


def _traces_url(endpoint: str) -> str:
    """The address for traces below a collector's base address, as OTLP's specification builds it."""
    bare = endpoint.rstrip("/")
    return bare if bare.endswith(_PATH) else bare + _PATH


def _headers(text: str) -> dict[str, str]:
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = pair.partition("=")
        value = unquote(value.strip())
        if not equals or not name.strip().isascii() or not value.isprintable():
            raise Invalid(
                "ECOTONE_OTLP_HEADERS is not of the form NAME=VALUE,NAME=VALUE; commas in values are written %2C.",
                param="ECOTONE_OTLP_HEADERS",
            )
        found[name.strip().lower()] = value
    return found


@contextlib.contextmanager
def alone(data: Path) -> Iterator[None]:
    """Hold the right to send this installation's traces.

    Raises:
        EcotoneError: when another process sends them.
    """
    descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EcotoneError(
                f"Another process sends the traces of {data}; the server does where ECOTONE_OTLP_ENDPOINT is set."
            ) from None
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    """The server's child: works until its standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment()
        exporter = Exporter(settings)
    except EcotoneError as error:
        log.error("%s", error.message)
        raise SystemExit(NOT_STARTED) from None

    def watch() -> None:
        while os.read(0, 1):
            pass
        exporter.stop()

    threading.Thread(target=watch, name="parent", daemon=True).start()
    with alone(settings.data):
        exporter.run()


if __name__ == "__main__":
    main()
