"""Writes text token by token: one thread, one key-value cache for each answer, one token for each live answer in turn.

Every answer is computed alone, so that neither seed nor text depends on its company. An answer nobody waits for any
more ends before its next token.
"""

import inspect
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.requests import Sampling
from ecotone.engines.server.text import TextStream

log = logging.getLogger("ecotone.engines.server")

_MOST_LIVE = 16
_MOST_WAITING = 512
_HANGING_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A bit of an answer: text, and at its end the reason (`stop` or `length`); `tokens` counts those made so far."""

    text: str = ""
    tokens: int = 0
    finish: str | None = None
    error: RequestError | None = None

    @property
    def last(self) -> bool:
        return self.finish is not None or self.error is not None


@dataclass(slots=True)
class Answer:
    """One answer in the making. `deliver` is called from the engine's thread."""

    prompt: Sequence[int]
    sampling: Sampling
    limit: int
    stream: TextStream
    deliver: Callable[[Piece], None]
    cancelled: bool = False
    made: list[int] = field(default_factory=list)
    cache: Any = None
    encoded: Any = None
    generator: Any = None

    def cancel(self) -> None:
        self.cancelled = True


class Writer:
    """The generating thread of a causal or text-to-text model."""

    def __init__(self, loaded: Loaded, decode: Callable[[Sequence[int]], str]) -> None:
        self._model = loaded.model
        self._decode = decode
        self._encodes = bool(loaded.model.config.is_encoder_decoder)
        self._defaults = loaded.model.generation_config
        self._ends = _ends(loaded)
        self._context = loaded.context_length
        self._last_only = "logits_to_keep" in inspect.signature(type(loaded.model).forward).parameters
        self._turn = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._live: list[Answer] = []
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def begin(self, prompt: Sequence[int], sampling: Sampling, deliver: Callable[[Piece], None]) -> Answer:
        """Queue an answer.

        Raises:
            RequestError: the prompt does not fit the context, or too many wait already.
        """
        answer = Answer(
            prompt, sampling, self._room(prompt, sampling), TextStream(self._decode, sampling.stop), deliver
        )
        with self._turn:
            if len(self._waiting) >= _MOST_WAITING:
                raise RequestError(
                    f"{_MOST_WAITING} requests wait already; try again later.", status=429, code="engine_overloaded"
                )
            self._waiting.append(answer)
            self._turn.notify()
        return answer

    def health(self) -> dict[str, Any]:
        """Counts, and whether the thread lives and makes tokens."""
        live = len(self._live)
        hangs = live > 0 and time.monotonic() - self._beat > _HANGING_SECONDS
        return {"ok": self._thread.is_alive() and not hangs, "running": live, "waiting": len(self._waiting)}

    def _room(self, prompt: Sequence[int], sampling: Sampling) -> int:
        taken = 0 if self._encodes else len(prompt)
        if len(prompt) > self._context or taken >= self._context:
            raise RequestError(
                f"The prompt has {len(prompt)} tokens, and this model's context holds {self._context}"
                f"{'' if self._encodes else ' together with the answer'}; send a shorter prompt.",
                code="context_length_exceeded",
                param="messages",
            )
        room = self._context - taken
        return min(sampling.max_tokens or room, room)

    def _work(self) -> None:
        with torch.inference_mode():
            while True:
                self._admit()
                for answer in self._live:
                    self._beat = time.monotonic()
                    self._advance(answer)
                self._live = [answer for answer in self._live if not answer.cancelled]

    def _admit(self) -> None:
        with self._turn:
            while not self._waiting and not self._live:
                self._turn.wait()
            while self._waiting and len(self._live) < _MOST_LIVE:
                self._live.append(self._waiting.popleft())

    def _advance(self, answer: Answer) -> None:
        """One more token for one answer; it is marked cancelled when it has ended."""
        if answer.cancelled:
            return
        try:
            token = self._choose(answer, self._logits(answer))
            answer.made.append(token)
            piece = self._piece(answer, token)
        except Exception as error:  # this answer is lost; the others go on
            log.exception("an answer failed")
            fault = RequestError(f"The engine failed: {type(error).__name__}.", status=500, code="engine_error")
            piece = Piece(error=fault, tokens=len(answer.made))
        if piece.last:
            answer.cancelled = True
            answer.cache = answer.encoded = None
        if piece.text or piece.last:
            answer.deliver(piece)

    def _piece(self, answer: Answer, token: int) -> Piece:
        count = len(answer.made)
        if token in self._ends:
            return Piece(answer.stream.finish(), count, "stop")
        text = answer.stream.feed(token)
        if answer.stream.stopped:
            return Piece(text, count, "stop")
        if count >= answer.limit:
            text += answer.stream.finish()
            return Piece(text, count, "stop" if answer.stream.stopped else "length")
        return Piece(text, count)

    def _logits(self, answer: Answer) -> Any:
        more: dict[str, Any] = {"use_cache": True}
        if self._last_only:
            more["logits_to_keep"] = 1
        if answer.cache is not None:
            more["past_key_values"] = answer.cache
        if self._encodes:
            if answer.encoded is None:
                answer.encoded = self._model.get_encoder()(input_ids=self._tensor(answer.prompt))
            first = self._model.config.decoder_start_token_id or 0
            more |= {"encoder_outputs": answer.encoded, "decoder_input_ids": self._tensor(answer.made[-1:] or [first])}
        else:
            more["input_ids"] = self._tensor(answer.made[-1:] or answer.prompt)
        out = self._model(**more)
        answer.cache = out.past_key_values
        return out.logits[0, -1].float().cpu()

    def _tensor(self, tokens: Sequence[int]) -> Any:
        return torch.tensor([list(tokens)], device=self._model.device)

    def _choose(self, answer: Answer, logits: Any) -> int:
        sampling = answer.sampling
        if answer.generator is None:
            answer.generator = torch.Generator()
            if sampling.seed is None:
                answer.generator.seed()
            else:
                answer.generator.manual_seed(sampling.seed & ((1 << 63) - 1))
        temperature = _first(sampling.temperature, getattr(self._defaults, "temperature", None), 1.0)
        top_p = _first(sampling.top_p, getattr(self._defaults, "top_p", None), 1.0)
        return choose(logits, sampling, temperature, top_p, answer.made, answer.generator)


