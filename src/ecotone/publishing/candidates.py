"""Which models a set of weights is compared with, and by which of its tensors. An uploader chooses names, sizes and
files freely, so that no one order decides: several take turns.
"""

import zlib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from math import prod
from typing import Final

import msgspec

from ecotone.lineage import Fingerprint
from ecotone.lineage.fingerprint import base_name
from ecotone.lineage.sketching import closeness, order, signature, sketch

MOST_SAMPLED: Final = 384
_CLOSE: Final = 0.05
_NEAR: Final = 0.4  # of sketches of unrelated weights, 128 wide, nearly all lie within 0.3


def candidates(
    own: Fingerprint, sharing: list[int], alike: Callable[[str | None], list[tuple[int, bytes]]]
) -> list[int]:
    """Keys of models, those to compare with first: in turns those that share tensors, and those that look alike and are
    of the same build, or of any, by each set of weights; then the others of the same build.

    Args:
        sharing: those that hold some of the tensors.
        alike: gives key and sketch of the models of a build, or of any.
    """
    every: list[tuple[int, bytes]] | None = None
    lists, last = [sharing], list[int]()
    for one in own.variants():
        mine = sketch(one)
        ranked = _ranked(mine, alike(signature(one)))
        lists.append([key for score, key in ranked if score >= _CLOSE])
        last += [key for score, key in ranked if score < _CLOSE]
        if mine:
            every = alike(None) if every is None else every
            lists.append([key for score, key in _ranked(mine, every) if score >= _NEAR])
    turns = [key for row in zip_longest(*lists) for key in row if key is not None]
    return list(dict.fromkeys([*turns, *last]))


def _ranked(mine: bytes, others: Sequence[tuple[int, bytes]]) -> list[tuple[float, int]]:
    near = closeness(mine, [one for _, one in others])
    scored = ((abs(float(n)) if mine and one else -1.0, key) for n, (key, one) in zip(near, others, strict=True))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


def thinned(fingerprint: Fingerprint) -> Fingerprint:
    """A fingerprint with the samples of a bounded number of its tensors, mostly the same ones for equal names: those of
    nine models are in memory at once. The hashes of all stay."""
    sampled = [name for name, tensor in fingerprint.tensors.items() if tensor.sample]
    if len(sampled) <= MOST_SAMPLED:
        return fingerprint
    keep = set(_chosen(fingerprint, sampled))
    tensors = {
        name: msgspec.structs.replace(tensor, sample=b"") if tensor.sample and name not in keep else tensor
        for name, tensor in fingerprint.tensors.items()
    }
    return Fingerprint(tensors, fingerprint.format, fingerprint.version)


def _chosen(fingerprint: Fingerprint, names: Sequence[str]) -> list[str]:
    """In turns those of the first layers, the largest, and any; all of a name together."""
    together: dict[str, list[str]] = {}
    size: dict[str, int] = {}
    for name in names:
        base = base_name(name)
        together.setdefault(base, []).append(name)
        size[base] = max(size.get(base, 0), prod(fingerprint.tensors[name].shape))
    chance = {base: zlib.crc32(base.encode()) for base in together}
    orders = (
        sorted(together, key=order),
        sorted(together, key=lambda base: (-size[base], chance[base], base)),
        sorted(together, key=lambda base: (chance[base], base)),
    )
    bases = dict.fromkeys(base for row in zip(*orders, strict=True) for base in row)
    return [name for base in bases for name in sorted(together[base])][:MOST_SAMPLED]
