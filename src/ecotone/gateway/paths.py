"""Which paths are the gateway's, told from the first bytes of a connection. Pure.

A list, so that a new face is one line; the hub's telemetry lies under the same first segment and is not ours. Below
the segments of Hugging Face's inference only calls are ours, and what `InferenceClient` reads of a model, not pages.
"""

from typing import Final

OURS: Final = (b"/v1",)
NOT_OURS: Final = (b"/v1/telemetry",)
TASKS: Final = (b"/models", b"/pipeline", b"/hf-inference")
MISTAKEN: Final = (b"/chat/completions", b"/completions", b"/embeddings", b"/responses", b"/messages")
"""Where calls arrive whose client was given an address without `/v1`: a page would answer them with a page."""
_LOOKS: Final = (b"/info", b"/health")

_LONGEST_METHOD: Final = 24
_LONGEST_TARGET: Final = 2048
_ENDS: Final = (b" ", b"?", b"\r", b"\n")


def is_ours(path: bytes, method: bytes = b"GET") -> bool:
    """Whether a path, without its query, belongs to the gateway."""
    if any(path == own or path.startswith(own + b"/") for own in OURS):
        return path not in NOT_OURS
    return is_task(path, method) or (method == b"POST" and path in MISTAKEN)


def is_task(path: bytes, method: bytes) -> bool:
    """Whether it is of Hugging Face's inference: a call, what a browser asks before one, or a look at a model."""
    if not any(path.startswith(own + b"/") for own in TASKS):
        return False
    return method in (b"POST", b"OPTIONS") or (method in (b"GET", b"HEAD") and path.endswith(_LOOKS))


def is_for_gateway(first: bytes) -> bool | None:
    """Whether a request that begins with these bytes is the gateway's; None when more of them must come.

    What is no plain request line (a TLS greeting, HTTP/2's preface, an address as target) is ours to refuse.
    """
    start = 0
    while first[start : start + 1] in (b"\r", b"\n"):  # RFC 9112 section 2.2: empty lines ahead are passed over
        start += 1
    space = first.find(b" ", start, start + _LONGEST_METHOD)
    method = first[start : start + _LONGEST_METHOD] if space < 0 else first[start:space]
    if method and not (method.isalpha() and method.isascii()):
        return True
    if space < 0:
        return None if len(first) - start < _LONGEST_METHOD else True
    target = first[space + 1 : space + 1 + _LONGEST_TARGET]
    if target and target[:1] != b"/":
        return True
    ends = [at for end in _ENDS if (at := target.find(end)) >= 0]
    if ends:
        return is_ours(target[: min(ends)], method)
    if len(target) >= _LONGEST_TARGET or not any(_may_become(target, own) for own in (*OURS, *TASKS, *MISTAKEN)):
        return is_ours(target, method)
    return None


def _may_become(target: bytes, own: bytes) -> bool:
    return own.startswith(target) or target.startswith(own)
