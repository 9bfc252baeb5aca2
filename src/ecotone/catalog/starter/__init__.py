"""The starter catalogue: facts with sources about the models that people ask for first. Data in YAML, no weights.

`load_starter` reads the files; `load` gives them as entries of the catalogue, whose `facts` hold what the pages show.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from ecotone.catalog.entities import Model
from ecotone.catalog.starter.reading import (
    Sourced,
    StarterFact,
    StarterModel,
    StarterNote,
    StarterNumber,
    StarterParent,
    load_starter,
    starter_model,
)

__all__ = ["StarterFact", "StarterModel", "StarterNote", "StarterParent", "load", "load_starter", "starter_model"]

_UNDATED = datetime(2020, 1, 1, tzinfo=UTC)
_WORDS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))
_FIGURES = ("parameters", "context", "modalities", "paper", "card")


def load() -> list[Model]:
    """The starter catalogue as entries of the catalogue; their ids are reserved."""
    return [_entry(model) for model in load_starter().values()]


def _entry(model: StarterModel) -> Model:
    namespace, _, name = model.id.partition("/")
    date = _day(model.released) if model.released else _UNDATED
    figures = {name: getattr(model, name) for name in _FIGURES}
    return Model(
        id=model.id,
        namespace=namespace,
        name=name,
        kind=model.kind,
        gated="manual" if model.availability == "gated" else None,
        created=date,
        updated=date,
        title=model.title,
        tags=(model.family.lower(), f"availability:{model.availability}"),
        pipeline_tag=model.pipeline_tag,
        licence=model.licence_label,
        instruments=model.instruments,
        facts={
            "summary": model.summary,
            "provider": model.provider,
            "family": model.family,
            "released": model.released,
            "published": model.published,
            "availability": model.availability,
            "lineage": msgspec.to_builtins(model.parents),
            "facts": [*_rows(model), *msgspec.to_builtins(model.facts)],
            "notes": msgspec.to_builtins(model.notes),
            **{name: msgspec.to_builtins(figure) for name, figure in figures.items() if figure is not None},
        },
        reserved=True,
    )


def _day(released: str) -> datetime:
    """The day, or the first of the month, on which something was announced."""
    day = released if released.count("-") > 1 else f"{released}-01"
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _rows(model: StarterModel) -> list[dict[str, Any]]:
    """The figures of a model as facts for people."""
    told = [
        ("licence", model.licence_label, model.licence_source),
        ("announced", model.released, model.released_source),
        ("parameters", model.parameters and _parameters(model.parameters), model.parameters),
        ("context", model.context and f"{model.context.stated or f'{model.context.value:,}'} tokens", model.context),
        ("input", model.modalities and ", ".join(model.modalities.input), model.modalities),
        ("output", model.modalities and ", ".join(model.modalities.output), model.modalities),
        ("paper", model.paper and f"arXiv {model.paper.value}", model.paper),
        ("card", model.card and model.card.value, model.card),
    ]
    return [_row(name, value, where) for name, value, where in told if value and where]


def _row(name: str, value: str, where: Sourced) -> dict[str, Any]:
    row = {"fact": name, "value": value, "source": where.source, "as_of": where.as_of}
    return {**row, "link": where.link} if where.link else row


def _parameters(number: StarterNumber) -> str:
    total = number.stated or _in_words(number.value)
    return f"{total}, of which {_in_words(number.active)} are active for a token" if number.active else total


def _in_words(number: int) -> str:
    """A large number as people say it: at most four digits, `109.5 million`."""
    for size, word in _WORDS:
        if number >= size:
            return f"{float(f'{number / size:.4g}'):,g} {word}"
    return f"{number:,}"
