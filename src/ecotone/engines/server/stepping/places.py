"""Where keys and values of answers lie while they are written: one place for each answer, dense from 0 on."""

from typing import Any

import torch

_FIRST_LENGTH = 128


class Places:
    """Tensors `[2, places, kv heads, length, size]`, one for each layer; they double when places or length run out."""

    def __init__(self, *, layers: int, heads: int, size: int, most: int, longest: int, dtype: Any, device: Any) -> None:
        self._layers, self._heads, self._size = layers, heads, size
        self._most, self._longest = most, longest
        self._dtype, self._device = dtype, device
        self._parts = torch.arange(2, device=device).view(1, 2, 1)
        self._each = torch.arange(heads, device=device).view(1, 1, heads)
        self.clear()

    def clear(self) -> None:
        """Back to the first size; what was held is given up."""
        self.count, self.length = 0, min(_FIRST_LENGTH, self._longest)
        self._held = [self._made(0, self.length) for _ in range(self._layers)]

    @property
    def grown(self) -> bool:
        return self.length > _FIRST_LENGTH

    def reserve(self, count: int, length: int) -> None:
        """Make room for `count` places of `length` tokens."""
        if count <= self.count and length <= self.length:
            return
        count = min(self._most, _doubled(self.count, count))
        length = max(length, min(self._longest, _doubled(self.length, length)))
        grown = 0
        try:
            for grown, old in enumerate(self._held):  # one by one, so that only one layer is there twice
                new = self._made(count, length)
                new[:, : self.count, :, : self.length] = old
                self._held[grown] = new
        except (RuntimeError, MemoryError):
            for layer in range(grown):  # out of memory: all layers keep one size
                self._held[layer] = self._held[layer][:, : self.count, :, : self.length].clone()
            raise
        self.count, self.length = count, length

    def keys(self, layer: int) -> Any:
        return self._held[layer][0]

    def values(self, layer: int) -> Any:
        return self._held[layer][1]

    def held(self, layer: int) -> Any:
        """Keys and values, `[2, places, kv heads, length, size]`; another tensor when anything has grown."""
        return self._held[layer]

    def index(self, places: Any, positions: Any) -> Any:
        """Where tokens go at these places and positions, for `write`; as long as nothing grows."""
        rows = (self._parts * self.count + places.view(-1, 1, 1)) * self._heads + self._each
        return (rows * self.length + positions.view(-1, 1, 1)).view(-1)

    def write(self, layer: int, index: Any, kv: Any) -> None:
        """Put `[tokens, 2, kv heads, size]`."""
        self._held[layer].view(-1, self._size).index_copy_(0, index, kv.reshape(-1, self._size))

    def put(self, layer: int, place: int, start: int, kv: Any) -> None:
        """Put `[places, tokens, 2, kv heads, size]` from a place and a position on."""
        places, tokens = kv.shape[:2]
        self._held[layer][:, place : place + places, :, start : start + tokens] = kv.permute(2, 0, 3, 1, 4)

    def move(self, source: int, target: int, length: int) -> None:
        for held in self._held:
            held[:, target, :, :length] = held[:, source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        for held in self._held:
            kept = held[:, one, :, :length].clone()
            held[:, one, :, :length] = held[:, other, :, :length]
            held[:, other, :, :length] = kept

    def _made(self, count: int, length: int) -> Any:
        shape = (2, count, self._heads, length, self._size)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)


def _doubled(size: int, wanted: int) -> int:
    size = max(size, 1)
    while size < wanted:
        size *= 2
    return size
