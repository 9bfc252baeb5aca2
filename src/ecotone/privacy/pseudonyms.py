"""Placeholders for the sensitive values of one request or conversation, the same value always behind the same one.

A placeholder is drawn from a keyed hash: with a random key nobody can guess one, with a conversation's key every turn
and every worker gives the same. Text that looks like a placeholder on its way in is itself hidden behind one, so that
it comes back as it was and never turns into somebody's value.
"""

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ecotone.privacy.dataurls import data_url
from ecotone.privacy.errors import TooDeep
from ecotone.privacy.restoring import DIGITS, LETTERS, PAIRS, WORDS, Issued, StreamRestorer, placeholders
from ecotone.privacy.spans import Span, merged
from ecotone.privacy.values import (
    DEPTH_LIMIT,
    JSON_TEXT_KEYS,
    json_literals,
    json_string,
    number_digits,
    part_text,
    spans_over,
)
from ecotone.vocabulary import DataClass


class Pseudonyms:
    """Hides values and puts them back.

    Args:
        key: secret of the conversation; the same key gives the same placeholders. Random when absent.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key if key is not None else secrets.token_bytes(32)
        self._placeholders: dict[tuple[str, str], str] = {}
        self._issued = Issued()
        self._counts: Counter[str] = Counter()

    @property
    def kinds(self) -> dict[str, int]:
        """How many different values of each kind are hidden: what may be logged."""
        return dict(self._counts)

    def mask(self, text: str) -> str:
        """The text with placeholders in place of what `find` finds."""
        return self.mask_pieces([text])[0]

    def mask_pieces(self, pieces: Sequence[str]) -> list[str]:
        """Pieces of one text, masked; of a value that is split between pieces the first one gets the placeholder."""
        whole = "".join(pieces)
        spans = spans_over(pieces)
        spans += [Span(m.start(), m.end(), "literal", DataClass.PUBLIC) for m in placeholders(whole)]
        if not spans:
            return list(pieces)
        hidden = merged(spans)
        result: list[str] = []
        piece_start = index = 0
        for piece in pieces:
            piece_end, place = piece_start + len(piece), piece_start
            out: list[str] = []
            while index < len(hidden) and hidden[index].start < piece_end:
                item = hidden[index]
                if item.start >= piece_start:
                    out += (whole[place : item.start], self._placeholder(item.kind, whole[item.start : item.end]))
                place = min(item.end, piece_end)
                if item.end > piece_end:
                    break
                index += 1
            out.append(whole[place:piece_end])
            result.append("".join(out))
            piece_start = piece_end
        return result

    def mask_json(self, value: Any) -> Any:
        """A JSON value with every string masked, keys included; the same object when there was nothing to mask.

        Numbers that are findings become strings with a placeholder; text in `arguments` stays valid JSON.

        Raises:
            TooDeep: it is nested too deep to be looked through.
        """
        return self._masked(value, "", 0)

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """The text with the values back in place of their placeholders; `in_json` escapes them for JSON text."""
        return self._issued.restore(text, in_json=in_json)

    def restore_json(self, value: Any) -> Any:
        """A JSON value, such as a provider's answer, with every string restored."""
        return self._restored(value, "", 0)

    def restorer(self, *, in_json: bool = False) -> StreamRestorer:
        """A restorer for one field of a stream: one for each choice and each tool call."""
        return StreamRestorer(self._issued, in_json=in_json)

    def _placeholder(self, kind: str, value: str) -> str:
        known = self._placeholders.get((kind, value))
        if known is not None:
            return known
        attempt = 0
        while True:
            told = f"{kind}:{attempt}:{value}".encode("utf-8", "surrogatepass")
            number = int.from_bytes(hmac.digest(self._key, told, hashlib.sha256))
            tail = ""
            for _ in range(PAIRS):
                number, letter = divmod(number, len(LETTERS))
                number, digit = divmod(number, len(DIGITS))
                tail += LETTERS[letter] + DIGITS[digit]
            placeholder = f"{WORDS[kind]}_{tail}"
            if self._issued.add(placeholder, value):
                break
            attempt += 1
        self._placeholders[kind, value] = placeholder
        if kind != "literal":
            self._counts[kind] += 1
        return placeholder

    def _masked(self, value: Any, key: str, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise TooDeep(DEPTH_LIMIT)
        if isinstance(value, str):
            masked = self._masked_string(value, key)
            return value if masked == value else masked
        if isinstance(value, Mapping):
            return self._masked_mapping(value, None, depth)
        if isinstance(value, (list, tuple)):
            return self._masked_list(value, key, depth)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and (digits := number_digits(value)):
            masked = self.mask(digits)
            return value if masked == digits else masked
        return value

    def _masked_mapping(self, value: Mapping[str, Any], text: str | None, depth: int) -> Mapping[str, Any]:
        """The mapping masked; `text`, when given, is what its field `text` becomes."""
        result: dict[str, Any] = {}
        same = True
        for name, inner in value.items():
            if text is not None and name == "text":
                masked = inner if inner == text else text
            else:
                masked = self._masked(inner, name, depth + 1)
            masked_name = self.mask(name)
            same = same and masked is inner and masked_name == name
            result[masked_name] = masked
        return value if same else result

    def _masked_list(self, value: Sequence[Any], key: str, depth: int) -> Sequence[Any]:
        """The list masked; the texts of content parts are masked as one text."""
        parts = [i for i, part in enumerate(value) if part_text(part) is not None]
        joined = dict(zip(parts, self.mask_pieces([part_text(value[i]) or "" for i in parts]), strict=True))
        items = [
            self._masked_mapping(item, joined[i], depth + 1) if i in joined else self._masked(item, key, depth + 1)
            for i, item in enumerate(value)
        ]
        return value if all(a is b for a, b in zip(value, items, strict=True)) else items

    def _masked_string(self, text: str, key: str) -> str:
        url = data_url(text)
        if url is not None and url.text is not None and (masked := self.mask(url.text)) != url.text:
            return self.mask(url.head) + url.holding(masked)
        if url is not None or key not in JSON_TEXT_KEYS or not _is_json(text):
            return self.mask(text)
        out: list[str] = []
        place = 0
        for literal in json_literals(text):
            value = json_string(literal.group())
            masked = self.mask(value)
            if masked != value:
                out += (text[place : literal.start()], json.dumps(masked))
                place = literal.end()
        return "".join([*out, text[place:]])

    def _restored(self, value: Any, key: str, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise TooDeep(DEPTH_LIMIT)
        if isinstance(value, str):
            return self.restore(value, in_json=key in JSON_TEXT_KEYS)
        if isinstance(value, Mapping):
            return {self.restore(k): self._restored(v, k, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._restored(v, key, depth + 1) for v in value]
        return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
