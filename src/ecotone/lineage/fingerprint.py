"""The fingerprint of weights: what is kept of each tensor, so that two sets can be compared without their files.

Taken in one pass and constant memory while a file arrives. Comparison of two fingerprints is checks 1 and 2 of
`ecotone.lineage.comparing`: shared tensors, and the cosine of sampled values.
"""

from typing import Final

import msgspec

VERSION: Final = 1
MOST_VARIANTS: Final = 8
_AGAIN: Final = "2345678"


class TensorPrint(msgspec.Struct, frozen=True, array_like=True):
    """One tensor.

    Args:
        dtype: the format's word for its type, `F32`, `BF16`, `Q4_K`.
        shape: outermost dimension first.
        hash: hex BLAKE3 over type, shape and bytes; None for a constant tensor and for one under 4 KiB.
        sample: values of the sampled cells as little-endian float32, cells in row-major order; empty for tensors of
            fewer than two dimensions and for those that hold nothing to sample. Which cells these are follows from the
            shape alone (`ecotone.lineage.sampling`).
        odd: sampled values that are NaN or infinite; they stand as 0 in `sample`.
    """

    dtype: str
    shape: tuple[int, ...]
    hash: str | None = None
    sample: bytes = b""
    odd: int = 0


class Fingerprint(msgspec.Struct, frozen=True):
    """A file's or a model's tensors by canonical name (`ecotone.lineage.naming`: those of Hugging Face's LLaMA, also
    for a GGUF file, whose q and k rows are put back in their order)."""

    tensors: dict[str, TensorPrint]
    format: str = "safetensors"
    version: int = VERSION

    def joined(self, other: "Fingerprint") -> "Fingerprint":
        """The fingerprint of a model whose weights lie in both files.

        Where both have a tensor of one name and they differ, the other's stands beside this one's as `NAME#2` and so
        on up to `MOST_VARIANTS`: neither file hides the other.
        """
        tensors = dict(self.tensors)
        for name, tensor in other.tensors.items():
            for place in (name, *(f"{base_name(name)}#{n}" for n in range(2, MOST_VARIANTS + 1))):
                if tensors.setdefault(place, tensor) == tensor:
                    break
        return Fingerprint(tensors, self.format, self.version)

    def variants(self) -> "list[Fingerprint]":
        """The sets of weights that lie beside each other under the same names, at most `MOST_VARIANTS`."""
        found: list[dict[str, TensorPrint]] = []
        for name, several in self.by_name().items():
            for place, tensor in enumerate(several):
                if place == len(found):
                    found.append({})
                found[place][name] = tensor
        return [Fingerprint(tensors, self.format, self.version) for tensors in found]

    def by_name(self) -> dict[str, list[TensorPrint]]:
        """The tensors of each name, the first of them in front, at most `MOST_VARIANTS`."""
        found: dict[str, list[TensorPrint]] = {}
        for name in sorted(self.tensors, key=lambda one: base_name(one) != one):
            several = found.setdefault(base_name(name), [])
            if len(several) < MOST_VARIANTS:
                several.append(self.tensors[name])
        return found

    def packed(self) -> bytes:
        """It as msgpack; `unpacked` reads it."""
        return msgspec.msgpack.encode(self)


def base_name(name: str) -> str:
    """The name of a tensor without the mark of one of several under it."""
    return name[:-2] if name[-2:-1] == "#" and name[-1:] in _AGAIN else name


def unpacked(data: bytes) -> Fingerprint:
    """The fingerprint that `packed` wrote.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.msgpack.decode(data, type=Fingerprint)
