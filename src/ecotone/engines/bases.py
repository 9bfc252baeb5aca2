"""The base of an adapter: which model of the hub it is, at which revision."""

from pathlib import Path
from typing import Any

from ecotone.accounts import Actor
from ecotone.catalog import BY_WEIGHTS, Catalog, Model, Revision
from ecotone.engines.errors import NotServable
from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import Task, base_of, plan
from ecotone.vocabulary import NotFound

_ADAPTER_FILE = "adapter_config.json"


def is_adapter(catalog: Catalog, revision: Revision) -> bool:
    """Whether the revision holds an adapter, told from the names of its files."""
    return _ADAPTER_FILE in catalog.manifest(revision)


def base_for(
    catalog: Catalog, model: Model, revision: Revision, folder: Path, viewer: Actor
) -> tuple[Model, Revision] | None:
    """An adapter's base, at the revision that the adapter was made from where that is told: what its configuration
    names, else what its card names, if the viewer may see it (an adapter must not be a way to call somebody's
    private model). None when it is no adapter.

    Raises:
        NotServable: the base is not here, or not for the viewer.
    """
    try:
        named = base_of(folder)
    except Unloadable as error:
        raise NotServable(f"{model.id} cannot be served: {error}") from None
    if named is None:
        return None
    told = (e.parent_revision for e in revision.edges if e.asserted_by != BY_WEIGHTS)
    pinned = next((found for found in told if found), None)
    card: Any = revision.card.get("base_model")
    for candidate in (named, *(card if isinstance(card, list) else [card])):
        try:
            base = catalog.model(str(candidate), viewer=viewer)
            if base.head is not None:
                return base, catalog.revision(base, pinned or "main")
        except NotFound:
            continue
    raise NotServable(
        f"{model.id} is an adapter of {named!r}, and the hub holds no weights of that; publish the base first."
    )


def may_share(folder: Path, base: Path) -> bool:
    """Whether an adapter may be put on a running engine of its base, as far as the files tell: it is a causal model's.

    Whether that engine's architecture takes adapters is the engine's own answer.
    """
    try:
        return plan(folder, base).task == Task.GENERATION
    except Unloadable:
        return False
