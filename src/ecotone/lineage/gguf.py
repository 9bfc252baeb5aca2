"""Headers of GGUF files: metadata and tensors, bounded. Source: the format's description in ggml, docs/gguf.md."""

import struct
from collections.abc import Generator, Iterable
from math import prod
from typing import Any, Final

from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.tensors import TensorInfo, Weights

HEADER_LIMIT: Final = 100_000_000
_COUNT_LIMIT: Final = 100_000
_TEXT_LIMIT: Final = 65_536
# Lists are told by their length alone, but for those that say how many heads each layer has.
_LISTS: Final = (".attention.head_count", ".attention.head_count_kv")
_LIST_LIMIT: Final = 4_096
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
_BLOCKS: Final = {name: (size, width) for name, size, width in _TYPES.values()}


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
    header = GgufHeader(size)
    for chunk in chunks:
        if not chunk:
            break
        if (weights := header.feed(chunk)) is not None:
            return weights
    raise BrokenWeights("The GGUF header is cut off. Upload the whole file again.")


class GgufHeader:
    """Reads a header from bytes as they arrive; holds no more of it than one entry and what it says.

    Args:
        size: length of the whole file, where it is known.
    """

    def __init__(self, size: int | None = None) -> None:
        self._source = _Source()
        self._steps = _header(self._source, size)
        next(self._steps)

    def feed(self, chunk: bytes | memoryview) -> Weights | None:
        """Takes the next bytes; answers as soon as the header is whole.

        Raises:
            BrokenWeights: as `read_gguf`.
        """
        self._source.add(chunk)
        try:
            next(self._steps)
        except StopIteration as end:
            weights: Weights = end.value
            return weights
        return None

    @property
    def rest(self) -> bytes:
        """What came after the header with its last chunk, once it is whole."""
        return self._source.rest()

    @property
    def length(self) -> int:
        """Bytes of the header, once it is whole; the tensors' data starts at the next multiple of the alignment."""
        return self._source.place


_Steps = Generator[None, None, Any]
_Described = tuple[str, tuple[int, ...], int, int]


class _Source:
    """Bytes that have come and are not yet read, up to the limit of a header."""

    def __init__(self) -> None:
        self._have = bytearray()
        self._at = 0
        self.place = 0

    def add(self, chunk: bytes | memoryview) -> None:
        del self._have[: self._at]
        self._at = 0
        self._have += chunk

    def rest(self) -> bytes:
        return bytes(self._have[self._at :])

    def take(self, count: int) -> Generator[None, None, bytes]:
        self._account(count)
        while len(self._have) - self._at < count:
            yield
        self._at += count
        return bytes(self._have[self._at - count : self._at])

    def skip(self, count: int) -> _Steps:
        self._account(count)
        while (there := len(self._have) - self._at) < count:
            self._at += there
            count -= there
            yield
        self._at += count

    def number(self, form: str) -> Generator[None, None, int]:
        return int((yield from self.scalar(form)))

    def scalar(self, form: str) -> Generator[None, None, int | float | bool]:
        value: int | float | bool = struct.unpack(form, (yield from self.take(struct.calcsize(form))))[0]
        return value

    def name(self) -> Generator[None, None, str]:
        length = yield from self.number("<Q")
        if length > _TEXT_LIMIT:
            raise BrokenWeights(f"The GGUF header holds a name of {length} bytes.")
        return (yield from self.take(length)).decode("utf-8", "replace")

    def text(self) -> Generator[None, None, str]:
        """A text, cut where it is long."""
        length = yield from self.number("<Q")
        text = (yield from self.take(min(length, _TEXT_LIMIT))).decode("utf-8", "replace")
        yield from self.skip(max(0, length - _TEXT_LIMIT))
        return text

    def skip_texts(self, count: int) -> _Steps:
        """Passes over a list of texts; vocabularies have hundreds of thousands."""
        length_at = struct.Struct("<Q").unpack_from
        while count:
            have, at = self._have, self._at
            end = len(have) - 8
            while count and at <= end:
                further = at + 8 + length_at(have, at)[0]
                if further > end + 8:
                    break
                at, count = further, count - 1
            self._account(at - self._at)
            self._at = at
            if count:
                yield from self.skip((yield from self.number("<Q")))
                count -= 1

    def _account(self, count: int) -> None:
        self.place += count
        if self.place > HEADER_LIMIT:
            raise BrokenWeights("The GGUF header is longer than 100 MB.")


