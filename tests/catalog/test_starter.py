"""What a user would lose: an empty first page, a fact without its source, or a wrong statement about a model."""

import json
import re
import time
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.catalog.starter import load, load_starter
from ecotone.licences import Decision, KnowledgeBase, Use, judge
from ecotone.vocabulary import Mode, ModelKind, Purpose, Refused, Relation, Verdict
from tests.running import slower

FOLDER = files("ecotone.catalog.starter")
FILES = sorted(f.name for f in FOLDER.iterdir() if f.name.endswith(".yaml"))
SHARED = yaml.safe_load((FOLDER / "shared.yml").read_text())
SCHEMA = json.loads((FOLDER / "schema.json").read_text())
FIGURES = ("parameters", "context", "modalities", "paper", "card")
KB = KnowledgeBase.load()


def cited(model: dict[str, Any]) -> set[str]:
    listed = {e["source"] for field in ("facts", "notes", "parents") for e in model.get(field, ())}
    figures = {model[field]["source"] for field in FIGURES if field in model}
    return listed | figures | {model[field] for field in ("licence_source", "released_source") if field in model}


@pytest.mark.parametrize("name", FILES)
def test_each_file_follows_the_schema_and_names_no_source_that_is_not_there(name: str) -> None:
    told = yaml.safe_load((FOLDER / name).read_text())
    jsonschema.validate(told, SCHEMA)
    used = set().union(*(cited(model) for model in told["models"]))
    assert set(told["sources"]) <= used, "a source that nothing cites"
    assert used <= set(told["sources"]) | set(SHARED["sources"])
    assert not set(told["sources"]) & set(SHARED["sources"]), "one name for two sources"


def test_shared_sources_are_sources() -> None:
    assert set(SHARED) == {"sources"}
    jsonschema.validate(SHARED["sources"], {**SCHEMA["$defs"]["sources"], "$defs": SCHEMA["$defs"]})


def test_no_figure_of_one_model_slips_into_another() -> None:
    for name in FILES:  # YAML's merge would hand down parameters, context and parents unseen
        text = (FOLDER / name).read_text()
        assert "<<" not in text, name
        assert set(re.findall(r"^ +(\w+): &", text, re.MULTILINE)) <= {"facts", "notes"}, name


def test_there_are_enough_models_to_answer_before_anything_is_mirrored() -> None:
    models = load_starter().values()
    assert len(models) >= 150
    assert sum(m.kind is ModelKind.API for m in models) >= 30
    assert sum(len(m.parents) for m in models) >= 60


def test_every_fact_has_a_source_and_a_day_that_has_come() -> None:
    today = datetime.now(UTC).date().isoformat()
    for model in load_starter().values():
        figures = [getattr(model, name) for name in (*FIGURES, "licence_source", "released_source")]
        said = [*model.facts, *model.notes, *model.parents, *(f for f in figures if f is not None)]
        for fact in said:
            assert len(fact.source) >= 10 and "{" not in fact.source, model.id
            assert "2017" <= fact.as_of <= today, (model.id, fact)
        assert (model.released is None) == (model.released_source is None), model.id
    for entry in load():
        assert entry.facts["facts"] and all(row["source"] and row["as_of"] for row in entry.facts["facts"]), entry.id


def test_figures_can_be_true() -> None:
    for model in load_starter().values():
        for number in (model.parameters, model.context):
            assert number is None or number.active is None or number.active < number.value, model.id
        assert model.parameters is None or 10**6 < model.parameters.value < 10**13, model.id
        assert model.context is None or 64 <= model.context.value <= 10**8, model.id
        size = re.search(r"-(\d+(?:\.\d+)?)[bB](?=-|$)", model.id)
        if size and model.parameters and not model.parameters.active:
            assert model.parameters.value == pytest.approx(float(size[1]) * 1e9, rel=0.25), model.id


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
    folded = {i.casefold() for i in models}
    for model in models.values():
        for parent in model.parents:
            known = parent.parent in models and parent.relation is not Relation.TRAINED_ON
            assert known or parent.outside, (model.id, parent.parent)
            assert parent.outside is (parent.parent.casefold() not in folded), (model.id, parent.parent)
            assert not parent.outside or parent.relation is Relation.TRAINED_ON, "an unknown base answers nothing"


