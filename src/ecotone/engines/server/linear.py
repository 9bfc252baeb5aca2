"""Linear layers in the layout that this processor multiplies fastest. Knows no model.

On CPUs, torch sends float32 products to MKL, which keeps to narrower instructions on processors that are not Intel's;
oneDNN, which torch carries as well, uses what there is, and more so over weights in its own layout. Which of the two is
faster is measured once in each process, in a few milliseconds. Elsewhere (CUDA) it is `torch.nn.functional.linear`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Linear = Callable[[Any], Any]

_FUSED = {"none": "none", "gelu": "gelu", "relu": "relu", "tanh": "tanh"}
_ACTIVATIONS: dict[str, Linear] = {"gelu": functional.gelu, "relu": functional.relu, "tanh": torch.tanh}
_ROWS, _WIDTH, _TIMES = 32, 384, 5
_PAYS = 0.9  # of the usual way's time


def linear(weight: Any, bias: Any = None, activation: str = "none") -> Linear:
    """A function of `[rows, in]` to `[rows, out]`: product with `weight` `[out, in]`, bias, activation.

    It may hold the weights in a layout of its own: the caller may drop `weight`, and should if nobody else uses it.

    Args:
        activation: none, gelu (the exact one), relu or tanh.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and packing_pays():
        packed, name = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous()), _FUSED[activation]
        multiply = torch.ops.mkldnn._linear_pointwise
        return lambda rows: multiply(rows, packed, bias, name, [], "none")
    if activation == "none":
        return lambda rows: functional.linear(rows, weight, bias)
    act = _ACTIVATIONS[activation]
    return lambda rows: act(functional.linear(rows, weight, bias))


@functools.cache
def packing_pays() -> bool:
    """Whether oneDNN over packed weights is there and faster on this machine."""
    try:
        with torch.inference_mode():
            rows, weight, bias = torch.randn(_ROWS, _WIDTH), torch.randn(_WIDTH, _WIDTH), torch.randn(_WIDTH)
            packed, multiply = torch.ops.mkldnn._reorder_linear_weight(weight), torch.ops.mkldnn._linear_pointwise
            usual = _seconds(lambda: functional.linear(rows, weight, bias))
            other = _seconds(lambda: multiply(rows, packed, bias, "none", [], "none"))
            found = functional.linear(rows, weight, bias) - multiply(rows, packed, bias, "none", [], "none")
            return bool(found.abs().max() < 1e-3) and other < _PAYS * usual  # values here are about 20
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):  # a torch built without it, or with another
        return False


def _seconds(act: Callable[[], Any]) -> float:
    act()
    found = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return min(found)
