"""The migration history gives exactly the tables that the code has, on each database, and can be undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from ecotone import database as _database
from ecotone.app import tables
from ecotone.catalog.entities import File
from ecotone.catalog.manifests import encode
from ecotone.database import Database
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.storage import Content
from ecotone.storage.content import large

FOLDER = Path(_database.__file__).with_name("migrations")


def names() -> set[str]:
    """Tables of the product, without those that other tests declare."""
    return {t.name for t in tables.METADATA.sorted_tables if not t.name.startswith("test_")}


def emptied(database: Database) -> Database:
    tables.METADATA.drop_all(database.engine)
    return database


@contextmanager
def at_first(database: Database) -> Iterator[sa.Connection]:
    """The tables as the first migration made them; what is put into them is kept."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with emptied(database).engine.connect() as connection:
        connection.execute(sa.text("drop table if exists alembic_version"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001_spine")
        yield connection
        connection.commit()


def test_the_history_gives_the_tables_of_the_code(database: Database) -> None:
    emptied(database).migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [d for d in compare_metadata(context, tables.METADATA) if "test_" not in repr(d)[:200]]
    assert differences == []


def test_rules_made_before_approvals_survive_and_a_waiver_waits_for_its_second_pair_of_eyes(database: Database) -> None:
    with at_first(database) as connection:
        row = "insert into rules (id, kind, subject, value, reason, created, created_by, expires) values "
        for name, kind in (("r1", "waiver"), ("r2", "pass_unknown")):
            told = f"('{name}', '{kind}', 'demo/nc', null, 'old', '2026-11-01 08:00:00', 'ann', null)"
            connection.execute(sa.text(row + told))
    database.migrate()
    policy = Policy(database, None, KnowledgeBase.load(), None)  # type: ignore[arg-type]
    assert [(r.id, r.reason, r.waits) for r in policy.rules()] == [("r1", "old", True), ("r2", "old", False)]


def test_no_row_that_hangs_on_another_is_lost_when_a_table_is_made_anew(database: Database) -> None:
    """SQLite changes a table by a copy of it; the keys of every project were gone with the old one."""
    with at_first(database) as connection:
        made = {name: sa.Table(name, sa.MetaData(), autoload_with=connection) for name in ("projects", "keys")}
        filled(connection, made["projects"], name="shop", mode="run", purpose="research", personal_data="local-only")
        filled(connection, made["keys"], id="k1", project="shop", hash="0" * 64)
    database.migrate()
    with database.engine.begin() as connection:
        assert connection.execute(sa.text("select id, project from keys")).all() == [("k1", "shop")]
        connection.execute(sa.text("delete from projects where name = 'shop'"))
        assert connection.execute(sa.text("select id from keys")).all() == [], "foreign keys act again"


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


def test_files_that_were_published_before_are_still_read_by_xet_afterwards(database: Database) -> None:
    """The index of objects is new: without what was there before, no old model could be downloaded."""
    emptied(database)
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    large_file = File("w.bin", large("a" * 64, 5, "b" * 64), "c" * 40)
    whole_file = File("v.bin", large("e" * 64, 5, None), "c" * 40)
    small_file = File("x", Content(1, "d" * 40, None, None, "git", None), "c" * 40)
    manifest = encode({f.path: f for f in (large_file, whole_file, small_file)})
    rows = {table: sa.Table(table, sa.MetaData()) for table in ("models", "revisions")}
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001_spine")
        for name, table in rows.items():
            rows[name] = sa.Table(name, table.metadata, autoload_with=connection, extend_existing=True)
        filled(connection, rows["models"], key=1, folded="a/b", buried=0, head="2" * 40)
        for sha in ("1" * 40, "2" * 40):
            filled(connection, rows["revisions"], model_key=1, sha=sha, manifest=manifest, weights={"total": 7})
        command.upgrade(config, "head")
        listed = connection.execute(sa.text("select sha256, size, path, ref from large_files order by path")).all()
        told = connection.execute(sa.text("select parameters, small_bytes from models")).one()
        kept = connection.execute(sa.text("select model_key, name from repository_objects order by name")).all()
        connection.commit()
    assert [tuple(row) for row in kept] == [(1, "a" * 64), (1, "b" * 64), (1, "e" * 64)]
    places = [("e" * 64, 5, "v.bin", "refs/heads/main"), ("a" * 64, 5, "w.bin", "refs/heads/main")]
    assert [tuple(row) for row in listed] == places, "what was sent before can be listed and deleted for good"
    assert tuple(told) == (7, 1)


def filled(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    """A row with something in each column that needs a value."""
    for column in table.columns:
        if column.nullable or column.name in values:
            continue
        kinds = {bool: False, int: 0, str: "{}", datetime: datetime(2026, 1, 1, tzinfo=UTC), dict: {}, bytes: b""}
        values[column.name] = {} if isinstance(column.type, sa.JSON) else kinds[column.type.python_type]
    connection.execute(sa.insert(table), [values])
