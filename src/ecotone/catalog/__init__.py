"""The catalogue: models, revisions, files, cards, lineage, measurements, search. Publishing alone adds revisions."""

from ecotone.catalog.access import STATUSES, AccessRequest
from ecotone.catalog.clan import Bond, Clan, Member
from ecotone.catalog.collections import Collection, Item
from ecotone.catalog.edge_words import KeptWord, WordNotFound
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
    Said,
    WeightSet,
)
from ecotone.catalog.errors import (
    BadCard,
    BadName,
    BadPath,
    CollectionExists,
    CollectionNotFound,
    EntryNotFound,
    GatedRepo,
    ModelNotFound,
    RefExists,
    RepoExists,
    ReservedId,
    RevisionNotFound,
    StaleParent,
)
from ecotone.catalog.events import Event, Events, RefChange, ToldComment, ToldDiscussion
from ecotone.catalog.names import RESERVED_SEGMENTS
from ecotone.catalog.repositories import GATES
from ecotone.catalog.services import Catalog
from ecotone.catalog.settled import BY_WEIGHTS, SAID, SAID_SO, unsettled
from ecotone.catalog.weights import UNTOLD, Kin, asserter

__all__ = [
    "BY_WEIGHTS",
    "DEFAULT_BRANCH",
    "GATES",
    "RESERVED_SEGMENTS",
    "SAID",
    "SAID_SO",
    "STATUSES",
    "UNTOLD",
    "AccessRequest",
    "BadCard",
    "BadName",
    "BadPath",
    "Bond",
    "Catalog",
    "Clan",
    "Collection",
    "CollectionExists",
    "CollectionNotFound",
    "EntryNotFound",
    "Event",
    "Events",
    "File",
    "Folder",
    "GatedRepo",
    "Item",
    "KeptWord",
    "Kin",
    "LineageEdge",
    "Listing",
    "Measurement",
    "Member",
    "Model",
    "ModelNotFound",
    "NewRevision",
    "Ref",
    "RefChange",
    "RefExists",
    "Refs",
    "RepoExists",
    "ReservedId",
    "Revision",
    "RevisionNotFound",
    "Said",
    "StaleParent",
    "ToldComment",
    "ToldDiscussion",
    "WeightSet",
    "WordNotFound",
    "asserter",
    "unsettled",
]
