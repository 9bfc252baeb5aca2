"""Reads the starter catalogue's files. Knows their form (`schema.json`), not what the catalogue does with them.

A file is a family. Where a fact names a source, the file's own `sources` or those of `shared.yml` say what that is and
of which day; `{id}` in a source stands for the id of the model that cites it.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import yaml

from ecotone.catalog.names import key_of
from ecotone.vocabulary import ModelKind, Relation

SHARED = "shared.yml"
HUB = "https://huggingface.co/"
_LISTS = ("facts", "notes", "parents")
_FIGURES = ("parameters", "context", "modalities", "paper", "card")
_SOURCES = ("licence_source", "released_source")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Sourced(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where something is said, written out.

    Args:
        as_of: the day of the source, `YYYY-MM-DD` or `YYYY-MM`; of one without a date the day on which it was read.
        link: an address of the source.
    """

    source: str
    as_of: str
    link: str | None = None


class StarterFact(Sourced, frozen=True, kw_only=True):
    """One fact for people."""

    fact: str
    value: str


class StarterNote(Sourced, frozen=True, kw_only=True):
    """A correction of what is often said wrongly, or a warning."""

    text: str


class StarterParent(Sourced, frozen=True, kw_only=True):
    """A model, or for `trained_on` a dataset, that this one comes from.

    Args:
        outside: whether it is none of the catalogue's: what is known of it is its name.
    """

    parent: str
    relation: Relation
    outside: bool = False


class StarterNumber(Sourced, frozen=True, kw_only=True):
    """A number of parameters or of tokens.

    Args:
        value: the number; a rounding where the source rounds.
        active: parameters that work on one token, of a mixture of experts.
        stated: what the source says in its own form, where that is no plain number (`128k`).
    """

    value: int
    active: int | None = None
    stated: str | None = None


Modality = Literal["text", "image", "audio", "video", "vector"]


class StarterModalities(Sourced, frozen=True, kw_only=True):
    """What goes in and what comes out."""

    input: tuple[Modality, ...]
    output: tuple[Modality, ...]


class StarterText(Sourced, frozen=True, kw_only=True):
    """The arXiv id of a paper, or the address of a card."""

    value: str


class StarterModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that people ask about, known without its weights.

    Args:
        published: whether its weights can be had, under whatever terms.
        released: the day on which it was announced, `YYYY-MM-DD`, or the month, `YYYY-MM`.
        instruments: ids of the knowledge base; `unknown` where it has no entry: then `licence_label` tells what it is.
        context: tokens that it reads at once.
    """

    id: str
    title: str
    summary: str
    provider: str
    family: str
    availability: Literal["open", "gated", "api", "shut_down", "never_published"]
    instruments: tuple[str, ...]
    licence_label: str
    licence_source: Sourced
    facts: tuple[StarterFact, ...] = ()
    kind: ModelKind = ModelKind.WEIGHTS
    released: str | None = None
    released_source: Sourced | None = None
    published: bool = True
    pipeline_tag: str | None = None
    parameters: StarterNumber | None = None
    context: StarterNumber | None = None
    modalities: StarterModalities | None = None
    paper: StarterText | None = None
    card: StarterText | None = None
    parents: tuple[StarterParent, ...] = ()
    notes: tuple[StarterNote, ...] = ()


@cache
def load_starter() -> Mapping[str, StarterModel]:
    """All models of the starter catalogue by id, sources written out."""
    folder = files(__package__)
    shared = _read(folder.joinpath(SHARED).read_text(encoding="utf-8"))["sources"]
    found: dict[str, StarterModel] = {}
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            for model in _family(_read(file.read_text(encoding="utf-8")), shared):
                found[model.id] = model
    return MappingProxyType(found)


@cache
def _by_key() -> Mapping[str, StarterModel]:
    return {key_of(model_id): model for model_id, model in load_starter().items()}


def starter_model(model_id: str) -> StarterModel | None:
    """A model of the starter catalogue by its id in any case."""
    return _by_key().get(key_of(model_id))


def _read(text: str) -> dict[str, Any]:
    told: dict[str, Any] = yaml.load(text, Loader=_LOADER)  # noqa: S506  safe loader, in C
    return told


def _family(told: dict[str, Any], shared: Mapping[str, Any]) -> Iterator[StarterModel]:
    known = {**shared, **told["sources"]}
    of_family = {"family": told["family"], "provider": told["provider"]}
    for model in told["models"]:
        yield msgspec.convert({**of_family, **_written_out(model, known)}, StarterModel)


def _written_out(model: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A model with the sources in the place of their names."""

    def source(name: str) -> dict[str, Any]:
        text, link = known[name]["text"], known[name].get("link")
        filled = {"source": text.replace("{id}", model["id"]), "as_of": known[name]["as_of"]}
        return {**filled, "link": link.replace("{id}", model["id"])} if link else filled

    def entry(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, **source(value["source"])}

    written = dict(model)
    for field in _LISTS:
        written[field] = [entry(value) for value in model.get(field, ())]
    for field in _FIGURES:
        if field in model:
            written[field] = entry(model[field])
    if "card" in model:
        written["card"].setdefault("value", HUB + model["id"])
    for field in _SOURCES:
        if field in model:
            written[field] = source(model[field])
    return written
