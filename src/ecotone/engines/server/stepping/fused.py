"""A step of a decoder on a CPU in float32, with all that stands between its products fused into a few kernels.

torch computes rotations, attention over few queries, norms and activations by one operation after the other; for a step
of a few rows that costs as much as the products. Needs numba; without it, and wherever the kernels are not for,
`fused_for` has None and torch goes on computing.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch.nn import functional

from ecotone.engines.server.quantising import Int8Linear
from ecotone.engines.server.stepping.decoder import Decoder
from ecotone.engines.server.stepping.lora import Added
from ecotone.engines.server.stepping.places import Places

_log = logging.getLogger(__name__)
_WORTH_A_THREAD = 256 << 10  # bytes of keys and values


def fused_for(decoder: Decoder, places: Places) -> "Fused | None":
    """The fused step of this decoder over these places, where there is one."""
    if decoder.device.type != "cpu" or decoder.dtype != torch.float32 or decoder.size % 2:
        return None
    norms = [norm for layer in decoder.layers for norm in (layer.first_norm, layer.second_norm)]
    if any(norm.dtype != torch.float32 or not norm.is_contiguous() for norm in [*norms, decoder.norm]):
        return None
    kernels = _kernels()
    return None if kernels is None else Fused(decoder, places, kernels)


class Fused:
    """Used by one thread, inside `torch.inference_mode()`."""

    def __init__(self, decoder: Decoder, places: Places, kernels: Any) -> None:
        self._decoder, self._places, self._kernels = decoder, places, kernels
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._threads - 1, "attention") if self._threads > 1 else None

    def hidden(self, tokens: Any, positions: Any, most: int, added: Added | None = None) -> Any:
        """The last hidden states `[tokens, hidden]` of one new token for each of the first places."""
        decoder, kernels, rows = self._decoder, self._kernels, len(tokens)
        x = functional.embedding(tokens, decoder.table)
        cos, sin = decoder.rotation(positions, most)
        turning = cos.data_ptr(), sin.data_ptr(), positions.data_ptr()
        y, seen = torch.empty_like(x), torch.empty(rows, decoder.heads * decoder.size)
        scores = torch.empty(self._threads, self._places.length)
        ranges = torch.empty(2, rows)  # of the rows that a product reads, until its result is read
        one, other = ranges[0].data_ptr(), ranges[1].data_ptr()
        out, largest = None, 0

        def norm(weight: Any, following: int) -> None:
            before = 0 if out is None else out.data_ptr()
            kernels.normed(x.data_ptr(), before, largest, weight.data_ptr(), y.data_ptr(), following, *x.shape, epsilon)

        def product(name: str, read: Any, largest: int) -> Any:
            linear = getattr(layer, name)
            found = (linear.of_ranged(read) if largest else linear(read)).contiguous()
            if added is not None:
                added.add(place, name, read, found)
            return found

        epsilon = decoder.epsilon
        for place, layer in enumerate(decoder.layers):
            following = _ranged(layer.qkv, added, one)
            norm(layer.first_norm, following)
            qkv = product("qkv", y, following)
            self._attend(place, qkv.data_ptr(), following, turning, seen, scores, most)
            largest = _ranged(layer.o, added, other)
            if largest:
                kernels.ranged(seen.data_ptr(), largest, *seen.shape)
            out = product("o", seen, largest)
            following = _ranged(layer.gate_up, added, one)
            norm(layer.second_norm, following)
            both = product("gate_up", y, following)
            inner = torch.empty(rows, both.shape[1] // 2)
            largest = _ranged(layer.down, added, other)
            kernels.gated(both.data_ptr(), following, inner.data_ptr(), largest, *inner.shape)
            out = product("down", inner, largest)
        norm(decoder.norm, 0)
        return y

    def _attend(
        self, layer: int, qkv: int, largest: int, turning: tuple[int, int, int], seen: Any, scores: Any, most: int
    ) -> None:
        decoder, places = self._decoder, self._places
        groups = len(seen) * decoder.kv_heads
        arrays = qkv, largest, *turning, places.held(layer).data_ptr(), seen.data_ptr()
        shape = len(seen), decoder.heads, decoder.kv_heads, decoder.size, places.count, places.length
        how = decoder.scale, decoder.layers[layer].window or 0
        bytes_read = groups * most * decoder.size * 8
        threads = min(self._threads, groups, 1 + bytes_read // _WORTH_A_THREAD)
        shares: list[tuple[Any, ...]] = [
            (*arrays, scores[first].data_ptr(), *shape, *how, first, threads) for first in range(threads)
        ]
        begun = [self._pool.submit(self._kernels.attended, *share) for share in shares[1:]] if self._pool else []
        self._kernels.attended(*shares[0])
        for future in begun:
            future.result()


def _ranged(product: Any, added: Added | None, largest: int) -> int:
    """Where the largest values of this product's rows are kept, when it reads ranged rows; its reader scales then."""
    return largest if added is None and type(product) is Int8Linear and product.bias is None else 0


