"""How the next token of one answer is chosen from a row of logits; depends on nothing but that row and its own seed.

Presence and frequency penalties as OpenAI documents them: subtracted from the logits of tokens already made, once and
for each time. The repetition penalty divides positive and multiplies negative logits of tokens made or asked (Keskar et
al. 2019, CTRL, section 4.1). Nucleus sampling keeps the smallest set of tokens whose probability reaches `top_p`
(Holtzman et al. 2020, section 3.1), min-p those with at least that share of the likeliest one's probability.
"""

import abc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import torch

from ecotone.engines.server.requests import Sampling

_NUCLEUS = 256  # tokens among which a nucleus is looked for before all of them are sorted
_COLD = 1e-5  # below this only the likeliest token is left
_SEEDS = (1 << 63) - 1


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """A token, its log-probability by the model alone, and the likeliest ones in its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Constraint(abc.ABC):
    """Which tokens an answer may go on with."""

    @abc.abstractmethod
    def mask(self, logits: Any) -> None:
        """Set the logits `[vocabulary]` of tokens that may not come next to minus infinity, in place."""

    @abc.abstractmethod
    def take(self, token: int) -> None:
        """A token was chosen."""

    @property
    @abc.abstractmethod
    def finished(self) -> bool:
        """Whether nothing may come any more."""


class Chooser:
    """Chooses the tokens of one answer.

    Args:
        sampling: what was asked.
        defaults: the model's generation configuration, for what was not asked.
        ends: tokens that end the answer.
        prompt: its prompt, for the repetition penalty.
        number: its place among the answers to one prompt; moves the seed.
    """

    __slots__ = (
        "_adjusts", "_constraint", "_counts", "_generator", "_greedy", "_grows_plain", "_penalised", "_prompt",
        "_temperature", "_tops", "ends", "least", "logprobs", "plain", "sampling",
    )  # fmt: skip

    def __init__(
        self,
        sampling: Sampling,
        defaults: Any = None,
        ends: frozenset[int] = frozenset(),
        *,
        constraint: Constraint | None = None,
        prompt: Sequence[int] = (),
        number: int = 0,
    ) -> None:
        self.sampling = sampling
        self.ends = (frozenset() if sampling.ignore_eos else ends) | frozenset(sampling.stop_tokens)
        self.least = sampling.min_tokens
        self.logprobs = sampling.logprobs
        self._constraint = constraint
        temperature = _first(sampling.temperature, getattr(defaults, "temperature", None), 1.0)
        top_p = _first(sampling.top_p, getattr(defaults, "top_p", None), 1.0)
        top_k = int(_first(sampling.top_k, getattr(defaults, "top_k", None), 0))
        self._temperature = temperature
        self._tops = (top_k, top_p, sampling.min_p)
        self._greedy = temperature < _COLD or top_p <= 0 or top_k == 1
        self._penalised = bool(sampling.presence or sampling.frequency or sampling.repetition != 1.0)
        self._counts: Counter[int] = Counter()
        self._prompt = prompt if sampling.repetition != 1.0 else ()
        self._generator = None if self._greedy else _generator(sampling.seed, number)
        plain = self._greedy and not self._penalised and not sampling.bias
        self._adjusts = self._penalised or bool(sampling.bias) or constraint is not None or self.least > 0
        self._grows_plain = plain and constraint is None and self.logprobs is None
        #: whether the next token is simply the likeliest, so that all such rows are chosen from at once
        self.plain = self._grows_plain and not self.least

    @property
    def finished(self) -> bool:
        """Whether a constraint has been met and nothing may follow."""
        return self._constraint is not None and self._constraint.finished

    def choose(self, logits: Any, made: Sequence[int]) -> Chosen:
        """The next token from float32 logits `[vocabulary]` on the CPU, which stay as they are.

        Raises:
            RequestError: the constraint allows nothing.
        """
        row = self._adjusted(logits, len(made))
        token = int(row.argmax()) if self._greedy else self._drawn(row)
        if self._constraint is not None:
            self._constraint.take(token)
        if self._penalised:
            self._counts[token] += 1
        self.plain = self._grows_plain and len(made) + 1 >= self.least
        if self.logprobs is None:
            return Chosen(token, 0.0)
        return _told(logits, token, self.logprobs)

    def _adjusted(self, logits: Any, count: int) -> Any:
        if not self._adjusts:
            return logits
        row = logits.clone()
        if self.sampling.bias:
            self._lean(row)
        if self._penalised:
            self._penalise(row)
        if self.ends and count < self.least:
            row[[token for token in self.ends if token < row.shape[0]]] = -torch.inf
        if self._constraint is not None:
            self._constraint.mask(row)
        return row

    def _lean(self, row: Any) -> None:
        known = {token: value for token, value in self.sampling.bias.items() if 0 <= token < row.shape[0]}
        row[torch.tensor(list(known), dtype=torch.long)] += torch.tensor(list(known.values()), dtype=row.dtype)

    def _penalise(self, row: Any) -> None:
        if self.sampling.repetition != 1.0:
            seen = torch.tensor(sorted(set(self._prompt).union(self._counts)), dtype=torch.long)
            values = row[seen]
            row[seen] = torch.where(values > 0, values / self.sampling.repetition, values * self.sampling.repetition)
        if self._counts:
            tokens = torch.tensor(list(self._counts))
            counts = torch.tensor(list(self._counts.values()), dtype=row.dtype)
            row[tokens] -= self.sampling.presence + self.sampling.frequency * counts

    def _drawn(self, row: Any) -> int:
        top_k, top_p, min_p = self._tops
        row = row / self._temperature
        if 0 < top_k < row.shape[0]:
            row[row < row.topk(top_k).values[-1]] = -torch.inf
        probabilities = row.softmax(-1)
        if min_p > 0:
            probabilities[probabilities < min_p * probabilities.max()] = 0
        if top_p >= 1:
            return _draw(probabilities, self._generator)
        probabilities, places = _nucleus(probabilities, top_p)
        return int(places[_draw(probabilities, self._generator)])


def _nucleus(probabilities: Any, top_p: float) -> tuple[Any, Any]:
    """The likeliest probabilities, in order, and their tokens."""
    size = probabilities.shape[0]
    ordered, places = probabilities.topk(min(_NUCLEUS, size))
    if size > _NUCLEUS and float(ordered.sum()) < top_p:
        ordered, places = probabilities.sort(descending=True)
    kept = ordered.cumsum(-1) - ordered < top_p
    return ordered[kept], places[kept]


def _draw(probabilities: Any, generator: Any) -> int:
    """A place by its share, found in the running sum: about a tenth of the time that `multinomial` takes."""
    edges = probabilities.cumsum(-1, dtype=torch.float64)
    total = float(edges[-1])
    if not total > 0:
        raise ArithmeticError("the logits are no numbers")
    place = int(torch.searchsorted(edges, torch.rand((), generator=generator, dtype=torch.float64) * total, right=True))
    return place if place < edges.shape[0] else int(probabilities.argmax())


def _told(raw: Any, token: int, most: int) -> Chosen:
    logprobs = raw.log_softmax(-1)
    top: tuple[tuple[int, float], ...] = ()
    if most:
        least = logprobs.topk(min(most, logprobs.shape[0])).values[-1]
        places = (logprobs >= least).nonzero().flatten()  # by number, which decides among equals as it does for argmax
        values, order = logprobs[places].sort(descending=True, stable=True)
        values, places = values[:most], places[order[:most]]
        top = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Chosen(token, float(logprobs[token]), top)


def _generator(seed: int | None, number: int) -> Any:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed((seed + number) & _SEEDS)
    return generator


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
