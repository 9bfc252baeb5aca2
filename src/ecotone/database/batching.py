"""Long lists cut for `IN (...)` and for many rows at once: databases bound the parameters of one statement."""

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(items: list[T], size: int = 500) -> Iterator[list[T]]:
    """The items in order, at most `size` at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))
