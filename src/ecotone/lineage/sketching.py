"""How the few candidates for a comparison are found among many models: the word that models of one build share, and a
sketch of the sampled values whose cosine tells roughly that of the weights.

The sketch is a count sketch (Charikar, Chen, Farach-Colton 2002) of some tensors of the first layers, keyed by the
cell, so that cropped, extended and coarser sampled tensors give nearly the same one. It only ranks: whether two models
are related is for `ecotone.lineage.comparing`.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ecotone.lineage.fingerprint import Fingerprint, TensorPrint
from ecotone.lineage.sampling import cells_of, values

WIDTH: Final = 128
MOST_TENSORS: Final = 24
_MOST_SHAPES: Final = 64
_NUMBER: Final = re.compile(r"\d+")
_USUAL: Final = re.compile(
    r"(?:.*\.)?(?:layers|layer|blocks|h)\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj"
    r"|attention\.self\.(?:query|key|value)|attn\.c_(?:attn|proj)|mlp\.c_(?:fc|proj)|attention\.query_key_value)\.weight"
)
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|layer|blocks|block|blk|h)\.\d+\.")


def signature(fingerprint: Fingerprint) -> str:
    """A word of 32 letters that is equal for models whose layers have tensors of equal shapes, however many layers and
    words of vocabulary they have, and in whatever format and precision; empty for weights without matrices."""
    matrices = {name: t.shape for name, t in fingerprint.tensors.items() if len(t.shape) >= 2 and min(t.shape)}
    inside = {shape for name, shape in matrices.items() if _LAYER.search(name)}
    shapes = sorted(inside or set(matrices.values()))[:_MOST_SHAPES]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:32] if shapes else ""


def sketch(fingerprint: Fingerprint) -> bytes:
    """`WIDTH` float16 values; empty where nothing was sampled."""
    sampled = sorted((order(name), name) for name, t in fingerprint.tensors.items() if t.sample)
    whole = np.zeros(WIDTH)
    for _, name in sampled[:MOST_TENSORS]:
        whole += _sketch(name, fingerprint.tensors[name])
    length = float(np.linalg.norm(whole))
    return (whole / length).astype("<f2").tobytes() if length else b""


def closeness(one: bytes, others: Sequence[bytes]) -> npt.NDArray[np.float64]:
    """The cosine of a sketch and each of others; -1 where one of them is empty."""
    mine = _read(one)
    return np.array([float(mine @ _read(other)) if one and other else -1.0 for other in others])


def _read(data: bytes) -> npt.NDArray[np.float64]:
    found = np.frombuffer(data, "<f2").astype(np.float64)
    return found if len(found) == WIDTH else np.zeros(WIDTH)


def order(name: str) -> tuple[bool, bool, list[int], str]:
    """Layers first, the first of them before the others; tensors that every network has before those that anybody may
    add."""
    numbers = [int(n[:9]) for n in _NUMBER.findall(name)]
    return (_USUAL.fullmatch(name) is None, _LAYER.search(name) is None, numbers, name)


def _sketch(name: str, tensor: TensorPrint) -> npt.NDArray[np.float64]:
    cells = cells_of(tensor.shape, len(tensor.sample) // 4)
    found = values(tensor).astype(np.float64)
    length = float(np.linalg.norm(found))
    if cells is None or not length or not np.isfinite(length):
        return np.zeros(WIDTH)
    seed = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    rows, columns = cells.rows.astype(np.uint64), cells.columns.astype(np.uint64)
    mixed = _mixed(_mixed(rows + seed)[:, None] + columns[None, :]).ravel()
    signs = np.where(mixed & np.uint64(1), 1.0, -1.0)
    places = ((mixed >> np.uint64(1)) % np.uint64(WIDTH)).astype(np.int64)
    made: npt.NDArray[np.float64] = np.bincount(places, signs * found / length, WIDTH).astype(np.float64)
    return made


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
