"""How deep a value from outside may be nested: what recursive readers and writers of it take without failing."""

from typing import Any

DEEPEST = 256


def is_deep(value: Any, depth: int = DEEPEST) -> bool:
    """Whether lists and objects are nested more than so deep."""
    if not depth:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(isinstance(one, dict | list) and is_deep(one, depth - 1) for one in inner)
