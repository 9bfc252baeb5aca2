"""What a request used: the provider's figure where it gives one, else a count that is marked as an estimate."""

from typing import Any, TypeGuard

import msgspec

from ecotone.gateway.parsing import Request


class Usage(msgspec.Struct, kw_only=True):
    """Tokens of one request. `estimate` when they were counted here."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimate: bool = True
    characters: int = 0

    def take(self, told: Any) -> None:
        """The provider's own figure; a later one replaces it, as figures in streams are cumulative."""
        if not isinstance(told, dict):
            return
        prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens", 0)
        if _is_count(prompt):
            self.prompt_tokens, self.estimate = prompt, False
            self.completion_tokens = completion if _is_count(completion) else 0
            details = told.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            self.cached_tokens = cached if _is_count(cached) else 0

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
    """Completion tokens that the request allows at most, 0 when it sets no limit."""
    told = request.value.get("max_completion_tokens") or request.value.get("max_tokens")
    return told if type(told) is int and 0 <= told < 2**53 else 0


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
