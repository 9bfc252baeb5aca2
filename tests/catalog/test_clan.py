"""Clan: who descends from whom, whatever was moved, deleted, hidden or named by a revision."""

import contextlib
from types import SimpleNamespace

import pytest

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.catalog import Clan, LineageEdge, ModelNotFound, RepoExists
from ecotone.publishing import AddRegular, Commit
from ecotone.vocabulary import EdgeStatus, Relation, RepoType


def card(licence: str = "apache-2.0", *parents: str, **more: str) -> dict[str, bytes]:
    lines = [f"license: {licence}", *(f"{k}: {v}" for k, v in more.items())]
    if parents:
        lines += ["base_model:", *(f"- {p}" for p in parents)]
    return {"README.md": ("---\n" + "\n".join(lines) + "\n---\n# It\n").encode()}


def publish(house: SimpleNamespace, name: str, files: dict[str, bytes]) -> str:
    with contextlib.suppress(RepoExists):
        house.catalog.create(name, private=False, actor=SYSTEM)
    return str(house.publish(name, files).revision_id)


def below(clan: Clan) -> dict[str, list[str]]:
    return {key: [bond.child for bond in way] for key, way in clan.descendants().items()}


def test_grandchildren_and_their_other_parents_are_of_the_clan(house: SimpleNamespace) -> None:
    publish(house, "a/base", card())
    publish(house, "b/other", card("cc-by-nc-4.0"))
    publish(house, "c/child", card("apache-2.0", "a/base"))
    publish(house, "d/merge", card("cc-by-nc-4.0", "c/child", "b/other"))
    clan = house.catalog.clan("a/base")
    assert below(clan) == {"c/child": ["c/child"], "d/merge": ["c/child", "d/merge"]}
    assert "b/other" in clan.members and "b/other" in clan.ancestors("d/merge")
    assert not clan.cut


def test_a_parent_that_was_deleted_still_has_its_children_and_one_between_still_joins(house: SimpleNamespace) -> None:
    for name, parents in (("a/base", ()), ("b/mid", ("a/base",)), ("c/end", ("b/mid",))):
        publish(house, name, card("apache-2.0", *parents))
    for gone in ("b/mid", "a/base"):
        house.catalog.delete(house.catalog.model(gone, viewer=SYSTEM), SYSTEM)
    clan = house.catalog.clan("a/base")
    assert clan.members["a/base"].deleted and clan.members["b/mid"].deleted
    assert set(below(clan)) == {"b/mid", "c/end"}
    assert clan.members["a/base"].instruments == ("Apache-2.0",)


def test_children_that_name_a_moved_parent_by_its_old_name_are_found(house: SimpleNamespace) -> None:
    publish(house, "a/old", card())
    publish(house, "b/child", card("apache-2.0", "a/old"))
    house.catalog.move(house.catalog.model("a/old", viewer=SYSTEM), "a/new", actor=SYSTEM)
    assert set(below(house.catalog.clan("a/new"))) == {"b/child"}
    assert house.catalog.clan("a/old").subject == "a/new"


def test_a_parent_that_nobody_here_has_can_be_asked_for_and_one_without_children_cannot(house: SimpleNamespace) -> None:
    publish(house, "b/child", card("apache-2.0", "elsewhere/base"))
    clan = house.catalog.clan("elsewhere/base")
    assert not clan.members["elsewhere/base"].known and set(below(clan)) == {"b/child"}
    with pytest.raises(ModelNotFound):
        house.catalog.clan("elsewhere/nothing")


def test_a_private_parent_looks_to_strangers_like_one_that_nobody_here_has(house: SimpleNamespace) -> None:
    publish(house, "a/secret", card("cc-by-nc-4.0", "a/grand"))
    publish(house, "a/lonely", card())
    publish(house, "b/child", card("cc-by-nc-4.0", "a/secret"))
    for name in ("a/secret", "a/lonely"):
        house.catalog.update(house.catalog.model(name, viewer=SYSTEM), actor=SYSTEM, private=True)
    clan = house.catalog.clan("a/secret", viewer=ANONYMOUS)
    member = clan.members[clan.subject]
    assert (member.known, member.private, member.instruments) == (False, False, ("unknown",))
    assert "a/grand" not in clan.members
    with pytest.raises(ModelNotFound):
        house.catalog.clan("a/lonely", viewer=ANONYMOUS)


def test_datasets_generated_by_a_model_and_what_was_trained_on_them_descend_from_it(house: SimpleNamespace) -> None:
    publish(house, "a/teacher", card())
    house.catalog.create("d/rows", repo_type=RepoType.DATASET, private=False, actor=SYSTEM)
    made = LineageEdge(child="d/rows", parent="a/teacher", relation=Relation.GENERATED_BY, status=EdgeStatus.VERIFIED)
    operations = (AddRegular("README.md", b"---\nlicense: mit\n---\n"),)
    commit = Commit(message="Add", operations=operations)
    asserted = {"repo_type": RepoType.DATASET, "asserted_edges": (made,)}
    house.publishing.commit("d/rows", "main", commit, actor=SYSTEM, **asserted)
    publish(house, "e/student", card("apache-2.0", datasets="d/rows"))
    clan = house.catalog.clan("a/teacher")
    assert set(below(clan)) == {"datasets/d/rows", "e/student"}
    assert set(below(house.catalog.clan("datasets/d/rows"))) == {"e/student"}


def test_a_revision_that_a_child_names_keeps_the_licence_of_its_time(house: SimpleNamespace) -> None:
    first = publish(house, "a/base", card("apache-2.0"))
    publish(house, "a/base", card("cc-by-nc-4.0"))
    config = f'{{"base_model_name_or_path": "a/base", "revision": "{first}"}}'.encode()
    publish(house, "b/adapter", card("apache-2.0", "a/base") | {"adapter_config.json": config})
    clan = house.catalog.clan("a/base")
    pinned = f"a/base@{first}"
    assert clan.members[pinned].instruments == ("Apache-2.0",)
    assert clan.members["a/base"].instruments == ("CC-BY-NC-4.0",)
    assert set(clan.descendants([pinned])) == {"b/adapter"} and not clan.descendants([clan.subject])


def test_a_cycle_ends_and_a_great_family_is_cut(house: SimpleNamespace) -> None:
    publish(house, "a/one", card("mit", "a/two"))
    publish(house, "a/two", card("mit", "a/one"))
    assert set(below(house.catalog.clan("a/one"))) == {"a/two"}
    for number in range(6):
        publish(house, f"b/child-{number}", card("mit", "a/one"))
    assert house.catalog.clan("a/one", most=4).cut
