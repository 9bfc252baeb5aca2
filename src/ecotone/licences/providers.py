"""Which terms a provider's outputs came under, by provider and day. Outputs stay under the terms of the day they were
made; today's say nothing of them."""

import functools
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import yaml

from ecotone.licences.decision import today
from ecotone.licences.entries import Entry, KnowledgeBase

UNKNOWN = ("unknown",)
_FILE = Path(__file__).with_name("providers.yaml")


def terms_of_outputs(
    knowledge: KnowledgeBase, *, provider: str | None, terms: str | None, since: date | None, until: date | None
) -> tuple[str, ...]:
    """The entries under which outputs were made, sorted; `unknown` where the knowledge base has none for the days.

    Args:
        knowledge: the entries.
        provider: a provider's name, such as `openai`.
        terms: an entry's id, which wins, or the name of a family of them.
        since: day of the first output; None when that was not told: then any day up to `until`.
        until: day of the last one; None for today.
    """
    if terms is not None:
        if terms in knowledge.entries:
            return (terms,)
        families: tuple[str, ...] = (terms,)
    else:
        families = _families().get((provider or "").strip().casefold(), ())
    found = [e.id for e in knowledge.entries.values() if e.family in families and _in_force(e, since, until)]
    return tuple(sorted(found)) or UNKNOWN


def is_provider(name: str) -> bool:
    """Whether terms of a provider of that name are known."""
    return name.strip().casefold() in _families()


def _in_force(entry: Entry, since: date | None, until: date | None) -> bool:
    began, ended = entry.effective.since, entry.effective.until
    first = since.isoformat() if since is not None else ""
    last = (until or today()).isoformat()
    return (began is None or began <= last) and (ended is None or ended >= first)


@functools.cache
def _families() -> Mapping[str, tuple[str, ...]]:
    told = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: tuple(families) for name, families in told.items()}
