"""What a client is told of a fault inside the engine."""

import logging

import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ecotone.engines.server.errors import RequestError

log = logging.getLogger("ecotone.engines.server")


def fault(error: Exception) -> RequestError:
    """The answer to a request whose computing failed; the fault itself goes to the log."""
    if isinstance(error, RequestError):
        return error
    if is_out_of_memory(error):
        log.error("out of memory: %s", error)
        return RequestError(
            "The engine ran out of memory while it computed this answer; send a shorter prompt or fewer requests at "
            "once, or serve the model with fewer slots.",
            status=503,
            code="out_of_memory",
        )
    log.error("an answer failed", exc_info=error)
    return RequestError(f"The engine failed: {type(error).__name__}.", status=500, code="engine_error")


def is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return ("memory" in str(error) and "alloc" in str(error)) or "can't start new thread" in str(error)


async def answer_fault(_request: Request, error: Exception) -> Response:
    """A fault outside of the computing thread, in OpenAI's shape."""
    told = fault(error)
    return JSONResponse(told.body(), status_code=told.status, headers={"retry-after": "1"})
