"""Usage of a whole answer in one typed decode: no object is made of anything else in it; for `Usage.take_decoded`."""

from typing import Any

import msgspec


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


class Answer(msgspec.Struct):
    usage: _Usage | None = None
    error: Any = None
    service_tier: str | None = None


answer_decoder = msgspec.json.Decoder(Answer)
