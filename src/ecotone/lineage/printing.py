"""Fingerprinting: one pass over the bytes of a weight file as they arrive, holding its header and samples only."""

from collections.abc import Mapping
from typing import Final

import msgspec
from blake3 import blake3

from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.fingerprint import Fingerprint, TensorPrint
from ecotone.lineage.gguf import GgufHeader, alignment, block
from ecotone.lineage.naming import Named, led, named
from ecotone.lineage.safetensors import BITS, SafetensorsHeader
from ecotone.lineage.sampler import Sampler, plan
from ecotone.lineage.sampling import sampled
from ecotone.lineage.tensors import TensorInfo, Weights

SMALLEST: Final = 4096
_STEP: Final = 1 << 16
_HEAD_STEP: Final = 1 << 14


class Fingerprinter:
    """Takes the bytes of a safetensors or GGUF file in order, in chunks of any size.

    Args:
        size: length of the whole file, where it is known; lets a wrong header be refused at once.
        format: `safetensors` or `gguf`; None to see it from the first bytes.
        sampled: tensors that the whole model samples, where the file is one of several (`sampling.sampled`).
        first: the header of the first file of a split GGUF model, which alone tells architecture and heads.
        names: canonical names by the files' names, where they were chosen for several safetensors files together.
    """

    def __init__(
        self,
        size: int | None = None,
        format: str | None = None,  # noqa: A002
        *,
        sampled: int | None = None,
        first: Weights | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._size = size
        self._header: SafetensorsHeader | GgufHeader | None = None
        if format is not None:
            self._header = GgufHeader(size) if format == "gguf" else SafetensorsHeader(size)
        self._begin = b""
        self._weights: Weights | None = None
        self._todo: list[tuple[str, Named]] = []
        self._sampled = sampled
        self._first = first
        self._names = names
        self._place = 0
        self._tail = 0
        self._running: _Running | None = None
        self._prints: dict[str, TensorPrint] = {}

    def feed(self, chunk: bytes | memoryview) -> None:
        """Takes the next bytes.

        Raises:
            BrokenWeights: the header is broken, or there is more data than it says.
        """
        view = memoryview(chunk)
        while self._weights is None:
            if not len(view):
                return
            begun, view = self._begun(view[:_HEAD_STEP]), view[_HEAD_STEP:]
            if begun:
                self._data(memoryview(begun))
        self._data(view)

    def finish(self) -> Fingerprint:
        """The fingerprint.

        Raises:
            BrokenWeights: the file ended before its header or its data did.
        """
        if self._weights is None:
            raise BrokenWeights("The file ends before the header of its weights does. Upload the whole file again.")
        if self._running is not None or any(n.tensor.begin != n.tensor.end for _, n in self._todo):
            raise BrokenWeights(f"The {self._weights.format} file ends before its data. Upload the whole file again.")
        for name, empty in reversed(self._todo):
            self._prints[name] = TensorPrint(empty.tensor.dtype, empty.tensor.shape)
        return Fingerprint(self._prints, self._weights.format)

    @property
    def weights(self) -> Weights | None:
        """The header, once it has come."""
        return self._weights

    def _begun(self, piece: memoryview) -> bytes:
        """Takes bytes of the header; what came behind it with its last ones."""
        if self._header is None:
            self._begin += bytes(piece)
            if len(self._begin) < 4:
                return b""
            self._header = (GgufHeader if self._begin[:4] == b"GGUF" else SafetensorsHeader)(self._size)
            piece, self._begin = memoryview(self._begin), b""
        weights = self._header.feed(piece)
        if weights is None:
            return b""
        self._start(weights)
        return self._header.rest

    def _start(self, weights: Weights) -> None:
        self._weights = weights
        tensors = named(weights if self._first is None else led(weights, self._first), self._names)
        if self._sampled is None:
            self._sampled = sampled(item.tensor.shape for item in tensors.values())
        self._todo = list(reversed(tensors.items()))
        if isinstance(self._header, GgufHeader):
            # Data starts at a multiple of the alignment; after the last tensor the file may be filled up to one.
            self._place = self._header.length - weights.data_start
            unknown = any(block(t.dtype) is None for t in weights.tensors)
            self._tail = 1 << 63 if unknown else alignment(weights.metadata) - 1

    def _data(self, view: memoryview) -> None:
        while len(view):
            running = self._running = self._running or self._next()
            if running is None:
                self._tail -= len(view)
                if self._tail < 0:
                    raise BrokenWeights("The file goes on after the data that its header names.")
                return
            piece = view[: running.end - self._place]
            running.feed(piece[max(0, running.begin - self._place) :])
            self._place += len(piece)
            view = view[len(piece) :]
            if self._place == running.end:
                self._prints[running.name] = running.finish()
                self._running = None

    def _next(self) -> "_Running | None":
        while self._todo:
            name, item = self._todo.pop()
            if item.tensor.end > item.tensor.begin:
                return _Running(name, item, self._sampled or 1)
            self._prints[name] = TensorPrint(item.tensor.dtype, item.tensor.shape)
        return None


class _Running:
    """One tensor while its bytes arrive."""

    def __init__(self, name: str, item: Named, sampled: int) -> None:
        self.name = name
        self.begin, self.end = item.tensor.begin, item.tensor.end
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
        found = block(tensor.dtype)
        self._width = found[1] if found is not None else max(1, BITS.get(tensor.dtype, 8) // 8)
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
            # Nearly all tensors say so with their second value.
            if len(piece) >= at + self._width and piece[at : at + self._width] != self._pattern:
                return False
            self._pattern *= _STEP // self._width + 2
        while at < len(piece):
            shift = (self._seen + at) % self._width
            part = bytes(piece[at : at + _STEP])
            if part != self._pattern[shift : shift + len(part)]:
                return False
            at += len(part)
        return True
