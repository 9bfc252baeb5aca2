"""Reasons for which work is refused. Rules raise them; each HTTP face maps the category to a status in one place.

A package derives its own classes (`class ModelNotFound(NotFound)`) that carry the object concerned. The message is one
sentence a user can act on: what was wrong, what was expected, what to do next. It never holds a secret.
"""

from typing import Any


class EcotoneError(Exception):
    """Base of all expected errors.

    Args:
        message: one or two sentences for the person who asked.
        code: a stable word for programs; the class's default when absent.
        param: the name of the field or argument concerned.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class Invalid(EcotoneError):
    """Bad input (400)."""

    code = "invalid"


class Unauthenticated(EcotoneError):
    """Missing or wrong credentials (401)."""

    code = "unauthenticated"


class Forbidden(EcotoneError):
    """Known caller without the right (403)."""

    code = "forbidden"


class NotFound(EcotoneError):
    """Absent, or not visible to the caller: the two look the same (404)."""

    code = "not_found"


class Conflict(EcotoneError):
    """The state does not admit it (409)."""

    code = "conflict"


class TooLarge(EcotoneError):
    """Over a limit of the settings (413)."""

    code = "too_large"


class Unavailable(EcotoneError):
    """Cannot be done now; try again later (503)."""

    code = "unavailable"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after: int = 1
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.retry_after = retry_after


class Refused(EcotoneError):
    """Refused by the decision: licence or policy (451 at the gateway, 403 elsewhere).

    `decision` is the JSON form of the licence engine's Decision or of policy's outcome, with its reasons and clauses.
    """

    code = "policy_denied"

    def __init__(self, message: str, *, decision: dict[str, Any], code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.decision = decision
