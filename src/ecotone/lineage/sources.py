"""Weights that can be read tensor by tensor, wherever they lie: what comparison works on."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ecotone.lineage.architecture import Architecture
from ecotone.lineage.tensors import TensorInfo

Values = npt.NDArray[np.float32]


class Source(Protocol):
    """A set of weights, whole. Names are canonical (`ecotone.lineage.naming`)."""

    @property
    def format(self) -> str:
        """`safetensors` or `gguf`."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by canonical name."""
        ...

    @property
    def architecture(self) -> Architecture | None:
        """From `config.json` beside the file or from the GGUF header; None when neither tells it."""
        ...

    def read(self, name: str) -> Values:
        """A tensor's values, whole, in its shape; dequantised where it is quantised; q and k rows of a GGUF file in
        their order.

        Raises:
            KeyError: there is none of that name.
            BrokenWeights: its bytes cannot be read as its type.
        """
        ...

    def rows(self, name: str, first: int, last: int) -> Values:
        """Rows `first` to `last` (the end not included) of the outermost dimension of a tensor."""
        ...