def test_no_model_comes_from_itself() -> None:
    models = load_starter()
    graph = {m.id: [p.parent for p in m.parents if not p.outside] for m in models.values()}
    TopologicalSorter(graph).prepare()  # raises CycleError


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
    for model in load_starter().values():
        assert set(model.instruments) <= set(KB.entries), model.id


@pytest.mark.parametrize(
    ("model_id", "instruments"),
    [
        ("mistralai/Mistral-Nemo-Base-2407", ("Apache-2.0",)),
        ("mistralai/Codestral-22B-v0.1", ("mistral-mnpl-0.1",)),
        ("mistralai/Mistral-Large-Instruct-2407", ("mistral-mrl-0.1",)),
        ("Qwen/Qwen2.5-32B", ("Apache-2.0",)),
        ("Qwen/Qwen2.5-3B-Instruct", ("qwen-research",)),
        ("Qwen/Qwen2.5-72B-Instruct", ("qwen-license-2024",)),
        ("tiiuae/falcon-40b", ("Apache-2.0",)),
        ("tiiuae/falcon-180B", ("falcon-180b-tii",)),
        ("tiiuae/falcon-11B", ("falcon-2-tii-1.0",)),
        ("deepseek-ai/DeepSeek-V3-Base", ("deepseek-1.0",)),
        ("deepseek-ai/DeepSeek-R1-Zero", ("MIT",)),
        ("jinaai/jina-embeddings-v2-base-en", ("Apache-2.0",)),
        ("jinaai/jina-embeddings-v3", ("CC-BY-NC-4.0",)),
        ("black-forest-labs/FLUX.1-schnell", ("Apache-2.0",)),
        ("black-forest-labs/FLUX.1-dev", ("flux-1-dev-nc",)),
        ("moonshotai/Kimi-K2-Instruct", ("kimi-k2-modified-mit",)),
        ("openai-community/gpt2", ("unknown",)),  # MIT with sentences of its own
        ("databricks/dbrx-instruct", ("unknown",)),
    ],
)
def test_one_family_has_several_licences_and_none_is_the_nearest(model_id: str, instruments: tuple[str, ...]) -> None:
    assert load_starter()[model_id].instruments == instruments


def ask(house: SimpleNamespace, model_id: str, mode: Mode, **told: Any) -> Decision:
    """What the engine says of an entry without files, for commercial use."""
    family = house.catalog.family(house.catalog.model(model_id, viewer=ANONYMOUS), None)
    return judge(KB, family, Use(mode=mode, purpose=Purpose.COMMERCIAL, **told))


SMALL = {"org.mau_at.2024-06": 1000, "org.mau_at.2024-08": 1000, "org.mau_at.2024-11": 1000, "org.mau_at.2025-03": 1000}


def test_serving_llama_3_1_is_allowed_with_its_duties(house: SimpleNamespace) -> None:
    decision = ask(house, "meta-llama/Llama-3.1-8B-Instruct", Mode.SERVE_API, variables=SMALL)
    assert decision.verdict is Verdict.ALLOW_WITH_DUTIES
    assert any(duty.text == "Built with Llama" for duty in decision.duties)


def test_mit_on_a_vicuna_is_refused_with_the_clause_of_its_ancestor(house: SimpleNamespace) -> None:
    house.catalog.create("team/chat", private=False, actor=SYSTEM)
    for model_id, entry in (("lmsys/vicuna-7b-v1.3", "llama-1-research"), ("lmsys/vicuna-7b-v1.5", "llama-2")):
        card = f"---\nlicense: mit\nbase_model: {model_id}\n---\n# Chat\n"
        with pytest.raises(Refused) as refused:
            house.publish("team/chat", {"README.md": card.encode()})
        said = json.dumps(refused.value.decision)
        reasons = re.findall(r'"node": "([^"]+)", [^{}]*"entry": "([^"]+)", [^{}]*"clause": "([^"]+)"', said)
        assert {node for node, found, clause in reasons if found == entry and clause}, said[:500]


