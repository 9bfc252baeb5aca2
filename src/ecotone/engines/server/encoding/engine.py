"""An encoder ready to answer: its computing thread, its tokens, and what the tasks need to know of it."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ecotone.engines.server.encoding.computing import Compute, Padded, Unpadded
from ecotone.engines.server.encoding.sequences import Sequences
from ecotone.engines.server.encoding.texts import Head, Text
from ecotone.engines.server.encoding.turns import Job, Turns
from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import Plan, Task
from ecotone.engines.server.loading import Loaded, load
from ecotone.engines.server.pooling import Pooling, read
from ecotone.engines.server.quantising import checked

_BUDGET = {"cpu": 1024, "cuda": 16384}  # tokens of a batch
_HEADS = {
    Task.FILL_MASK: Head.MASKS,
    Task.TEXT_CLASSIFICATION: Head.LABELS,
    Task.ZERO_SHOT_CLASSIFICATION: Head.LABELS,
    Task.TOKEN_CLASSIFICATION: Head.TOKEN_LABELS,
    Task.QUESTION_ANSWERING: Head.SPANS,
}


@dataclass(frozen=True)
class Known:
    """What tasks know of the model they answer with.

    `head` is what it gives beside hidden states, None for a bare encoder; `cuts` whether texts over the limit are cut
    when a request does not say.
    """

    task: Task
    head: Head | None
    sequences: Sequences
    pooling: Pooling
    labels: tuple[str, ...]
    problem: str | None
    cuts: bool

    @property
    def mask(self) -> tuple[int, str] | None:
        """Id and spelling of the mask token."""
        tokenizer = self.sequences.tokenizer
        return None if tokenizer.mask_token_id is None else (tokenizer.mask_token_id, tokenizer.mask_token)


class Encoders:
    """One encoder model. Thread-safe.

    Options: `truncate` (true: texts over the limit are cut when a request does not say), `batch_tokens`, and those of
    `loading.load`.

    Raises:
        Unloadable: the model cannot compute, or an option has no sense.
    """

    adapters = None  # none come and go while an encoder runs

    def __init__(self, plan: Plan, options: Mapping[str, Any]) -> None:
        checked(options.get("quantise"), plan.task)
        loaded = self._loaded = load(plan, options)
        pooling = read(plan.weights)
        limit = min(pooling.max_tokens or loaded.context_length, loaded.context_length)
        config = loaded.model.config
        types = (getattr(config, "type_vocab_size", 2) or 0) > 1
        kinds = "token_type_ids" in loaded.tokenizer.model_input_names
        vocabulary = int(loaded.model.get_input_embeddings().weight.shape[0])
        self.known = Known(
            task=plan.task,
            head=_HEADS.get(plan.task),
            sequences=Sequences(loaded.tokenizer, limit, vocabulary, types=types and kinds),
            pooling=pooling,
            labels=tuple(str(config.id2label[i]) for i in sorted(config.id2label)) if plan.task in _HEADS else (),
            problem=config.problem_type if plan.task in _HEADS else None,
            cuts=options.get("truncate") is True,
        )
        self.limit = limit
        self.width = int(getattr(config, "hidden_size", None) or config.dim) * len(pooling.kinds)
        budget = options.get("batch_tokens") or _BUDGET.get(loaded.device.partition(":")[0], 1024)
        if not isinstance(budget, int) or budget < 1:
            raise Unloadable(f"the option batch_tokens is {budget!r}; a number of tokens is expected.")
        self._budget = max(budget, limit)  # a batch holds at least one text, whatever was set
        self._compute = self._chosen(loaded, pooling)
        self._warm_up(loaded)
        self._turns = Turns(self._compute, self._budget, _tell)

    def info(self) -> dict[str, Any]:
        """What the engine serves, and with which settings in effect."""
        return {
            "task": str(self.known.task),
            "context_length": self.limit,
            "dtype": self._loaded.dtype,
            "device": self._loaded.device,
            "parameters": self._loaded.parameters,
            "architecture": type(self._loaded.model).__name__,
            "chat": False,
            "pooling": self.known.pooling.description,
            "dimensions": self.width,
            "truncates": self.known.cuts,
            "batch_tokens": self._budget,
            "batching": getattr(self._compute, "name", ""),
            "threads": torch.get_num_threads(),
        }

    def health(self) -> dict[str, Any]:
        return self._turns.health()

    def begin(self, job: Job) -> None:
        """Queue a request; its `owner` is called in the computing thread once it has ended, see `Turns`.

        Raises:
            RequestError: too many wait already.
        """
        self._turns.begin(job)

    def _chosen(self, loaded: Loaded, pooling: Pooling) -> Compute:
        if Unpadded.fits(loaded.model):
            return Unpadded(loaded.model, pooling)
        return Padded(loaded.model, pooling, loaded.tokenizer.pad_token_id or 0)

    def _warm_up(self, loaded: Loaded) -> None:
        """Compute once, so that a model that cannot is refused now, and the first request finds everything loaded."""
        tokenizer = loaded.tokenizer
        token = next((t for t in (tokenizer.eos_token_id, tokenizer.sep_token_id) if t is not None), 0)
        heads = [Head.VECTOR] + ([self.known.head] if self.known.head else [])
        try:
            with torch.inference_mode():
                self._compute([Text([token], head, places=(0,)) for head in heads])
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise Unloadable(f"the model was loaded but cannot compute: {type(error).__name__}: {said}") from error


def _tell(jobs: list[Job]) -> None:
    """Wake the event loop once for all requests that have ended."""
    by_loop: dict[Any, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.owner[0], []).append(job)
    for loop, ended in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended: the process does too
            loop.call_soon_threadsafe(_settle, ended)


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        future = job.owner[1]
        if not future.done():
            if job.error is None:
                future.set_result(job.results)
            else:
                future.set_exception(job.error)
