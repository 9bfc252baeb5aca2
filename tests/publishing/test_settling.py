"""What an administrator says of an edge that weights showed: it binds, and nothing that is found later lifts it."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ecotone.accounts import ANONYMOUS, SYSTEM, Actor
from ecotone.jobs import Jobs
from ecotone.jobs import models as _jobs
from ecotone.licences import Use
from ecotone.policy.rules import RuleKind
from ecotone.policy.trees import family_tree
from ecotone.publishing import Examining, Settling
from ecotone.publishing.settling import Cycle, EdgeNotFound, OwnWord
from ecotone.vocabulary import (
    Conflict,
    EdgeStatus,
    EdgeWord,
    Forbidden,
    Invalid,
    JobState,
    Mode,
    Purpose,
    Refused,
    Relation,
    Role,
    Verdict,
)
from tests.publishing.lineage import edges, told
from tests.publishing.test_descent import publish
from tests.publishing.test_examining import ended
from tests.publishing.weights import card, fresh, tuned

TABLES = (_jobs,)
A = fresh(1)
COPY = tuned(A, 7)
FAR = tuned(A, 9, much=3)
SERVE = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
ADA, EVE = (Actor("user", name, Role.ADMIN) for name in ("ada", "eve"))
REJECTED, CONFIRMED = EdgeWord.REJECTED, EdgeWord.CONFIRMED


@pytest.fixture
def hub(house: SimpleNamespace) -> Iterator[SimpleNamespace]:
    house.jobs = Jobs(house.database, house.settings)
    house.examining = Examining(house.catalog, house.storage, house.publishing.descent, house.jobs, house.writer)
    house.settling = Settling(house.catalog)
    publish(house, "demo/copy", COPY, card("cc-by-nc-4.0"))  # the copy came first
    publish(house, "demo/source", A, card("cc-by-nc-4.0"))
    yield house
    house.jobs.stop()


def rejected(hub: SimpleNamespace, child: str, parent: str) -> str:
    word = hub.settling.say(child, parent, REJECTED, "the source was trained here", actor=ADA)
    hub.settling.approve(word.id, actor=EVE)
    return str(word.id)


def test_a_rejected_parent_binds_no_more_and_the_word_says_who_and_why(hub: SimpleNamespace) -> None:
    assert told(hub, "demo/source") == [("demo/copy", Relation.FINETUNE, EdgeStatus.VERIFIED)]
    rejected(hub, "demo/source", "demo/copy")
    (edge,) = edges(hub, "demo/source")
    assert edge.status is EdgeStatus.REFUTED and edge.said is not None and edge.said.found is EdgeStatus.VERIFIED
    assert edge.said.told == "rejected by ada because the source was trained here (approved by eve)"
    hub.publish("demo/source", {"README.md": card("mit")})  # it was refused as a derivative of cc-by-nc
    assert hub.policy.judge("demo/source", "main", SERVE).verdict is not Verdict.DENY
    assert edges(hub, "demo/source")[0].said == edge.said
    tree = family_tree(hub.policy.stance(), hub.catalog.clan("demo/source"), SERVE)
    assert [e.said for e in tree.edges] == [edge.said.told]


def test_a_rejection_waits_for_another_administrator(hub: SimpleNamespace) -> None:
    word = hub.settling.say("demo/source", "demo/copy", REJECTED, "it is not so", actor=ADA)
    assert word.waits and edges(hub, "demo/source")[0].status is EdgeStatus.VERIFIED
    with pytest.raises(Refused):
        hub.publish("demo/source", {"README.md": card("mit")})
    with pytest.raises(OwnWord, match="another administrator"):
        hub.settling.approve(word.id, actor=ADA)
    hub.settling.approve(word.id, actor=EVE)
    with pytest.raises(Conflict, match="needs no approval"):
        hub.settling.approve(word.id, actor=EVE)
    assert edges(hub, "demo/source")[0].status is EdgeStatus.REFUTED
    alone = Settling(hub.catalog, four_eyes=False)
    own = alone.say("demo/source", "demo/copy", REJECTED, "alone", actor=ADA)
    assert not own.waits and edges(hub, "demo/source")[0].said is not None
    Settling(hub.catalog)
    assert edges(hub, "demo/source")[0].status is EdgeStatus.VERIFIED, "an own approval counted under four eyes"


def test_only_administrators_with_a_reason_say_a_word_and_only_on_an_edge_that_is_there(hub: SimpleNamespace) -> None:
    for actor in (ANONYMOUS, Actor("user", "bob", Role.WRITE)):
        with pytest.raises(Forbidden):
            hub.settling.say("demo/source", "demo/copy", REJECTED, "why not", actor=actor)
    with pytest.raises(Invalid, match="needs a reason"):
        hub.settling.say("demo/source", "demo/copy", REJECTED, " ", actor=ADA)
    with pytest.raises(EdgeNotFound):
        hub.settling.say("demo/copy", "demo/source", REJECTED, "no edge", actor=ADA)


def test_an_examination_does_not_bring_a_rejected_parent_back(hub: SimpleNamespace) -> None:
    word = rejected(hub, "demo/source", "demo/copy")
    hub.jobs.start()
    hub.examining.start("demo/source", "main", actor=ADA)
    assert {job.state for job in ended(hub)} == {JobState.DONE}
    (edge,) = edges(hub, "demo/source")
    assert edge.status is EdgeStatus.REFUTED and edge.said is not None and edge.said.id == word
    model = hub.catalog.model("demo/source", viewer=SYSTEM)
    weights = hub.catalog.weights(model, model.head)
    alarms = hub.publishing.descent.standing(model, weights)
    assert [a.code for a in alarms] in (["related"], []), alarms
    hub.policy.add_rule(RuleKind.BLOCK, "lineage:contradiction", "name your bases", actor=ADA)
    hub.publish("demo/source", {"notes.txt": b"neither does a commit"})
    assert edges(hub, "demo/source")[0].said == edge.said


def test_a_rejection_holds_for_the_weights_that_it_was_said_of(hub: SimpleNamespace) -> None:
    from tests.publishing.weights import packed

    rejected(hub, "demo/source", "demo/copy")
    hub.publish("demo/source", {"model.safetensors": packed(tuned(COPY, 9, much=0.02))})
    (edge,) = edges(hub, "demo/source")
    assert edge.said is None and edge.status is EdgeStatus.VERIFIED, "other weights went under an old word"


def test_a_direction_can_be_turned_round_and_no_cycle_arises(hub: SimpleNamespace) -> None:
    with pytest.raises(Cycle, match="reject demo/source demo/copy"):
        hub.settling.say("demo/copy", "demo/source", CONFIRMED, "it is the copy", actor=ADA)
    away = rejected(hub, "demo/source", "demo/copy")
    word = hub.settling.say("demo/copy", "demo/source", CONFIRMED, "it is the copy", actor=ADA)
    assert not word.waits and told(hub, "demo/copy") == [("demo/source", Relation.FINETUNE, EdgeStatus.DECLARED)]
    clan = hub.catalog.clan("demo/source")
    assert list(clan.descendants()) == ["demo/copy"]
    with pytest.raises(Cycle):
        hub.settling.take_back(away, actor=ADA)
    hub.jobs.start()
    for name in ("demo/source", "demo/copy"):
        hub.examining.start(name, "main", actor=ADA)
    assert {job.state for job in ended(hub)} == {JobState.DONE}
    assert edges(hub, "demo/source")[0].status is EdgeStatus.REFUTED
    (edge,) = edges(hub, "demo/copy")
    assert edge.parent == "demo/source" and edge.said is not None and edge.status is not EdgeStatus.REFUTED
    hub.publish("demo/copy", {"notes.txt": b"the word stays"})
    assert edges(hub, "demo/copy")[0].said == edge.said
    hub.settling.take_back(word.id, actor=ADA)
    assert all(e.said is None for e in edges(hub, "demo/copy"))
    hub.settling.take_back(away, actor=ADA)
    hub.examining.start("demo/source", "main", actor=ADA)
    ended(hub)
    assert told(hub, "demo/source") == [("demo/copy", Relation.FINETUNE, EdgeStatus.VERIFIED)]


def test_a_confirmed_suspicion_counts_as_declared(hub: SimpleNamespace) -> None:
    publish(hub, "demo/far", FAR, card("cc-by-nc-4.0"))
    found = next(e for e in edges(hub, "demo/far") if e.status is EdgeStatus.SUSPECTED)
    hub.settling.say("demo/far", found.parent, CONFIRMED, "its author told us", actor=ADA)
    edge = next(e for e in edges(hub, "demo/far") if e.parent == found.parent)
    assert edge.status is EdgeStatus.DECLARED
    with pytest.raises(Refused, match=f"descends from {edge.parent}"):
        hub.publish("demo/far", {"README.md": card("mit")})


def test_a_word_follows_a_parent_that_moves_and_names_it_to_nobody_outside(hub: SimpleNamespace) -> None:
    moved = hub.catalog.move(hub.catalog.model("demo/copy", viewer=SYSTEM), "demo/hidden", actor=SYSTEM)
    hub.catalog.update(moved, private=True, actor=SYSTEM)
    word = hub.settling.say("demo/source", "demo/copy", REJECTED, "demo/hidden was made from it", actor=ADA)
    hub.settling.approve(word.id, actor=EVE)
    hub.jobs.start()
    hub.examining.start("demo/source", "main", actor=ADA)
    ended(hub)
    (edge,) = edges(hub, "demo/source")
    assert edge.said is not None and edge.status is EdgeStatus.REFUTED, "it came back under its new name"
    (outside,) = hub.catalog.told_edges([edge], ANONYMOUS)
    assert "demo/hidden" not in repr(outside) and outside.said is not None and outside.said.word is REJECTED
    tree = family_tree(hub.policy.stance(), hub.catalog.clan("demo/source", viewer=ANONYMOUS), SERVE)
    assert "demo/hidden" not in repr(tree)
