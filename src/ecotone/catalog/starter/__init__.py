"""The starter catalogue: facts with sources about the models that people ask for first. Data in YAML, no weights.

`load_starter` reads the files; `load` gives them as entries of the catalogue, whose `facts` hold what the pages show.
"""

from datetime import UTC, datetime

import msgspec

from ecotone.catalog.entities import Model
from ecotone.catalog.starter.reading import StarterFact, StarterModel, StarterNote, StarterParent, load_starter

__all__ = ["StarterFact", "StarterModel", "StarterNote", "StarterParent", "load", "load_starter"]

_UNDATED = datetime(2020, 1, 1, tzinfo=UTC)


def load() -> list[Model]:
    """The starter catalogue as entries of the catalogue; their ids are reserved."""
    return [_entry(model) for model in load_starter().values()]


def _entry(model: StarterModel) -> Model:
    namespace, _, name = model.id.partition("/")
    date = datetime.fromisoformat(model.released).replace(tzinfo=UTC) if model.released else _UNDATED
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
            "facts": msgspec.to_builtins(model.facts),
            "notes": msgspec.to_builtins(model.notes),
        },
        reserved=True,
    )
