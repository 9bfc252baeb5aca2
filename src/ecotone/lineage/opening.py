"""Weights on disk, opened without loading them: a file, or a folder of shards, read tensor by tensor."""

import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from ecotone.lineage.architecture import Architecture, architecture, architecture_of_gguf
from ecotone.lineage.errors import BrokenIndex, BrokenWeights, PickledWeights
from ecotone.lineage.fingerprint import Fingerprint
from ecotone.lineage.gguf import read_gguf
from ecotone.lineage.naming import Named, canonical, file_rows, led, named
from ecotone.lineage.printing import Fingerprinter
from ecotone.lineage.safetensors import read_safetensors
from ecotone.lineage.sampling import sampled
from ecotone.lineage.shards import MOST_INDEX_BYTES, files_of_index
from ecotone.lineage.sources import Source, Values
from ecotone.lineage.tensors import TensorInfo, Weights
from ecotone.lineage.units import unit
from ecotone.lineage.values import Bytes

CHUNK: Final = 1 << 20
_HEAD_CHUNK: Final = 1 << 16
_CONFIG_LIMIT: Final = 4 << 20
WIDEST: Final = 1 << 27  # values in a row; stacked experts, the widest that there are, have less than 1 << 26
_PICKLES: Final = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"))
_SPLIT: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_INDEX: Final = "model.safetensors.index.json"
# What a folder without an index is asked for, in this order, before all that it holds.
_WHOLE: Final = ("model.safetensors", "adapter_model.safetensors")
_SHARD: Final = "model-*-of-*.safetensors"


def open_weights(path: Path) -> Source:
    """The weights of a file or of a folder, safetensors or GGUF; only headers are read now.

    Args:
        path: a file; or a folder with an index, with shards, or with one model in safetensors or GGUF.

    Raises:
        BrokenWeights: there are none, they contradict themselves, or they are several models.
        PickledWeights: there are only pickles, which are never opened.
        BrokenIndex: the index names what lies not beside it.
    """
    files = weight_files(path)
    return _Opened(files, _headers(files), _config(path))


def fingerprint_of(path: Path, progress: Callable[[int, int], None] | None = None) -> Fingerprint:
    """The fingerprint of a file or of a folder, read once from its start to its end.

    Args:
        path: as for `open_weights`.
        progress: is told the bytes read and the bytes to read.

    Raises:
        as `open_weights`.
    """
    files = weight_files(path)
    headers = _headers(files)
    names = _names(files, headers)
    count = sampled(item.tensor.shape for weights in headers for item in named(weights, names).values())
    total, read = sum(f.stat().st_size for f in files), 0
    found = Fingerprint({}, headers[0].format)
    for file in files:
        printer = Fingerprinter(file.stat().st_size, headers[0].format, sampled=count, first=headers[0], names=names)
        with file.open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK):
                printer.feed(chunk)
                read += len(chunk)
                if progress is not None:
                    progress(read, total)
        found = found.joined(printer.finish())
    return found


def weight_files(path: Path) -> list[Path]:
    """The files that hold a model's weights.

    Raises:
        as `open_weights`.
    """
    found = _weight_files(path)
    for file in found:
        if not file.is_file():  # opening a pipe would wait for whoever writes to it, a device may never end
            raise BrokenWeights(f"{file.name[:200]!r} is no regular file; a file with weights is expected.")
    return found


def _weight_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() in _PICKLES:
            raise _pickled(path.name)
        return _splits(path)
    if not path.is_dir():
        raise BrokenWeights(f"{path.name!r} is no file and no folder; name one that holds weights.")
    if found := _safetensors(path):
        return found
    files = sorted(path.glob("*.gguf"))
    if files:
        splits = _splits(files[0])
        if set(splits) != set(files):
            raise BrokenWeights(
                f"{path.name!r} holds {len(files)} GGUF files that are not parts of one model; name one of them."
            )
        return splits
    for pickle in sorted(p for p in path.iterdir() if p.suffix.lower() in _PICKLES and p.is_file()):
        raise _pickled(pickle.name)
    raise BrokenWeights(f"{path.name!r} holds no *.safetensors and no *.gguf file; name a folder or file that does.")


def _pickled(name: str) -> PickledWeights:
    return PickledWeights(
        f"{name!r} is a pickle by its name. Pickles run code when they are opened and are never opened here; save the "
        "model as safetensors (in transformers: `model.save_pretrained(folder, safe_serialization=True)`)."
    )


def _safetensors(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        if index.stat().st_size > MOST_INDEX_BYTES:
            raise BrokenIndex(f"{_INDEX} is larger than {MOST_INDEX_BYTES} bytes, the most an index may have.")
        found = [folder / name for name in sorted(files_of_index(index.read_bytes()) or ())]
        for file in found:
            if not file.is_file():
                raise BrokenIndex(f"{_INDEX} names {file.name[:200]!r}, which is not there; add it.")
        if found:
            return found
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    return sorted(folder.glob(_SHARD)) or sorted(folder.glob("*.safetensors"))


def _splits(path: Path) -> list[Path]:
    """All files of a GGUF model that was split, by one of them."""
    match = _SPLIT.fullmatch(path.name)
    if match is None or not 0 < (count := int(match[3])) <= 10_000:
        return [path]
    found = [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, count + 1)]
    for file in found:
        if not file.is_file():
            raise BrokenWeights(
                f"{path.name!r} is a part of a split model, and {file.name!r} is not beside it; add it."
            )
    return found


