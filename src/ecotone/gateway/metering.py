"""What a request used: the provider's figure where it gives one, else a count that is marked as an estimate."""

from typing import Any, Final, TypeGuard

from ecotone.gateway.parsing import Request
from ecotone.gateway.tasks.bodies import TaskRequest

MOST_TOKENS: Final = 10**8
"""Of one request. More is not believed: sums and costs of what a server makes up would leave 64 bits."""


class Usage:
    """Tokens of one request. `estimate` when they were counted here.

    `prompt_tokens` are all that went in: read from a cache, written to one, and the rest. `completion_tokens` are all
    that came out; `reasoning_tokens` and the audio ones are a part of their side, never added. `odd` when the
    provider's figures contradicted each other. `service_tier` is as the provider answered it.
    """

    __slots__ = (
        "audio_completion_tokens", "audio_prompt_tokens", "cache_write_1h_tokens", "cache_write_tokens",
        "cached_tokens", "characters", "completion_tokens", "estimate", "odd", "prompt_tokens", "reasoning_tokens",
        "service_tier",
    )  # fmt: skip

    def __init__(self, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cached_tokens = self.cache_write_tokens = self.cache_write_1h_tokens = self.reasoning_tokens = 0
        self.audio_prompt_tokens = self.audio_completion_tokens = self.characters = 0
        self.service_tier: str | None = None
        self.estimate = True
        self.odd = False

    @property
    def uncached_tokens(self) -> int:
        """Prompt tokens that were neither read from a cache nor written to one."""
        return self.prompt_tokens - self.cached_tokens - self.cache_write_tokens - self.cache_write_1h_tokens

    def take(self, told: Any) -> None:
        """The provider's own figure, where the prompt's count includes the cached tokens (OpenAI, vLLM, Mistral ...).

        A later figure replaces an earlier one, as figures in streams are cumulative.
        """
        if not isinstance(told, dict) or not _is_count(told.get("prompt_tokens")):
            return
        self.estimate = False
        self.prompt_tokens = told["prompt_tokens"]
        self.completion_tokens = _count(told, "completion_tokens")
        inside = told.get("prompt_tokens_details")
        self.cached_tokens = _count(inside, "cached_tokens")
        self.cache_write_tokens = _count(inside, "cache_write_tokens")
        self.audio_prompt_tokens = _count(inside, "audio_tokens")
        inside = told.get("completion_tokens_details")
        self.reasoning_tokens = _count(inside, "reasoning_tokens")
        self.audio_completion_tokens = _count(inside, "audio_tokens")
        if self.uncached_tokens < 0:
            # more was cached than went in: this server counts them apart
            self.prompt_tokens += self.cached_tokens + self.cache_write_tokens
            self.odd = True

    def take_answered(self, answer: dict[str, Any]) -> None:
        """The provider's own figure, and the service tier at which it answered, of an answer or of an event of one."""
        self.take(answer.get("usage"))
        tier = answer.get("service_tier")
        if isinstance(tier, str):
            self.service_tier = tier

    def take_decoded(self, told: Any) -> bool:
        """The provider's own figure as `figures` decodes it; returns whether it is plain, and was taken over."""
        prompt: int = told.prompt_tokens
        completion: int = told.completion_tokens
        if not (0 <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS):
            return False
        inside, out = told.prompt_tokens_details, told.completion_tokens_details
        if inside is not None:
            read: int = inside.cached_tokens or 0
            written: int = inside.cache_write_tokens or 0
            audio: int = inside.audio_tokens or 0
            if read < 0 or written < 0 or audio < 0 or read + written + audio > MOST_TOKENS:
                return False
            if read + written > prompt:
                return False
            self.cached_tokens, self.cache_write_tokens, self.audio_prompt_tokens = read, written, audio
        if out is not None:
            reasoning: int = out.reasoning_tokens or 0
            spoken: int = out.audio_tokens or 0
            if reasoning < 0 or spoken < 0 or reasoning + spoken > MOST_TOKENS:
                return False
            self.reasoning_tokens, self.audio_completion_tokens = reasoning, spoken
        self.prompt_tokens, self.completion_tokens = prompt, completion
        self.estimate = False
        return True

    def take_apart(self, told: Any) -> None:
        """The provider's own figure, where the prompt's count excludes the cached tokens (Anthropic, Bedrock).

        What is there and not null replaces what was told before: a stream begins with the input's figures and may leave
        them out, or repeat them, where it tells the output's.
        """
        if not isinstance(told, dict):
            return
        uncached, read = self.uncached_tokens, self.cached_tokens
        write, write_1h = self.cache_write_tokens, self.cache_write_1h_tokens
        if _is_count(told.get("input_tokens")):
            uncached, self.estimate = told["input_tokens"], False
        if _is_count(told.get("cache_read_input_tokens")):
            read = told["cache_read_input_tokens"]
        if _is_count(told.get("cache_creation_input_tokens")):
            write_1h = _count(told.get("cache_creation"), "ephemeral_1h_input_tokens")
            write = told["cache_creation_input_tokens"] - write_1h
            if write < 0:
                write, self.odd = 0, True
        if _is_count(told.get("output_tokens")):
            self.completion_tokens = told["output_tokens"]
        self.cached_tokens, self.cache_write_tokens, self.cache_write_1h_tokens = read, write, write_1h
        self.prompt_tokens = uncached + read + write + write_1h

    def told(self) -> dict[str, Any]:
        """The figures in OpenAI's form."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }

    def saw(self, text: str) -> None:
        """Text that came in a stream, for an estimate if no figure follows."""
        self.characters += len(text)

    def settled(self, request: Request) -> "Usage":
        """The final figure: an estimate of four characters a token when nothing was told."""
        if self.estimate:
            self.prompt_tokens = estimated_prompt(request)
            self.completion_tokens = (self.characters + 3) // 4
        return self


def estimated_prompt(request: Request) -> int:
    """Prompt tokens guessed from the size of the body: four bytes each."""
    return (len(request.raw) + 3) // 4


def reserved_completion(request: Request) -> int:
    """Completion tokens that the request allows at most over all of its answers, 0 when it sets no limit.

    Of two limits the larger one: which of them counts differs from server to server. `n_predict` is llama.cpp's own,
    which wins there, and has no bound below 1.
    """
    value = request.value
    told, other = value.get("max_tokens"), value.get("max_completion_tokens")
    if "n_predict" in value:
        most = _figure(value["n_predict"])
        most = max(most, _figure(told), _figure(other)) if most else 0
    elif other is None:
        if told is None:
            return 0
        most = told if type(told) is int and 0 < told < MOST_TOKENS else _figure(told)
    else:
        most = max(_figure(told), _figure(other))
    if not most:
        return 0
    if request.face == "chat" and "n" not in value and "best_of" not in value:
        return most
    return min(most * answers_of(request), MOST_TOKENS)


def unlimited_completion(request: Request, most: int) -> int:
    """Completion tokens to reserve money for where the request sets no limit.

    Args:
        most: of one answer.
    """
    if request.face == "embeddings" or (isinstance(request, TaskRequest) and not request.writes):
        return 0
    return min(most * answers_of(request), MOST_TOKENS)


def answers_of(request: Request) -> int:
    """How many answers are made: `n` or `best_of` for each prompt."""
    value = request.value
    if isinstance(request, TaskRequest):
        return min(request.answers, MOST_TOKENS)
    return max(_figure(value.get("n")), _figure(value.get("best_of")), 1) * _prompts(request)


def choices_of(request: Request) -> int:
    """How many answers come back: `n` for each prompt."""
    return max(_figure(request.value.get("n")), 1) * _prompts(request)


def _prompts(request: Request) -> int:
    prompts = request.value.get("prompt") if request.face == "completions" else None
    count = len(prompts) if isinstance(prompts, list) and not (prompts and isinstance(prompts[0], (int, float))) else 1
    return max(count, 1)


def _figure(told: Any) -> int:
    """A number as lenient servers read it (`16`, `16.0`, `"16"`), 0 for anything else."""
    if type(told) is str and told.isascii():
        told = told.strip()
        told = int(told) if told.isdigit() and len(told) < 16 else None
    if type(told) is float and told.is_integer():
        told = int(told)
    return min(told, MOST_TOKENS) if type(told) is int and told > 0 else 0


def _count(told: Any, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    return value if _is_count(value) else 0


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
