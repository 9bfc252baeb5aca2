"""The relay's process: starts or attaches the engine behind it, answers on the socket until its parent ends it.

Spec: `kind`, `socket`, `info` (`model`, `revision` and what else is said in `/info`), `options` (a deployment's), `log`
and what the kind adds. Messages: `{"progress": phase}`, `{"ready": info}` once it answers, `{"refused": reason}` when
it never will, then `{"beat": figures}` about each second.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import uvicorn

from ecotone.engines.kinds.relay.face import application
from ecotone.engines.kinds.relay.far import Ended, Far, Fault
from ecotone.engines.server.errors import Unloadable
from ecotone.jobs.child_side import receive

log = logging.getLogger("ecotone.engines.relay")

REFUSED = 3
_DRAIN_SECONDS = 3.0
_BEAT_SECONDS = 1.0

Report = Callable[[dict[str, Any]], None]


def main() -> int:
    spec, report = receive()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return asyncio.run(_run(spec, report))


def far_of(spec: Mapping[str, Any]) -> Far:
    """What stands behind, by the spec's kind."""
    from ecotone.engines.kinds.relay import attached, vllm

    kind = spec["kind"]
    if kind == "ray":
        from ecotone.engines.kinds.relay import ray

        return ray.OnRay(spec)
    if kind == "vllm":
        return vllm.AtUrl(spec) if spec["options"].get("url") else vllm.Started(spec)
    return attached.Tei(spec) if kind == "tei" else attached.Attached(spec)


async def _run(spec: dict[str, Any], report: Report) -> int:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    far = far_of(spec)
    far.progress = lambda phase: report({"progress": phase})
    try:
        info = await _unless_told(told, far.start())
        if info is None:
            return 0
        info |= {**spec["info"], "kind": far.kind}
        listener = _listen(spec["socket"])
        report({"ready": info})
        return await _serve(far, info, listener, told, report)
    except Unloadable as error:
        log.error("refused: %s", error)
        report({"refused": str(error)})
        return REFUSED
    except Ended as error:
        log.error("%s", error)
        return 1
    finally:
        await far.stop(float(spec.get("grace", _DRAIN_SECONDS)))


async def _unless_told(told: asyncio.Event, starting: Any) -> dict[str, Any] | None:
    """What the engine says of itself, or None when the relay was asked to end before."""
    work, stop = asyncio.ensure_future(starting), asyncio.ensure_future(told.wait())
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if work.done():
        found: dict[str, Any] = work.result()
        return found
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are the relay's, which has more to end than this server


def _listen(path: str) -> socket.socket:
    os.umask(0o077)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1024)
    return listener


async def _serve(far: Far, info: dict[str, Any], listener: socket.socket, told: asyncio.Event, report: Report) -> int:
    server = _Server(
        uvicorn.Config(
            application(far, info),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=int(_DRAIN_SECONDS),
            timeout_keep_alive=75,
            server_header=False,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    beating = asyncio.create_task(_beat(far, report))
    ended = asyncio.ensure_future(far.ended())
    stop = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({serving, ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        if not ended.done():
            await serving
            return 0
        log.error("%s", ended.result())
        await asyncio.wait({serving}, timeout=1)  # the calls in flight are told why they end
        return 1
    finally:
        for task in (beating, ended, stop, serving):
            task.cancel()


async def _beat(far: Far, report: Report) -> None:
    readable = True
    while True:
        await asyncio.sleep(_BEAT_SECONDS)
        well, found = False, {}
        try:
            well = await far.well()
            found = await far.figures() if well else {}
            readable = True
        except Fault:
            well = False
        except Exception:  # of another make's client, or in its figures: the next beat comes all the same
            if readable:
                log.exception("it cannot be told how the engine is")
            readable = False
        report({"beat": {"running": far.running, "requests": far.served, **found, "well": well}})


if __name__ == "__main__":
    sys.exit(main())
