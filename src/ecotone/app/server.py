"""The server process: `python -m ecotone.app.server LISTENER_FD SUPERVISOR_PIPE_FD`, started by the supervisor."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading

import uvicorn

from ecotone.app.application import build
from ecotone.app.protocol import BoundedHttp
from ecotone.app.supervisor import NOT_RESTARTED
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError


def main() -> None:
    """Build the application on the inherited socket and serve until SIGTERM."""
    _open_many_files()
    os.umask(0o077)  # data files are the owner's alone
    listener = socket.socket(fileno=int(sys.argv[1]))
    _end_with_supervisor(int(sys.argv[2]))
    settings = Settings.from_environment()
    _log_to_stderr(settings.log_level)
    try:
        application = build(settings)
    except EcotoneError as error:
        print(f"ecotone: {error.message}", file=sys.stderr)
        raise SystemExit(NOT_RESTARTED) from None
    gc.collect()
    gc.freeze()  # what was made until here stays, and need not be looked through again
    config = uvicorn.Config(
        application,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=75,
        lifespan="on",
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))


def _open_many_files() -> None:
    """As many descriptors as the system lets us have: each connection, upload and engine takes some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end_with_supervisor(pipe: int) -> None:
    """Ask for an orderly end when the supervisor is gone."""

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=getattr(logging, level.upper(), logging.INFO),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("httpx", "aiohttp", "alembic", "uvicorn.access", "hf_xet"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