def choose(
    logits: Any, sampling: Sampling, temperature: float, top_p: float, made: Sequence[int], generator: Any
) -> int:
    """The next token from a row of logits; the likeliest at temperature 0.

    Presence and frequency penalties as OpenAI documents them: subtracted from the logits of tokens already made, once
    and for each time. Nucleus sampling keeps the smallest set of tokens whose probability reaches `top_p`.
    """
    for token, value in sampling.bias.items():
        if 0 <= token < logits.shape[0]:
            logits[token] += value
    if sampling.presence or sampling.frequency:
        for token, count in Counter(made).items():
            logits[token] -= sampling.presence + sampling.frequency * count
    if temperature <= 0 or top_p <= 0 or sampling.top_k == 1:
        return int(logits.argmax())
    logits = logits / temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[0]:
        logits[logits < logits.topk(sampling.top_k).values[-1]] = -torch.inf
    probabilities = logits.softmax(-1)
    if top_p < 1:
        ordered, places = probabilities.sort(descending=True)
        probabilities[places[ordered.cumsum(-1) - ordered >= top_p]] = 0
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _ends(loaded: Loaded) -> frozenset[int]:
    found = [
        loaded.model.generation_config.eos_token_id,
        loaded.model.config.eos_token_id,
        loaded.tokenizer.eos_token_id,
    ]
    lists = [x if isinstance(x, list) else [x] for x in found if x is not None]
    return frozenset(itertools.chain.from_iterable(lists))


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
