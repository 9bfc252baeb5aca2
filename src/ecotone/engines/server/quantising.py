"""The int8 option: linear layers with 8-bit weights and activations on a CPU.

Weights have one scale for each output, activations one for each row. A scale for the whole batch, which torch's own
dynamic quantisation takes, would let an answer depend on the company it is computed in; so rows are brought to one
range first, and the kernel is told that range. `docs/engines.md` has the figures that this way was chosen by.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import Task

INT8 = "int8"

_SMALLEST = 1e-12  # a row of zeros has no range of its own


def checked(quantise: Any, task: Task) -> str | None:
    """The option's value, when a model for this task can have it here.

    Raises:
        Unloadable: naming what was asked, why not, and what to do.
    """
    if quantise is None:
        return None
    if quantise != INT8:
        raise Unloadable(f"quantise is {str(quantise)[:40]!r}; {INT8!r} is known, or leave it out.")
    if task not in (Task.GENERATION, Task.TEXT_TO_TEXT):
        raise Unloadable(
            "int8 is refused for models that make embeddings or labels: it moves their vectors so far that a search "
            "finds other texts. Serve this model without quantise."
        )
    if torch.cuda.is_available():
        raise Unloadable("int8 is for CPUs, and this engine computes on a GPU; serve the model without quantise.")
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise Unloadable("int8 needs torch's FBGEMM kernels, which its build for this processor lacks.")
    return INT8


class Int8Linear(nn.Module):  # type: ignore[misc]  # torch is untyped to mypy
    """`x @ weight.T + bias` in 8 bits: `[rows, ..., inputs]` to `[rows, ..., outputs]`, of the input's type.

    The weight is given up for its 8-bit form when it is first used, so that it can be joined with others before.
    """

    def __init__(self, weight: Any, bias: Any = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.bias = bias
        levels = _activation_levels()
        self._step, self._zero = 1 / levels, levels + 1
        self._compute = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        self._packed: Any = None

    @classmethod
    def joined(cls, layers: Sequence["Int8Linear"], bias: Any) -> "Int8Linear":
        """One layer for several that read the same input; their weights are given up."""
        found = cls(torch.cat([layer.weight.detach() for layer in layers]), bias)
        for layer in layers:
            layer.weight = None
        found._pack()
        return found

    def _pack(self) -> None:
        self._packed, self.weight = _packed(self.weight), None

    def of_ranged(self, x: Any) -> Any:
        """The product of float32 rows that have been divided by their largest value; no bias."""
        if self._packed is None:
            self._pack()
        return self._compute(x, self._step, self._zero, self._packed)

    def forward(self, x: Any) -> Any:
        full = x if x.dtype == torch.float32 else x.float()
        largest = full.abs().amax(-1, keepdim=True)  # 0 for a row of zeros: whatever it gives is taken 0 times
        found = self.of_ranged(full / largest).mul_(largest)
        if self.bias is not None:
            found += self.bias
        return found if full is x else found.to(x.dtype)


def quantise_layers(model: nn.Module, keep: Iterable[nn.Module] = ()) -> None:
    """Put 8-bit layers in the place of a model's linear ones, but for `keep`."""
    kept = {id(module) for module in keep}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and id(child) not in kept:
                setattr(parent, name, Int8Linear(child.weight, child.bias))


def _packed(weight: Any) -> Any:
    full = weight.detach().float()
    scales = (full.abs().amax(1) / 127).clamp_min_(_SMALLEST).double()
    zeros = torch.zeros(full.shape[0], dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensors of torch's quantised types are to go; the kernels take no other yet
        return torch.ops.quantized.linear_prepack(torch.quantize_per_channel(full, scales, zeros, 0, torch.qint8), None)


def _activation_levels() -> int:
    """Steps on each side of zero. Processors without VNNI add pairs of products in 16 bits, which 8 by 8 overflows."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return 127 if supported is not None and supported() else 63
