"""Reads the starter catalogue's files. Knows their form (`schema.json`), not what the catalogue does with them."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import yaml

from ecotone.vocabulary import ModelKind, Relation


class StarterFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fact with its source, written out."""

    fact: str
    value: str
    source: str


class StarterNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A correction of what is often said wrongly, or a warning, with its source."""

    text: str
    source: str


class StarterParent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that this one comes from."""

    parent: str
    relation: Relation
    source: str


class StarterModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that people ask about, known without its weights.

    Args:
        published: whether its weights can be had, under whatever terms.
        released: the day on which it was announced, `YYYY-MM-DD`.
        instruments: ids of the knowledge base; `unknown` where it has no entry: then `licence_label` tells what it is.
    """

    id: str
    title: str
    summary: str
    provider: str
    family: str
    availability: Literal["open", "gated", "api", "shut_down", "never_published"]
    instruments: tuple[str, ...]
    licence_label: str
    facts: tuple[StarterFact, ...]
    kind: ModelKind = ModelKind.WEIGHTS
    released: str | None = None
    published: bool = True
    pipeline_tag: str | None = None
    parents: tuple[StarterParent, ...] = ()
    notes: tuple[StarterNote, ...] = ()


@cache
def load_starter() -> Mapping[str, StarterModel]:
    """All models of the starter catalogue by id, sources written out."""
    found: dict[str, StarterModel] = {}
    for file in sorted(files(__package__).iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            for model in _family(yaml.safe_load(file.read_text(encoding="utf-8"))):
                found[model.id] = model
    return MappingProxyType(found)


def _family(told: dict[str, Any]) -> list[StarterModel]:
    sources = told["sources"]

    def written_out(entry: dict[str, Any]) -> dict[str, Any]:
        return {**entry, "source": sources[entry["source"]]}

    return [
        msgspec.convert(
            {
                "family": told["family"],
                "provider": told["provider"],
                **model,
                **{field: [written_out(e) for e in model.get(field, ())] for field in ("facts", "notes", "parents")},
            },
            StarterModel,
        )
        for model in told["models"]
    ]
