"""The engine process: receives its spec, loads the model, answers on the socket until its parent ends it.

Spec: `folder` (the revision's files), `base` (those of an adapter's base, or null), `socket`, `options`, `info` (said
in `/info` beside what the model tells). Messages: `{"progress": phase, "share": 0..1}` while it loads, `{"ready":
info}` once it answers, `{"refused": reason}` when it never will, then `{"beat": figures}` each second.
"""

import contextlib
import ctypes
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import plan
from ecotone.engines.server.telling import Counted, Loading, beat
from ecotone.jobs.child_side import receive

REFUSED = 3


def main() -> int:
    waits_without_spinning()
    spec, report = receive()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    began = time.monotonic()
    try:
        tag = spec.get("info", {}).get("pipeline_tag")
        found = plan(Path(spec["folder"]), Path(spec["base"]) if spec.get("base") else None, tag)
        loading = Loading(report, found.weight_bytes)
        loading.libraries()
        from ecotone.engines.server.opening import application, opened  # torch only after the files were looked at

        loading.weights()
        engine = opened(found, spec.get("options") or {})
    except Unloadable as error:
        logging.error("refused: %s", error)
        report({"refused": str(error)})
        return REFUSED
    loading.end()
    _give_back()
    info = engine.info() | spec.get("info", {})
    logging.info("loaded in %.1f s: %s", time.monotonic() - began, ", ".join(_facts(info)))
    _serve(engine, application(engine, found, info), info, spec["socket"], report)
    return 0


def waits_without_spinning() -> None:
    """Else torch's threads spin at the end of each operation; read once, when libgomp is loaded with torch."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # GNU's OpenMP takes it for GOMP_SPINCOUNT=0, too


def _give_back() -> None:
    """Return to the system what loading has left free between what is in use; glibc keeps it otherwise."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _facts(info: dict[str, Any]) -> Iterator[str]:
    """What stands in the log of an engine that was loaded."""
    for name, value in info.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        yield from (f"{name} {part} {told}".replace("  ", " ") for part, told in parts)


def _serve(engine: Any, application: Any, info: dict[str, Any], path: str, report: Any) -> None:
    import uvicorn

    os.umask(0o077)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1024)
    counted = Counted(application)
    config = uvicorn.Config(
        counted,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=3,
        timeout_keep_alive=75,
        server_header=False,
    )
    report({"ready": info})
    beat(report, counted, engine.health)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
