"""SQL: one engine, one writer, one migration history. Knows no table of any other package."""

from ecotone.database.batching import batches
from ecotone.database.engine import Base, Database, utc_now
from ecotone.database.errors import DatabaseBusy, DatabaseFull
from ecotone.database.sweeping import sweep
from ecotone.database.turns import HELD, STAYS, alone

__all__ = ["HELD", "STAYS", "Base", "Database", "DatabaseBusy", "DatabaseFull", "alone", "batches", "sweep", "utc_now"]
