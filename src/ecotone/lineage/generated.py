"""What a card says of the models that made a data set: the field `generated_by`. A claim; Hugging Face has no such
field.

    generated_by:
      - model: team/llama-chat          # weights: id, and the commit if it is known
        revision: 0123456789abcdef0123456789abcdef01234567
      - provider: openai                # an API: who, which model, and when (days), or the terms by their own name
        model: gpt-4o
        from: 2026-02-01
        to: 2026-03-31
      - mistralai/Mistral-7B-v0.1       # no more than the id
"""

from collections.abc import Callable
from datetime import date
from typing import Any, Final

import msgspec

MOST: Final = 100
_LONGEST: Final = 96


class Generator(msgspec.Struct, frozen=True):
    """A model that made rows, as a card tells it. `since` and `until` are days; a field that cannot be read is None."""

    model: str
    revision: str | None = None
    provider: str | None = None
    terms: str | None = None
    since: date | None = None
    until: date | None = None


def generators(value: Any, read_id: Callable[[str], str], unreadable: str) -> list[Generator]:
    """The generators in a card's field, each once. What cannot be read, or is one too many, counts as one that nobody
    knows: it must not vanish.

    Args:
        value: what stands in the field; anything.
        read_id: cuts addresses to ids.
        unreadable: the id of what cannot be read.
    """
    if value is None or value in ("", [], {}):
        return []
    items = value if isinstance(value, (list, tuple)) else [value]
    found = dict.fromkeys(_generator(item, read_id, unreadable) for item in items[:MOST])
    if len(items) > MOST:
        found[Generator(unreadable)] = None
    return list(found)


def _generator(item: Any, read_id: Callable[[str], str], unreadable: str) -> Generator:
    if isinstance(item, str):
        return Generator(read_id(item) or unreadable)
    if not isinstance(item, dict):
        return Generator(unreadable)
    provider, model = _word(item.get("provider")), item.get("model")
    name = (read_id(model) or unreadable) if isinstance(model, str) else None
    if name is None:
        name = f"{provider}/api" if provider and model is None else unreadable
    elif provider and "/" not in name:
        name = f"{provider}/{name}"
    return Generator(
        name,
        revision=_word(item.get("revision")),
        provider=provider,
        terms=_word(item.get("terms")),
        since=_day(item.get("from")),
        until=_day(item.get("to")),
    )


def _word(value: Any) -> str | None:
    text = value.strip() if isinstance(value, str) else ""
    return text if text and len(text) <= _LONGEST and text.isprintable() and " " not in text else None


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None
