"""Fixtures for all packages: a fresh database, and the shared reference data where it is present."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecotone.database import Base, Database

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the shared test data, ../shared, which is not here")
    return SHARED


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A fresh database with the tables of every models module imported so far."""
    fresh = Database(f"sqlite:///{tmp_path / 'test.db'}")
    Base.metadata.create_all(fresh.engine)
    yield fresh
    fresh.dispose()
