"""Commits and collections of one namespace that overlap: none waits in a circle, and none fails for another."""

import functools
from collections.abc import Iterable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from ecotone.catalog.living import Living
from ecotone.database import batches, utc_now
from ecotone.storage import Content, services
from ecotone.storage.collecting import Collector
from ecotone.storage.content import large
from ecotone.storage.deduplication import Deduplication
from ecotone.storage.models import ChunkRow, EpochRow, LfsObjectRow, XetFileRow, XorbTenantRow
from tests.interleaving import overlapping

NOW = timedelta(0)
FIRST, MIDDLE, LAST = ("0" * 64, "5" * 64, "a" * 64)


def whole(house: SimpleNamespace, sha256: str) -> Content:
    with house.database.writing() as session:
        session.add(LfsObjectRow(tenant="team", sha256=sha256, size=1, created=utc_now()))
    return large(sha256, 1, None)


def xet(house: SimpleNamespace, sha256: str, name: str) -> Content:
    with house.database.writing() as session:
        session.add(XetFileRow(tenant="team", hash=name, sha256=sha256, size=1, terms=b"", created=utc_now()))
    return large(sha256, 1, name)


@pytest.mark.parametrize("last", ["whole", "xet"])
def test_two_commits_of_many_files_of_which_they_share_some_do_not_wait_in_a_circle(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Files are held some at a time; where one ends and the next begins is another place in each commit."""
    monkeypatch.setattr(services, "batches", lambda items: batches(items, 2))
    first, middle = whole(house, FIRST), xet(house, MIDDLE, "f" * 64)
    end = whole(house, LAST) if last == "whole" else xet(house, LAST, "0" * 64)

    def hold(contents: Iterable[Content]) -> None:
        with house.database.writing() as session:
            house.storage.hold(session, "team", contents)

    acts = [functools.partial(hold, contents) for contents in ((first, middle, end), (middle, end))]
    assert overlapping(house.database, *acts, behind="from xet_files for update") == ["done", "done"]


def test_a_commit_of_files_whose_chunks_are_indexed_at_this_moment_does_not_wait_in_a_circle(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index refers to the files in the order of their chunks, a commit holds them in the order of their keys."""
    monkeypatch.setattr(services, "batches", lambda items: batches(items, 1))
    names = ["1" * 64, "2" * 64]
    contents = [xet(house, sha256, name) for sha256, name in zip((FIRST, LAST), names, strict=True)]
    index = Deduplication(house.database, lambda _xorb: pytest.fail("no xorb is looked into"))
    monkeypatch.setattr(index, "_indexed", lambda terms: [terms[0]])

    def hold() -> None:
        with house.database.writing() as session:
            house.storage.hold(session, "team", contents)

    terms: Any = (("b" * 64,), ("a" * 64,))
    learn = functools.partial(index.learn, "team", list(zip(names, terms, strict=True)))
    assert overlapping(house.database, hold, learn, behind="from xet_files for update") == ["done", "done"]
    with house.database.reading() as session:
        assert set(session.scalars(sa.select(ChunkRow.file))) == set(names)


def test_two_collections_that_take_xorbs_of_one_namespace_change_its_address_twice(house: SimpleNamespace) -> None:
    names = ["1" * 64, "2" * 64]
    with house.database.writing() as session:
        session.add_all(XorbTenantRow(tenant="team", hash=n, created=utc_now() - timedelta(days=9)) for n in names)

    def take(name: str) -> None:
        living = Living(house.database)
        Collector(house.database, house.storage.objects, living, grace=NOW, delay=NOW)._drop_xorbs(
            [("team", name, False, 0)]
        )

    acts = [functools.partial(take, name) for name in names]
    assert overlapping(house.database, *acts, behind="tenant_epochs") == ["done", "done"]
    with house.database.reading() as session:
        assert session.scalar(sa.select(EpochRow.epoch)) == 2