@cache
def _kernels() -> Any:
    """The compiled kernels, tried out on a small case; None where they are not to be had or compute something else."""
    try:
        from ecotone.engines.server.stepping import kernels

        if _tried_out(kernels):
            return kernels
        _log.warning("compiled kernels compute something else than torch on this processor; torch is used instead")
    except ImportError:
        _log.info("numba is not installed; steps are computed by torch alone")
    except Exception as error:  # whatever numba or LLVM meets on a processor that they do not know
        _log.warning("kernels could not be compiled (%s); torch is used instead", type(error).__name__)
    return None


def _tried_out(kernels: Any) -> bool:
    """Whether the kernels find what torch finds, on two rows of a small decoder; compiles them."""
    made = torch.Generator().manual_seed(0)
    rows, heads, kv_heads, size, length = 2, 4, 2, 8, 6
    x, more, weight = (torch.randn(shape, generator=made) for shape in ((rows, 16), (rows, 16), (16,)))
    scale, largest = torch.rand(rows, generator=made) + 1, torch.empty(rows)
    y = torch.empty_like(x)
    total = x + more * scale[:, None]
    wanted = functional.rms_norm(total, (16,), weight, 1e-5)
    pointers = [tensor.data_ptr() for tensor in (x, more, scale, weight, y, largest)]
    kernels.normed(*pointers, rows, 16, 1e-5)
    right = [torch.allclose(y * largest[:, None], wanted, atol=1e-5), torch.allclose(x, total, atol=1e-5)]

    kernels.gated(total.data_ptr(), 0, more.data_ptr(), 0, rows, 8)
    gate, up = total.chunk(2, -1)
    right.append(torch.allclose(more.view(-1)[: rows * 8].view(rows, 8), functional.silu(gate) * up, atol=1e-5))

    qkv = torch.randn(rows, heads + 2 * kv_heads, size, generator=made)
    held = torch.randn(2, rows, kv_heads, length, size, generator=made)
    cos, sin = torch.ones(rows, size), torch.zeros(rows, size)
    positions = torch.tensor([3, 5])
    for row, last in enumerate(positions.tolist()):
        held[:, row, :, last] = qkv[row, heads:].view(2, kv_heads, size)
    queries = qkv[:, :heads].reshape(rows, kv_heads, heads // kv_heads, size)
    mask = torch.arange(length) <= positions[:, None]
    wanted = functional.scaled_dot_product_attention(queries, held[0], held[1], attn_mask=mask[:, None, None])
    seen, scores = torch.empty(rows, heads * size), torch.empty(length)
    pointers = [tensor.data_ptr() for tensor in (cos, sin, positions, held, seen, scores)]
    kernels.attended(
        qkv.data_ptr(), 0, *pointers, rows, heads, kv_heads, size, rows, length, size**-0.5, 0, 0, 1
    )  # fmt: skip
    kernels.ranged(seen.data_ptr(), largest.data_ptr(), *seen.shape)
    right.append(torch.allclose(seen * largest[:, None], wanted.reshape(rows, -1), atol=1e-5))
    return all(right)
