"""What a finding is: its place, kind and data class. Knows nothing of how it is found or hidden."""

from collections.abc import Iterable
from typing import Final

import msgspec

from ecotone.vocabulary import DataClass


class Span(msgspec.Struct, frozen=True):
    """A sensitive stretch of a text.

    Args:
        start, end: character offsets in the text as it was given, `text[start:end]` is the value.
        kind: `email`, `phone`, `iban`, `card`, `ssn` or `secret`.
        data_class: the class that this value alone gives to the text.
        rule: what found it; for secrets the id of the rule in `secrets.yaml`.
    """

    start: int
    end: int
    kind: str
    data_class: DataClass
    rule: str = ""


CLASS_OF: Final[dict[str, DataClass]] = {
    "email": DataClass.PERSONAL,
    "phone": DataClass.PERSONAL,
    "iban": DataClass.CONFIDENTIAL,
    "card": DataClass.CONFIDENTIAL,
    "ssn": DataClass.CONFIDENTIAL,
    "secret": DataClass.SECRET,
}


def span(start: int, end: int, kind: str, rule: str = "") -> Span:
    """A span with the data class that belongs to its kind."""
    return Span(start, end, kind, CLASS_OF[kind], rule or kind)


def data_class(spans: Iterable[Span]) -> DataClass:
    """The highest class among the spans; `public` when there is none."""
    return max((s.data_class for s in spans), key=lambda c: c.rank, default=DataClass.PUBLIC)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order of place; overlapping ones become one that bears kind and class of the most sensitive."""
    result: list[Span] = []
    for item in sorted(spans, key=lambda s: (s.start, -s.end)):
        if result and item.start < result[-1].end:
            last = result[-1]
            first = last if last.data_class.rank >= item.data_class.rank else item
            result[-1] = Span(last.start, max(last.end, item.end), first.kind, first.data_class, first.rule)
        else:
            result.append(item)
    return result
