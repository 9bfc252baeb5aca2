"""The child of the server that sends traces: started where a collector is named, and again when it dies."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE
from importlib.util import find_spec

from ecotone.jobs import scrubbed
from ecotone.settings import Settings

log = logging.getLogger("ecotone.app")

NOT_STARTED = 3
"""Exit status of a child whose settings must change before another start makes sense."""
_STOP_SECONDS = 5.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        return False


class TraceChild:
    """Keeps `ecotone.app.tracing` running. It ends when the pipe to it does, so that a killed server leaves none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled; ends at once where no collector is named, or the child says that it cannot work."""
        pause = _FIRST_PAUSE
        if self._settings.otlp_endpoint and not _is_installed():
            log.error('no traces are sent; they need OpenTelemetry\'s messages: pip install "ecotone[otel]"')
            return
        while self._settings.otlp_endpoint:
            try:
                status = await self._once()
            except OSError as error:  # no memory or no process more: soon there may be
                log.warning("no process to send traces can be started (%s); tried again in %g s", error.strerror, pause)
            else:
                if status == NOT_STARTED:
                    log.error("no traces are sent until the settings are changed and the server is restarted")
                    return
                log.warning("the process that sends traces ended with status %d; started again in %g s", status, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(self) -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ecotone.app.tracing", stdin=PIPE, env=self._environment()
        )
        try:
            return await child.wait()
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await child.wait()
            except TimeoutError:
                child.kill()

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        return scrubbed() | {
            "ECOTONE_DATA": str(settings.data),
            "ECOTONE_OTLP_ENDPOINT": settings.otlp_endpoint,
            "ECOTONE_OTLP_HEADERS": settings.otlp_headers,
            "ECOTONE_TRACES_SHARE": str(settings.traces_share),
            **{name: os.environ[name] for name in _CERTIFICATES if name in os.environ},
        }
