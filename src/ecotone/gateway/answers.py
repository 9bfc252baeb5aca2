"""Errors as the OpenAI clients expect them, with our reasons beside: body, status, and how a stream says it."""

from typing import Any, Final

import msgspec

_TYPES: Final = {403: "permission_error", 429: "rate_limit_error", 451: "permission_error"}
_MONEY: Final = frozenset({"budget_exceeded", "price_unknown"})


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
        wait: seconds for which the backend asked to be left alone, 0 for none; else what `retry-after` says.
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
        wait: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.ecotone = ecotone or {}
        self.headers = headers or {}
        self.retry = retry
        self.wait = wait

    @property
    def is_about_money(self) -> bool:
        """A budget refuses. The status is that of a rate, but no waiting helps, and no backend has too much to do."""
        return self.status == 429 and self.code in _MONEY

    @property
    def is_ruled(self) -> bool:
        """Refused by the decision, for what the text holds, or by a budget: what stands in the ledger."""
        return self.status in (403, 451) or self.is_about_money

    def body(self) -> bytes:
        error = {"message": self.message, "type": type_of(self), "code": self.code, "param": self.param}
        return msgspec.json.encode({"error": error, "ecotone": {"reasons": [], "would_allow": [], **self.ecotone}})

    def event(self) -> bytes:
        """The error as an event of a stream that has begun."""
        return b"data: " + self.body() + b"\n\n"


def type_of(refusal: Refusal) -> str:
    """OpenAI's `type` word for a refusal."""
    if refusal.is_about_money:
        return "insufficient_quota"
    return "server_error" if refusal.status >= 500 else _TYPES.get(refusal.status, "invalid_request_error")
