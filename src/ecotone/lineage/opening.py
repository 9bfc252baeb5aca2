"""Weights on disk, opened without loading them: a file or a folder of shards, read tensor by tensor."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from ecotone.lineage.architecture import Architecture, architecture
from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.fingerprint import Fingerprint
from ecotone.lineage.naming import Named, file_rows, named
from ecotone.lineage.printing import Fingerprinter
from ecotone.lineage.safetensors import read_safetensors
from ecotone.lineage.sources import Source, Values
from ecotone.lineage.tensors import TensorInfo, Weights
from ecotone.lineage.units import unit

CHUNK: Final = 1 << 20
_CONFIG_LIMIT: Final = 4 << 20


def open_weights(path: Path) -> Source:
    """The weights of a file or of a folder."""
    return _Opened(_files(path), _config(path))


def fingerprint_of(path: Path, progress: Callable[[int, int], None] | None = None) -> Fingerprint:
    """The fingerprint of a file or of a folder.

    Args:
        path: as for `open_weights`.
        progress: is told the bytes read and the bytes to read.
    """
    files = _files(path)
    total, read = sum(f.stat().st_size for f in files), 0
    found: Fingerprint | None = None
    for file in files:
        printer = Fingerprinter(file.stat().st_size)
        with file.open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK):
                printer.feed(chunk)
                read += len(chunk)
                if progress is not None:
                    progress(read, total)
        one = printer.finish()
        found = one if found is None else found.joined(one)
    assert found is not None
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.safetensors"))
    if not found:
        raise BrokenWeights(f"{path} holds no *.safetensors file.")
    return found


def _config(path: Path) -> Architecture | None:
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        if file.stat().st_size > _CONFIG_LIMIT:
            return None
        config: Any = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return architecture(config) if isinstance(config, dict) else None


def _header(file: Path) -> Weights:
    size = file.stat().st_size
    with file.open("rb") as stream:
        return read_safetensors(iter(lambda: stream.read(CHUNK), b""), size)


class _Opened:
    """Files and where each tensor lies in them."""

    def __init__(self, files: list[Path], config: Architecture | None) -> None:
        self._places: dict[str, tuple[Path, int, Named]] = {}
        self.format = "safetensors"
        self.architecture = config
        for file in files:
            weights = _header(file)
            self.format = weights.format
            for name, item in named(weights).items():
                self._places[name] = (file, weights.data_start, item)
        self.tensors: Mapping[str, TensorInfo] = {name: item.tensor for name, (_, _, item) in self._places.items()}

    def read(self, name: str) -> Values:
        shape = self._places[name][2].tensor.shape
        if not shape:
            return self._values(name, 0, 1).reshape(())
        return self.rows(name, 0, shape[0])

    def rows(self, name: str, first: int, last: int) -> Values:
        shape = self._places[name][2].tensor.shape
        return self._values(name, first, last).reshape(last - first, *shape[1:])

    def _values(self, name: str, first: int, last: int) -> Values:
        file, start, item = self._places[name]
        tensor = item.tensor
        found = unit(tensor.dtype)
        if found is None:
            raise BrokenWeights(f"{name} is of type {tensor.dtype}, whose values are not read here.")
        count = tensor.shape[0] if tensor.shape else 1
        stride = (tensor.end - tensor.begin) // count if count else 0
        if not item.heads:
            raw = _bytes(file, start + tensor.begin + first * stride, (last - first) * stride)
            return found.decode(raw.reshape(-1, found.width)).reshape(-1)
        size = count // item.heads
        low, high = first // size * size, min(count, -(-last // size) * size)
        raw = _bytes(file, start + tensor.begin + low * stride, (high - low) * stride).reshape(high - low, stride)
        picked = raw[file_rows(np.arange(first, last), count, item.heads) - low]
        return found.decode(picked.reshape(-1, found.width)).reshape(-1)


def _bytes(file: Path, at: int, count: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    raw = np.empty(count, np.uint8)
    view, got = memoryview(raw), 0
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        while got < count:
            read = os.preadv(descriptor, [view[got : got + (64 << 20)]], at + got)
            if not read:
                raise BrokenWeights(f"{file.name} ends before its data does. Upload the whole file again.")
            got += read
    finally:
        os.close(descriptor)
    return raw
