"""Tool calls of a stream under numbers that tell them apart: some servers give each call the same one.

OpenAI's clients gather a call's pieces by `index` alone, and join an `id` or a name that comes again to the one that
they have (openai-python, `lib/streaming/_deltas.py`). So a new id is a new call, and what is repeated is left out.
"""

from typing import Any, Final

_MOST: Final = 1024


class Calls:
    """The calls of one stream, by choice."""

    __slots__ = ("_count", "_ids", "_names", "_now")

    def __init__(self) -> None:
        self._now: dict[tuple[int, int], int] = {}
        self._ids: dict[tuple[int, int], str] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._count: dict[int, int] = {}

    def put_right(self, choices: list[dict[str, Any]]) -> bool:
        """Give the pieces in an event's choices the numbers of their calls; whether anything had to be changed."""
        changed = False
        for choice in choices:
            delta, number = choice.get("delta"), choice.get("index")
            pieces = delta.get("tool_calls") if isinstance(delta, dict) else None
            for piece in pieces if isinstance(pieces, list) else ():
                if isinstance(piece, dict) and len(self._ids) < _MOST:
                    changed = self._piece(number if isinstance(number, int) else 0, piece) or changed
        return changed

    def _piece(self, choice: int, piece: dict[str, Any]) -> bool:
        told, own, function = piece.get("index"), piece.get("id"), piece.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            return False  # no client gathers such; its numbers keep their texts
        place = told if isinstance(told, int) else -1
        count = self._count.get(choice, 0)
        now = self._now.get((choice, place))
        known = self._ids.get((choice, now)) if now is not None else None
        if now is None or (isinstance(own, str) and own and known and own != known):
            now = self._now[choice, place] = count
            self._count[choice] = count + 1
        changed = bool(now != told)
        if changed:
            piece["index"] = now
        return self._without_repeats((choice, now), piece, own) or changed

    def _without_repeats(self, call: tuple[int, int], piece: dict[str, Any], own: Any) -> bool:
        """Leave out an id and a name that the call has already."""
        changed = False
        if isinstance(own, str) and own:
            if self._ids.get(call) == own:
                del piece["id"]
                changed = True
            else:
                self._ids[call] = own
        function = piece.get("function")
        if isinstance(function, dict) and isinstance(name := function.get("name"), str) and name:
            if self._names.get(call) == name:
                del function["name"]
                changed = True
            else:
                self._names[call] = name
        return changed
