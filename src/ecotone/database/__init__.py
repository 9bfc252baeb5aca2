"""SQL: one engine, one writer, one migration history. Knows no table of any other package."""

from ecotone.database.engine import Base, Database, utc_now

__all__ = ["Base", "Database", "utc_now"]
