"""Errors as the OpenAI clients expect them, with our reasons beside: body, status, and how a stream says it."""

from typing import Any

import msgspec


class Refusal(Exception):
    """The request ends here.

    Args:
        status: HTTP status.
        code: a stable word.
        message: what was wrong, what was expected, what to do next.
        param: the field concerned.
        ecotone: our part of the body: reasons with clauses, would_allow, data class.
        headers: further answer headers (retry-after, x-ecotone-reason).
        retry: whether the next candidate of a route may be tried.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        ecotone: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.ecotone = ecotone or {}
        self.headers = headers or {}
        self.retry = retry

    def body(self) -> bytes:
        error = {"message": self.message, "type": type_of(self.status), "code": self.code, "param": self.param}
        return msgspec.json.encode({"error": error, "ecotone": {"reasons": [], "would_allow": [], **self.ecotone}})

    def event(self) -> bytes:
        """The error as an event of a stream that has begun."""
        return b"data: " + self.body() + b"\n\n"


def type_of(status: int) -> str:
    """OpenAI's `type` word for a status."""
    return {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "invalid_request_error",
        429: "rate_limit_error",
        451: "refused_by_decision",
        502: "upstream_error",
        503: "service_unavailable",
        504: "upstream_timeout",
    }.get(status, "invalid_request_error" if status < 500 else "api_error")