def _headers(files: list[Path]) -> list[Weights]:
    headers = [_header(file) for file in files]
    return [led(weights, headers[0]) for weights in headers]


def _names(files: list[Path], headers: list[Weights]) -> dict[str, str] | None:
    """Canonical names, chosen for all files together; None for GGUF, whose names are translated one by one.

    Raises:
        BrokenWeights: two files hold a tensor of one name.
    """
    if len({weights.format for weights in headers}) > 1:
        raise BrokenWeights("The files are of several formats and cannot be one model; name one of them.")
    held: dict[str, str] = {}
    for file, weights in zip(files, headers, strict=True):
        for tensor in weights.tensors:
            if (other := held.setdefault(tensor.name, file.name)) != file.name:
                raise BrokenWeights(f"{other!r} and {file.name!r} both hold {tensor.name[:200]!r}; name one of them.")
    return canonical(held) if headers[0].format == "safetensors" else None


def _header(file: Path) -> Weights:
    size = file.stat().st_size
    with file.open("rb", buffering=0) as stream:
        begin = _exactly(stream, 0, min(4, size))
        if begin[:2] == b"PK" or begin[:1] == b"\x80":
            raise _pickled(file.name)
        stream.seek(0)
        read = read_gguf if begin == b"GGUF" else read_safetensors
        return read(iter(lambda: stream.read(_HEAD_CHUNK), b""), size)


def _config(path: Path) -> Architecture | None:
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        if not file.is_file() or file.stat().st_size > _CONFIG_LIMIT:
            return None
        config: Any = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return architecture(config) if isinstance(config, dict) else None


class _Opened:
    """Files and where each tensor lies in them."""

    def __init__(self, files: list[Path], headers: list[Weights], config: Architecture | None) -> None:
        self._places: dict[str, tuple[Path, int, Named]] = {}
        self._format = headers[0].format
        self._architecture = config
        if self._format == "gguf":
            self._architecture = architecture_of_gguf(headers[0]) or config
        names = _names(files, headers)
        for file, weights in zip(files, headers, strict=True):
            for name, item in named(weights, names).items():
                self._places[name] = (file, weights.data_start, item)
        self._tensors = {name: item.tensor for name, (_, _, item) in self._places.items()}

    @property
    def format(self) -> str:
        return self._format

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    @property
    def architecture(self) -> Architecture | None:
        return self._architecture

    def read(self, name: str) -> Values:
        shape = self._tensors[name].shape
        if not shape:
            return self._values(name, 0, 1).reshape(())
        return self.rows(name, 0, shape[0])

    def rows(self, name: str, first: int, last: int) -> Values:
        shape = self._tensors[name].shape
        if not shape or not 0 <= first <= last <= shape[0]:
            raise IndexError(f"{name} has no rows {first} to {last}; its shape is {list(shape)}.")
        return self._values(name, first, last).reshape(last - first, *shape[1:])

    def _values(self, name: str, first: int, last: int) -> Values:
        file, start, item = self._places[name]
        tensor, found = item.tensor, unit(item.tensor.dtype)
        if found is None:
            raise BrokenWeights(f"{name[:200]!r} is of type {tensor.dtype}, whose values are not read here.")
        count = tensor.shape[0] if tensor.shape else 1
        if first == last or tensor.begin == tensor.end:
            return np.empty(0, np.float32)
        if prod(tensor.shape[1:]) > WIDEST:
            raise BrokenWeights(f"A row of {name[:200]!r} has more than {WIDEST:,} values; that is no model's.")
        if len(tensor.shape) == 1 and found.size > 1:
            # A block may hold many of the values of a vector.
            whole = _bytes(file, start + tensor.begin, tensor.end - tensor.begin)
            return found.decode(whole.reshape(-1, found.width)).reshape(-1)[first:last]
        stride = (tensor.end - tensor.begin) // count
        step = count // item.heads if item.heads else 1
        low, high = first // step * step, -(-last // step) * step
        raw = _bytes(file, start + tensor.begin + low * stride, (high - low) * stride)
        if item.heads:
            raw = raw.reshape(high - low, stride)[file_rows(np.arange(first, last), count, item.heads) - low]
        return found.decode(raw.reshape(-1, found.width)).reshape(-1)


def _bytes(file: Path, at: int, count: int) -> Bytes:
    with file.open("rb", buffering=0) as stream:
        return np.frombuffer(_exactly(stream, at, count), np.uint8)


def _exactly(stream: BinaryIO, at: int, count: int) -> bytearray:
    """So many bytes from a place on.

    Raises:
        BrokenWeights: the file has become shorter.
    """
    raw = bytearray(count)
    view, got = memoryview(raw), 0
    stream.seek(at)
    while got < count:
        read = stream.readinto(view[got:])  # type: ignore[attr-defined]
        if not read:
            raise BrokenWeights("The file ends before its data does. Upload the whole file again.")
        got += read
    return raw
