"""What a user would lose: an empty first page, a fact without its source, or a wrong statement about a model."""

import json
from importlib.resources import files

import jsonschema
import pytest
import yaml

from ecotone.catalog.starter import load, load_starter
from ecotone.licences import KnowledgeBase
from ecotone.vocabulary import ModelKind

FOLDER = files("ecotone.catalog.starter")
FILES = sorted(f.name for f in FOLDER.iterdir() if f.name.endswith(".yaml"))


@pytest.mark.parametrize("name", FILES)
def test_each_file_follows_the_schema_and_names_no_source_that_is_not_there(name: str) -> None:
    told = yaml.safe_load((FOLDER / name).read_text())
    jsonschema.validate(told, json.loads((FOLDER / "schema.json").read_text()))
    used = {e["source"] for m in told["models"] for f in ("facts", "notes", "parents") for e in m.get(f, ())}
    assert used == set(told["sources"]) or used < set(told["sources"])


@pytest.mark.parametrize(
    "word",
    ["bert", "roberta", "t5", "mistral", "llama", "palm", "gemini", "gpt", "claude", "gemma", "qwen", "deepseek"],
)
def test_the_models_that_people_ask_for_first_are_there(word: str) -> None:
    assert any(word in model_id.lower() for model_id in load_starter())


def test_ids_are_unique_whatever_their_case_and_parents_are_known() -> None:
    models = load_starter()
    count = sum(len(yaml.safe_load((FOLDER / name).read_text())["models"]) for name in FILES)
    assert len({i.lower() for i in models}) == len(models) == count
    for model in models.values():
        assert {p.parent for p in model.parents} <= set(models), model.id


def test_entries_carry_what_pages_and_families_read() -> None:
    entries = {m.id: m for m in load()}
    llama = entries["meta-llama/Llama-2-7b-hf"]
    assert llama.reserved
    assert llama.instruments == ("llama-2",)
    assert llama.facts["lineage"][0]["parent"] == "meta-llama/Llama-2-7b"
    assert llama.facts["lineage"][0]["relation"] == "converted"
    assert all(f["source"] for m in entries.values() for f in m.facts["facts"])


def said(model_id: str) -> str:
    model = load_starter()[model_id]
    return " ".join([model.summary, model.licence_label, *(f"{f.fact} {f.value} {f.source}" for f in model.facts)]
                    + [n.text for n in model.notes])  # fmt: skip


def test_common_wrong_statements_are_not_repeated() -> None:
    models = load_starter()
    assert models["FacebookAI/roberta-base"].instruments == ("MIT",)
    assert "1907.11692" in said("FacebookAI/roberta-base")
    assert models["google-bert/bert-base-uncased"].instruments == ("Apache-2.0",)
    assert "Raffel" in said("google-t5/t5-base")
    assert models["meta-llama/llama-1"].instruments == ("llama-1-research",)
    assert "two facts" in said("meta-llama/llama-1")
    palm = models["google/palm"]
    assert palm.kind is ModelKind.API
    assert not palm.published
    assert palm.availability == "shut_down"
    assert "2024-08-15" in said("google/palm")
    assert "2025-04-09" in said("google/palm")
    titan = models["unpublished/titan-nlp"]
    assert titan.availability == "never_published"
    assert not titan.published
    assert [f.value for f in titan.facts] == ["none known"]
    assert models["deepseek-ai/DeepSeek-V3"].instruments != models["deepseek-ai/DeepSeek-R1"].instruments


def test_what_has_no_entry_in_the_knowledge_base_says_what_it_is() -> None:
    for model in load_starter().values():
        if "unknown" in model.instruments:
            assert model.licence_label not in ("", "unknown"), model.id


def test_every_instrument_has_an_entry() -> None:
    entries = set(KnowledgeBase.load().entries)
    for model in load_starter().values():
        assert set(model.instruments) <= entries, model.id
