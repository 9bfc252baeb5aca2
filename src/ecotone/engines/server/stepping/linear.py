"""Matrix products with weights laid out for the machine, several that read the same input joined into one.

On a CPU, oneDNN computes from weights in a layout of its own; the plain layout is then given up, so that memory is not
taken twice. Elsewhere the joined weight is kept once and the model's own modules look into it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ecotone.engines.server.quantising import Int8Linear

Linear = Callable[[Any], Any]  # [tokens, in] -> [tokens, out]

_PACKED_FOR = 32  # tokens that the layout is chosen for; it serves any number
_ACTIVATIONS: dict[str, Linear] = {"gelu": functional.gelu, "relu": functional.relu}


class Plain:
    """A product as torch computes it."""

    def __init__(self, weight: Any, bias: Any, activation: str = "none") -> None:
        self._weight = weight
        self._bias = bias
        self._activation = _ACTIVATIONS.get(activation)

    def __call__(self, x: Any) -> Any:
        found = functional.linear(x, self._weight, self._bias)
        return found if self._activation is None else self._activation(found)


class Packed:
    """A product by oneDNN, with the weight in the layout that it prefers."""

    def __init__(self, weight: Any, bias: Any, activation: str = "none") -> None:
        self._activation = activation
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR)
        self._bias = bias
        self._compute = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Any) -> Any:
        count = len(x)
        more = rounded(count) - count
        if not more:
            return self._compute(x, self._weight, self._bias, self._activation, [], "none")
        padded = functional.pad(x, (0, 0, 0, more))
        return self._compute(padded, self._weight, self._bias, self._activation, [], "none")[:count]


def rounded(count: int) -> int:
    """How many rows are computed for so many: oneDNN keeps up to a megabyte for each number of rows that it has met."""
    step = 1 if count <= 8 else max(4, 1 << (count - 1).bit_length() - 3)
    return -(-count // step) * step


class Several:
    """Products by modules of other kinds, one beside the other."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules

    def __call__(self, x: Any) -> Any:
        return torch.cat([module(x) for module in self._modules], dim=-1)


class _Part(nn.Module):  # type: ignore[misc]  # torch is untyped to mypy
    """What stands in a model for a module whose weight has been joined with others': the same product, less fast."""

    def __init__(self, joined: Linear, start: int, end: int) -> None:
        super().__init__()
        self._joined = joined
        self._start, self._end = start, end

    def forward(self, x: Any) -> Any:
        flat = self._joined(x.reshape(-1, x.shape[-1]))[:, self._start : self._end]
        return flat.reshape(*x.shape[:-1], -1)


def linear(weight: Any, bias: Any = None, activation: str = "none") -> Linear:
    """The fastest product with this weight `[out, in]` here, then none, gelu (the exact one) or relu."""
    made = Packed if _packs(weight.device.type, weight.dtype) else Plain
    return made(weight, bias, activation)


def join(owner: nn.Module, names: Sequence[str]) -> Linear:
    """One product for the named modules of `owner`, their outputs one after the other.

    The modules go on working, by the joined weight; theirs are given up. (Those in 8 bits do not go on.)
    """
    modules = [getattr(owner, name) for name in names]
    if all(type(module) is Int8Linear for module in modules):
        return Int8Linear.joined(modules, _joined_bias(modules))
    if any(type(module) is not nn.Linear for module in modules):
        return modules[0] if len(modules) == 1 else Several(modules)
    joined = linear(torch.cat([module.weight.data for module in modules]), _joined_bias(modules))
    start = 0
    for name, module in zip(names, modules, strict=True):
        setattr(owner, name, _Part(joined, start, start + module.out_features))
        start += module.out_features
    return joined


def _joined_bias(modules: Sequence[Any]) -> Any:
    if all(module.bias is None for module in modules):
        return None
    return torch.cat(
        [
            module.weight.new_zeros(module.out_features) if module.bias is None else module.bias.data
            for module in modules
        ]
    )


@cache
def _packs(device: str, dtype: torch.dtype) -> bool:
    """Whether oneDNN's layout is there and computes the same, tried out."""
    if device != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        made = torch.Generator().manual_seed(0)
        weight = torch.randn(48, 32, generator=made).to(dtype)
        x = torch.randn(3, 32, generator=made).to(dtype)
        with torch.inference_mode():
            return bool(torch.allclose(Packed(weight, None)(x), functional.linear(x, weight), rtol=2e-2, atol=1e-2))
    except (AttributeError, RuntimeError):  # a build without oneDNN, or with other names in it
        return False
