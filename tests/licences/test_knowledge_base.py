"""The knowledge base: every entry is well-formed, points at clauses that exist, and copies no text."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ecotone import licences
from ecotone.licences import Entry, KnowledgeBase
from ecotone.licences.conditions import Facts, conjunction, disjunction, holds

KB = KnowledgeBase.load()
ENTRIES = sorted(KB.entries.values(), key=lambda e: e.id)
FOLDER = Path(licences.__file__).with_name("entries")
SCHEMA = jsonschema.Draft202012Validator(json.loads(FOLDER.with_name("schema.json").read_text()))
DEFINED = {"finetune": "finetune", "merge": "merge", "quantised": "quantise", "pruned": "prune", "converted": "convert"}


class Words(yaml.SafeLoader):
    """Safe YAML in which only true and false are booleans, and dates are text."""


Words.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":bool", ":timestamp"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def clause_hash(text: str, section: str) -> str | None:
    """The finder beside this file, loaded by its path: tests are no package."""
    found: str | None = CLAUSES.clause_hash(text, section)
    return found


def _clauses() -> Any:
    spec = importlib.util.spec_from_file_location("clauses", Path(__file__).with_name("clauses.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLAUSES = _clauses()
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


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda f: f.stem)
def test_an_entry_fits_the_schema(file: Path) -> None:
    """A contributor's slip (a misspelt field, an unknown tag or variable) would silently change answers."""
    content = yaml.load(file.read_text(), Loader=Words)
    errors = sorted(SCHEMA.iter_errors(content), key=str)
    assert not errors, [f"{list(e.absolute_path)}: {e.message}" for e in errors[:3]]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
def test_an_entry_is_sound_in_itself(entry: Entry) -> None:
    """What a schema cannot say: references resolve, propagation agrees with the definitions, primary has a text."""
    ids = [f.id for f in entry.facts]
    assert len(ids) == len(set(ids))
    for fact in entry.facts:
        assert fact.position is None or fact.position in KB.positions, fact.id
        read = {name.removeprefix("policy.") for name in fact.reads if name.startswith("policy.")}
        assert read <= set(KB.positions), fact.id
    for rule in entry.propagates:
        assert rule.what == "all" or set(rule.what) <= set(ids)
        if rule.what == "all":
            named = {DEFINED[via] for via in rule.via if via in DEFINED}
            assert entry.kind in ("unknown", "none") or named <= set(entry.definitions.derivative_includes)
    assert set(entry.outbound.flow_down) <= set(ids)
    for part in entry.incorporates:
        assert KB.entries[part.ref].kind == "policy"
    if entry.status.authority == "primary" and entry.kind not in ("unknown", "none"):
        assert entry.text.sha256, "primary authority needs the text's sha256"
    for fact in entry.facts:
        reference = fact.params.get("ref")
        assert reference is None or reference in {part.ref for part in entry.incorporates}


def test_a_hub_id_stands_for_versions_of_one_family_only() -> None:
    for name, ids in KB.by_hf.items():
        assert len({KB.entry(i).family for i in ids}) == 1, name


def test_no_licence_is_named_in_code() -> None:
    folder = Path(__file__).parents[2] / "src" / "ecotone" / "licences"
    ids = [e.id for e in ENTRIES if e.id not in ("unknown", "none")]
    for file in folder.glob("*.py"):
        code = re.sub(r'""".*?"""', "", file.read_text(), flags=re.S)
        assert not [i for i in ids if re.search(rf"['\"]{re.escape(i)}['\"]", code)], file.name


@pytest.fixture(scope="module")
def texts(shared: Path) -> dict[str, Path]:
    """Every text at hand, by its sha256: the shared ones, and those of ScanCode where it is installed."""
    files = [f for f in (shared / "data" / "licence").rglob("*") if "lineage" not in f.parts]
    scancode = importlib.util.find_spec("licensedcode")
    if scancode is not None and scancode.origin is not None:
        files += (Path(scancode.origin).parent / "data" / "licenses").glob("*.LICENSE")
    return {hashlib.sha256(f.read_bytes()).hexdigest(): f for f in files if f.is_file()}


def at_hand(entry: Entry, texts: dict[str, Path]) -> bool:
    """Whether the entry's text can be looked at: one that stands only in ScanCode needs ScanCode."""
    elsewhere = (entry.text.source or "").startswith("scancode-toolkit")
    return entry.text.sha256 is not None and (entry.text.sha256 in texts or not elsewhere)


def test_the_texts_are_the_ones_that_were_read(texts: dict[str, Path]) -> None:
    missing = [e.id for e in ENTRIES if at_hand(e, texts) and e.text.sha256 not in texts]
    assert not missing


def test_clauses_stand_where_the_facts_say(texts: dict[str, Path]) -> None:
    """A reader who follows a clause finds the words that were read: their hash is held, and found under the number."""
    numbered = found = 0
    for entry in ENTRIES:
        if not at_hand(entry, texts):
            continue
        text = texts[str(entry.text.sha256)].read_text(errors="replace")
        for fact in entry.facts:
            numbered += bool(re.match(r"\d|[A-Z][.(]", fact.clause.sec))
            if fact.clause.sha256 is not None:
                assert clause_hash(text, fact.clause.sec) == fact.clause.sha256, (entry.id, fact.id)
                found += 1
    assert found > 0.9 * numbered  # some texts lost their numbers on the way here


def test_no_sentence_of_a_licence_is_copied(texts: dict[str, Path]) -> None:
    def words(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())

    for entry in ENTRIES:
        if not at_hand(entry, texts):
            continue
        text = " ".join(words(texts[str(entry.text.sha256)].read_text(errors="replace")))
        for fact in entry.facts:
            spoken = words(fact.means)
            runs = [" ".join(spoken[i : i + 9]) for i in range(max(0, len(spoken) - 8))]
            assert not [run for run in runs if run in text], (entry.id, fact.id)


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
