"""Weight files made by hand, so that tests can make broken ones."""

import json
import struct
from collections.abc import Mapping
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

Tensor = tuple[str, tuple[int, ...], bytes]
STORED = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8", "float64": "F64"}
# Number of a GGUF type, values in its block, bytes of its block.
TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q8_1": (9, 32, 36), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292),
    "IQ2_XXS": (16, 256, 66), "IQ4_NL": (20, 32, 18), "IQ4_XS": (23, 256, 136), "BF16": (30, 1, 2),
    "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17),
}  # fmt: skip


def stored(array: npt.NDArray[np.generic]) -> Tensor:
    return STORED[array.dtype.name], array.shape, array.tobytes()


def bfloat16(array: npt.NDArray[np.float32]) -> Tensor:
    return "BF16", array.shape, (array.view(np.uint32) >> 16).astype("<u2").tobytes()


def safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    table, place = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + len(data)]}
        place += len(data)
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + b"".join(data for _, _, data in tensors.values())


def gguf(tensors: Mapping[str, Tensor], metadata: Mapping[str, object] | None = None, step: int = 32) -> bytes:
    entries = {"general.alignment": step, **(metadata or {})}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    for key, value in entries.items():
        head += _text(key) + _value(value)
    body, places = b"", [0]
    for _, _, data in tensors.values():
        body += data + bytes(-len(data) % step)
        places.append(len(body))
    for (name, (dtype, shape, _)), (place, _) in zip(tensors.items(), pairwise(places), strict=True):
        head += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        head += struct.pack("<IQ", TYPES[dtype][0], place)
    return head + bytes(-len(head) % step) + body


def blocks(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A tensor of random blocks, whatever values these mean."""
    _, size, width = TYPES[dtype]
    return dtype, shape, np.random.default_rng(seed).bytes(prod(shape) // size * width)


def q8_0(array: npt.NDArray[np.float32]) -> Tensor:
    """Rounded to 8 bits with a scale for 32 values."""
    grouped = array.reshape(-1, 32)
    scales = (np.abs(grouped).max(axis=1, keepdims=True) / 127).astype("<f2")
    numbers = np.rint(grouped / np.where(scales == 0, 1, scales).astype(np.float32)).clip(-127, 127).astype(np.int8)
    return "Q8_0", array.shape, np.concatenate((scales.view(np.uint8), numbers.view(np.uint8)), axis=1).tobytes()


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
        return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    assert isinstance(value, int)
    return struct.pack("<II", 4, value)
