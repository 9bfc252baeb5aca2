"""The catalogue: models, revisions, files, cards, lineage, measurements, search. Publishing alone adds revisions."""

from ecotone.catalog.entities import (
    DEFAULT_BRANCH,
    File,
    Folder,
    LineageEdge,
    Listing,
    Measurement,
    Model,
    NewRevision,
    Ref,
    Refs,
    Revision,
)
from ecotone.catalog.errors import (
    BadCard,
    BadName,
    BadPath,
    EntryNotFound,
    ModelNotFound,
    RefExists,
    RepoExists,
    ReservedId,
    RevisionNotFound,
    StaleParent,
)
from ecotone.catalog.names import RESERVED_SEGMENTS
from ecotone.catalog.services import Catalog

__all__ = [
    "DEFAULT_BRANCH",
    "RESERVED_SEGMENTS",
    "BadCard",
    "BadName",
    "BadPath",
    "Catalog",
    "EntryNotFound",
    "File",
    "Folder",
    "LineageEdge",
    "Listing",
    "Measurement",
    "Model",
    "ModelNotFound",
    "NewRevision",
    "Ref",
    "RefExists",
    "Refs",
    "RepoExists",
    "ReservedId",
    "Revision",
    "RevisionNotFound",
    "StaleParent",
]
