"""What every process that a supervisor starts does first, and how it tells what becomes of it."""

import contextlib
import logging
import os
import resource
import sys


def report(reports: int, line: str) -> None:
    """A line to the supervisor."""
    with contextlib.suppress(BrokenPipeError):
        os.write(reports, line.encode()[:4000] + b"\n")


def open_many_files() -> None:
    """As many descriptors as the system lets us have: each connection, upload and engine takes some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=getattr(logging, level.upper(), logging.INFO),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("httpx", "aiohttp", "alembic", "uvicorn.access", "hf_xet"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
