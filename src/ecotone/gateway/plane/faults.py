"""Faults of our own in the log: what and where, never a message, which may quote a prompt."""

import logging
import traceback

log = logging.getLogger("ecotone.gateway")


def log_fault(error: BaseException, request_id: bytes = b"") -> None:
    """One entry: the request's id, the kind of the error, the places it passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames[-8:]))
    log.error("request %s failed: %s at %s", request_id.decode() or "?", type(error).__name__, places)
