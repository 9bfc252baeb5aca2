"""The migration history gives exactly the tables that the code has, on each database, and can be undone."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from ecotone import database as _database
from ecotone.app import tables
from ecotone.database import Database
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy

FOLDER = Path(_database.__file__).with_name("migrations")


def names() -> set[str]:
    """Tables of the product, without those that other tests declare."""
    return {t.name for t in tables.METADATA.sorted_tables if not t.name.startswith("test_")}


def emptied(database: Database) -> Database:
    tables.METADATA.drop_all(database.engine)
    return database


def test_the_history_gives_the_tables_of_the_code(database: Database) -> None:
    emptied(database).migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [d for d in compare_metadata(context, tables.METADATA) if "test_" not in repr(d)[:200]]
    assert differences == []


def test_rules_made_before_approvals_survive_and_a_waiver_waits_for_its_second_pair_of_eyes(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with emptied(database).engine.connect() as connection:
        connection.execute(sa.text("drop table if exists alembic_version"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001_spine")
        row = "insert into rules (id, kind, subject, value, reason, created, created_by, expires) values "
        for name, kind in (("r1", "waiver"), ("r2", "pass_unknown")):
            told = f"('{name}', '{kind}', 'demo/nc', null, 'old', '2026-11-01 08:00:00', 'ann', null)"
            connection.execute(sa.text(row + told))
        connection.commit()
    database.migrate()
    policy = Policy(database, None, KnowledgeBase.load(), None)  # type: ignore[arg-type]
    assert [(r.id, r.reason, r.waits) for r in policy.rules()] == [("r1", "old", True), ("r2", "old", False)]


def test_the_history_can_run_twice_and_be_undone(database: Database) -> None:
    emptied(database).migrate()
    database.migrate()
    assert names() <= set(sa.inspect(database.engine).get_table_names())
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    assert set(sa.inspect(database.engine).get_table_names()) == {"alembic_version"}
