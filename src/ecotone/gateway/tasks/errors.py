"""Refusals as Hugging Face's clients read them: `{"error", "error_type"}`, with our own part beside.

`error_type` picks the exception of `InferenceClient.text_generation`, which hides the status. So it stands where it
says more than the status does; 401, 403, 404 and 451 are told by their status alone, and a budget that refuses is no
overload.
"""

from typing import Any, Final

import msgspec

from ecotone.gateway.answers import Refusal

_TYPES: Final = {
    400: "validation",
    413: "validation",
    415: "validation",
    422: "validation",
    429: "overloaded",
    500: "generation",
    502: "generation",
    503: "overloaded",
    504: "generation",
}
_LOADING: Final = "engine_not_ready"


def error_body(refusal: Refusal) -> bytes:
    """The body of an answer that refuses. `estimated_time`, in seconds, stands where waiting for an engine helps."""
    told: dict[str, Any] = {"error": refusal.message}
    kind = "incomplete_generation" if refusal.code == "upstream_died" else _TYPES.get(refusal.status)
    if refusal.is_about_money:
        kind = None
    if kind is not None:
        told["error_type"] = kind
    wait = refusal.headers.get("retry-after", "")
    if refusal.code == _LOADING and wait.isdecimal():
        told["estimated_time"] = float(wait)
    told |= {"code": refusal.code, "param": refusal.param}
    return msgspec.json.encode(told | {"ecotone": {"reasons": [], "would_allow": [], **refusal.ecotone}})


def error_event(refusal: Refusal) -> bytes:
    """The same as an event of a stream that has begun."""
    return b"data:" + error_body(refusal) + b"\n\n"
