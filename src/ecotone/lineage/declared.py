"""The family that a card declares: its base models and data sets, and the models that made a data set. A claim, weak
and mostly without revision.

Fields are Hugging Face's (Model cards: `base_model`, `base_model_relation`, `datasets`, `library_name`), but for
`generated_by`, which is ours.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ecotone.lineage.generated import Generator, generators
from ecotone.vocabulary import Relation

EDGE_LIMIT: Final = 500
_ID_LIMIT: Final = 200
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# what a base model can be to its child; other words would take it out of the family
_NO_BASE: Final = (Relation.EVALUATED_ON, Relation.TRAINED_ON, Relation.GENERATED_BY, Relation.CODE_FROM)
_RELATIONS: Final = {"quantized": Relation.QUANTISED, **{r.value: r for r in Relation if r not in _NO_BASE}}
_HOST: Final = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.I)
_REVISION: Final = re.compile(r"(?:/(?:tree|resolve|blob)/.*|[@?#].*)$")
UNREADABLE: Final = "unreadable/parent"


class DeclaredEdge(msgspec.Struct, frozen=True):
    """A parent that a card names.

    Args:
        parent: the id as the card has it, without an address in front.
        relation: what the child is to it.
        field: where the claim stands.
        inferred: whether the relation is our reading, since the card does not tell it.
        revision: the parent's commit, where an adapter's configuration (PEFT's field `revision`) or `generated_by`
            names one.
        generator: what `generated_by` says of the parent.
    """

    parent: str
    relation: Relation
    field: str
    inferred: bool = False
    revision: str | None = None
    generator: Generator | None = None


def declared_edges(card: Mapping[str, Any], *, adapter_config: Mapping[str, Any] | None = None) -> list[DeclaredEdge]:
    """The edges that a card's metadata declares, each parent once.

    Args:
        card: the parsed metadata; anything may stand in it, and what is no id is passed over.
        adapter_config: the parsed `adapter_config.json`, when the model has one; its base is a parent as well.
    """
    bases = _ids(card.get("base_model"))
    relation, inferred = _relation(card, len(bases), adapter_config is not None)
    adapted = _ids(adapter_config.get("base_model_name_or_path")) if adapter_config is not None else []
    pinned = _commit(adapter_config.get("revision")) if adapter_config is not None else None
    edges = [
        DeclaredEdge(
            parent,
            relation,
            "base_model",
            inferred,
            pinned if parent in adapted and relation is Relation.ADAPTER else None,
        )
        for parent in bases
    ]
    edges += [
        DeclaredEdge(parent, Relation.ADAPTER, "adapter_config.json", revision=pinned)
        for parent in adapted
        if parent not in bases
    ]
    edges += [DeclaredEdge(data, Relation.TRAINED_ON, "datasets") for data in _ids(card.get("datasets"))]
    edges += [
        DeclaredEdge(made.model, Relation.GENERATED_BY, "generated_by", revision=_commit(made.revision), generator=made)
        for made in generators(card.get("generated_by"), _id, UNREADABLE)
    ]
    return edges[:EDGE_LIMIT]


def _relation(card: Mapping[str, Any], count: int, has_adapter: bool) -> tuple[Relation, bool]:
    """The relation to the base models, and whether it was inferred."""
    told = card.get("base_model_relation")
    if isinstance(told, str) and (relation := _RELATIONS.get(told.strip().lower())) is not None:
        return relation, False
    library = card.get("library_name")
    if has_adapter or (isinstance(library, str) and library.strip().lower() == "peft"):
        return Relation.ADAPTER, True
    return (Relation.MERGE if count > 1 else Relation.FINETUNE), True


def _commit(value: Any) -> str | None:
    return value if isinstance(value, str) and _COMMIT.fullmatch(value) else None


def _ids(value: Any) -> list[str]:
    """Ids in a text or a list of texts, each once whatever its case. What stands there and is no id, or is one too
    many, counts as a parent that nobody knows: it must not vanish."""
    if value is None or value in ("", [], (), {}):
        return []
    found: dict[str, str] = {}
    items = value if isinstance(value, (list, tuple)) else [value]
    for item in items:
        name = _id(item) if isinstance(item, str) else UNREADABLE
        if name:
            found.setdefault(name.casefold(), name)
    ids = list(found.values())
    return ids if len(ids) <= EDGE_LIMIT else [UNREADABLE, *ids[: EDGE_LIMIT - 1]]


def _id(text: str) -> str:
    """The id that a text names, without address, branch and characters that cannot be seen."""
    name = "".join(c for c in text if unicodedata.category(c) != "Cf").strip()
    name = _HOST.sub("", name).removeprefix("datasets/")
    name = _REVISION.sub("", name).strip("/")
    return name if len(name) <= _ID_LIMIT and name.isprintable() else UNREADABLE
