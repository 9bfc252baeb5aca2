"""`ecotone restart`: to the supervisor that holds the data folder, and what became of it."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from ecotone.cli.client import fail

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
