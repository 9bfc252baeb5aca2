"""Small random models of one shape each, and a writer that takes the likeliest token, for tests of steppers."""

import random
import sys
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from ecotone.engines.server.stepping import Row, Stepper

SMALL = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def made(kind: str, **more: Any) -> Any:
    """A model with random weights; norms and biases too, so that none of them can be left out unseen."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{kind}Config")(**SMALL | more)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):
            weight.data.uniform_(0.5, 1.5)
    return model


def loaded(model: Any, context: int = 256) -> Any:
    return SimpleNamespace(model=model, context_length=context)


def texts(count: int, *, shortest: int = 3, longest: int = 40, size: int = 97, seed: int = 0) -> list[list[int]]:
    torch.manual_seed(seed)
    lengths = torch.randint(shortest, longest, (count,)).tolist()
    return [torch.randint(2, size, (length,)).tolist() for length in lengths]


class Greedy:
    """Writes answers of `new` tokens by a stepper; they may arrive and be given up at any time."""

    def __init__(self, stepper: Stepper, budget: int = 64) -> None:
        self.stepper = stepper
        self.made: dict[Row, list[int]] = {}
        self.wanted: dict[Row, int] = {}
        self.live: list[Row] = []
        self._budget = budget

    def begin(self, prompt: Sequence[int], new: int, adapter: str | None = None) -> Row:
        with torch.inference_mode():
            row = self.stepper.open(prompt, adapter)
        self.made[row], self.wanted[row] = [], new
        return row

    def give_up(self, row: Row) -> None:
        if row in self.live:
            self.live.remove(row)
        with torch.inference_mode():
            self.stepper.close(row)

    def turn(self) -> bool:
        """One stretch of prompts and one token for each live answer; whether there is more to do."""
        with torch.inference_mode():
            if self.live:
                logits = self.stepper.step(self.live, [self.made[row][-1] for row in self.live])
                for row, token in zip(list(self.live), logits.argmax(-1).tolist(), strict=True):
                    self._take(row, token)
            if self.stepper.filling:
                for row, logits in self.stepper.fill(self._budget):
                    self.live.append(row)
                    self._take(row, int(logits.argmax()))
        return bool(self.live or self.stepper.filling)

    def all(self) -> None:
        while self.turn():
            pass

    def staggered(self, prompts: Sequence[Sequence[int]], together: int, given_up: float) -> dict[Row, int]:
        """Answers of 12 tokens that arrive one after another, some given up on the way, their places used again.

        Returns the rows that came to their end, with the place of their prompt.
        """
        chance = random.Random(together)
        waiting = list(enumerate(prompts))
        rows: dict[Row, int] = {}
        dropped = 0
        while waiting or self.turn():
            under_way = len(self.live) + self.stepper.filling
            if waiting and under_way < together and (under_way == 0 or chance.random() < 0.6):
                place, prompt = waiting.pop()
                rows[self.begin(prompt, 12)] = place
                if chance.random() < given_up and len(self.live) > 1:
                    left = chance.choice(self.live)
                    self.give_up(left)
                    del rows[left]
                    dropped += 1
            self.turn()
        assert dropped or together == 1
        return rows

    def _take(self, row: Row, token: int) -> None:
        self.made[row].append(token)
        if len(self.made[row]) == self.wanted[row]:
            self.live.remove(row)
            self.stepper.close(row)


def alone(model: Any, prompt: Sequence[int], new: int) -> list[int]:
    """The same by transformers' `generate`, this prompt alone."""
    ids = torch.tensor([list(prompt)])
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
    found: list[int] = out[0, len(prompt) :].tolist()
    return found


def likeliest(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
    """transformers' likeliest token after the prompt and after each of an answer, in one forward: the answer itself
    where it is the greedy one."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *answer[:-1]]])).logits[0]
    found: list[int] = logits[len(prompt) - 1 :].argmax(-1).tolist()
    return found


def forward(model: Any, tokens: Sequence[int]) -> Any:
    """transformers' logits after the last token."""
    with torch.inference_mode():
        return model(torch.tensor([list(tokens)])).logits[0, -1].float()


def without_numba(patch: Any) -> None:
    """From here on steps are computed as where numba is not installed."""
    from ecotone.engines.server import stepping
    from ecotone.engines.server.stepping import fused

    patch.setitem(sys.modules, "numba", None)
    patch.delitem(sys.modules, "ecotone.engines.server.stepping.kernels", raising=False)
    patch.delattr(stepping, "kernels", raising=False)
    patch.setattr(fused, "_kernels", cache(fused._kernels.__wrapped__))
