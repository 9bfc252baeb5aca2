"""Recipes: what a run does, as a value. Pure. Defaults are those that tools for adapters agree on.

Rank 16 with alpha 32 on every linear layer but the output, AdamW, linear decay after a short warm-up, gradients clipped
at 1 (LoRA: Hu et al. 2021, arXiv 2106.09685).
"""

import hashlib
import math

import msgspec

from ecotone.vocabulary import Invalid

METHODS = ("lora",)
MOST_EPOCHS = 1000
SEEDS = 2**32


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a run trains. `batch_size` is in rows; a batch too large for memory is split, its gradient is the same."""

    method: str = "lora"
    epochs: int = 3
    learning_rate: float = 2e-4
    seed: int = 0
    rank: int = 16
    alpha: int = 32
    batch_size: int = 4
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise Invalid(f"Method {self.method!r} is not known; expected {' or '.join(METHODS)}.", param="method")
        if not 1 <= self.epochs <= MOST_EPOCHS:
            raise Invalid(f"epochs is {self.epochs}; expected 1 to {MOST_EPOCHS}.", param="epochs")
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise Invalid(
                f"learning_rate is {self.learning_rate}; expected above 0 and at most 1, for adapters about 2e-4.",
                param="learning_rate",
            )
        if not 0 <= self.seed < SEEDS:
            raise Invalid(f"seed is {self.seed}; expected 0 to {SEEDS - 1}.", param="seed")

    @property
    def sha256(self) -> str:
        """Hash of the canonical form."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def steps(recipe: Recipe, rows: int) -> int:
    """Optimiser steps that a run takes."""
    return recipe.epochs * math.ceil(rows / recipe.batch_size)


def learning_rate_at(recipe: Recipe, step: int, total: int) -> float:
    """The rate of a step (from 0): up over the warm-up, then down in a line that would reach 0 after the last step."""
    warmup = max(1, round(recipe.warmup_share * total))
    share = min((step + 1) / warmup, (total - step) / max(1, total - warmup + 1), 1.0)
    return recipe.learning_rate * share
