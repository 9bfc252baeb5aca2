"""What a user would lose: who made the data that a model learns from, and what binds because of it."""

import json
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.app.answers.shards import Known
from ecotone.catalog import LineageEdge, ModelNotFound
from ecotone.ledger.segments import segments
from ecotone.licences import Decision, Node, Use
from ecotone.publishing import AddLarge, AddRegular, Commit, Delete
from ecotone.vocabulary import (
    Conflict,
    EdgeStatus,
    Forbidden,
    Invalid,
    JobState,
    Mode,
    NotFound,
    Purpose,
    Refused,
    Relation,
    RepoType,
    Role,
    Verdict,
)
from tests.app.answering import OPENAI, answers, answers_house, card, content, said

__all__ = ["answers_house"]

SIMILAR = {"target_model": "similar", "target.distributed": True}


def rows(house: SimpleNamespace, dataset: str = "team/answers", number: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(house, dataset, f"data/answers-{number:05d}.jsonl").splitlines()]


def edges(house: SimpleNamespace, dataset: str = "team/answers") -> list[LineageEdge]:
    model = house.catalog.model(dataset, viewer=SYSTEM, repo_type=RepoType.DATASET)
    return [e for e in house.catalog.revision(model).edges if e.relation is Relation.GENERATED_BY]


def judged(house: SimpleNamespace, model: str, mode: Mode = Mode.RUN, **more: Any) -> Decision:
    use = Use(mode=mode, purpose=Purpose.COMMERCIAL, variables=SIMILAR | more)
    found: Decision = house.policy.judge(model, "main", use)
    return found


def because(decision: Decision) -> list[tuple[str, tuple[str, ...], str, str]]:
    return [(r.node, tuple(r.path), r.entry, r.clause) for r in decision.reasons if r.path]


# -- making it -------------------------------------------------------------------------------------------------------
def test_each_answer_is_a_row_with_what_made_it_and_the_data_set_says_so(answers_house: SimpleNamespace) -> None:
    house = answers_house
    sha = card(house, "team/chat", {"license": "apache-2.0"})
    far = said(house, 1)
    near = said(house, 2, "No.", model="team/chat", backend="local", revision=sha, opened={"terms": None})
    silent = said(house, 3, None)
    told = answers(house).result
    assert (told["rows"], told["texts"]) == (3, {"kept": 2, "not kept": 1})
    found = {row["request_id"]: row for row in rows(house)}
    assert [m["content"] for m in found[far]["messages"]] == ["Is it so?", "Yes."]
    one, two = found[far], found[near]
    assert (one["provider"], one["terms"], one["revision"], one["answered_as"]) == ("far", OPENAI, None, "gpt-2026")
    assert (two["provider"], two["terms"], two["revision"]) == (None, None, sha)
    assert (one["decision"], one["prompt_tokens"], one["completion_tokens"]) == ("d" * 32, 3, 2)
    assert found[silent]["messages"] is None
    made = {(e.parent, e.parent_revision, e.terms): e for e in edges(house)}
    assert made.keys() == {("far/gpt", None, (OPENAI,)), ("team/chat", sha, ())}
    assert {e.status for e in made.values()} == {EdgeStatus.VERIFIED}
    assert all(e.made_from and e.made_from == e.made_until for e in made.values())
    assert [kind for kind, _ in house.acts] == ["texts.read", "answers.published"]


def test_a_second_run_adds_what_is_new_and_nothing_where_nothing_is(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1)
    first = answers(house).result
    same = answers(house).result
    assert (same["revision"], same["new_rows"]) == (first["revision"], 0)
    said(house, 2, "No.", opened={"terms": "deepseek-open-platform-2026-04-29"})
    said(house, 3)
    more = answers(house).result
    assert (more["rows"], more["new_rows"], more["duplicates"]) == (2, 1, 1)
    assert len(rows(house)) == 1
    assert [m["content"] for m in rows(house, number=1)[0]["messages"]] == ["Is it so?", "No."]
    assert {e.terms for e in edges(house)} == {(OPENAI,), ("deepseek-open-platform-2026-04-29",)}


