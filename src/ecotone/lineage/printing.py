"""Fingerprinting: one pass over the bytes of a weight file as they arrive, holding its header and samples only."""

from typing import Final

import msgspec
from blake3 import blake3

from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.fingerprint import Fingerprint, TensorPrint
from ecotone.lineage.naming import Named, named
from ecotone.lineage.safetensors import BITS, header_length, parse_header
from ecotone.lineage.sampler import Sampler, plan
from ecotone.lineage.sampling import flat
from ecotone.lineage.tensors import Parameters, TensorInfo, Weights, parameters

SMALLEST: Final = 4096
_STEP: Final = 1 << 16


class Fingerprinter:
    """Takes the bytes of a safetensors or GGUF file in order, in chunks of any size.

    Args:
        size: length of the whole file, where it is known; lets a wrong header be refused at once.
        format: `safetensors` or `gguf`; None to see it from the first bytes.
    """

    def __init__(self, size: int | None = None, format: str | None = None) -> None:
        self._size = size
        self._format = format
        self._head = bytearray()
        self._weights: Weights | None = None
        self._todo: list[tuple[str, Named]] = []
        self._sampled = 1
        self._place = 0
        self._running: _Running | None = None
        self._prints: dict[str, TensorPrint] = {}

    def feed(self, chunk: bytes | memoryview) -> None:
        """Takes the next bytes.

        Raises:
            BrokenWeights: the header is broken, or there is more data than it says.
        """
        if self._weights is None:
            self._head += chunk
            length = header_length(self._head, self._size)
            if length is None or len(self._head) < 8 + length:
                return
            self._start(parse_header(bytes(self._head[8 : 8 + length]), self._size))
            chunk, self._head = bytes(self._head[8 + length :]), bytearray()
        view = memoryview(chunk)
        while len(view):
            if self._running is None:
                self._running = self._next()
            piece = view[: self._running.end - self._place]
            self._running.feed(piece)
            self._place += len(piece)
            view = view[len(piece) :]
            if self._place == self._running.end:
                self._keep(self._running)
                self._running = None

    def finish(self) -> Fingerprint:
        """The fingerprint.

        Raises:
            BrokenWeights: the file ended before its header or its data did.
        """
        if (
            self._weights is None
            or self._running is not None
            or any(n.tensor.begin != n.tensor.end for _, n in self._todo)
        ):
            raise BrokenWeights("The safetensors file ends before its data does. Upload the whole file again.")
        for name, empty in self._todo:
            self._prints[name] = TensorPrint(empty.tensor.dtype, empty.tensor.shape)
        return Fingerprint(self._prints, self._weights.format)

    @property
    def parameters(self) -> Parameters | None:
        """Counts over all tensors; None until the header has come."""
        return None if self._weights is None else parameters([self._weights])

    def _start(self, weights: Weights) -> None:
        self._weights = weights
        self._todo = list(reversed(named(weights).items()))
        self._sampled = max(1, sum(flat(t.shape) is not None for t in weights.tensors))

    def _next(self) -> "_Running":
        while self._todo:
            name, item = self._todo.pop()
            if item.tensor.end > item.tensor.begin:
                return _Running(name, item, self._sampled)
            self._prints[name] = TensorPrint(item.tensor.dtype, item.tensor.shape)
        raise BrokenWeights("The safetensors file goes on after the data that its header names.")

    def _keep(self, done: "_Running") -> None:
        self._prints[done.name] = done.finish()


class _Running:
    """One tensor while its bytes arrive."""

    def __init__(self, name: str, item: Named, sampled: int) -> None:
        self.name = name
        self.end = item.tensor.end
        self._tensor = item.tensor
        self._hashing = _Hashing(item.tensor) if item.tensor.end - item.tensor.begin >= SMALLEST else None
        made = plan(item.tensor.shape, item.tensor.dtype, sampled, item.heads)
        self._sampler = Sampler(made) if made is not None else None

    def feed(self, piece: memoryview) -> None:
        if self._hashing is not None:
            self._hashing.feed(piece)
        if self._sampler is not None:
            self._sampler.feed(piece)

    def finish(self) -> TensorPrint:
        name = None if self._hashing is None or self._hashing.constant else self._hashing.hash.hexdigest()
        sample, odd = self._sampler.finish() if self._sampler is not None else (b"", 0)
        return TensorPrint(self._tensor.dtype, self._tensor.shape, name, sample, odd)


class _Hashing:
    """The hash of one tensor while its bytes arrive, and whether all its values were equal so far."""

    def __init__(self, tensor: TensorInfo) -> None:
        self.hash = blake3(msgspec.json.encode([tensor.dtype, tensor.shape]))
        self.constant = True
        self._width = max(1, BITS.get(tensor.dtype, 8) // 8)
        self._pattern = b""
        self._seen = 0

    def feed(self, piece: memoryview) -> None:
        self.hash.update(piece)
        if self.constant:
            self.constant = self._repeats(piece)
            self._seen += len(piece)

    def _repeats(self, piece: memoryview) -> bool:
        """Whether the bytes go on as the first value says."""
        at = 0
        if self._seen < self._width:
            at = min(len(piece), self._width - self._seen)
            self._pattern += bytes(piece[:at])
            if len(self._pattern) < self._width:
                return True
            self._pattern *= _STEP // self._width + 2
        while at < len(piece):
            shift = (self._seen + at) % self._width
            part = bytes(piece[at : at + _STEP])
            if part != self._pattern[shift : shift + len(part)]:
                return False
            at += len(part)
        return True
