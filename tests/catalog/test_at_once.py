"""Two change the catalogue in one moment: neither waits for ever, and neither finds half of what the other does."""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM
from ecotone.catalog import Model, collections
from ecotone.catalog.living import Kept, Living
from ecotone.catalog.models import CollectionItemRow, EdgeRow, ModelRow, ObjectRow
from ecotone.database import HELD
from ecotone.publishing import AddLarge, Commit
from ecotone.vocabulary import EdgeWord, Relation
from tests.interleaving import overlapping, while_held


@pytest.fixture
def models(house: SimpleNamespace) -> list[Model]:
    return [house.catalog.create(f"team/{name}", private=False, actor=SYSTEM) for name in ("one", "two")]


def say(house: SimpleNamespace, model: Model, parent: Model, word: EdgeWord, *, waits: bool = False) -> Any:
    said = (parent.id, Relation.FINETUNE, word, "seen")
    return house.catalog.keep_word(model, house.catalog.revision(model), "", *said, by="ada", waits=waits)


def test_two_words_on_two_models_of_which_each_names_the_other_do_not_wait_in_a_circle(
    house: SimpleNamespace, models: list[Model]
) -> None:
    one, two = models
    acts = [functools.partial(say, house, *pair, EdgeWord.REJECTED) for pair in ((one, two), (two, one))]
    assert overlapping(house.database, *acts, behind="from models where models.key = for") == ["done", "done"]


def test_a_word_that_is_approved_while_another_takes_its_place_does_not_wait_in_a_circle(
    house: SimpleNamespace, models: list[Model]
) -> None:
    approve = functools.partial(
        house.catalog.approve_word, say(house, *models, EdgeWord.CONFIRMED, waits=True).id, by="bob"
    )
    instead = functools.partial(say, house, *models, EdgeWord.CONFIRMED)
    assert overlapping(house.database, approve, instead, behind="from edge_words for update") == ["done", "done"]


def test_a_word_that_is_taken_back_while_another_takes_its_place_does_not_wait_in_a_circle(
    house: SimpleNamespace, models: list[Model]
) -> None:
    remove = functools.partial(house.catalog.remove_word, say(house, *models, EdgeWord.CONFIRMED).id)
    instead = functools.partial(say, house, *models, EdgeWord.CONFIRMED)
    assert overlapping(house.database, remove, instead, behind="from edge_words for update") == ["done", "done"]


def test_own_approvals_are_forgotten_while_edges_are_written(house: SimpleNamespace, models: list[Model]) -> None:
    """The start of a server under four eyes, beside one that goes on."""
    say(house, *models, EdgeWord.REJECTED)
    instead = functools.partial(say, house, *models, EdgeWord.CONFIRMED)
    forget = house.catalog.forget_own_approvals
    assert overlapping(house.database, forget, instead, behind="update edge_words set") == ["done", "done"]
    with house.database.reading() as session:
        edges = session.scalars(sa.select(EdgeRow).where(EdgeRow.model_key == models[0].key)).all()
    assert [edge.word.word for edge in edges if edge.word is not None] == [EdgeWord.CONFIRMED]


def test_the_index_of_objects_is_mended_while_a_commit_brings_the_same_ones(
    house: SimpleNamespace, models: list[Model], tmp_path: Path
) -> None:
    data = b"\0large" * 1000
    sha256 = hashlib.sha256(data).hexdigest()
    tmp_path.joinpath("large").write_bytes(data)
    house.storage.import_file("team", tmp_path / "large")
    change = Commit(message="Add", operations=(AddLarge("w.bin", sha256),))
    house.publishing.commit("team/one", "main", change, actor=SYSTEM)
    revision = house.catalog.revision(models[0])
    files = dict(house.catalog.manifest(revision))
    kept = Kept(models[0].key, "team/one", "team", revision.id, revision.tree, files)
    with house.database.writing() as session:
        session.execute(sa.delete(ObjectRow))

    def bring(session: Session) -> None:
        session.get_one(ModelRow, models[0].key, with_for_update=HELD)
        session.add(ObjectRow(model_key=models[0].key, name=sha256))

    assert while_held(house.database, bring, lambda: Living(house.database).list_again(kept)) == "done"


