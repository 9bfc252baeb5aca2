"""Ways to make a parent's licence vanish from a card: none does."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.licences import Use
from ecotone.vocabulary import Mode, Purpose, Refused, Verdict

SERVE = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)


def publish(house: SimpleNamespace, name: str, card: dict[str, Any], **files: bytes) -> None:
    house.catalog.create(name, private=False, actor=SYSTEM)
    text = f"---\n{json.dumps(card)}\n---\n# M\n".encode()
    house.publish(name, {"README.md": text, **{k.replace("__", "."): v for k, v in files.items()}})


def verdict(house: SimpleNamespace, name: str) -> Verdict:
    found: Verdict = house.policy.judge(name, "main", SERVE).verdict
    return found


@pytest.mark.parametrize(
    "base",
    [
        "meta-llama/Llama-2-7b\u200b",
        "meta-llama/Llama-2-7b\u00ad",
        "HTTPS://HuggingFace.co/meta-llama/Llama-2-7b/tree/main",
        "meta-llama/Llama-2-7b@main",
        "meta-llama/Llama-2-7b?x=1",
        ["META-LLAMA/llama-2-7B", "meta-llama/Llama-2-7b"],
    ],
)
def test_a_parent_is_known_however_it_is_written(house: SimpleNamespace, base: Any) -> None:
    with pytest.raises(Refused):
        publish(house, "demo/m", {"license": "mit", "base_model": base})


@pytest.mark.parametrize("base", [{"name": "meta-llama/Llama-2-7b"}, [["meta-llama/Llama-2-7b"]], "x" * 300, 7])
def test_a_parent_that_cannot_be_read_leaves_the_answer_open(house: SimpleNamespace, base: Any) -> None:
    publish(house, "demo/m", {"license": "mit", "base_model": base})
    assert verdict(house, "demo/m") is Verdict.UNKNOWN


@pytest.mark.parametrize("relation", ["evaluated_on", "trained_on", "generated_by", "code_from", "nonsense"])
def test_no_word_takes_a_base_model_out_of_the_family(house: SimpleNamespace, relation: str) -> None:
    card = {"license": "mit", "base_model": "meta-llama/Llama-2-7b", "base_model_relation": relation}
    with pytest.raises(Refused):
        publish(house, "demo/m", card)


def test_a_crowd_of_parents_pushes_none_out(house: SimpleNamespace) -> None:
    publish(house, "demo/mild", {"license": "mit"})
    spelt = ["".join(c.upper() if n >> i & 1 else c for i, c in enumerate("demo/mild")) for n in range(400)]
    with pytest.raises(Refused):
        publish(house, "demo/m", {"license": "mit", "base_model": [*spelt, "meta-llama/Llama-2-7b"]})
    many = [f"demo/p{n}" for n in range(400)]
    publish(house, "demo/many", {"license": "mit", "base_model": [*many, "demo/mild"]})
    assert verdict(house, "demo/many") is Verdict.UNKNOWN


def test_an_adapter_cannot_name_a_moment_at_which_its_base_was_mild(house: SimpleNamespace) -> None:
    house.catalog.create("demo/base", private=False, actor=SYSTEM)
    empty = house.catalog.model("demo/base", viewer=SYSTEM).head
    house.publish("demo/base", {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# B\n"})
    config = json.dumps({"base_model_name_or_path": "demo/base", "revision": empty}).encode()
    with pytest.raises(Refused):
        publish(house, "demo/m", {"license": "mit", "base_model": "demo/base"}, adapter_config__json=config)
    model = house.catalog.model("demo/base", viewer=SYSTEM)
    house.catalog.create_branch(model, "side", actor=SYSTEM, start=empty)
    from ecotone.publishing import AddRegular, Commit

    mild = AddRegular("README.md", b"---\nlicense: mit\n---\n# B\n")
    side = house.publishing.commit("demo/base", "side", Commit(message="m", operations=(mild,)), actor=SYSTEM)
    config = json.dumps({"base_model_name_or_path": "demo/base", "revision": side.revision_id}).encode()
    with pytest.raises(Refused):
        publish(house, "demo/n", {"license": "mit", "base_model": "demo/base"}, adapter_config__json=config)


@pytest.mark.parametrize("licence", ["MIT" + " " * 520 + "AND CC-BY-NC-4.0", "llama2 OR " * 40 + "MIT"])
def test_nothing_of_an_expression_is_cut_off(house: SimpleNamespace, licence: str) -> None:
    publish(house, "demo/m", {"license": licence})
    assert not verdict(house, "demo/m").passes


def test_the_id_of_an_answer_tells_nothing_that_the_answer_does_not(house: SimpleNamespace) -> None:
    for name, private in (("demo/shown", False), ("demo/hidden", True)):
        house.catalog.create(name, private=private, actor=SYSTEM)
        house.publish(name, {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# P\n"})
    card = b"---\nlicense: cc-by-nc-4.0\nbase_model: demo/hidden\n---\n# C\n"
    house.catalog.create("demo/child", private=False, actor=SYSTEM)
    house.publish("demo/child", {"README.md": card})
    before = house.policy.judge("demo/child", "main", SERVE, viewer=ANONYMOUS)
    moved = house.catalog.move(house.catalog.model("demo/hidden", viewer=SYSTEM), "demo/renamed", actor=SYSTEM)
    assert moved.id == "demo/renamed"
    after = house.policy.judge("demo/child", "main", SERVE, viewer=ANONYMOUS)
    assert before.trace_id == after.trace_id
