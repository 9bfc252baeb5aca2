"""The Model Openness Framework: classes as its own tool computes them, and each component with where it was seen."""

import json
import re
from pathlib import Path

import pytest

from ecotone.licences import KnowledgeBase
from ecotone.licences.errors import UnreadableRelease
from ecotone.licences.openness import Found, framework, rate, read_release
from ecotone.licences.openness_folder import rate_folder

MOT = Path(__file__).parents[3] / "shared" / "data" / "licence" / "mot"
KNOWLEDGE = KnowledgeBase.load()
NAMES = [c.name for c in framework().components]


@pytest.mark.skipif(not MOT.is_dir(), reason="../shared/data/licence/mot is not here")
def test_class_and_progress_of_all_27_test_models_of_the_model_openness_tool() -> None:
    text = re.sub(r",(\s*[}\]])", r"\1", (MOT / "expected_results.json").read_text())
    expected = {m["release"]["name"]: m["classification"] for m in json.loads(text)["models"]}
    seen = {}
    for file in sorted(MOT.glob("*.yml")):
        rated = rate(*read_release(file.read_bytes()))
        seen[rated.model] = {"class": rated.level, "label": rated.label, "progress": rated.to_json()["progress"]}
    assert seen.keys() == expected.keys() and len(seen) == 27
    for name, told in expected.items():
        assert (seen[name]["class"], seen[name]["label"]) == (told["class"], told["label"]), name
        assert seen[name]["progress"] == pytest.approx(told["progress"]), name


def test_a_class_needs_all_below_it_and_a_paper_stands_for_a_report() -> None:
    third = [c.name for c in framework().components if c.level == 3 and c.required]
    found = [Found(name=n) for n in third if n != "Technical report"]
    assert rate("x", found, {"distribution": "MIT"}).level == 0
    with_paper = rate("x", [*found, Found(name="Research paper")], {"distribution": "MIT"})
    assert (with_paper.level, with_paper.next_class) == (3, 2)
    assert with_paper.missing == tuple(
        f"{n} is not there" for n in ("Training code", "Inference code", "Evaluation code", "Evaluation data")
    )
    assert rate("x", [Found(name=n) for n in NAMES], {"distribution": "Apache-2.0"}).level == 1


def test_a_licence_that_is_not_open_or_not_known_does_not_count() -> None:
    everything = [Found(name=n) for n in NAMES]
    assert rate("x", everything, {"distribution": "CC-BY-NC-4.0"}).level == 0
    assert rate("x", everything).level == 0
    states = {s.name: s.status for s in rate("x", everything, {"code": "MIT"}).components}
    assert (states["Training code"], states["Model card"]) == ("open", "unlicensed")


def test_a_hub_folder_is_read_with_evidence_and_what_lies_elsewhere_keeps_its_own_licence() -> None:
    card = {
        "datasets": ["team/tickets"],
        "model-index": [{"results": [{"dataset": {"name": "tickets"}, "metrics": [{"type": "f1", "value": 1}]}]}],
    }
    text = "words " * 50 + " see https://arxiv.org/abs/2307.09288."
    paths = ["model.safetensors", "train.py", "sub/train.py", "checkpoint-10/model.safetensors", "config.json"]
    config = {"architectures": ["LlamaForCausalLM"]}
    rated = rate_folder(
        "me/x", paths, card, text, config, ("Apache-2.0",), KNOWLEDGE, others={"team/tickets": "CC0-1.0"}
    )
    states = {s.name: (s.status, s.licence, s.evidence) for s in rated.components if s.evidence}
    assert states["Model parameters (Final)"] == ("open", "Apache-2.0", ("file model.safetensors",))
    assert states["Model parameters (Intermediate)"][2] == ("file checkpoint-10/model.safetensors",)
    assert states["Training code"][2] == ("file train.py",)
    assert states["Datasets"] == ("open", "CC0-1.0", ("README.md field datasets: team/tickets",))
    assert states["Research paper"] == ("unlicensed", None, ("README.md link https://arxiv.org/abs/2307.09288",))
    assert "config.json architectures: LlamaForCausalLM" in states["Model architecture"][2][0]
    assert "Research paper is there" not in " ".join(rated.missing)  # class III asks for the report or the paper
    assert rated.level == 0 and any(m.startswith("Data card is not there") for m in rated.missing)


def test_an_unknown_licence_covers_nothing() -> None:
    rated = rate_folder("me/x", ["model.safetensors"], {}, "", {}, ("unknown",), KNOWLEDGE)
    assert next(s for s in rated.components if s.name == "Model parameters (Final)").status == "unlicensed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"a: [",
        b"release: {components: [1]}",
        b"release: 3",
        b"a: &x [1]\nrelease: {components: [*x, *x]}",
        b"[" * 5000,
        b"release: {components: " + b"[" * 50 + b"]" * 50 + b"}",
        b"x: " + b"a" * (1 << 21),
    ],
)
def test_a_file_that_is_no_release_is_refused_with_a_sentence(raw: bytes) -> None:
    with pytest.raises(UnreadableRelease, match="Model Openness Tool"):
        read_release(raw)


def test_odd_values_in_a_release_are_passed_over() -> None:
    raw = b"release: {name: 3, license: [1], components: [{name: Datasets, license: 7}, {name: Nothing known}]}"
    name, found, covering = read_release(raw)
    assert (name, [f.name for f in found], covering) == ("unnamed", ["Datasets"], {})
    assert rate(name, found, covering).level == 0