def test_rows_that_somebody_took_out_do_not_come_back_and_his_words_stay(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1)
    answers(house)
    text = content(house, "team/answers", "README.md").decode().replace("# answers", "# Ours\n\nWritten by hand.")
    change = Commit(
        message="Clean", operations=(Delete("data/answers-00000.jsonl"), AddRegular("README.md", text.encode()))
    )
    house.publishing.commit("team/answers", "main", change, actor=SYSTEM, repo_type=RepoType.DATASET)
    said(house, 2, "No.")
    assert answers(house).result["rows"] == 1
    assert "Written by hand." in content(house, "team/answers", "README.md").decode()
    assert [m["content"] for m in rows(house)[0]["messages"]] == ["Is it so?", "No."]


def test_what_others_put_into_the_data_set_neither_stops_a_run_nor_takes_the_memory(
    answers_house: SimpleNamespace, tmp_path: Path
) -> None:
    house = answers_house
    said(house, 1)
    answers(house)
    for number, at in enumerate(("0001-01-01T00:00:00Z", "2026-01-01T00:00:00"), 2):
        record = json.loads(content(house, "team/answers", "answers.json"))
        for places in record["read"].values():
            for place in places.values():
                place["at"] = at
        change = Commit(message="Odd", operations=(AddRegular("answers.json", json.dumps(record).encode()),))
        house.publishing.commit("team/answers", "main", change, actor=SYSTEM, repo_type=RepoType.DATASET)
        said(house, number, f"No, {at}.")
        assert answers(house).result["new_rows"] == 1
    known = Known(tmp_path / "known.sqlite")
    row = b'{"request_id":"r1"}\n'
    tracemalloc.start()
    try:
        assert known.take_in(iter([row, *([b" " * 2**20] * 64), b'{"request_id":"r2"}\n', row[:5], row[5:]])) == 2
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
        known.close()


def test_without_kept_texts_there_are_rows_that_say_so(answers_house: SimpleNamespace) -> None:
    house = answers_house
    house.accounts.create_project("quiet", mode=Mode.RUN, purpose=Purpose.INTERNAL_COMMERCIAL, actor=SYSTEM)
    said(house, 1, None, project="quiet")
    told = answers(house, project="quiet").result
    assert (told["rows"], told["texts"]) == (1, {"not kept": 1})
    assert "keeps no texts" in told["note"]
    assert edges(house)[0].terms == (OPENAI,)


@pytest.mark.parametrize(
    ("how", "kept", "said_of_it"),
    [
        ({}, None, "left out: personal"),
        ({"sensitive": "mask"}, "Email_", "masked"),
        ({"sensitive": "keep"}, "maria.lopez@example.org", "kept"),
    ],
)
def test_personal_texts_stay_out_unless_asked_for(
    answers_house: SimpleNamespace, how: dict[str, Any], kept: str | None, said_of_it: str
) -> None:
    """The prompt's class is what the gateway found; the answer is looked through here."""
    house = answers_house
    said(house, 1, "Ask maria.lopez@example.org.")
    answers(house, **how)
    (row,) = rows(house)
    assert (row["texts"], row["data_class"]) == (said_of_it, "personal")
    assert (kept in row["messages"][-1]["content"]) if kept else row["messages"] is None


def test_what_went_out_with_placeholders_stands_there_with_some_and_secrets_stay_out(
    answers_house: SimpleNamespace,
) -> None:
    house = answers_house
    prompt = "I am maria.lopez@example.org"
    said(house, 1, prompt=prompt, opened={"pseudonymised": True, "data_class": "personal"})
    said(house, 2, prompt="key AKIA" + "Z7VRDKQ4NJ2EPXWS", opened={"data_class": "secret"})
    answers(house, sensitive="mask")
    first, second = rows(house)
    assert "maria" not in str(first) and first["texts"] == "masked" and first["pseudonymised"]
    assert (second["messages"], second["texts"]) == (None, "left out: secret")


