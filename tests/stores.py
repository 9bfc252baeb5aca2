"""Where tests keep things: in the test's folder, or in the bucket and database that `tests/s3.sh` and
`tests/postgres.sh` started."""

import hashlib
import os
import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa

ENDPOINT = os.environ.get("ECOTONE_TEST_S3_ENDPOINT", "")
BUCKET = os.environ.get("ECOTONE_TEST_S3_BUCKET", "")


def placed(folder: Path) -> dict[str, str]:
    """Settings that give each folder objects of its own, the same each time."""
    if not ENDPOINT:
        return {}
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return {"objects": f"s3://{BUCKET}/{os.getpid()}-{name}", "s3_endpoint": ENDPOINT}


def placed_variables(folder: Path) -> dict[str, str]:
    """The same as environment variables."""
    return {f"ECOTONE_{name.upper()}": value for name, value in placed(folder).items()}


def empty_database() -> str:
    """A fresh PostgreSQL database where `ECOTONE_TEST_POSTGRES_URL` names a server; else SQLite in the data folder."""
    given = os.environ.get("ECOTONE_TEST_POSTGRES_URL")
    if given is None:
        return ""
    name = f"hub_{secrets.token_hex(6)}"
    admin = sa.create_engine(given, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    admin.dispose()
    return sa.make_url(given).set(database=name).render_as_string(hide_password=False)


on_disk = pytest.mark.skipif(bool(ENDPOINT), reason="about files on this disk")
in_a_bucket = pytest.mark.skipif(not ENDPOINT, reason="needs an S3 server: tests/s3.sh COMMAND")
