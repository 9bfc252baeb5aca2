"""The arithmetic of `prices`, on integers of 10^-12 USD: each request asks it twice."""

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ecotone.gateway.prices import Price, Rates

_NAMED_STANDARD: Final = frozenset({"default", "standard", "standard_only", "on_demand"})
_STANDARD: Final = _NAMED_STANDARD | {"", "auto"}

Ceiling = tuple[int, int, int, int]
"""For prompts of more than so many tokens: the most that one of the prompt, one of the answer and the request cost."""


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


def cost_of(price: "Price", used: Used) -> int:
    """What a settled usage costs, at the service tier that the provider answered."""
    if price.free:
        return 0
    tier = used.service_tier
    scale = price.scale if tier is None or tier in _STANDARD else price.tiers.get(tier)
    if scale is None:
        return max([_at(_of(each, used.prompt_tokens), used) for each in (price.scale, *price.tiers.values())])
    if len(scale) == 1:
        return _at(scale[0], used)
    return _at(_of(scale, used.prompt_tokens), used)


def _at(rates: "Rates", used: Used) -> int:
    prompt, completion = used.prompt_tokens, used.completion_tokens
    read, write, write_1h = used.cached_tokens, used.cache_write_tokens, used.cache_write_1h_tokens
    if not (read or write or write_1h or used.audio_prompt_tokens or used.audio_completion_tokens):
        return rates.request + prompt * rates.input + completion * rates.output
    plain = prompt - read - write - write_1h
    audio = min(used.audio_prompt_tokens, plain)
    spoken = min(used.audio_completion_tokens, completion)
    return (
        rates.request
        + (plain - audio) * rates.input
        + audio * rates.input_audio
        + read * rates.cache_read
        + write * rates.cache_write
        + write_1h * rates.cache_write_1h
        + (completion - spoken) * rates.output
        + spoken * rates.output_audio
    )


def _of(scale: "tuple[Rates, ...]", prompt_tokens: int) -> "Rates":
    """The rates of the last of a scale that the prompt is longer than."""
    found = scale[0]
    for rates in scale:
        if prompt_tokens > rates.above:
            found = rates
    return found


def most_of(price: "Price", prompt_tokens: int, completion_tokens: int, service_tier: str | None = None) -> int:
    """The most that a call can cost; see `Price.most`."""
    if price.free:
        return 0
    ceilings = price.ceilings
    if service_tier is not None:
        if service_tier in price.tiers:
            ceilings = ceilings_of((price.scale, price.tiers[service_tier]))
        elif service_tier in _NAMED_STANDARD:
            ceilings = ceilings_of((price.scale,))
    _, dearest, output, request = ceilings[0]
    if len(ceilings) > 1:
        for above, *more in ceilings:
            if prompt_tokens * 4 > above:
                dearest, output, request = more
    return request + prompt_tokens * dearest + completion_tokens * output


def ceilings_of(scales: "tuple[tuple[Rates, ...], ...]") -> tuple[Ceiling, ...]:
    """The most over several scales, by the length of the prompt."""
    every = [rates.ceiling() for scale in scales for rates in scale]
    starts = sorted({above for above, *_ in every})
    return tuple(
        (start, *(max(each[part] for each in every if each[0] <= start) for part in (1, 2, 3)))  # type: ignore[misc]
        for start in starts
    )