def test_a_destroyed_key_leaves_rows_without_texts(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1)
    house.texts.close()
    for salt in (house.settings.data / "secrets" / "texts").iterdir():
        salt.write_bytes(bytes(32))
    assert answers(house).result["texts"] == {"unreadable": 1}


def test_filters_and_bad_questions(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1, route="assistant")
    said(house, 2, "No.", model="far/other")
    assert answers(house, "team/a", route="assistant").result["rows"] == 1
    assert answers(house, "team/b", model="far/other").result["rows"] == 1
    none = answers(house, "team/c", model="far/none")
    assert none.state is JobState.FAILED and "no complete answers" in str(none.error)
    with pytest.raises(ModelNotFound):
        house.catalog.model("team/c", viewer=SYSTEM, repo_type=RepoType.DATASET)
    for wrong, how in (
        (NotFound, {"project": "nobody"}),
        (Invalid, {"sensitive": "maybe"}),
        (Forbidden, {"actor": Actor("user", "will", Role.WRITE)}),
    ):
        with pytest.raises(wrong):
            house.sets.start(**{"dataset": "team/d", "project": "shop", "actor": SYSTEM, **how})
    house.catalog.create("team/open", repo_type=RepoType.DATASET, private=False, actor=SYSTEM)
    with pytest.raises(Conflict):
        house.sets.start(dataset="team/open", project="shop", actor=SYSTEM)
    assert answers(house, "team/open", private=False).state is JobState.DONE


def test_a_right_that_was_revoked_meanwhile_makes_nothing(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1)
    info, _ = house.accounts.create_token("ada", Role.ADMIN)
    actor = house.accounts.actor_of(info.id)
    house.jobs.stop()
    job = house.sets.start(dataset="team/answers", project="shop", actor=actor)
    house.accounts.revoke_token(info.id)
    house.jobs.start()
    while not (found := house.jobs.get(job.id)).state.ended:
        time.sleep(0.02)
    assert found.state is JobState.FAILED and "no longer" in str(found.error)
    with pytest.raises(ModelNotFound):
        house.catalog.model("team/answers", viewer=SYSTEM, repo_type=RepoType.DATASET)


def test_a_torn_ledger_gives_what_holds_and_tells(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1)
    said(house, 2, "No.")
    (segment,) = segments(house.settings.folder("ledger") / "test")
    segment.write_bytes(segment.read_bytes().replace(b'"status":"done"', b'"status":"dome"', 1)[:-30])
    assert answers(house).state is JobState.FAILED
    said(house, 3, "Perhaps.")
    told = answers(house).result
    assert (told["rows"], told["damaged_records"]) == (1, 2)


def test_nothing_is_half_published_when_publishing_fails(
    answers_house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = answers_house
    said(house, 1)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(house.publishing, "commit", full)
    assert answers(house).state is JobState.FAILED
    monkeypatch.undo()
    with pytest.raises(ModelNotFound):
        house.catalog.model("team/answers", viewer=SYSTEM, repo_type=RepoType.DATASET)
    left = [f for f in house.settings.folder("jobs").rglob("*") if f.suffix in (".jsonl", ".sqlite")]
    assert left == []
    assert answers(house).result["rows"] == 1


# -- what binds because of it ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("terms", "verdict", "clause"),
    [
        (OPENAI, Verdict.DENY, "3.3(e)"),
        ("deepseek-open-platform-2026-04-29", Verdict.ALLOW, None),
        ("unknown", Verdict.UNKNOWN, None),
    ],
)
def test_t30_a_model_trained_on_answers_is_bound_by_the_terms_they_came_under(
    answers_house: SimpleNamespace, terms: str, verdict: Verdict, clause: str | None
) -> None:
    house = answers_house
    said(house, 1, opened={"terms": terms})
    told = answers(house).result
    card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    found = judged(house, "team/student")
    assert found.verdict is verdict
    assert told["trained_on_it"]["verdict"] == verdict
    if clause:
        assert ("far/gpt", ("generated_by", "trained_on"), terms, clause) in because(found)
    inside = judged(house, "team/student", **{"target_model": "classifier_internal", "target.distributed": False})
    assert inside.verdict.passes is (terms != "unknown")


