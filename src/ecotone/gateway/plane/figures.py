"""Usage of a whole answer in one typed decode: no object is made of anything else in it."""

from typing import Any

import msgspec

from ecotone.gateway.metering import MOST_TOKENS, Usage


class _In(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _Out(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = -1
    completion_tokens: int = -1
    prompt_tokens_details: _In | None = None
    completion_tokens_details: _Out | None = None

    def into(self, usage: Usage) -> bool:
        """Whether the figures are plain, and were taken over."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if not (0 <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS):
            return False
        inside, out = self.prompt_tokens_details, self.completion_tokens_details
        if inside is not None:
            read, written, audio = inside.cached_tokens or 0, inside.cache_write_tokens or 0, inside.audio_tokens or 0
            if read < 0 or written < 0 or audio < 0 or read + written + audio > MOST_TOKENS:
                return False
            if read + written > prompt:
                return False
            usage.cached_tokens, usage.cache_write_tokens, usage.audio_prompt_tokens = read, written, audio
        if out is not None:
            reasoning, audio = out.reasoning_tokens or 0, out.audio_tokens or 0
            if reasoning < 0 or audio < 0 or reasoning + audio > MOST_TOKENS:
                return False
            usage.reasoning_tokens, usage.audio_completion_tokens = reasoning, audio
        usage.prompt_tokens, usage.completion_tokens = prompt, completion
        usage.estimate = False
        return True


class Answer(msgspec.Struct):
    usage: _Usage | None = None
    error: Any = None
    service_tier: str | None = None


answer_decoder = msgspec.json.Decoder(Answer)
