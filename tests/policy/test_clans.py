"""Verdicts on a whole clan are those that each model would get alone, and rules speak of each by its own name."""

import itertools
from types import SimpleNamespace

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Clan, LineageEdge
from ecotone.licences import Use
from ecotone.policy import RuleKind
from ecotone.policy.clans import ClanVerdicts
from ecotone.policy.hypotheses import ENDED, suppose
from ecotone.policy.trees import Wanted, chosen, family_tree
from ecotone.publishing import AddRegular, Commit
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation, Verdict
from tests.great_families import descend

ADA = Actor("user", "ada")
MODES = (Mode.RUN, Mode.SERVE_API, Mode.PUBLISH_WEIGHTS, Mode.TRAIN_ON_OUTPUTS)
EDGES = (
    ("b/one", "cc-by-nc-4.0", (("a/base", Relation.FINETUNE, EdgeStatus.DECLARED),)),
    ("b/two", "cc-by-nc-4.0", (("b/one", Relation.QUANTISED, EdgeStatus.VERIFIED),)),
    ("c/suspect", "apache-2.0", (("a/base", Relation.FINETUNE, EdgeStatus.SUSPECTED),)),
    ("c/not", "apache-2.0", (("a/base", Relation.FINETUNE, EdgeStatus.REFUTED),)),
    ("d/adapter", "apache-2.0", (("x/mit", Relation.ADAPTER, EdgeStatus.DECLARED),)),
    ("d/student", "apache-2.0", (("a/base", Relation.DISTILLED_OUTPUTS, EdgeStatus.DECLARED),)),
    ("e/merge", "cc-by-nc-4.0", tuple((p, Relation.MERGE, EdgeStatus.DECLARED) for p in ("b/two", "x/mit"))),
)  # fmt: skip


@pytest.fixture
def house(house: SimpleNamespace) -> SimpleNamespace:
    for name, licence in (("a/base", "cc-by-nc-4.0"), ("x/mit", "mit")):
        put(house, name, licence)
    for name, licence, parents in EDGES:
        edges = [LineageEdge(child=name, parent=p, relation=r, status=s) for p, r, s in parents]
        put(house, name, licence, edges)
    return house


def put(house: SimpleNamespace, name: str, licence: str, edges: list[LineageEdge] | None = None) -> None:
    house.catalog.create(name, private=False, actor=SYSTEM)
    card = f"---\nlicense: {licence}\n---\n# It\n".encode()
    commit = Commit(message="Add", operations=(AddRegular("README.md", card),))
    house.publishing.commit(name, "main", commit, actor=SYSTEM, asserted_edges=edges or [])


def judged(house: SimpleNamespace, name: str, use: Use) -> Verdict:
    verdict: Verdict = house.policy.judge(name, "main", use).verdict
    return verdict


def test_each_member_gets_the_verdict_that_it_would_get_alone(house: SimpleNamespace) -> None:
    clan: Clan = house.catalog.clan("a/base")
    verdicts = ClanVerdicts(house.policy.stance(), clan)
    for mode, purpose in itertools.product(MODES, Purpose):
        use = Use(mode=mode, purpose=purpose)
        for key, member in clan.members.items():
            assert verdicts.decision(key, use).verdict == judged(house, member.name, use), (key, use)


def test_a_rule_on_one_model_changes_its_outcome_and_not_its_siblings(house: SimpleNamespace) -> None:
    use = Use(mode=Mode.RUN, purpose=Purpose.NONCOMMERCIAL)
    house.policy.add_rule(RuleKind.BLOCK, "b/one", "we do not like it", actor=ADA)
    verdicts = ClanVerdicts(house.policy.stance(), house.catalog.clan("a/base"))
    assert not verdicts.outcome("b/one", use).allowed
    assert verdicts.outcome("b/two", use).allowed == verdicts.outcome("a/base", use).allowed is True


def test_the_end_of_a_licence_binds_what_was_made_and_not_what_was_refuted(house: SimpleNamespace) -> None:
    clan = house.catalog.clan("a/base")
    stance, ended = suppose(house.policy.stance(), "Withdrawn", ("CC-BY-NC-4.0",), None)
    assert ended.instruments == (ENDED,)
    verdicts = ClanVerdicts(stance, clan, {"a/base": ended.instruments})
    use = Use(mode=Mode.RUN, purpose=Purpose.NONCOMMERCIAL)
    found = {key: verdicts.decision(key, use).verdict for key in clan.members}
    assert {k for k, v in found.items() if v is Verdict.DENY} == {"a/base", "b/one", "b/two", "e/merge"}
    assert found["c/not"] is Verdict.ALLOW and not verdicts.decision("c/not", use).disputed
    assert [d["verdict"] for d in verdicts.decision("c/suspect", use).disputed] == [Verdict.DENY]


def test_a_tree_keeps_struck_out_edges_and_counts_what_it_has(house: SimpleNamespace) -> None:
    use = Use(mode=Mode.RUN, purpose=Purpose.NONCOMMERCIAL)
    tree = family_tree(house.policy.stance(), house.catalog.clan("a/base"), use)
    depths = {m.id: m.depth for m in tree.members}
    assert depths == {
        "a/base": 0, "b/one": 1, "b/two": 2, "e/merge": 3, "c/suspect": 1, "c/not": 1, "d/student": 1
    }  # fmt: skip
    assert tree.counts["status"] == {"declared": 3, "verified": 1, "suspected": 1, "refuted": 1}
    assert [m.id for m in chosen(tree, Wanted(relation="merge"))] == ["e/merge"]
    assert [m.id for m in chosen(tree, Wanted(letters="B/T"))] == ["b/two"]


def test_a_clan_of_a_thousand_is_judged_by_its_few_classes(house: SimpleNamespace) -> None:
    descend(house.database, "x/mit", 1000)
    clan = house.catalog.clan("x/mit")
    verdicts = ClanVerdicts(house.policy.stance(), clan)
    use = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
    assert len({verdicts.class_of(key, use) for key in clan.members}) < 30
