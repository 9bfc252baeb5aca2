"""Facts for bills of materials: figures of card and audits, sections of a card, what a file is for."""

import json

import pytest

from ecotone.catalog.bills import FORMATS, known_starter, written
from ecotone.catalog.bills.cards import measured, metrics_of, model_facts, role_of, sections_of
from ecotone.catalog.bills.starter import above, family_above, starter_work
from ecotone.catalog.starter import load_starter
from ecotone.licences import KnowledgeBase, Node
from ecotone.licences.bom.checking import check
from ecotone.licences.bom.facts import Metric, bill_of


def test_an_audit_gives_the_figures_of_its_tests_and_not_its_settings() -> None:
    tests = [{"id": "weat-6", "effect_size": 0.5, "p_value": 0.01, "lost": ["a"], "done": True}]
    result = {"suite": "weat", "seed": 7, "level": 0.05, "tests": tests, "notes": ["x"]}
    assert measured("weat", result) == (
        Metric("weat-6 effect_size", "0.5", "audit weat"),
        Metric("weat-6 p_value", "0.01", "audit weat"),
    )


@pytest.mark.parametrize(
    "index", [None, 3, {}, [1], [{"results": 3}], [{"results": [{"metrics": [3, {"value": []}]}]}]]
)
def test_an_odd_model_index_gives_no_figures(index: object) -> None:
    assert metrics_of({"model-index": index}) == ()
    assert model_facts({"model-index": index, "language": 3}, "", {"architectures": 3}, {"parameters": 3}).metrics == ()


def test_sections_are_found_by_their_headings_and_placeholders_are_none() -> None:
    text = "# A\n## Uses\n### Direct Use\nTickets.\n## Bias, Risks, and Limitations\n[More Information Needed]\n"
    text += "```\n# Limitations\nnot this\n```\n## Limitations\nEnglish <!-- no --> only.\n"
    assert sections_of(text) == {"uses": "Tickets.", "limitations": "English only."}


def test_a_file_has_the_role_that_its_name_says() -> None:
    told = {
        p: role_of(p, False) for p in ("model-00001-of-2.safetensors", "a/x.gguf", "training_args.bin", "optimizer.pt")
    }
    assert list(told.values()) == ["weights", "weights", "other", "other"]
    assert [role_of(p, False) for p in ("README.md", "tokenizer.json", "config.json")] == [
        "card",
        "tokenizer",
        "configuration",
    ]
    assert role_of("LICENSE", True) == "licence"


def test_every_model_of_the_starter_catalogue_has_a_valid_bill_in_which_nothing_is_found() -> None:
    knowledge = KnowledgeBase.load()
    for name in load_starter():
        work = starter_work(name)
        assert work is not None
        node = Node(name, instruments=work.licensing.concluded, kind=work.kind)
        family, works, descents = family_above(node, above(name))
        bill = bill_of(family, [work, *works], descents)
        for form in FORMATS:
            answer = check(json.dumps(written(bill, knowledge, form)).encode(), knowledge, known_starter)
            assert (answer.valid, answer.findings) == (True, ()), (name, form)
