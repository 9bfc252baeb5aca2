"""The training loop: LoRA on a causal model, reproducible, watched at each step. The only module here that needs torch.

Runs inside the child process. Knows tokens and labels, nothing of catalogue, jobs or files of rows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

from ecotone.tuning.masking import IGNORED
from ecotone.tuning.recipes import Recipe, learning_rate_at, steps

Row = tuple[list[int], list[int]]
Watch = Callable[[int, int, float], None]

_LOGITS_BYTES = 512 * 1024 * 1024
_PATIENCE = 5
_WORSE = 1.0
SAMPLE = 64


class Diverged(Exception):
    """Loss or gradient left all bounds; the text names the step and the way out."""


@dataclass(frozen=True)
class Trained:
    """What a run did. Losses are means over trained tokens, in nats: `losses` of each epoch, `before` and `after` of
    the same rows (at most `SAMPLE`) under the parent and under the result."""

    steps: int
    trained_tokens: int
    losses: tuple[float, ...]
    before: float
    after: float
    parameters: int


def add_lora(model: Any, recipe: Recipe) -> Any:
    """The model with a LoRA adapter on every linear layer but the output; only the adapter is trainable."""
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def train(model: Any, rows: Sequence[Row], recipe: Recipe, watch: Watch) -> Trained:
    """Train the adapter.

    Args:
        model: from `add_lora`.
        rows: token ids and labels of each row.
        watch: called after each step with step, total and the loss of the step.

    Raises:
        Diverged: loss or gradient is no number, or the loss stays far above, or ends above, where it began.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    order = torch.Generator().manual_seed(recipe.seed)
    total, step, seen = steps(recipe, len(rows)), 0, 0
    sample = [rows[i] for i in torch.randperm(len(rows), generator=order).tolist()[:SAMPLE]]
    before = _loss(model, sample, recipe.batch_size)
    if not math.isfinite(before):
        raise Diverged(f"the parent's loss is {before:g} before the first step; its weights are damaged")
    ceiling, above = max(3 * before, before + math.log(model.config.get_text_config().vocab_size)), 0
    losses = []
    model.train()
    for _ in range(recipe.epochs):
        summed, counted = 0.0, 0
        shuffled = torch.randperm(len(rows), generator=order).tolist()
        for start in range(0, len(rows), recipe.batch_size):
            batch = [rows[i] for i in shuffled[start : start + recipe.batch_size]]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(recipe, step, total)
            loss, tokens = _step(model, batch, optimiser, trainable, recipe, step)
            above = above + 1 if loss > ceiling else 0
            if above >= _PATIENCE:
                raise Diverged(
                    f"the loss stayed above {ceiling:.2f} for {_PATIENCE} steps up to step {step + 1}; lower the "
                    f"learning rate ({recipe.learning_rate:g})"
                )
            step += 1
            summed, counted = summed + loss * tokens, counted + tokens
            watch(step, total, loss)
        seen += counted
        losses.append(summed / counted)
    after = _loss(model, sample, recipe.batch_size)
    if not after <= before + _WORSE:
        raise Diverged(
            f"the loss rose from {before:.2f} to {after:.2f}; lower the learning rate ({recipe.learning_rate:g})"
        )
    _check_moved(model)
    return Trained(step, seen, tuple(losses), before, after, sum(p.numel() for p in trainable))


def _loss(model: Any, rows: Sequence[Row], batch_size: int) -> float:
    """Mean loss over the trained tokens of rows, without training."""
    summed, tokens = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = list(rows[start : start + batch_size])
            summed += sum(float(part) for part in _sums(model, batch))
            tokens += _trained(batch)
    return summed / tokens


def _trained(batch: Sequence[Row]) -> int:
    return sum(label != IGNORED for _, labels in batch for label in labels[1:])


def _sums(model: Any, batch: list[Row]) -> Iterator[Any]:
    """Summed loss of a batch, piece by piece."""
    for ids, labels, mask in _pieces(batch, model.config.get_text_config().vocab_size, model.device):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        yield torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
        )


def _step(model: Any, batch: list[Row], optimiser: Any, trainable: list[Any], recipe: Recipe, step: int) -> Any:
    """One optimiser step; the loss is the mean over the trained tokens of the whole batch, however it is split."""
    tokens = _trained(batch)
    optimiser.zero_grad(set_to_none=True)
    loss = 0.0
    for summed in _sums(model, batch):
        part = summed / tokens
        part.backward()  # type: ignore[no-untyped-call, unused-ignore]
        loss += float(part.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(trainable, recipe.clip))
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise Diverged(
            f"step {step + 1} gave a loss of {loss:g} and a gradient norm of {norm:g}; lower the learning rate "
            f"({recipe.learning_rate:g}), or look for damaged weights in the parent"
        )
    optimiser.step()
    return loss, tokens


def _pieces(batch: list[Row], vocabulary: int, device: Any) -> Iterator[tuple[Any, Any, Any]]:
    """The batch as padded tensors, in pieces whose logits stay within bounds; padding is masked by position."""
    longest = max(len(ids) for ids, _ in batch)
    size = max(1, _LOGITS_BYTES // (longest * vocabulary * 4))
    for start in range(0, len(batch), size):
        piece = batch[start : start + size]
        width = max(len(ids) for ids, _ in piece)
        yield (
            torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in piece], device=device),
            torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in piece], device=device),
            torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in piece], device=device),
        )


def _check_moved(model: Any) -> None:
    """Every second half of an adapter starts at zero: one that is still there was never trained."""
    for name, value in get_peft_model_state_dict(model).items():
        if not bool(torch.isfinite(value).all()):
            raise Diverged(f"{name} holds numbers that are none; lower the learning rate")
        if ".lora_B." in name and not bool(value.any()):
            raise Diverged(f"{name} did not move; it was not reached by the training")
