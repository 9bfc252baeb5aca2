"""The tensor index: a hash of each tensor, taken in one pass and constant memory, and what two indexes share.

A hash covers type, shape and bytes, not the name: a renamed copy is a copy. Constant tensors and those under 4 KiB
say nothing about descent and are left out.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from blake3 import blake3

from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.safetensors import BITS, header_length, parse_header
from ecotone.lineage.tensors import Parameters, TensorInfo, Weights, parameters

SMALLEST: Final = 4096


class TensorIndex(msgspec.Struct, frozen=True):
    """Hashes of a file's (or model's) tensors.

    Args:
        hashes: hex BLAKE3 of each tensor that was indexed, by name.
        sizes: its length in bytes, by hash.
        parameters: counts over all tensors, also those left out.
    """

    hashes: dict[str, str]
    sizes: dict[str, int]
    parameters: Parameters

    def joined(self, other: "TensorIndex") -> "TensorIndex":
        """The index of a model whose weights lie in both files."""
        counts = dict(self.parameters.by_dtype)
        for dtype, count in other.parameters.by_dtype.items():
            counts[dtype] = counts.get(dtype, 0) + count
        total = Parameters(sum(counts.values()), counts)
        return TensorIndex(self.hashes | other.hashes, self.sizes | other.sizes, total)


def shared_share(child: TensorIndex, parent: TensorIndex) -> float:
    """The share of the child's indexed bytes that lie in tensors which the parent has too; 0.0 if it has none indexed.

    Any shared tensor proves shared ancestry; 1.0 with layers missing is a depth-pruned copy; 0.8 and more with the
    rest of low rank is a merged adapter.
    """
    sizes = [child.sizes[name] for name in child.hashes.values()]
    shared = [child.sizes[name] for name in child.hashes.values() if name in parent.sizes]
    return sum(shared) / sum(sizes) if sizes else 0.0


def index_safetensors(chunks: Iterable[bytes], size: int | None = None) -> TensorIndex:
    """The index of a safetensors file, from its bytes in order.

    Raises:
        BrokenWeights: its header is broken, or the file ends before its data.
    """
    indexer = TensorIndexer(size)
    for chunk in chunks:
        indexer.feed(chunk)
    return indexer.finish()


class TensorIndexer:
    """Takes the bytes of a safetensors file as they arrive; holds no more of it than its header."""

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._head = bytearray()
        self._weights: Weights | None = None
        self._todo: list[TensorInfo] = []
        self._place = 0
        self._running: _Hashing | None = None
        self._hashes: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes.

        Raises:
            BrokenWeights: the header is broken, or there is more data than it says.
        """
        if self._weights is None:
            self._head += chunk
            length = header_length(self._head, self._size)
            if length is None or len(self._head) < 8 + length:
                return
            self._weights = parse_header(bytes(self._head[8 : 8 + length]), self._size)
            self._todo = list(reversed(self._weights.tensors))
            chunk, self._head = bytes(self._head[8 + length :]), bytearray()
        view = memoryview(chunk)
        while len(view):
            if self._running is None:
                self._running = self._next()
            piece = view[: self._running.tensor.end - self._place]
            self._running.feed(piece)
            self._place += len(piece)
            view = view[len(piece) :]
            if self._place == self._running.tensor.end:
                self._keep(self._running)
                self._running = None

    def finish(self) -> TensorIndex:
        """The index.

        Raises:
            BrokenWeights: the file ended before its header or its data did.
        """
        if self._weights is None or self._running is not None or any(t.begin != t.end for t in self._todo):
            raise BrokenWeights("The safetensors file ends before its data does. Upload the whole file again.")
        return TensorIndex(self._hashes, self._sizes, parameters([self._weights]))

    def _next(self) -> "_Hashing":
        while self._todo:
            tensor = self._todo.pop()
            if tensor.end > tensor.begin:
                return _Hashing(tensor)
        raise BrokenWeights("The safetensors file goes on after the data that its header names.")

    def _keep(self, hashing: "_Hashing") -> None:
        size = hashing.tensor.end - hashing.tensor.begin
        if size >= SMALLEST and not hashing.constant:
            name = hashing.hash.hexdigest()
            self._hashes[hashing.tensor.name] = name
            self._sizes[name] = size


class _Hashing:
    """The hash of one tensor while its bytes arrive, and whether all its values were equal so far."""

    def __init__(self, tensor: TensorInfo) -> None:
        self.tensor = tensor
        self.hash = blake3(msgspec.json.encode([tensor.dtype, tensor.shape]))
        self.constant = True
        self._width = max(1, BITS[tensor.dtype] // 8)
        self._first = b""
        self._seen = 0

    def feed(self, piece: memoryview) -> None:
        self.hash.update(piece)
        if self.constant:
            if len(self._first) < self._width:
                self._first += bytes(piece[: self._width - len(self._first)])
            shift = self._seen % self._width
            pattern = self._first * ((shift + len(piece)) // self._width + 2)
            self.constant = len(self._first) < self._width or piece == pattern[shift : shift + len(piece)]
            self._seen += len(piece)
