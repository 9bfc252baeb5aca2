"""Headers of safetensors files, checked against the format before anything believes them.

Source: the format's description in the safetensors README: eight bytes with the header's length, a JSON object that
begins with `{`, tensors without overlap or holes up to the end of the file, at most 100 MB of header. We take less: the
largest model published so far has some 5,000 tensors in a file.
"""

import json
from collections.abc import Iterable
from math import prod
from typing import Any, Final, TypeGuard

from ecotone.lineage.errors import BrokenWeights, TooManyTensors
from ecotone.lineage.tensors import TensorInfo, Weights

HEADER_LIMIT: Final = 100_000_000
MOST_HEADER_BYTES: Final = 32 * 1024 * 1024
MOST_TENSORS: Final = 100_000
BITS: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


def read_safetensors(chunks: Iterable[bytes], size: int | None = None) -> Weights:
    """The header of a safetensors file.

    Args:
        chunks: the file's bytes from its start; no more are taken than the header needs.
        size: length of the whole file, to check that the data fits it.

    Raises:
        BrokenWeights: the header is cut off, too long, no JSON, or contradicts itself or the size.
    """
    header = SafetensorsHeader(size)
    for chunk in chunks:
        if not chunk:
            break
        if (weights := header.feed(chunk)) is not None:
            return weights
    raise BrokenWeights("The safetensors header is cut off. Upload the whole file again.")


class SafetensorsHeader:
    """Reads a header from bytes as they arrive.

    Args:
        size: length of the whole file, where it is known.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._head = bytearray()
        self.rest = b""

    def feed(self, chunk: bytes | memoryview) -> Weights | None:
        """Takes the next bytes; answers as soon as the header is whole, and keeps what came behind it as `rest`.

        Raises:
            BrokenWeights: as `read_safetensors`.
        """
        self._head += chunk
        length = header_length(self._head, self._size)
        if length is None or len(self._head) < 8 + length:
            return None
        header, self.rest = bytes(self._head[8 : 8 + length]), bytes(self._head[8 + length :])
        self._head = bytearray()
        return parse_header(header, self._size)


def header_length(head: bytes | bytearray, size: int | None = None) -> int | None:
    """Length of the header by the first eight bytes; `None` while there are fewer.

    Raises:
        BrokenWeights: it cannot be a safetensors header.
        TooManyTensors: it is longer than any model needs.
    """
    if len(head) < 8:
        return None
    length = int.from_bytes(head[:8], "little")
    if not 2 <= length <= HEADER_LIMIT or (size is not None and 8 + length > size):
        raise BrokenWeights(f"A safetensors header of {length} bytes is not possible here. Is this a safetensors file?")
    if length > MOST_HEADER_BYTES:
        raise TooManyTensors(
            f"A safetensors header of {length} bytes is not read; at most {MOST_HEADER_BYTES} are. Save in more files."
        )
    return length


def parse_header(header: bytes, size: int | None = None) -> Weights:
    """The tensors of a header, in the order of their data.

    Raises:
        BrokenWeights: it is no JSON object, or its tensors contradict each other, their shapes or the size.
        TooManyTensors: it names more than any model has in one file.
    """
    if header[:1] != b"{":
        raise BrokenWeights("A safetensors header begins with `{`; this one does not.")
    if header.count(b"{") > MOST_TENSORS + 2:
        raise TooManyTensors(
            f"A safetensors header of more than {MOST_TENSORS} tensors is not read. Save the model in more files."
        )
    try:
        table = json.loads(header, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BrokenWeights("The safetensors header is no valid JSON.") from error
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BrokenWeights("`__metadata__` of a safetensors header maps names to texts; this one does not.")
    if not all(map(_is_text, (*table, *metadata, *metadata.values()))):
        raise BrokenWeights("The safetensors header holds a text that is no valid Unicode: half of a surrogate pair.")
    tensors = sorted((_tensor(n, e) for n, e in table.items()), key=lambda t: (t.begin, t.end, t.name))
    place = 0
    for tensor in tensors:
        if tensor.begin != place:
            kind = "overlaps its neighbour" if tensor.begin < place else "leaves a hole before it"
            raise BrokenWeights(f"Tensor {tensor.name[:200]!r} {kind}.")
        place = tensor.end
    start = 8 + len(header)
    if size is not None and start + place != size:
        raise BrokenWeights(f"The tensors end at byte {start + place}, the file at byte {size}.")
    return Weights("safetensors", tuple(tensors), metadata, start)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise BrokenWeights("The safetensors header names a tensor twice.")
    return table


def _is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8; JSON's escapes allow more."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(word: str) -> None:
    raise ValueError(word)


def _tensor(name: str, entry: Any) -> TensorInfo:
    """One entry of the header, with its size checked against its shape."""
    shown = repr(name[:200])
    if not isinstance(entry, dict):
        raise BrokenWeights(f"Tensor {shown} has no description.")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise BrokenWeights(f"Tensor {shown} has a data type that safetensors does not have.")
    if not _naturals(shape) or len(shape) > 32 or not _naturals(offsets) or len(offsets) != 2:
        raise BrokenWeights(f"Tensor {shown} needs a list of sizes as shape and two offsets.")
    begin, end = offsets
    bits = prod(shape) * BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        raise BrokenWeights(f"Tensor {shown} has {end - begin} bytes of data where its shape needs {bits // 8}.")
    return TensorInfo(name, dtype, tuple(shape), begin, end)


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and (not value or (set(map(type, value)) == {int} and _fits(min(value), max(value))))


def _fits(least: int, most: int) -> bool:
    return least >= 0 and most < 1 << 63
