"""The catalogue as others use it: its parts joined over one starter catalogue."""

from ecotone.catalog.access import Access
from ecotone.catalog.clan import ClanPart
from ecotone.catalog.collections import Collections
from ecotone.catalog.discussions import Discussions
from ecotone.catalog.edge_words import EdgeWords
from ecotone.catalog.generated import Generated
from ecotone.catalog.listings import Listings
from ecotone.catalog.measurements import Measurements
from ecotone.catalog.names import key_of
from ecotone.catalog.objects import Objects
from ecotone.catalog.rewriting import Rewriting
from ecotone.catalog.starter import load as load_starter
from ecotone.database import Database
from ecotone.licences import KnowledgeBase
from ecotone.settings import Settings
from ecotone.storage import Storage


class Catalog(
    Collections,
    Discussions,
    Rewriting,
    Access,
    Objects,
    Listings,
    ClanPart,
    Generated,
    Measurements,
    EdgeWords,
):
    """Models, revisions, files, cards, lineage, weights, measurements, search, collections, access. Thread-safe."""

    def __init__(self, database: Database, storage: Storage, knowledge: KnowledgeBase, settings: Settings) -> None:
        starter = {key_of(model.id): model for model in load_starter()}
        super().__init__(database, storage, knowledge, settings, starter)
