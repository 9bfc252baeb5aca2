"""The one place where reasons become HTTP statuses for the REST API."""

from typing import Any

import msgspec
from starlette.responses import Response

from ecotone.vocabulary import (
    Conflict,
    EcotoneError,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

STATUS: dict[type[EcotoneError], int] = {
    Invalid: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    Refused: 451,
    Unavailable: 503,
}


def status_of(error: EcotoneError) -> int:
    """The status of a reason's category; 500 for one that has none."""
    return next((status for category, status in STATUS.items() if isinstance(error, category)), 500)


def error_response(error: EcotoneError) -> Response:
    """`{"error": {message, code, param}, "ecotone": {reasons, would_allow, ...}}`."""
    body: dict[str, Any] = {"error": {"message": error.message, "code": error.code, "param": error.param}}
    headers = {}
    if isinstance(error, Refused):
        body["ecotone"] = error.decision
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(body), status_code=status_of(error), media_type="application/json", headers=headers
    )
