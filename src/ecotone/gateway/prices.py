"""What a call costs. Pure arithmetic on integers of 10^-12 USD; where prices come from, `pricelists` knows.

A price of 1 USD per million tokens is 10^6 of these units per token. A price that is not known is no `Price` at all:
nothing here is ever 0 unless the entry says that it is free.
"""

import msgspec

from ecotone.gateway.charging import Ceiling, Used, ceilings_of, cost_of, most_of

PER_USD = 10**12


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

    def ceiling(self) -> Ceiling:
        dearest = max(self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.input_audio)
        return (self.above, dearest, max(self.output, self.output_audio), self.request)


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
            msgspec.structs.force_setattr(self, "ceilings", ceilings_of((self.scale, *self.tiers.values())))

    def cost(self, used: Used) -> int:
        """What a settled usage costs, at the service tier that the provider answered.

        A tier that has no price of its own is charged at the dearest that is known.
        """
        return cost_of(self, used)

    def most(self, prompt_tokens: int, completion_tokens: int, service_tier: str | None = None) -> int:
        """The most that a call can cost, to be reserved.

        Args:
            prompt_tokens: counted or estimated; an estimate may be a quarter of the truth (a token has at least one
                byte, an estimate counts four), so a longer prompt's rates apply from a quarter of its length.
            completion_tokens: the most that may be produced.
            service_tier: as asked for; without one, or with one that has no price, the provider decides: the dearest.
        """
        return most_of(self, prompt_tokens, completion_tokens, service_tier)


FREE = Price(version="free", free=True)
"""A local engine: it costs no money by the token."""