def _header(source: _Source, size: int | None) -> _Steps:
    yield
    if (yield from source.take(4)) != b"GGUF":
        raise BrokenWeights("A GGUF file begins with `GGUF`; this one does not.")
    version = yield from source.number("<I")
    if version not in (2, 3):
        raise BrokenWeights(f"GGUF version {version} is not known here; versions 2 and 3 are.")
    tensor_count, entry_count = (yield from source.number("<Q")), (yield from source.number("<Q"))
    if max(tensor_count, entry_count) > _COUNT_LIMIT:
        raise BrokenWeights(f"The GGUF header claims more than {_COUNT_LIMIT} entries.")
    metadata: dict[str, str | int | float | bool] = {}
    lists: dict[str, tuple[int, ...]] = {}
    for _ in range(entry_count):
        name = yield from source.name()
        if name in metadata:
            raise BrokenWeights(f"The GGUF header names {name[:200]!r} twice.")
        metadata[name] = yield from _value(source, name, lists)
    described = yield from _descriptions(source, tensor_count)
    tensors = _placed(described)
    step = alignment(metadata)
    start = -(-source.place // step) * step
    end = max((t.end for t in tensors), default=0)
    if size is not None and tensors and start + end > size:
        raise BrokenWeights(f"The tensors end at byte {start + end}, the file at byte {size}.")
    return Weights("gguf", tensors, metadata, start, lists)


def alignment(metadata: dict[str, str | int | float | bool]) -> int:
    """Bytes that places in the file are multiples of.

    Raises:
        BrokenWeights: the header names an impossible number.
    """
    step = metadata.get("general.alignment", 32)
    if type(step) is not int or not 1 <= step <= 1 << 20:
        raise BrokenWeights("The alignment of the GGUF file is not possible.")
    return step


def block(dtype: str) -> tuple[int, int] | None:
    """Values and bytes of a block of a type; None for a type that is not known."""
    return _BLOCKS.get(dtype)


def _placed(described: list[_Described]) -> tuple[TensorInfo, ...]:
    """The tensors in the order of their data, none on another."""
    if len({d[0] for d in described}) != len(described):
        raise BrokenWeights("The GGUF header names a tensor twice.")
    tensors = sorted((_tensor(*d) for d in described), key=lambda t: (t.begin, t.end, t.name))
    place = 0
    for tensor in tensors:
        if tensor.begin < place:
            raise BrokenWeights(f"Tensor {tensor.name[:200]!r} overlaps its neighbour.")
        place = tensor.end
    return tuple(tensors)


def _value(
    source: _Source, name: str, lists: dict[str, tuple[int, ...]]
) -> Generator[None, None, str | int | float | bool]:
    """A metadata value; the number of items for a list."""
    kind = yield from source.number("<I")
    if kind == _STRING:
        return (yield from source.text())
    if kind in _SCALARS:
        return (yield from source.scalar(_SCALARS[kind]))
    if kind != _ARRAY:
        raise BrokenWeights(f"The GGUF header holds a value of unknown kind {kind}.")
    item, count = (yield from source.number("<I")), (yield from source.number("<Q"))
    if item == _STRING:
        yield from source.skip_texts(count)
    elif item not in _SCALARS:
        raise BrokenWeights(f"The GGUF header holds a list of unknown kind {item}.")
    elif name.endswith(_LISTS) and count <= _LIST_LIMIT and len(lists) < 8:
        form = _SCALARS[item]
        raw = yield from source.take(count * struct.calcsize(form))
        lists[name] = tuple(int(v) for (v,) in struct.iter_unpack(form, raw) if v == v and abs(v) < 1 << 63)
    else:
        yield from source.skip(count * struct.calcsize(_SCALARS[item]))
    return count


def _descriptions(source: _Source, count: int) -> Generator[None, None, list[_Described]]:
    found: list[_Described] = []
    while len(found) < count:
        found += [(yield from _description(source))]
    return found


def _description(source: _Source) -> Generator[None, None, _Described]:
    name = yield from source.name()
    dimensions = yield from source.number("<I")
    if dimensions > 8:
        raise BrokenWeights(f"Tensor {name[:200]!r} has {dimensions} dimensions.")
    sizes = struct.unpack(f"<{dimensions}Q", (yield from source.take(8 * dimensions)))
    return name, sizes[::-1], (yield from source.number("<I")), (yield from source.number("<Q"))


def _tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> TensorInfo:
    dtype, size, width = _TYPES.get(kind, (f"TYPE_{kind}", 1, 0))
    values = prod(shape)
    if values >= 1 << 63 or (shape[-1] if shape else 1) % size:
        raise BrokenWeights(f"Tensor {name[:200]!r} has a shape that its type {dtype} cannot have.")
    return TensorInfo(name, dtype, shape, offset, offset + values // size * width)
