"""Strings to sequences of tokens within the model's limit. Thread-safe: the tokenizer is only read.

A text over the limit is refused with both numbers, unless the request says that it may be cut. No text is tokenised
that is far too long to fit.
"""

from collections.abc import Sequence
from typing import Any

from ecotone.engines.server.encoding.texts import Head, Text
from ecotone.engines.server.errors import RequestError, Unloadable

LETTERS_A_TOKEN = 100  # no text of the limit's length has more


class Sequences:
    """The tokenizer of an encoder.

    Args:
        tokenizer: transformers' own, with a tokenizer of the tokenizers library inside.
        limit: tokens of a sequence, the special ones among them.
        vocabulary: how many token ids the model has.
        types: whether the model tells the first and second part of a pair apart.

    Raises:
        Unloadable: the tokenizer has no fast form.
    """

    def __init__(self, tokenizer: Any, limit: int, vocabulary: int, *, types: bool) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise Unloadable(
                "its tokenizer has no fast form; save it with AutoTokenizer.from_pretrained(...).save_pretrained(...), "
                "which writes tokenizer.json, and upload that."
            )
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.tokenizer = tokenizer
        self.limit = limit
        self._vocabulary = vocabulary
        self._types = types

    def single(self, text: str, *, cut: bool = False, left: bool = False, field: str = "inputs") -> Any:
        """One text with its special tokens.

        Args:
            cut: whether a text over the limit loses its end, or its beginning (`left`).

        Raises:
            RequestError: the text does not fit, or there is none.
        """
        found = self.backend.encode(self._bounded(text, cut=cut, left=left, field=field))
        if len(found) > self.limit:
            if not cut:
                raise self.too_long(len(found), field)
            plain = self.plain(text, cut=cut, left=left, field=field)
            plain.truncate(max(self.limit - self.specials(), 0), direction="left" if left else "right")
            found = self.backend.post_process(plain, None, True)
        if not len(found):
            raise RequestError(f"{field} has no tokens; send a text.", param=field)
        return found

    def pair(self, first: str, second: str, *, cut: bool = False, field: str = "inputs") -> Any:
        """Two texts as one sequence; with `cut`, the first loses its end until both fit."""
        one = self.plain(first, cut=cut, field=field)
        two = self.plain(second, field=field)
        room = self.limit - len(two) - self.specials(pair=True)
        if len(one) > room:
            if not cut or room < 1:
                raise self.too_long(len(one) + self.limit - room, field)
            one.truncate(room)
        return self.backend.post_process(one, two, True)

    def plain(self, text: str, *, cut: bool = False, left: bool = False, field: str = "inputs") -> Any:
        """The tokens of a text without special ones, of any number that a text within the bound of letters has."""
        return self.backend.encode(self._bounded(text, cut=cut, left=left, field=field), add_special_tokens=False)

    def closed(self, first: Any, second: Any = None) -> Any:
        """Special tokens around one plain sequence or two."""
        return self.backend.post_process(first, second, True)

    def specials(self, *, pair: bool = False) -> int:
        return int(self.backend.num_special_tokens_to_add(pair))

    def checked(self, ids: Sequence[int], *, cut: bool = False, left: bool = False, field: str = "input") -> list[int]:
        """Token ids that came from outside."""
        if not ids or max(ids) >= self._vocabulary:
            raise RequestError(
                f"Token ids run from 0 to {self._vocabulary - 1}; {max(ids, default='none')} is none of them.",
                code="invalid_token",
                param=field,
            )
        if len(ids) > self.limit and not cut:
            raise self.too_long(len(ids), field)
        return list(ids[-self.limit :] if left else ids[: self.limit])

    def text(self, encoding: Any, head: Head, places: Sequence[int] = ()) -> Text:
        """A sequence as the computing thread takes it."""
        types = encoding.type_ids if self._types else None
        return Text(encoding.ids, head, types if types and any(types) else None, places)

    def too_long(self, tokens: int | str, field: str) -> RequestError:
        return RequestError(
            f"{field} has {tokens} tokens, and this model takes at most {self.limit}; shorten it, or send "
            "truncate: true to have it cut.",
            code="context_length_exceeded",
            param=field,
        )

    def _bounded(self, text: str, *, cut: bool, left: bool, field: str) -> str:
        most = self.limit * LETTERS_A_TOKEN
        if len(text) <= most:
            return text
        if not cut:
            raise self.too_long(f"{len(text)} characters, which make far too many", field)
        return text[-most:] if left else text[:most]
