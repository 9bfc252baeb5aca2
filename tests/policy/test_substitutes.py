"""Where one model may not be used, which of the catalogue may."""

from types import SimpleNamespace

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.licences import Use
from ecotone.vocabulary import Mode, Purpose, Verdict

COMMERCIAL = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)


def publish(house: SimpleNamespace, name: str, licence: str, task: str, *, private: bool = False) -> None:
    house.catalog.create(name, private=private, actor=SYSTEM)
    card = f"---\nlicense: {licence}\npipeline_tag: {task}\n---\n# {name}\n"
    house.publish(name, {"README.md": card.encode()})


def ways(house: SimpleNamespace, name: str, viewer: object = SYSTEM) -> list[tuple[str, str]]:
    decision, _ = house.policy.judge_or_else(name, "main", COMMERCIAL, viewer=viewer)
    return [(w.kind, w.change) for w in decision.would_allow]


def test_a_model_for_the_same_task_that_may_be_used_is_named(house: SimpleNamespace) -> None:
    publish(house, "demo/nc", "cc-by-nc-4.0", "demo-task")
    publish(house, "demo/open", "apache-2.0", "demo-task")
    publish(house, "demo/other", "apache-2.0", "another-task")
    publish(house, "demo/nc-too", "cc-by-nc-4.0", "demo-task")
    found = ways(house, "demo/nc")
    assert [change for kind, change in found if kind == "substitute"] == ["use demo/open (apache-2.0) instead"]


def test_a_permission_that_others_must_give_comes_last(house: SimpleNamespace) -> None:
    publish(house, "demo/nc", "cc-by-nc-4.0", "demo-task")
    publish(house, "demo/open", "apache-2.0", "demo-task")
    kinds = [kind for kind, _ in ways(house, "demo/nc")]
    assert kinds == sorted(kinds, key=["change", "substitute", "obtain"].index)


def test_nobody_is_sent_to_a_model_that_they_may_not_see(house: SimpleNamespace) -> None:
    publish(house, "demo/nc", "cc-by-nc-4.0", "demo-task")
    publish(house, "demo/secret", "apache-2.0", "demo-task", private=True)
    assert not [w for w in ways(house, "demo/nc", ANONYMOUS) if "secret" in w[1]]


def test_the_catalogue_has_a_substitute_of_like_size_for_a_restricted_model(house: SimpleNamespace) -> None:
    use = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
    decision, _ = house.policy.judge_or_else("meta-llama/Llama-2-7b", "main", use, viewer=ANONYMOUS)
    assert decision.verdict is not Verdict.ALLOW
    substitutes = [w.change for w in decision.would_allow if w.kind == "substitute"]
    assert substitutes and all("Llama" not in change for change in substitutes)


def test_what_is_allowed_needs_no_other(house: SimpleNamespace) -> None:
    publish(house, "demo/open", "apache-2.0", "demo-task")
    assert ways(house, "demo/open") == []
