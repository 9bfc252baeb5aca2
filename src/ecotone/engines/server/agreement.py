"""How far a quantised model is from itself: measured at start on its own greedy answers, told in `/info`.

The full model answers a few questions first; the quantised one is then led through the same answers, and compared where
each token was chosen. Differences in logits say more with the spread of the logits beside them.
"""

import contextlib
import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from ecotone.engines.server.folders import Task
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.stepping.stepper import Stepper

QUESTIONS = (
    "What is the capital of France?",
    "On which continent is Kenya?",
    "What is the currency of Japan?",
    "What is the capital of Peru?",
    "Which colour has the sky on a clear day?",
    "How many days has a week?",
    "What do bees make?",
    "Write a sentence about a river.",
)

_SECONDS = 0.7  # of the full model's time; the quantised one takes the rest of about a second
_LONGEST = 16  # tokens of an answer


class Told(msgspec.Struct, frozen=True):
    """An answer of the full model: its prompt, its tokens, and the logits `[tokens, vocabulary]` they came from."""

    prompt: list[int]
    tokens: list[int]
    logits: Any


def answers(loaded: Loaded, questions: Sequence[str] = QUESTIONS, seconds: float = _SECONDS) -> list[Told]:
    """Greedy answers by the model's own forward, as many as the time allows, at least a token."""
    model = loaded.model
    ends = _ends(model)
    prompts = [_prompt(loaded, question) for question in questions]
    until = time.process_time() + seconds * torch.get_num_threads()
    found: list[Told] = []
    with torch.inference_mode():
        for prompt in prompts:
            tokens, logits = _answer(model, prompt, ends, lambda: time.process_time() > until)
            found.append(Told(prompt, tokens, torch.stack(logits)))
            if time.process_time() > until:
                break
    return found


def measured(stepper: Stepper, told: Sequence[Told]) -> dict[str, Any]:
    """What `/info` says about the quantised model that `stepper` computes.

    `argmax_agreement` is the share of tokens that it would have chosen too, `mean_kl` the divergence of its choice from
    the full model's (nats), `largest_logit_difference` over all tokens of the vocabulary, `logit_spread` the standard
    deviation of the full model's logits.
    """
    same, divergence, largest, spread, count = 0, 0.0, 0.0, 0.0, 0
    for one, logits in zip(told, _led(stepper, told), strict=True):
        same += int((one.logits.argmax(-1) == logits.argmax(-1)).sum())
        true, ours = one.logits.log_softmax(-1), logits.log_softmax(-1)
        divergence += float((true.exp() * (true - ours)).sum())
        largest = max(largest, float((one.logits - logits).abs().max()))
        spread += float(one.logits.std(-1).sum())
        count += len(one.tokens)
    return {
        "argmax_agreement": round(same / count, 4),
        "mean_kl": round(divergence / count, 6),
        "largest_logit_difference": round(largest, 4),
        "logit_spread": round(spread / count, 4),
        "measured_on": f"{count} tokens of the model's own answers to {len(told)} questions",
    }


def _prompt(loaded: Loaded, question: str) -> list[int]:
    tokenizer = loaded.tokenizer
    found: list[int] = []
    if getattr(tokenizer, "chat_template", None):
        with contextlib.suppress(Exception):  # templates raise what they like; plain text will do
            message = {"role": "user", "content": question}
            text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
            found = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not found:
        prefix = "question: " if loaded.task == Task.TEXT_TO_TEXT else ""
        found = tokenizer(prefix + question)["input_ids"]
    return found[: max(1, loaded.context_length - _LONGEST)]


def _ends(model: Any) -> frozenset[int]:
    found = model.generation_config.eos_token_id
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])


def _answer(
    model: Any, prompt: list[int], ends: frozenset[int], late: Callable[[], bool]
) -> tuple[list[int], list[Any]]:
    encodes = model.config.is_encoder_decoder
    more: dict[str, Any] = {"use_cache": True}
    cache = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
    following = "decoder_input_ids" if encodes else "input_ids"
    if encodes:
        more["encoder_outputs"] = model.get_encoder()(input_ids=torch.tensor([prompt]))
    fresh = [model.config.decoder_start_token_id or 0] if encodes else prompt
    tokens: list[int] = []
    logits: list[Any] = []
    while len(tokens) < _LONGEST and not (tokens and (tokens[-1] in ends or late())):
        out = model(**more, **{following: torch.tensor([fresh])})
        more[cache] = getattr(out, cache)
        logits.append(out.logits[0, -1].float())
        tokens.append(int(logits[-1].argmax()))
        fresh = tokens[-1:]
    return tokens, logits


def _led(stepper: Stepper, told: Sequence[Told]) -> list[Any]:
    """The stepper's logits along the answers told, for each `[tokens, vocabulary]`."""
    found: list[Any] = []
    with torch.inference_mode():
        for start in range(0, len(told), stepper.slots):
            some = told[start : start + stepper.slots]
            rows = {stepper.open(one.prompt): place for place, one in enumerate(some)}
            logits: list[list[Any]] = [[] for _ in some]
            while stepper.filling:
                for row, first in stepper.fill(1 << 16):
                    logits[rows[row]].append(first)
            for turn in range(max(len(one.tokens) for one in some) - 1):
                live = [row for row, place in rows.items() if len(some[place].tokens) > turn + 1]
                for row, following in zip(
                    live, stepper.step(live, [some[rows[row]].tokens[turn] for row in live]), strict=True
                ):
                    logits[rows[row]].append(following)
            for row in rows:
                stepper.close(row)
            found += [torch.stack(those) for those in logits]
    return found
