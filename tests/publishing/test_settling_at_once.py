"""Administrators on two servers speak of lineage in one moment: no two models descend from each other."""

from functools import partial
from types import SimpleNamespace

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.publishing import Settling
from ecotone.vocabulary import EdgeStatus, EdgeWord, Relation, Role
from tests.interleaving import overlapping
from tests.publishing.lineage import told
from tests.publishing.weights import card

ADA = Actor("user", "ada", Role.ADMIN)
ONE, TWO = "demo/one", "demo/two"


@pytest.fixture
def servers(house: SimpleNamespace) -> tuple[Settling, Settling]:
    """Two models of which the first names the second in its card."""
    for name, told_by in ((TWO, card("mit")), (ONE, card("mit", base_model=TWO))):
        house.catalog.create(name, private=False, actor=SYSTEM)
        house.publish(name, {"README.md": told_by})
    return Settling(house.catalog, four_eyes=False), Settling(house.catalog, four_eyes=False)


def reject(settling: Settling) -> str:
    return settling.say(ONE, TWO, EdgeWord.REJECTED, "a slip in the card", actor=ADA).id


def confirm(settling: Settling, child: str, parent: str) -> partial[object]:
    return partial(settling.say, child, parent, EdgeWord.CONFIRMED, "seen", actor=ADA)


def test_two_confirmations_of_which_each_is_one_half_of_a_cycle_are_not_both_kept(
    house: SimpleNamespace, servers: tuple[Settling, Settling]
) -> None:
    first, second = servers
    reject(first)
    acts = (confirm(first, ONE, TWO), confirm(second, TWO, ONE))
    assert overlapping(house.database, *acts) == ["done", "lineage_cycle"]
    assert told(house, ONE) == [(TWO, Relation.FINETUNE, EdgeStatus.DECLARED)] and told(house, TWO) == []


def test_a_rejection_is_not_taken_back_while_the_other_direction_is_confirmed(
    house: SimpleNamespace, servers: tuple[Settling, Settling]
) -> None:
    first, second = servers
    acts = (confirm(first, TWO, ONE), partial(second.take_back, reject(first), actor=ADA))
    assert overlapping(house.database, *acts) == ["done", "lineage_cycle"]
    assert told(house, ONE) == [(TWO, Relation.FINETUNE, EdgeStatus.REFUTED)]
    assert told(house, TWO) == [(ONE, Relation.FINETUNE, EdgeStatus.DECLARED)]


def test_the_other_direction_is_not_confirmed_while_a_rejection_is_taken_back(
    house: SimpleNamespace, servers: tuple[Settling, Settling]
) -> None:
    first, second = servers
    acts = (partial(first.take_back, reject(first), actor=ADA), confirm(second, TWO, ONE))
    assert overlapping(house.database, *acts) == ["done", "lineage_cycle"]
    assert told(house, ONE) == [(TWO, Relation.FINETUNE, EdgeStatus.DECLARED)] and told(house, TWO) == []
