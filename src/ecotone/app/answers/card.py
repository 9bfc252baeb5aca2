"""The card of a data set of answers, and its record of how far the ledger was read. Pure."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Any

import msgspec
import yaml

from ecotone.app.answers.rows import FEATURES
from ecotone.catalog import LineageEdge
from ecotone.ledger.answers import Answer, Place
from ecotone.vocabulary import EdgeStatus, Relation

RECORD = "answers.json"
ASSERTED_BY = "ecotone ledger"
_BEGIN, _END = "<!-- answers: written by ecotone -->", "<!-- end of answers -->"
_FORMAT = "ecotone-answers/1"
_EARLIEST = 2000  # no ledger is older; whoever may write into the data set may write any day


class Record(msgspec.Struct, kw_only=True):
    """`answers.json`: what went in. `read` is by selection and chain how far the ledger was read."""

    format: str = _FORMAT
    rows: int = 0
    selections: dict[str, dict[str, str]] = {}
    read: dict[str, dict[str, Place]] = {}


class Maker(msgspec.Struct, frozen=True):
    """What made answers: weights at a revision, or a provider's model under terms."""

    model: str
    revision: str | None = None
    terms: str | None = None


class Makers:
    """Gathers who made the rows, and when."""

    def __init__(self) -> None:
        self.counts: Counter[Maker] = Counter()
        self._days: dict[Maker, tuple[date, date]] = {}

    def __len__(self) -> int:
        return len(self.counts)

    def add(self, answer: Answer) -> None:
        day = answer.at.date()
        for maker in makers_of(answer):
            self.counts[maker] += 1
            first, last = self._days.get(maker, (day, day))
            self._days[maker] = (min(first, day), max(last, day))

    def edges(self, dataset: str, before: Iterable[LineageEdge]) -> tuple[LineageEdge, ...]:
        """The edges to all makers of the data set, those of its earlier rows included."""
        found = {e.identity: e for e in before if e.asserted_by == ASSERTED_BY}
        for maker, (first, last) in self._days.items():
            edge = LineageEdge(
                child=dataset,
                parent=maker.model,
                parent_revision=maker.revision,
                relation=Relation.GENERATED_BY,
                status=EdgeStatus.VERIFIED,
                asserted_by=ASSERTED_BY,
                evidence=f"ledger: answers of {maker.model} that passed this gateway",
                terms=(maker.terms,) if maker.terms else (),
                made_from=first,
                made_until=last,
            )
            known = found.get(edge.identity)
            if known is not None:
                edge = msgspec.structs.replace(
                    edge,
                    made_from=min(first, known.made_from or first),
                    made_until=max(last, known.made_until or last),
                )
            found[edge.identity] = edge
        return tuple(found.values())


def makers_of(answer: Answer) -> list[Maker]:
    """An answer's maker; of an adapter its base too, at the revision that it was laid over."""
    name = answer.model or "unreadable/parent"
    if answer.revision is None:
        return [Maker(name, terms=answer.terms or "unknown")]
    found = [Maker(name, revision=answer.revision)]
    base, at, revision = (answer.base or "").partition("@")
    return [*found, Maker(base, revision=revision)] if at else found


def read_record(raw: bytes | None) -> Record | None:
    """The record of a data set; None when there is none that can be read."""
    try:
        record = msgspec.json.decode(raw or b"", type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    sound = all(place.at.year >= _EARLIEST for places in record.read.values() for place in places.values())
    return record if record.format == _FORMAT and sound else None


def packed(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=2) + b"\n"


def card(
    name: str,
    before: str,
    front: dict[str, Any],
    edges: Iterable[LineageEdge],
    record: Record,
) -> str:
    """README.md; what people wrote into it stays.

    Args:
        before: the text of the card as it was, without its front matter.
        front: its metadata.
    """
    made = [e for e in edges if e.relation is Relation.GENERATED_BY]
    fields: dict[str, Any] = {
        "pretty_name": f"Answers: {name}",
        "tags": ["ecotone-answers", "synthetic"],
        "configs": [{"config_name": "default", "data_files": "data/*.jsonl"}],
        "dataset_info": {"features": _features()},
        **front,
        "generated_by": [_declared(edge) for edge in made],
    }
    told = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    section = f"{_BEGIN}\n{_section(made, record)}\n{_END}"
    head, begin, rest = before.partition(_BEGIN)
    own = f"{before.rstrip() or f'# {name}'}\n\n{section}\n"
    body = head + section + rest.partition(_END)[2] if begin else own
    return f"---\n{told}---\n{body.lstrip()}"


def _declared(edge: LineageEdge) -> dict[str, str]:
    told = {"model": edge.parent, "revision": edge.parent_revision, "terms": " ".join(edge.terms) or None}
    days = {"from": edge.made_from, "to": edge.made_until}
    return {k: str(v) for k, v in {**told, **days}.items() if v is not None}


def _features() -> list[dict[str, Any]]:
    message = [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]
    return [*({"name": n, "dtype": t} for n, t in FEATURES.items()), {"name": "messages", "list": message}]


def _section(made: list[LineageEdge], record: Record) -> str:
    rows = [
        f"| `{e.parent}` | {f'`{e.parent_revision}`' if e.parent_revision else ' '.join(e.terms)} "
        f"| {e.made_from} | {e.made_until} |"
        for e in made
    ]
    chosen = [", ".join(f"{k} {v}" for k, v in told.items()) for told in record.selections.values()]
    return "\n\n".join(
        [
            f"{record.rows} answers that passed this gateway, from its ledger ({'; '.join(chosen)}). Each row names "
            "the request, what answered it, under which terms and decision, and the tokens. `messages` holds prompt "
            "and answer where the project kept them and they may be told; `texts` says what became of them.",
            "Whoever trains a model on this data is bound by the licences and terms of what made it:",
            "\n".join(["| made by | revision, or terms | first | last |", "|---|---|---|---|", *rows]),
            "These facts stand in the data set's lineage whatever this card says: removing rows or editing the card "
            "does not remove them. Texts that went out with placeholders stand here with placeholders of the same "
            "kind. Masked text is still personal data.",
        ]
    )
