"""`ecotone restart`, to the supervisor that holds the data folder, and `ecotone gateway`."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ecotone.cli.client import fail, note

_MOST_SECONDS = 180.0


def restart(
    data: Annotated[Path | None, typer.Option(help="Data folder (ECOTONE_DATA), default ./data")] = None,
) -> None:
    """Take on new code and settings without cutting a transfer.

    Starts a new server beside the running one, which finishes what it has begun.
    """
    from ecotone.app.outcome import last
    from ecotone.app.supervisor import holder_of

    folder = Path(data or os.environ.get("ECOTONE_DATA") or "data").expanduser().absolute()
    supervisor = holder_of(folder)
    if supervisor is None:
        fail(f"No server holds the data folder {folder}; start one with `ecotone up`, or name another with --data.")
    before = last(folder).get("number", 0)
    try:
        os.kill(supervisor, signal.SIGHUP)
    except ProcessLookupError:
        fail("The server ended just now; start it with `ecotone up`.")
    except PermissionError:
        fail(f"Process {supervisor} belongs to another user; restart the server as that user.")
    end = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < end:
        told = last(folder)
        if told.get("number", 0) > before and told.get("state") in ("done", "failed"):
            text = str(told.get("text"))
            if told["state"] == "failed":
                fail(text)
            print(text)
            return
        time.sleep(0.1)
    fail("The restart has not ended yet; the server's log tells how it goes.")


def gateway(
    workers: Annotated[int, typer.Option(help="Processes that serve on the port")] = 1,
    data: Annotated[Path | None, typer.Option(help="Data folder (ECOTONE_DATA), default ./data")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (ECOTONE_HOST), default 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (ECOTONE_PORT), default 7070")] = None,
) -> None:
    """Start the gateway alone, in processes of its own.

    It follows the decisions of the server that has the same data folder, or of the one at ECOTONE_SNAPSHOT_URL.
    """
    from ecotone.app.gateways import run
    from ecotone.settings import Settings, strangers, with_file

    flags = {"data": data, "host": host, "port": port}

    def read() -> tuple[Settings, Mapping[str, str]]:
        environ = with_file(os.environ, data)
        for sentence in strangers(environ):
            note(f"ecotone: {sentence}")
        return Settings.from_environment(environ, **flags), environ

    raise SystemExit(run(read, workers))
