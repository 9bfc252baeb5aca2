"""Text to tokens and back, by the model's own tokenizer."""

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ecotone.engines.server.errors import RequestError

LETTERS_A_TOKEN = 100  # no text of the context's length has more; longer ones are refused before they are tokenised
_BYTE_LEVEL_SAFE = [*range(33, 127), *range(161, 173), *range(174, 256)]


class Tokens:
    """A tokenizer for several threads.

    Args:
        tokenizer: transformers' own.
        limit: tokens of the model's context.
        vocabulary: how many tokens the model knows.
    """

    def __init__(self, tokenizer: Any, limit: int, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        self._vocabulary = vocabulary
        self._lock = threading.Lock()  # a fast tokenizer is not to be used by two threads while it is being set
        self._reader = _copy(tokenizer)  # only ever decodes, so that it needs no lock
        self._spelt: dict[int, bytes] = {}
        #: ids of special tokens
        self.specials = frozenset(tokenizer.all_special_ids)
        self._bytes_of = _byte_level() if "ByteLevel" in str(getattr(self._reader, "decoder", "")) else None

    def encode(self, prompt: str | Sequence[int], *, special: bool, field: str = "prompt") -> list[int]:
        """A prompt as tokens, with what the tokenizer puts around it when `special`.

        Raises:
            RequestError: it is empty, far over the context, or names tokens that there are none of.
        """
        if not isinstance(prompt, str):
            return self.checked(prompt)
        self.check_length(len(prompt), field)
        with self._lock:
            found: list[int] = self._tokenizer(prompt, add_special_tokens=special)["input_ids"]
        if not found:
            raise RequestError("The prompt is empty.", param=field)
        return found

    def cut(self, text: str, limit: int) -> list[int]:
        """A text as the tokens of a whole input, cut to `limit` of them; what is sure to be cut is not tokenised."""
        most = limit * LETTERS_A_TOKEN
        left = getattr(self._tokenizer, "truncation_side", "right") == "left"
        text = text[-most:] if left else text[:most]
        with self._lock:
            found: list[int] = self._tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return found

    def check_length(self, letters: int, field: str) -> None:
        """Refuse what is far over the context before anything long is done with it."""
        most = self._limit * LETTERS_A_TOKEN
        if letters > most:
            raise RequestError(
                f"The prompt has {letters} characters: far more than this model's context of {self._limit} tokens can "
                f"hold; send a shorter one (at most {most} characters are read).",
                code="context_length_exceeded",
                param=field,
            )

    def checked(self, tokens: Sequence[int]) -> list[int]:
        """Tokens that came as numbers."""
        if max(tokens) >= self._vocabulary:
            raise RequestError(
                f"Token ids run from 0 to {self._vocabulary - 1}; {max(tokens)} is none.", code="invalid_token"
            )
        return list(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        if self._reader is not None:
            text: str = self._reader.decode(tokens, skip_special_tokens=True)
            return text
        with self._lock:
            return str(
                self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
            )

    def decoding_with(self, shown: Collection[int]) -> Callable[[Sequence[int]], str]:
        """A way to decode that lets these special tokens be seen."""
        hidden = self.specials - frozenset(shown)

        def decode(tokens: Sequence[int]) -> str:
            left = [token for token in tokens if token not in hidden]
            if self._reader is not None:
                text: str = self._reader.decode(left, skip_special_tokens=False)
                return text
            with self._lock:
                return str(self._tokenizer.decode(left, skip_special_tokens=False, clean_up_tokenization_spaces=False))

        return decode

    def id_of(self, token: str) -> int | None:
        """The special token that is written like this, if there is one."""
        found = self._tokenizer.added_tokens_encoder.get(token)
        return found if found in self.specials else None

    def spelling(self, token: int) -> bytes:
        """The bytes that one token stands for, wherever in a text it is; special ones as they are written."""
        found = self._spelt.get(token)
        if found is None:
            found = self._spelt[token] = self._spell(token)
        return found

    def _spell(self, token: int) -> bytes:
        written = self._tokenizer.convert_ids_to_tokens(token)
        if written is None or token in self._tokenizer.added_tokens_decoder:
            return (written or "").encode()
        if self._bytes_of is not None:
            return bytes(self._bytes_of[letter] for letter in written if letter in self._bytes_of)
        if len(written) == 6 and written.startswith("<0x") and written.endswith(">"):
            return bytes([int(written[3:5], 16)])
        return str(written).replace("▁", " ").encode()


def _copy(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else type(backend).from_str(backend.to_str())


def _byte_level() -> dict[str, int]:
    """The letters by which byte-level BPE writes bytes: printable ones as themselves, others from U+0100 on."""
    found = {chr(code): code for code in _BYTE_LEVEL_SAFE}
    others = [code for code in range(256) if code not in set(_BYTE_LEVEL_SAFE)]
    return found | {chr(256 + place): code for place, code in enumerate(others)}