def test_t30_what_may_train_nothing_at_all_is_refused_with_its_name(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1, opened={"terms": "xai-enterprise-2026-05-12"})
    assert answers(house).result["trained_on_it"]["verdict"] == "deny"
    with pytest.raises(Refused, match="xAI"):
        card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})


USERS = {"org.mau_at.2023-06": 10, "org.mau_at.2024-03": 10, "org.mau_at.2024-06": 10, "org.mau": 10}


@pytest.mark.parametrize(
    ("licence", "verdict", "clause"),
    [
        ("llama2", Verdict.DENY, "1.b.v"),
        ("llama3", Verdict.DENY, "1.b.v"),
        ("apache-2.0", Verdict.ALLOW, None),
    ],
)
def test_t7_llama_2_and_3_do_not_let_their_answers_improve_others(
    answers_house: SimpleNamespace, licence: str, verdict: Verdict, clause: str | None
) -> None:
    house = answers_house
    sha = card(house, "team/teacher", {"license": licence})
    said(house, 1, model="team/teacher", backend="local", revision=sha, opened={"terms": None})
    answers(house)
    card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    found = judged(house, "team/student", **{**USERS, "target_model": "other_llm"})
    assert found.verdict is verdict, found
    if clause:
        paths = [(node, path, found_at) for node, path, _, found_at in because(found)]
        assert ("team/teacher", ("generated_by", "trained_on"), clause) in paths


def test_t7_llama_3_1_gives_the_student_its_name(answers_house: SimpleNamespace) -> None:
    house = answers_house
    sha = card(house, "team/teacher", {"license": "llama3.1"})
    said(house, 1, model="team/teacher", backend="local", revision=sha, opened={"terms": None})
    answers(house)
    card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    found = judged(house, "team/student", Mode.PUBLISH_WEIGHTS, **USERS)
    assert ("name_prefix", "Llama", "1.b.i last sentence") in {(d.duty, d.text, d.clause) for d in found.duties}


def test_t12_gemma_binds_what_does_the_same_and_no_classifier(answers_house: SimpleNamespace) -> None:
    house = answers_house
    sha = card(house, "team/teacher", {"license": "gemma"})
    said(house, 1, model="team/teacher", backend="local", revision=sha, opened={"terms": None})
    answers(house)
    with pytest.raises(Refused, match=r"team/teacher.*Gemma Terms of Use"):
        card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    edge = LineageEdge(child="x", parent="team/answers", relation=Relation.TRAINED_ON)
    family = house.catalog.compose_family(Node("x", instruments=("MIT",)), [edge])
    for target, binds in (("similar", True), ("classifier_internal", False)):
        use = Use(mode=Mode.PUBLISH_WEIGHTS, purpose=Purpose.COMMERCIAL, variables={"target_model": target})
        found = house.policy.judge_family(family, use)
        entries = {d.entry for d in (*found.duties, *found.possible_duties)} | {r.entry for r in found.reasons}
        assert any(entry.startswith("gemma-terms") for entry in entries) is binds


def test_t31_a_card_may_say_when_data_was_made_and_the_terms_of_then_count(answers_house: SimpleNamespace) -> None:
    house = answers_house
    front = {"generated_by": [{"provider": "openai", "model": "gpt-4", "from": "2023-05-01", "to": "2023-06-01"}]}
    card(house, "team/old", front, RepoType.DATASET)
    by_name = {"generated_by": [{"model": "openai/gpt-4o", "from": "2023-05-01", "to": "2023-06-01"}]}
    card(house, "team/named", by_name, RepoType.DATASET)
    card(house, "team/now", {"generated_by": "openai/gpt-4o"}, RepoType.DATASET)
    for dataset, entry in (("old", "openai-tou-2023-03-14"), ("named", "openai-tou-2023-03-14"), ("now", OPENAI)):
        card(house, f"team/on-{dataset}", {"license": "mit", "datasets": [f"team/{dataset}"]})
        found = judged(house, f"team/on-{dataset}")
        assert found.verdict is Verdict.DENY
        assert {r.entry for r in found.reasons if r.path} == {entry}, dataset