COMMERCIAL = {
    "sentence-transformers/all-MiniLM-L6-v2": Verdict.ALLOW,
    "allenai/OLMo-2-1124-7B": Verdict.ALLOW,
    "intfloat/multilingual-e5-large": Verdict.ALLOW,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Verdict.ALLOW,
    "nvidia/NV-Embed-v2": Verdict.DENY,
    "mosaicml/mpt-7b-chat": Verdict.DENY,
    "lmsys/vicuna-13b-v1.3": Verdict.DENY,
    "openai-community/gpt2": Verdict.UNKNOWN,
}


def test_may_i_offer_it_for_money(house: SimpleNamespace) -> None:
    assert {name: ask(house, name, Mode.SERVE_API).verdict for name in COMMERCIAL} == COMMERCIAL


IN_GERMANY = {
    "meta-llama/Llama-3.2-11B-Vision-Instruct": Verdict.DENY,
    "meta-llama/Llama-3.2-3B-Instruct": Verdict.ALLOW_WITH_DUTIES,
    "meta-llama/Llama-3.3-70B-Instruct": Verdict.ALLOW_WITH_DUTIES,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": Verdict.DENY,
    "meta-llama/Llama-3.1-70B-Instruct": Verdict.ALLOW_WITH_DUTIES,
}


def test_a_company_of_the_eu_may_not_run_llamas_that_read_pictures(house: SimpleNamespace) -> None:
    told = {**SMALL, "actor": "company", "org.principal_place": ["DE"]}
    found = {name: ask(house, name, Mode.SERVE_API, variables=told).verdict for name in IN_GERMANY}
    assert found == IN_GERMANY


def test_what_goes_in_and_out_is_told_to_the_engine_and_never_guessed(house: SimpleNamespace) -> None:
    def facts(model_id: str) -> dict[str, Any]:
        node = house.catalog.family(house.catalog.model(model_id, viewer=ANONYMOUS), None).node(model_id)
        return dict(node.facts)

    assert facts("openai/whisper-large-v3") == {"model.modality": ["text", "audio"]}
    assert facts("BAAI/bge-m3") == {"model.modality": ["text"]}
    assert facts("tiiuae/falcon-11B") == {}


def test_a_page_shows_figures_as_people_say_them(house: SimpleNamespace) -> None:
    def shown(model_id: str) -> dict[str, str]:
        rows = house.catalog.model(model_id, viewer=ANONYMOUS).facts["facts"]
        return {row["fact"]: row["value"] for row in rows}

    assert shown("google-bert/bert-base-uncased")["parameters"] == "110 million"
    mixture = shown("zai-org/GLM-4.5")
    assert mixture["parameters"] == "355 billion, of which 32 billion are active for a token"
    assert mixture["context"] == "128K tokens"
    vision = shown("meta-llama/Llama-3.2-90B-Vision")
    assert (vision["parameters"], vision["input"], vision["output"]) == ("88.8 billion", "text, image", "text")
    assert shown("openai/gpt-4.1")["context"] == "1,047,576 tokens"


def test_the_catalogue_is_read_fast_enough_for_every_start() -> None:
    def spent() -> float:
        began = time.thread_time()
        load_starter.__wrapped__()
        return time.thread_time() - began

    assert min(spent() for _ in range(5)) < 0.1 * slower()


def test_every_entry_is_reached_by_turning_pages(house: SimpleNamespace) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = house.catalog.models(viewer=ANONYMOUS, limit=40, cursor=cursor)
        seen += [m.id for m in page.models]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) and set(seen) == set(load_starter())
