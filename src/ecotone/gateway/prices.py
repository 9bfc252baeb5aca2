"""What a call costs. Pure arithmetic on integers of 10^-12 USD; where prices come from, `pricelists` knows.

A price of 1 USD per million tokens is 10^6 of these units per token. A price that is not known is no `Price` at all:
nothing here is ever 0 unless the entry says that it is free.
"""

from typing import Protocol

import msgspec

PER_USD = 10**12
_NAMED_STANDARD = frozenset({"default", "standard", "standard_only", "on_demand"})
_STANDARD = _NAMED_STANDARD | {"", "auto"}


class Used(Protocol):
    """What of a usage costs money; tokens. Cached and written ones are part of the prompt, audio of either side."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def cache_write_1h_tokens(self) -> int: ...
    @property
    def audio_prompt_tokens(self) -> int: ...
    @property
    def audio_completion_tokens(self) -> int: ...
    @property
    def service_tier(self) -> str | None: ...


class Rates(msgspec.Struct, frozen=True, array_like=True):
    """10^-12 USD per token of each kind, and per request, for prompts of more than `above` tokens."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    input_audio: int
    output_audio: int
    request: int = 0
    above: int = 0

    def cost(self, used: Used) -> int:
        read, write, write_1h = used.cached_tokens, used.cache_write_tokens, used.cache_write_1h_tokens
        if not (read or write or write_1h or used.audio_prompt_tokens or used.audio_completion_tokens):
            return self.request + used.prompt_tokens * self.input + used.completion_tokens * self.output
        plain = used.prompt_tokens - read - write - write_1h
        audio = min(used.audio_prompt_tokens, plain)
        spoken = min(used.audio_completion_tokens, used.completion_tokens)
        return (
            self.request
            + (plain - audio) * self.input
            + audio * self.input_audio
            + read * self.cache_read
            + write * self.cache_write
            + write_1h * self.cache_write_1h
            + (used.completion_tokens - spoken) * self.output
            + spoken * self.output_audio
        )

    def ceiling(self) -> "Ceiling":
        dearest = max(self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.input_audio)
        return (self.above, dearest, max(self.output, self.output_audio), self.request)


Ceiling = tuple[int, int, int, int]
"""For prompts of more than so many tokens: the most that one of the prompt, one of the answer and the request cost."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a model at one place.

    `scale` is by the length of the prompt, shortest first: the whole request is charged at the rates of the last that
    its prompt is longer than. `tiers` are scales of the service tiers that differ. `version` names the entry that it
    came from, for the ledger; `max_input` and `max_output` are the model's own limits in tokens. `ceilings` follow from
    the rest.
    """

    version: str
    free: bool = False
    scale: tuple[Rates, ...] = ()
    tiers: dict[str, tuple[Rates, ...]] = {}
    max_input: int | None = None
    max_output: int | None = None
    ceilings: tuple[Ceiling, ...] = ()

    def __post_init__(self) -> None:
        if not self.ceilings and self.scale:
            msgspec.structs.force_setattr(self, "ceilings", _ceilings((self.scale, *self.tiers.values())))

    def cost(self, used: Used) -> int:
        """What a settled usage costs, at the service tier that the provider answered.

        A tier that has no price of its own is charged at the dearest that is known.
        """
        if self.free:
            return 0
        tier = used.service_tier
        scale = self.scale if tier is None or tier in _STANDARD else self.tiers.get(tier)
        if scale is None:
            return max(_at(each, used.prompt_tokens).cost(used) for each in (self.scale, *self.tiers.values()))
        if len(scale) == 1:
            return scale[0].cost(used)
        return _at(scale, used.prompt_tokens).cost(used)

    def most(self, prompt_tokens: int, completion_tokens: int, service_tier: str | None = None) -> int:
        """The most that a call can cost, to be reserved.

        Args:
            prompt_tokens: counted or estimated; an estimate may be a quarter of the truth (a token has at least one
                byte, an estimate counts four), so a longer prompt's rates apply from a quarter of its length.
            completion_tokens: the most that may be produced.
            service_tier: as asked for; without one, or with one that has no price, the provider decides: the dearest.
        """
        if self.free:
            return 0
        ceilings = self.ceilings
        if service_tier is not None:
            if service_tier in self.tiers:
                ceilings = _ceilings((self.scale, self.tiers[service_tier]))
            elif service_tier in _NAMED_STANDARD:
                ceilings = _ceilings((self.scale,))
        _, dearest, output, request = ceilings[0]
        if len(ceilings) > 1:
            for above, *more in ceilings:
                if prompt_tokens * 4 > above:
                    dearest, output, request = more
        return request + prompt_tokens * dearest + completion_tokens * output


def _ceilings(scales: tuple[tuple[Rates, ...], ...]) -> tuple[Ceiling, ...]:
    """The most over several scales, by the length of the prompt."""
    every = [rates.ceiling() for scale in scales for rates in scale]
    starts = sorted({above for above, *_ in every})
    return tuple(
        (start, *(max(each[part] for each in every if each[0] <= start) for part in (1, 2, 3)))  # type: ignore[misc]
        for start in starts
    )


FREE = Price(version="free", free=True)
"""A local engine: it costs no money by the token."""


def _at(scale: tuple[Rates, ...], prompt_tokens: int) -> Rates:
    found = scale[0]
    for rates in scale:
        if prompt_tokens > rates.above:
            found = rates
    return found
