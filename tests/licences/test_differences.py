"""What changes with the knowledge base is told: by entry and clause, and by whose answers change."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ecotone.licences import Edge, Family, KnowledgeBase, Node, Use
from ecotone.licences.differences import AnswerChange, Asked, changed_answers, compare
from ecotone.licences.entries import FOLDER
from ecotone.licences.errors import BrokenEntry, VersionNotFound
from ecotone.licences.versions import keep_version, name_of, version_of, versions
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
SERVE = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables={"org.mau_at.2024-06": 650_000_000})


@pytest.fixture
def older(tmp_path: Path) -> KnowledgeBase:
    """A knowledge base in which one threshold was lower, one duty not known, one entry absent."""
    folder = tmp_path / "older"
    shutil.copytree(FOLDER, folder)
    edit(folder / "llama-3.1.yaml", "value: 700000000", "value: 600000000")
    edit(folder / "apache-2.0.yaml", "title: Apache License 2.0", "title: Apache License, Version 2.0")
    (folder / "mit.yaml").unlink()
    return KnowledgeBase.open(folder)


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def test_entries_and_facts_that_differ_are_listed_with_their_clauses(older: KnowledgeBase) -> None:
    found = compare(older, KB)
    assert {(e.entry, e.change) for e in found.entries} == {
        ("Apache-2.0", "changed"),
        ("llama-3.1", "changed"),
        ("MIT", "added"),
    }
    llama = next(e for e in found.entries if e.entry == "llama-3.1")
    (fact,) = llama.facts
    assert (fact.fact, fact.change, fact.clause) == ("mau", "changed", "2; exemption 1.b.ii")
    assert fact.fields["within"][0]["not"]["value"] == 600_000_000
    apache = next(e for e in found.entries if e.entry == "Apache-2.0")
    assert apache.fields == {"title": ("Apache License, Version 2.0", "Apache License 2.0")}
    assert not apache.facts
    assert (found.new.version, found.new.digest) == (KB.version, KB.digest)
    assert found.old.digest != found.new.digest


def test_the_same_knowledge_does_not_differ(older: KnowledgeBase) -> None:
    assert not compare(KB, KB).entries
    assert [e.change for e in compare(KB, older).entries if e.entry == "MIT"] == ["removed"]


def asked(licence: str, *parents: str, use: Use = SERVE) -> Asked:
    nodes = {"me/x": Node("me/x", revision="f" * 40, instruments=(licence,))}
    nodes |= {p: Node(p, instruments=(p,)) for p in parents}
    edges = tuple(Edge("me/x", p, Relation.FINETUNE) for p in parents)
    return Asked(family=Family("me/x", nodes, edges), use=use, who="shop")


def changed(older: KnowledgeBase, *questions: Asked) -> list[AnswerChange]:
    return list(changed_answers(compare(older, KB), older, KB, questions, {}))


def test_answers_that_change_are_pinned_and_say_because_of_what(older: KnowledgeBase) -> None:
    (change,) = changed(older, asked("Apache-2.0", "llama-3.1"), asked("Apache-2.0", "llama-2"))
    assert (change.before, change.after) == (Verdict.ASK_LICENCE, Verdict.ALLOW_WITH_DUTIES)
    assert (change.model, change.revision, change.who, change.mode) == ("me/x", "f" * 40, "shop", "serve_api")
    assert "llama-3.1" in change.because
    assert change.text_sha256["llama-3.1"] == KB.entry("llama-3.1").text.sha256


def test_a_licence_that_was_not_known_before_changes_the_answer(older: KnowledgeBase) -> None:
    (change,) = changed(older, asked("MIT"))
    assert (change.before, change.after, change.because) == (Verdict.UNKNOWN, Verdict.ALLOW, ("MIT",))


def test_a_duty_that_comes_is_a_changed_answer(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kb")
    edit(tmp_path / "kb" / "llama-3.1.yaml", 'text: "Built with Llama"', 'text: "Made with Llama"')
    below = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables={"org.mau_at.2024-06": 1})
    (change,) = changed(KnowledgeBase.open(tmp_path / "kb"), asked("llama-3.1", use=below))
    assert change.before is change.after is Verdict.ALLOW_WITH_DUTIES
    assert any("Built with Llama" in duty for duty in change.duties_added)
    assert any("Made with Llama" in duty for duty in change.duties_removed)


def test_versions_are_kept_and_found_by_name(tmp_path: Path, older: KnowledgeBase) -> None:
    keep_version(older, tmp_path / "kept")
    keep_version(KB, tmp_path / "kept")
    keep_version(KB, tmp_path / "kept")
    assert sorted(versions(tmp_path / "kept")) == sorted({name_of(KB), name_of(older)})
    found = version_of(KB, tmp_path / "kept", "older")
    assert found.digest == older.digest
    assert not compare(found, older).entries
    assert version_of(KB, tmp_path / "kept", name_of(KB)) is KB
    for name in ("", "1999", "../kept/older"):
        with pytest.raises(VersionNotFound, match="older"):
            version_of(KB, tmp_path / "kept", name)


def test_an_exported_file_is_the_knowledge_base(tmp_path: Path) -> None:
    file = tmp_path / "kb"
    file.write_bytes(KB.to_bytes())
    found = KnowledgeBase.open(file)
    assert dict(found.entries) == dict(KB.entries)
    assert (found.version, found.digest, found.positions) == (KB.version, KB.digest, KB.positions)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "else"])
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path, damage: str) -> None:
    raw = KB.to_bytes()
    flipped = bytearray(raw)
    flipped[-100] ^= 1
    content: Any = {"cut": raw[:-1], "flipped": bytes(flipped), "empty": b"", "else": b"PK\x03\x04" * 100}[damage]
    file = tmp_path / "kb"
    file.write_bytes(content)
    with pytest.raises(BrokenEntry, match="damaged"):
        KnowledgeBase.open(file)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", "id: [", "a.yaml"),
        ("a.yaml", "- 1", "a.yaml"),
        ("a.yaml", "id: x", "a.yaml"),
        ("readme.txt", "", "no entries"),
    ],
)
def test_a_folder_that_is_no_knowledge_base_is_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BrokenEntry, match=words):
        KnowledgeBase.open(tmp_path)


def test_a_condition_that_nobody_can_read_is_refused_before_it_answers(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kb")
    edit(tmp_path / "kb" / "llama-3.1.yaml", 'op: ">", value: 700000000', 'op: "more", value: 700000000')
    with pytest.raises(BrokenEntry, match=r"llama-3\.1"):
        KnowledgeBase.open(tmp_path / "kb")
