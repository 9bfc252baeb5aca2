"""Vectors of texts from a causal model: its last hidden states, pooled as its folder says, else their mean.

Computed between the steps of the writer, in its thread, one text at a time: a model that writes is asked for vectors
now and then.
"""

from collections.abc import Sequence

import torch

from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.pooling import Pooling
from ecotone.engines.server.stepping import Stepper


class CausalVectors:
    """Hidden states of the model before its head, `[tokens, width]`, pooled to `[width]`."""

    def __init__(self, loaded: Loaded, stepper: Stepper, pooling: Pooling) -> None:
        self._stepper = stepper
        self._body = loaded.model.base_model
        self._device = loaded.model.device
        self._pooling = pooling

    def __call__(self, tokens: Sequence[int]) -> list[float]:
        ids = torch.tensor([list(tokens)], device=self._device)
        hidden = self._stepper.states(tokens)
        if hidden is None:
            hidden = self._body(input_ids=ids, use_cache=False).last_hidden_state[0]
        found: list[float] = self._pooling(hidden[None].float(), torch.ones_like(ids))[0].cpu().tolist()
        return found