def test_a_name_that_a_repository_had_is_given_anew_while_it_moves_back(
    house: SimpleNamespace, models: list[Model]
) -> None:
    moved = house.catalog.move(models[0], "team/elsewhere", actor=SYSTEM)
    create = functools.partial(house.catalog.create, "team/one", private=False, actor=SYSTEM)
    back = functools.partial(house.catalog.move, moved, "team/one", actor=SYSTEM)
    assert overlapping(house.database, create, back, behind="insert into models") == ["done", "repo_exists"]


def test_two_servers_that_count_downloads_of_the_same_repositories_count_all_of_them(
    house: SimpleNamespace, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each notes them in the order in which they came."""
    one, two = (model.key for model in models)
    due: Iterator[dict[int, int]] = iter([{one: 1, two: 1}, {two: 1, one: 1}])
    monkeypatch.setattr(house.catalog._downloads, "add", lambda *_: next(due))
    count = functools.partial(house.catalog.count_download, models[0], "ann")
    overlapping(house.database, count, count, behind="update models set downloads")
    assert [house.catalog.model(model.id, viewer=SYSTEM).downloads for model in models] == [2, 2]


def test_two_collections_that_hold_each_other_are_deleted_at_once(house: SimpleNamespace) -> None:
    one, two = (house.catalog.create_collection("team", title, actor=SYSTEM).slug for title in ("one", "two"))
    house.catalog.add_item(one, "collection", two, actor=SYSTEM)
    house.catalog.add_item(two, "collection", one, actor=SYSTEM)
    acts = [functools.partial(house.catalog.delete_collection, slug, actor=SYSTEM) for slug in (one, two)]
    assert overlapping(house.database, *acts, behind="delete from collection_items") == ["done", "done"]


@pytest.mark.parametrize("act", ["move", "note"])
def test_a_place_is_changed_while_the_collection_that_stands_there_is_deleted(
    house: SimpleNamespace, models: list[Model], act: str
) -> None:
    outer, inner = (house.catalog.create_collection("team", title, actor=SYSTEM).slug for title in ("one", "two"))
    house.catalog.add_item(outer, "collection", inner, actor=SYSTEM)
    first, last = house.catalog.add_item(outer, "model", "team/one", actor=SYSTEM).items

    def delete(session: Session) -> None:
        session.execute(sa.delete(CollectionItemRow).where(CollectionItemRow.target.startswith("collection:")))

    change = functools.partial(house.catalog.update_item, outer, actor=SYSTEM)
    acts = {"move": lambda: change(last.id, position=0), "note": lambda: change(first.id, note="see")}
    said = while_held(house.database, delete, acts[act])
    assert said == {"move": "done", "note": "item_not_found"}[act]


def test_a_collection_that_is_deleted_in_this_moment_gets_no_place_in_another(house: SimpleNamespace) -> None:
    """It could not be seen there, nor taken out again."""
    gone, other = (house.catalog.create_collection("team", title, actor=SYSTEM).slug for title in ("Gone", "Other"))
    delete = functools.partial(house.catalog.delete_collection, gone, actor=SYSTEM)
    add = functools.partial(house.catalog.add_item, other, "collection", gone, actor=SYSTEM)
    assert overlapping(house.database, delete, add, behind="delete from collection_items") == ["done", "item_not_found"]
    with house.database.reading() as session:
        assert session.scalars(sa.select(CollectionItemRow)).all() == []


def test_a_user_makes_no_more_collections_at_once_than_one_after_another(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collections, "MOST_OF_ONE", 1)
    acts = [functools.partial(house.catalog.create_collection, "team", title, actor=SYSTEM) for title in ("one", "two")]
    assert overlapping(house.database, *acts, behind="count from collections") == ["done", "conflict"]