# -- nothing washes it off -------------------------------------------------------------------------------------------
def test_neither_an_edited_card_nor_removed_rows_wash_provenance_off(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1)
    answers(house)
    card(house, "team/answers", {"license": "mit"}, RepoType.DATASET)
    change = Commit(
        message="Wash", operations=(Delete("data/answers-00000.jsonl"), AddRegular("data/mine.jsonl", b"{}\n"))
    )
    house.publishing.commit("team/answers", "main", change, actor=SYSTEM, repo_type=RepoType.DATASET)
    assert [(e.parent, e.terms) for e in edges(house)] == [("far/gpt", (OPENAI,))]
    card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    assert judged(house, "team/student").verdict is Verdict.DENY


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("gone", [False, True])
def test_a_copy_of_the_file_elsewhere_is_known_by_its_bytes(
    answers_house: SimpleNamespace, large: bool, gone: bool
) -> None:
    house = answers_house
    said(house, 1)
    answers(house)
    raw = content(house, "team/answers", "data/answers-00000.jsonl")
    if gone:
        model = house.catalog.model("team/answers", viewer=SYSTEM, repo_type=RepoType.DATASET)
        house.catalog.delete(model, SYSTEM)
    house.catalog.create("else/copy", repo_type=RepoType.DATASET, private=False, actor=SYSTEM)
    file: Any = AddRegular("train.jsonl", raw)
    if large:
        place = house.settings.data / "copy.jsonl"
        place.write_bytes(raw)
        file = AddLarge("train.jsonl", house.storage.import_file("else", place).sha256 or "")
    change = Commit(message="Mine", operations=(AddRegular("README.md", b"---\nlicense: mit\n---\n"), file))
    house.publishing.commit("else/copy", "main", change, actor=SYSTEM, repo_type=RepoType.DATASET)
    (edge,) = edges(house, "else/copy")
    assert (edge.parent, edge.terms, edge.status) == ("far/gpt", (OPENAI,), EdgeStatus.VERIFIED)
    assert "train.jsonl" in edge.evidence
    card(house, "team/student", {"license": "mit", "datasets": ["else/copy"]})
    assert judged(house, "team/student").verdict is Verdict.DENY


def test_a_model_that_changed_after_it_answered_binds_as_it_was_then(answers_house: SimpleNamespace) -> None:
    """Also where the student takes its teacher's place, and where the teacher was deleted."""
    house = answers_house
    sha = card(house, "team/chat", {"license": "llama2"})
    said(house, 1, model="team/chat", backend="local", revision=sha, opened={"terms": None})
    answers(house)
    card(house, "team/chat", {"license": "mit", "datasets": ["team/answers"]})
    own = judged(house, "team/chat", **{**USERS, "target_model": "other_llm"})
    assert own.verdict is Verdict.DENY
    assert {r.entry for r in own.reasons if r.path} == {"llama-2"}
    card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    house.catalog.delete(house.catalog.model("team/chat", viewer=SYSTEM), SYSTEM)
    assert judged(house, "team/student", **{**USERS, "target_model": "other_llm"}).verdict is Verdict.DENY


def test_one_model_under_two_terms_binds_under_both(answers_house: SimpleNamespace) -> None:
    house = answers_house
    said(house, 1, opened={"terms": "deepseek-open-platform-2026-04-29"})
    said(house, 2, "No.", opened={"terms": OPENAI})
    answers(house)
    card(house, "team/student", {"license": "mit", "datasets": ["team/answers"]})
    assert judged(house, "team/student").verdict is Verdict.DENY
    children = house.catalog.children(
        house.catalog.model("team/answers", viewer=SYSTEM, repo_type=RepoType.DATASET), viewer=SYSTEM
    )
    assert [e.child for e in children] == ["team/student"]
