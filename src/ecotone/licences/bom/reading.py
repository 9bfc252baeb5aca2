"""A document from bytes of unknown origin: bounded in size, depth, values and digits, and no key twice in an object."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from ecotone.licences.errors import UnreadableBill

LARGEST = 16 * 1024 * 1024
DEEPEST = 100
MOST_VALUES = 250_000
_MOST_DIGITS = 300
_MOST_TWICE = 20


class Document(msgspec.Struct, frozen=True):
    """A decoded document and what is odd about its bytes: JSON pointers and sentences."""

    value: Any
    oddities: tuple[tuple[str, str], ...] = ()


def read_file(path: Path) -> bytes:
    """Bytes of a regular file, not more than can be a document.

    Raises:
        UnreadableBill: it cannot be opened, is no regular file, or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableBill("is no regular file")
            if status.st_size > LARGEST:
                raise UnreadableBill(f"is larger than {LARGEST >> 20} MiB, the most that is read")
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise UnreadableBill(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read(raw: bytes, *, most_values: int = MOST_VALUES) -> Document:
    """The document that bytes hold.

    Raises:
        UnreadableBill: saying which bound it passes or where it stops to be JSON.
    """
    if len(raw) > LARGEST:
        raise UnreadableBill(f"is larger than {LARGEST >> 20} MiB, the most that is read")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableBill(f"is not UTF-8 text (byte {error.start})") from None
    if text.lstrip()[:1] == "<":
        raise UnreadableBill("is XML; the JSON form of CycloneDX or SPDX 3 is read here")
    twice: list[tuple[str, str]] = []
    try:
        value = json.loads(
            text, object_pairs_hook=_pairs(twice), parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except RecursionError:
        raise UnreadableBill(f"is nested more than {DEEPEST} deep") from None
    except (ValueError, MemoryError) as error:
        raise UnreadableBill(f"is no JSON: {' '.join(str(error).split())[:200]}") from None
    _check_shape(value, most_values)
    return Document(value, tuple(twice))


def _pairs(twice: list[tuple[str, str]]) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items) and len(twice) < _MOST_TWICE:
            names = [name for name, _ in items]
            double = next(name for name in names if names.count(name) > 1) if len(names) < 1000 else "a key"
            twice.append(("", f"an object has {shown(double)} twice; readers differ in which one they take"))
        return found

    return pairs


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits  # text then: no schema takes it for a number


def _number(digits: str) -> float | str:
    value = float(digits)
    return value if value - value == 0 else digits


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check_shape(value: Any, most: int) -> None:
    """Raises UnreadableBill for too deep or too many values; walks without recursion."""
    ring, depth, count = [value], 0, 0
    while ring:
        depth += 1
        count += len(ring)
        if depth > DEEPEST:
            raise UnreadableBill(f"is nested more than {DEEPEST} deep")
        if count > most:
            raise UnreadableBill(f"holds more than {most:,} values")
        inner: list[Any] = []
        for one in ring:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        ring = inner


def shown(value: Any, most: int = 120) -> str:
    """A value of the document as it may stand in a sentence."""
    text = str(value).encode("utf-8", "replace").decode()
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return f"{text[:most]}..." if len(text) > most else text
