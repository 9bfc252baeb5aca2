"""An upstream's error as ours: what it says about our own credentials is not passed on, nor the key itself."""

import math
import re
import time
from typing import Any, Final

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.health import wait_of
from ecotone.gateway.keys import without_key

_MOST_WAIT: Final = 3600.0
_OWN_FAULT: Final = frozenset({400, 404, 409, 413, 415, 422})
_BUSY: Final = frozenset({503, 529})
_MONEY: Final = frozenset({"insufficient_quota", "budget_exceeded", "price_unknown"})
"""What OpenAI calls it, and another gateway of ours: trying again does not help, as it does with a rate."""
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z_.-]{1,63}")
_MOST_CONTAINERS: Final = 1000


def refusal_of(status: int, headers: dict[bytes, bytes], raw: bytes, name: str, key: str) -> Refusal:
    """The refusal for an answer that is none.

    Args:
        status: the upstream's.
        headers: its headers, names in lower case.
        raw: the beginning of its body.
        name: the backend's.
        key: the provider's key that was sent.
    """
    told = _error(raw, key)
    text = told.get("message", "")
    wait = _wait(headers)
    if status == 402 or (status == 429 and (told.get("type") in _MONEY or told.get("code") in _MONEY)):
        text = f"The server's own account at the backend {name} has no money left{': ' + text if text else ''}; an "
        text += "administrator must look at it."
        return Refusal(502, "backend_unpaid", text, headers={"x-should-retry": "false"}, retry=True)
    if status == 429:
        text = f"The backend {name} limits its rate: {text or 'try again later'}"
        return Refusal(429, "rate_limit_exceeded", text, headers=_after(wait), retry=True, wait=wait)
    if status in (401, 403):
        text = f"The backend {name} refused the server's own key ({status}); an administrator must look at it."
        return Refusal(502, "backend_refused_key", text, headers={"x-should-retry": "false"}, retry=True)
    if status in _OWN_FAULT:
        code = told.get("code") or "upstream_refused"
        text = text or f"The backend {name} refused the request."
        return Refusal(status, code, text, param=told.get("param"), retry=status == 409)
    text = f"The backend {name} failed ({status}){': ' + text if text else ''}."
    if status in _BUSY:
        return Refusal(503, "upstream_busy", text, headers=_after(wait), retry=True, wait=wait)
    return Refusal(502, "upstream_failed", text, retry=True)


def _wait(headers: dict[bytes, bytes]) -> float:
    """Seconds for which the upstream wants to be left alone; 0 where it asks for nothing."""
    told = [
        headers[name].decode("latin-1") if name in headers else None for name in (b"retry-after", b"retry-after-ms")
    ]
    return min(wait_of(told[0], told[1], time.time()) or 0.0, _MOST_WAIT)


def _after(wait: float) -> dict[str, str]:
    """When the caller may try again: then, or where nothing was said in a second."""
    return {
        "retry-after": str(max(1, math.ceil(wait))),
        **({"retry-after-ms": str(math.ceil(wait * 1000))} if wait else {}),
    }


def told_by(raw: bytes, key: str) -> str:
    """What an error body says, empty for anything else."""
    return _error(raw, key).get("message", "")


def _error(raw: bytes, key: str) -> dict[str, str]:
    """Message, type, code and param of an error body, as far as it has them; a code is a word, as it enters records."""
    if raw.count(b"{") + raw.count(b"[") > _MOST_CONTAINERS:
        return {}
    try:
        body: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(body, dict) and not error:  # Mistral and older vLLM, Bedrock; FastAPI
        error = body if isinstance(body.get("message"), str) else body.get("detail")
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return {}
    most = {"message": 500, "type": 64, "code": 64, "param": 100}
    told = {k: without_key(v, key)[:n] for k, n in most.items() if isinstance(v := error.get(k), str)}
    if not _CODE.fullmatch(told.get("code", "")):
        told.pop("code", None)
    return told
