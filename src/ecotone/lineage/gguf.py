"""Headers of GGUF files: metadata and tensors, bounded. Source: the format's description in ggml, docs/gguf.md."""

import struct
from collections.abc import Iterable
from math import prod
from typing import Final

from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.tensors import TensorInfo, Weights

HEADER_LIMIT: Final = 100_000_000
_COUNT_LIMIT: Final = 1_000_000
_TEXT_LIMIT: Final = 65_536
_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING: Final = 8
_ARRAY: Final = 9

# Number of a type: its name, values in a block, bytes of a block (ggml.h, ggml-common.h).
_TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


def read_gguf(chunks: Iterable[bytes], size: int | None = None) -> Weights:
    """The header of a GGUF file of version 2 or 3, little-endian.

    Args:
        chunks: the file's bytes from its start; no more are taken than the header needs.
        size: length of the whole file, to check that the data fits it.

    Returns:
        tensors with shapes outermost dimension first; metadata without arrays, which are told by their length.

    Raises:
        BrokenWeights: it is no GGUF file, is cut off, too long, or contradicts itself or the size.
    """
    source = _Source(chunks)
    if source.take(4) != b"GGUF":
        raise BrokenWeights("A GGUF file begins with `GGUF`; this one does not.")
    version = source.number("<I")
    if version not in (2, 3):
        raise BrokenWeights(f"GGUF version {version} is not known here; versions 2 and 3 are.")
    tensor_count, entry_count = source.number("<Q"), source.number("<Q")
    if max(tensor_count, entry_count) > _COUNT_LIMIT:
        raise BrokenWeights("The GGUF header claims more than a million entries.")
    metadata: dict[str, str | int | float | bool] = {}
    for _ in range(entry_count):
        name = source.text()
        if name in metadata:
            raise BrokenWeights(f"The GGUF header names {name[:200]!r} twice.")
        metadata[name] = _value(source)
    described = [_description(source) for _ in range(tensor_count)]
    if len({d[0] for d in described}) != len(described):
        raise BrokenWeights("The GGUF header names a tensor twice.")
    step = metadata.get("general.alignment", 32)
    if type(step) is not int or not 1 <= step <= 1 << 20:
        raise BrokenWeights("The alignment of the GGUF file is not possible.")
    start = -(-source.place // step) * step
    tensors = sorted((_tensor(*d) for d in described), key=lambda t: (t.begin, t.end, t.name))
    place = 0
    for tensor in tensors:
        if tensor.begin < place:
            raise BrokenWeights(f"Tensor {tensor.name[:200]!r} overlaps its neighbour.")
        place = tensor.end
    if size is not None and tensors and start + place > size:
        raise BrokenWeights(f"The tensors end at byte {start + place}, the file at byte {size}.")
    return Weights("gguf", tuple(tensors), metadata, start)


class _Source:
    """Bytes taken in order from chunks, up to the limit of a header."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._have = b""
        self._at = 0
        self.place = 0

    def take(self, count: int) -> bytes:
        if self.place + count > HEADER_LIMIT:
            raise BrokenWeights("The GGUF header is longer than 100 MB.")
        pieces = []
        missing = count
        while missing:
            if self._at == len(self._have):
                self._have, self._at = next(self._chunks, b""), 0
                if not self._have:
                    raise BrokenWeights("The GGUF header is cut off. Upload the whole file again.")
            piece = self._have[self._at : self._at + missing]
            pieces.append(piece)
            self._at += len(piece)
            missing -= len(piece)
        self.place += count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def number(self, form: str) -> int:
        return int(self.scalar(form))

    def scalar(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def text(self, limit: int = _TEXT_LIMIT) -> str:
        length = self.number("<Q")
        if length > limit:
            raise BrokenWeights(f"The GGUF header holds a name of {length} bytes.")
        return self.take(length).decode("utf-8", "replace")


def _value(source: _Source) -> str | int | float | bool:
    """A metadata value; the number of items for an array."""
    kind = source.number("<I")
    if kind == _STRING:
        return source.text(HEADER_LIMIT)[:_TEXT_LIMIT]
    if kind in _SCALARS:
        return source.scalar(_SCALARS[kind])
    if kind != _ARRAY:
        raise BrokenWeights(f"The GGUF header holds a value of unknown kind {kind}.")
    item, count = source.number("<I"), source.number("<Q")
    if item == _STRING:
        for _ in range(min(count, HEADER_LIMIT)):
            source.text(HEADER_LIMIT)
    elif item in _SCALARS:
        source.take(count * struct.calcsize(_SCALARS[item]))
    else:
        raise BrokenWeights(f"The GGUF header holds a list of unknown kind {item}.")
    return count


def _description(source: _Source) -> tuple[str, tuple[int, ...], int, int]:
    name = source.text()
    dimensions = source.number("<I")
    if dimensions > 8:
        raise BrokenWeights(f"Tensor {name[:200]!r} has {dimensions} dimensions.")
    shape = tuple(source.number("<Q") for _ in range(dimensions))
    return name, shape[::-1], source.number("<I"), source.number("<Q")


def _tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> TensorInfo:
    dtype, block, width = _TYPES.get(kind, (f"TYPE_{kind}", 1, 0))
    values = prod(shape)
    if values % block or values >= 1 << 63:
        raise BrokenWeights(f"Tensor {name[:200]!r} has a shape that its type {dtype} cannot have.")
    return TensorInfo(name, dtype, shape, offset, offset + values // block * width)
