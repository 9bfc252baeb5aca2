"""The knowledge base: every entry is well-formed, points at clauses that exist, and copies no text."""

import hashlib
import re
from pathlib import Path

import pytest

from ecotone.licences import Entry, KnowledgeBase
from ecotone.licences.conditions import OPERATORS, Facts, conjunction, disjunction, holds
from ecotone.vocabulary import Relation

KB = KnowledgeBase.load()
ENTRIES = sorted(KB.entries.values(), key=lambda e: e.id)
MODALITIES = {"permit", "prohibit", "require", "limit", "terminate", "disclaim", "silent"}
ACTIONS = {
    "run",
    "internal_use",
    "serve_api",
    "redistribute_weights",
    "redistribute_derivative",
    "distribute_in_product",
    "modify",
    "finetune",
    "merge",
    "quantise",
    "use_outputs",
    "publish_outputs",
    "train_on_outputs",
    "distil",
    "relicense",
    "sublicense",
    "patent_use",
    "trademark_use",
    "benchmark_publish",
    "send_inputs",
    "any",
}
WANTED = [
    "Apache-2.0",
    "MIT",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "CC-BY-NC-4.0",
    "llama-2",
    "llama-3.1",
    "gemma-terms-2025-03-24",
    "creativeml-openrail-m",
    "bigscience-openrail-m",
    "openai-services-agreement-2026-01-01",
    "gemini-api-additional-2025-05-20",
]


def test_the_entries_of_the_spine_are_there() -> None:
    assert set(WANTED) <= set(KB.entries)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
def test_an_entry_is_well_formed(entry: Entry) -> None:
    assert entry.schema == 1
    ids = [f.id for f in entry.facts]
    assert len(ids) == len(set(ids))
    for fact in entry.facts:
        assert fact.modality in MODALITIES, fact.id
        assert set(fact.action) <= ACTIONS, fact.id
        assert fact.clause.sec, fact.id
        assert 0 < len(fact.means) < 250, fact.id
        assert (fact.modality == "require") == (fact.duty is not None), fact.id
        assert fact.position is None or fact.position in KB.positions, fact.id
        for condition in (fact.when, fact.unless, fact.within, fact.trigger.when if fact.trigger else None):
            _well_formed(condition)
    for rule in entry.propagates:
        assert set(rule.via) <= {r.value for r in Relation}
        assert rule.what == "all" or set(rule.what) <= set(ids)
    assert set(entry.outbound.flow_down) <= set(ids)
    for part in entry.incorporates:
        assert part.ref in KB.entries
    if entry.status.authority == "primary" and entry.kind not in ("unknown", "none"):
        assert re.fullmatch("[0-9a-f]{64}", entry.text.sha256 or ""), "primary authority needs the text's sha256"


def _well_formed(condition: object) -> None:
    if condition is None:
        return
    assert isinstance(condition, dict)
    if "var" in condition:
        assert set(condition) == {"var", "op", "value"}
        assert condition["op"] in OPERATORS
        return
    ((key, inner),) = condition.items()
    assert key in ("all", "any", "not")
    for part in [inner] if key == "not" else inner:
        _well_formed(part)


def test_no_licence_is_named_in_code() -> None:
    folder = Path(__file__).parents[2] / "src" / "ecotone" / "licences"
    ids = [e.id for e in ENTRIES if e.id not in ("unknown", "none")]
    for file in folder.glob("*.py"):
        code = re.sub(r'""".*?"""', "", file.read_text(), flags=re.S)
        assert not [i for i in ids if re.search(rf"['\"]{re.escape(i)}['\"]", code)], file.name


def test_the_texts_are_the_ones_that_were_read(shared: Path) -> None:
    known = {
        hashlib.sha256(f.read_bytes()).hexdigest()
        for f in (shared / "data" / "licence").rglob("*")
        if f.is_file() and "lineage" not in f.parts
    }
    missing = [e.id for e in ENTRIES if e.text.sha256 and e.text.sha256 not in known]
    assert not missing


def test_no_sentence_of_a_licence_is_copied(shared: Path) -> None:
    def words(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())

    for entry in ENTRIES:
        for file in (shared / "data" / "licence").rglob("*"):
            if (
                file.is_file()
                and entry.text.sha256
                and hashlib.sha256(file.read_bytes()).hexdigest() == entry.text.sha256
            ):
                text = " ".join(words(file.read_text(errors="replace")))
                for fact in entry.facts:
                    spoken = words(fact.means)
                    runs = [" ".join(spoken[i : i + 9]) for i in range(max(0, len(spoken) - 8))]
                    assert not [run for run in runs if run in text], (entry.id, fact.id)
                break


KLEENE = (True, False, None)


@pytest.mark.parametrize("a", KLEENE)
@pytest.mark.parametrize("b", KLEENE)
def test_kleenes_laws(a: bool | None, b: bool | None) -> None:
    rank = {False: 0, None: 1, True: 2}
    assert rank[conjunction((a, b))] == min(rank[a], rank[b])
    assert rank[disjunction((a, b))] == max(rank[a], rank[b])


def test_a_missing_variable_is_unknown_and_named() -> None:
    facts = Facts({"purpose": "commercial"})
    condition = {
        "all": [{"var": "purpose", "op": "==", "value": "commercial"}, {"var": "org.mau", "op": ">", "value": 5}]
    }
    assert holds(condition, facts) is None
    assert list(facts.missing) == ["org.mau"]
    assert holds({"not": condition}, facts) is None
    assert holds({"any": [condition, {"var": "purpose", "op": "==", "value": "commercial"}]}, facts) is True


def test_country_groups_contain_their_countries() -> None:
    europe = {"var": "territory", "op": "overlaps", "value": ["EEA"]}
    assert holds(europe, Facts({"territory": ["NO"]})) is True
    assert holds(europe, Facts({"territory": ["US"]})) is False
    assert holds(europe, Facts({"territory": ["EU", "US"]})) is True
