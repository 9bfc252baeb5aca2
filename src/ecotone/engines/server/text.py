"""Tokens become text piece by piece: characters that span tokens are waited for, stop strings are never let out."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_TORN = "\ufffd"
_LONGEST_TORN = 12  # tokens after which a broken character is let out as it is


class TextStream:
    """Text of one growing answer.

    Args:
        decode: tokens to text, leaving special tokens out.
        stops: strings that end the answer; neither they nor anything after them is let out.
    """

    __slots__ = ("_decode", "_held", "_hold", "_read", "_start", "_stops", "_tokens", "kept", "stopped")

    def __init__(self, decode: Decode, stops: tuple[str, ...] = ()) -> None:
        self._decode = decode
        self._stops = stops
        self._hold = max((len(stop) for stop in stops), default=1) - 1
        self._tokens: list[int] = []
        self._start = 0  # window of tokens whose text is known: decoders look at the neighbours of a token
        self._read = 0
        self._held = ""
        self.kept = ""
        self.stopped = False

    @property
    def watches(self) -> bool:
        """Whether the text has to be read as it grows."""
        return bool(self._stops)

    def add(self, token: int) -> None:
        """One more token that nobody reads yet; `finish` gives the text of all of them."""
        self._tokens.append(token)

    def keep(self, text: str) -> None:
        """Put text aside that goes out at the end."""
        self.kept += text

    def feed(self, token: int) -> str:
        """The text that may go out after one more token; sets `stopped` when a stop string was met."""
        self._tokens.append(token)
        return self._let_out(self._fresh(force=False), end=False)

    def finish(self) -> str:
        """The rest, when no token comes any more."""
        return "" if self.stopped else self._let_out(self._fresh(force=True), end=True)

    def _fresh(self, *, force: bool) -> str:
        known = self._decode(self._tokens[self._start : self._read]) if self._read > self._start else ""
        text = self._decode(self._tokens[self._start :])
        torn = text.endswith(_TORN) and len(self._tokens) - self._read < _LONGEST_TORN
        if len(text) <= len(known) or (torn and not force):
            return ""
        self._start, self._read = self._read, len(self._tokens)
        return text[len(known) :]

    def _let_out(self, fresh: str, *, end: bool) -> str:
        if not self._stops:
            return fresh
        text = self._held + fresh
        found = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = 0 if end else min(self._hold, len(text))
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]
