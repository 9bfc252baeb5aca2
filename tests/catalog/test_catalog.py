"""What people see of the catalogue: names, privacy, search, history, lineage."""

import base64
import json
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import ANONYMOUS, SYSTEM, Actor
from ecotone.catalog import (
    BadName,
    EntryNotFound,
    ModelNotFound,
    RefExists,
    RepoExists,
    ReservedId,
    RevisionNotFound,
)
from ecotone.catalog.errors import CollectionNotFound, MeasurementNotFound
from ecotone.catalog.models import CollectionRow
from ecotone.database import DatabaseFull
from ecotone.licences import Use
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Mode, ModelKind, Purpose, RepoType, Role, Verdict

WRITER = Actor("user", "will", Role.WRITE)
READER = Actor("user", "rita", Role.READ)


def make(house: SimpleNamespace, model_id: str, card: str | None = None, *, private: bool = False) -> None:
    house.catalog.create(model_id, private=private, actor=SYSTEM)
    if card is not None:
        house.publish(model_id, {"README.md": f"---\n{card}\n---\n# About it\n".encode()})


def ids(house: SimpleNamespace, **kw: object) -> list[str]:
    return [m.id for m in house.catalog.models(viewer=kw.pop("viewer", SYSTEM), **kw).models]


def test_names_are_one_whatever_their_case(house: SimpleNamespace) -> None:
    make(house, "demo/MiniLM")
    assert house.catalog.model("DEMO/minilm", viewer=ANONYMOUS).id == "demo/MiniLM"
    with pytest.raises(RepoExists) as caught:
        house.catalog.create("Demo/minilm", private=False, actor=SYSTEM)
    assert caught.value.model.id == "demo/MiniLM"
    house.catalog.create("demo/minilm", repo_type=RepoType.DATASET, private=False, actor=SYSTEM)


def test_reserved_first_segments_are_no_namespaces(house: SimpleNamespace) -> None:
    house.catalog.reserve(["Pages"])
    for name in ("api/x", "pages/x", "V1/x"):
        with pytest.raises(BadName):
            house.catalog.create(name, private=False, actor=SYSTEM)


def test_only_administrators_make_namespaces_and_take_reserved_ids(house: SimpleNamespace) -> None:
    with pytest.raises(Forbidden):
        house.catalog.create("team/x", private=False, actor=WRITER)
    make(house, "team/first")
    house.catalog.create("team/x", private=False, actor=WRITER)
    house.catalog.create("will/own", private=False, actor=WRITER)
    with pytest.raises(ReservedId):
        house.catalog.create("google-bert/bert-base-uncased", private=False, actor=WRITER)
    with pytest.raises(Forbidden):
        house.catalog.create("team/y", private=False, actor=READER)


def test_absent_and_private_look_the_same(house: SimpleNamespace) -> None:
    make(house, "demo/secret", private=True)
    messages = []
    for name in ("demo/secret", "demo/absent"):
        with pytest.raises(ModelNotFound) as caught:
            house.catalog.model(name, viewer=ANONYMOUS)
        messages.append(caught.value.message.replace(name, "X"))
    assert messages[0] == messages[1]
    assert house.catalog.model("demo/secret", viewer=READER).private
    assert "demo/secret" in ids(house) and "demo/secret" not in ids(house, viewer=ANONYMOUS)


def test_search_finds_tables_and_starter_side_by_side(house: SimpleNamespace) -> None:
    make(house, "demo/bert-atlas", "license: apache-2.0\ntags: [atlas]\npipeline_tag: fill-mask")
    make(house, "demo/minilm", "license: apache-2.0")
    found = ids(house, search="bert", limit=1000)
    assert "demo/bert-atlas" in found and "google-bert/bert-base-uncased" in found and "demo/minilm" not in found
    assert ids(house, search=["ATLAS", "bert"]) == ["demo/bert-atlas"]
    assert ids(house, search="100%") == [] and ids(house, search="b_rt") == []
    assert ids(house, filters=["license:apache-2.0"], stored=True, author="DEMO") == ["demo/minilm", "demo/bert-atlas"]
    assert ids(house, filters=["license:apache"], stored=True) == []
    assert all(m.kind is ModelKind.API for m in house.catalog.models(viewer=SYSTEM, kind=ModelKind.API).models)
    assert any("gpt" in m.id for m in house.catalog.api_models())


@pytest.mark.parametrize("sort", ["lastModified", "createdAt", "downloads", "likes"])
def test_pages_hold_each_model_once(house: SimpleNamespace, sort: str) -> None:
    for n in range(5):
        make(house, f"demo/m{n}")
    whole = ids(house, sort=sort, limit=1000)
    paged: list[str] = []
    cursor = None
    while True:
        page = house.catalog.models(viewer=SYSTEM, sort=sort, limit=7, cursor=cursor)
        paged += [m.id for m in page.models]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole and len(set(whole)) == len(whole) > 20
    for bad in ("x", "W10=", "WyJhIiwxLCJiIl0="):
        with pytest.raises(Invalid):
            house.catalog.models(viewer=SYSTEM, cursor=bad)
    with pytest.raises(Invalid):
        house.catalog.models(viewer=SYSTEM, sort="nothing")


def test_branches_and_tags(house: SimpleNamespace) -> None:
    make(house, "demo/one", "license: mit")
    model = house.catalog.model("demo/one", viewer=SYSTEM)
    first = house.catalog.commits(model)[-1].id
    house.catalog.create_branch(model, "dev", actor=SYSTEM, start=first)
    house.catalog.create_tag(model, "v1", actor=SYSTEM, message="one")
    assert house.catalog.revision(model, "dev").id == house.catalog.revision(model, "refs/heads/dev").id == first
    assert house.catalog.revision(model, "v1").id == model.head
    refs = house.catalog.refs(model)
    assert [b.name for b in refs.branches] == ["dev", "main"] and [t.name for t in refs.tags] == ["v1"]
    with pytest.raises(RefExists):
        house.catalog.create_branch(model, "dev", actor=SYSTEM)
    with pytest.raises(RevisionNotFound):
        house.catalog.create_branch(model, "x", actor=SYSTEM, start="nope")
    with pytest.raises(Forbidden):
        house.catalog.create_branch(model, "x", actor=READER)
    house.catalog.delete_branch(model, "dev", actor=SYSTEM)
    with pytest.raises(RevisionNotFound):
        house.catalog.revision(model, "dev")
    with pytest.raises(Invalid):
        house.catalog.delete_branch(model, "main", actor=SYSTEM)


def test_a_commit_of_another_repository_is_not_found_here(house: SimpleNamespace) -> None:
    make(house, "demo/one", "license: mit", private=True)
    make(house, "demo/two", "license: apache-2.0")
    secret = house.catalog.model("demo/one", viewer=SYSTEM).head
    with pytest.raises(RevisionNotFound):
        house.catalog.revision(house.catalog.model("demo/two", viewer=SYSTEM), secret)


def test_files_and_folders(house: SimpleNamespace) -> None:
    make(house, "demo/one")
    house.publish("demo/one", {"a/b/c.txt": b"1", "a/d.txt": b"2"})
    revision = house.catalog.revision(house.catalog.model("demo/one", viewer=SYSTEM))
    assert [f.path for f in house.catalog.folders(revision)] == ["a", "a/b"]
    with pytest.raises(EntryNotFound) as caught:
        house.catalog.file(revision, "a")
    assert caught.value.commit == revision.id


def test_a_moved_model_is_found_by_its_old_name(house: SimpleNamespace) -> None:
    make(house, "demo/old", "license: mit")
    model = house.catalog.model("demo/old", viewer=SYSTEM)
    house.catalog.move(model, "demo/new", actor=SYSTEM)
    assert house.catalog.model("demo/old", viewer=ANONYMOUS).id == "demo/new"
    assert ids(house, search="demo/new") == ["demo/new"] and ids(house, search="demo/old") == []
    make(house, "demo/old")
    assert house.catalog.model("demo/old", viewer=ANONYMOUS).id == "demo/old"
    with pytest.raises(RepoExists):
        house.catalog.move(house.catalog.model("demo/old", viewer=SYSTEM), "demo/NEW", actor=SYSTEM)


def test_a_deleted_model_is_gone_but_its_terms_are_not(house: SimpleNamespace) -> None:
    make(house, "demo/base", "license: cc-by-nc-4.0")
    make(house, "demo/child", "base_model: demo/base")
    model = house.catalog.model("demo/base", viewer=SYSTEM)
    house.catalog.delete(model, SYSTEM)
    with pytest.raises(ModelNotFound):
        house.catalog.model("demo/base", viewer=SYSTEM)
    with pytest.raises(ModelNotFound):
        house.catalog.delete(model, SYSTEM)
    child = house.catalog.model("demo/child", viewer=SYSTEM)
    family = house.catalog.family(child, house.catalog.revision(child))
    assert family.nodes["demo/base"].instruments == model.instruments
    make(house, "demo/base")
    assert house.catalog.model("demo/base", viewer=SYSTEM).key != model.key


def test_what_is_in_use_cannot_be_deleted(house: SimpleNamespace) -> None:
    make(house, "demo/used")

    def guard(model: object) -> None:
        raise Conflict("it is deployed")

    house.catalog.on_delete(guard)
    with pytest.raises(Conflict):
        house.catalog.delete(house.catalog.model("demo/used", viewer=SYSTEM), SYSTEM)
    assert house.catalog.model("demo/used", viewer=SYSTEM)


def test_families_end_even_when_models_name_each_other(house: SimpleNamespace) -> None:
    make(house, "demo/a", "license: mit\nbase_model: [demo/b, demo/A]\ndatasets: [x/y]")
    make(house, "demo/b", "license: apache-2.0\nbase_model: Demo/a")
    a = house.catalog.model("demo/a", viewer=SYSTEM)
    family = house.catalog.family(a, house.catalog.revision(a))
    assert set(family.nodes) == {"demo/a", "demo/b", "datasets/x/y"}
    assert {(e.child, e.parent) for e in family.edges} == {
        ("demo/a", "demo/b"), ("demo/b", "demo/a"), ("demo/a", "datasets/x/y")
    }  # fmt: skip
    assert family.nodes["datasets/x/y"].instruments == ("unknown",)
    assert [e.child for e in house.catalog.children(a)] == ["demo/b"]


def test_a_private_parent_binds_without_being_shown(house: SimpleNamespace) -> None:
    make(house, "demo/hidden", "license: cc-by-nc-4.0", private=True)
    make(house, "demo/child", "license: cc-by-nc-4.0\nbase_model: demo/hidden")
    child = house.catalog.model("demo/child", viewer=SYSTEM)
    family = house.catalog.family(child, house.catalog.revision(child), viewer=ANONYMOUS, binding=True)
    assert not family.nodes["demo/hidden"].visible and family.nodes["demo/hidden"].instruments == ("CC-BY-NC-4.0",)
    told = house.catalog.family(child, house.catalog.revision(child), viewer=ANONYMOUS)
    assert told.nodes["demo/hidden"].visible and told.nodes["demo/hidden"].instruments == ("unknown",)


def test_the_family_of_a_starter_entry(house: SimpleNamespace) -> None:
    model = house.catalog.model("meta-llama/Llama-2-7b-hf", viewer=ANONYMOUS)
    family = house.catalog.family(model, None)
    assert family.nodes["meta-llama/Llama-2-7b"].instruments == ("llama-2",)
    with pytest.raises(RevisionNotFound):
        house.catalog.revision(model)


def test_measurements_likes_and_downloads(house: SimpleNamespace) -> None:
    make(house, "demo/one")
    model = house.catalog.model("demo/one", viewer=SYSTEM)
    house.catalog.add_measurement("demo/one", model.head, "weat", {"effect_size": 1.0}, SYSTEM)
    assert [m.result for m in house.catalog.measurements("demo/ONE", model.head)] == [{"effect_size": 1.0}]
    (kept,) = house.catalog.measurements("demo/one")
    assert house.catalog.remove_measurement(kept.id) == kept
    assert house.catalog.measurements("demo/one") == []
    with pytest.raises(MeasurementNotFound, match="audit list"):
        house.catalog.remove_measurement(kept.id)
    for _ in range(2):
        house.catalog.like(model, READER, likes=True)
        house.catalog.count_download(model, "client")
    found = house.catalog.model("demo/one", viewer=SYSTEM)
    assert (found.likes, found.downloads) == (1, 1)
    assert house.catalog.likers(model) == ["rita"]
    assert [m.id for m, _ in house.catalog.liked_by("rita", viewer=SYSTEM)] == ["demo/one"]
    house.catalog.like(model, READER, likes=False)
    assert house.catalog.model("demo/one", viewer=SYSTEM).likes == 0


def test_a_folder_shows_the_newest_commit_within_it(house: SimpleNamespace) -> None:
    make(house, "demo/one")
    house.publish("demo/one", {"a/b/c.txt": b"1", "z/d.txt": b"2"})
    house.publish("demo/one", {"a/e/f.txt": b"3"})
    model = house.catalog.model("demo/one", viewer=SYSTEM)
    revision = house.catalog.revision(model)
    shown = {f.path: f.last_commit for f in house.catalog.folders(revision)}
    assert shown["a"] == shown["a/e"] == revision.id != shown["a/b"] == shown["z"]
    assert house.catalog.titles(model, shown.values())[revision.id][0] == "Add"


def test_an_adapter_is_judged_by_the_revision_it_was_made_from(house: SimpleNamespace) -> None:
    make(house, "demo/base", "license: apache-2.0")
    made_from = house.catalog.model("demo/base", viewer=SYSTEM).head
    make(house, "demo/adapter")
    config = {"base_model_name_or_path": "demo/base", "peft_type": "LORA", "revision": made_from}
    card = b"---\nlicense: apache-2.0\nbase_model: demo/base\n---\n# An adapter\n"
    house.publish("demo/adapter", {"README.md": card, "adapter_config.json": json.dumps(config).encode()})
    house.publish("demo/base", {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# Stricter now\n"})
    adapter = house.catalog.model("demo/adapter", viewer=SYSTEM)
    revision = house.catalog.revision(adapter)
    assert [(e.parent, e.parent_revision) for e in revision.edges] == [("demo/base", made_from)]
    base = house.catalog.family(adapter, revision).nodes["demo/base"]
    assert (base.revision, base.instruments) == (made_from, ("Apache-2.0",))
    now = house.catalog.model("demo/base", viewer=SYSTEM)
    assert house.catalog.family(now, house.catalog.revision(now)).nodes["demo/base"].instruments == ("CC-BY-NC-4.0",)


def test_a_licence_that_nobody_knows_is_said_on_the_page(house: SimpleNamespace) -> None:
    make(house, "demo/odd", "license: madeup-1.0")
    model = house.catalog.model("demo/odd", viewer=SYSTEM)
    assert any("madeup-1.0" in finding for finding in house.catalog.revision(model).findings)


def test_a_reader_is_never_refused_because_a_download_cannot_be_counted(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(house, "demo/one")
    model = house.catalog.model("demo/one", viewer=SYSTEM)

    def full() -> None:
        raise DatabaseFull

    with monkeypatch.context() as broken:
        broken.setattr(house.database, "writing", full)
        house.catalog.count_download(model, "one")
    house.catalog._downloads._written = 0.0
    house.catalog.count_download(model, "two")
    assert house.catalog.model("demo/one", viewer=SYSTEM).downloads == 2, "the first is counted with the second"


@pytest.mark.parametrize(
    ("sort", "cursor"),
    [
        ("downloads", ["downloads", 10**19, "x"]),
        ("downloads", ["downloads", -(10**30), "x"]),
        ("lastModified", ["updated", "0001-01-01T00:00:00+23:59", "x"]),
        ("lastModified", ["updated", "9999-12-31T23:59:59-23:59", "x"]),
    ],
)
def test_a_forged_cursor_is_a_sentence_and_no_fault(house: SimpleNamespace, sort: str, cursor: list[object]) -> None:
    forged = base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode()
    with pytest.raises(Invalid, match="begin again without it"):
        house.catalog.models(viewer=SYSTEM, sort=sort, cursor=forged)


@pytest.mark.parametrize(
    "asked",
    [{"search": "a" * 60_000}, {"search": ["a"] * 1200}, {"filters": ["a"] * 1200}, {"author": "a" * 60_000}],
)
def test_more_words_than_a_database_takes_are_a_sentence_and_no_fault(
    house: SimpleNamespace, asked: dict[str, object]
) -> None:
    with pytest.raises(Invalid, match="at most 50"):
        house.catalog.models(viewer=SYSTEM, **asked)


def test_what_licences_ask_of_a_known_model_need_not_be_told(house: SimpleNamespace) -> None:
    """Llama 3.2's policy leaves multimodal models to nobody in the EU, and says nothing of text models (trap T4)."""
    told = {"org.mau_at.2024-08": 1000, "org.principal_place": "DE", "org.domicile": "DE"}
    use = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables=told)
    verdicts = {
        name: house.policy.judge(f"meta-llama/{name}", "main", use, viewer=ANONYMOUS).verdict
        for name in ("Llama-3.2-1B", "Llama-3.2-11B-Vision")
    }
    assert verdicts["Llama-3.2-1B"].passes
    assert verdicts["Llama-3.2-11B-Vision"] is Verdict.DENY


def test_a_name_that_is_taken_while_a_repository_moves_there(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(house, "demo/one")
    make(house, "demo/two")
    row, seen = house.catalog._row, []

    def before(session: object, name: str, kind: RepoType) -> object:
        seen.append(name)
        return None if len(seen) == 1 else row(session, name, kind)  # it is not there yet when it is asked first

    model = house.catalog.model("demo/one", viewer=SYSTEM)
    monkeypatch.setattr(house.catalog, "_row", before)
    with pytest.raises(RepoExists) as caught:
        house.catalog.move(model, "demo/two", actor=SYSTEM)
    assert caught.value.model.id == "demo/two" and "demo/one" in ids(house)


def test_a_collection_that_is_deleted_while_it_is_changed(
    house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(house, "demo/one")
    slug = house.catalog.create_collection("demo", "Mine", actor=SYSTEM).slug
    seen = house.catalog._seen

    def gone(session: Session, *asked: object) -> object:
        found = seen(session, *asked)
        session.execute(sa.delete(CollectionRow).execution_options(synchronize_session=False))
        return found

    monkeypatch.setattr(house.catalog, "_seen", gone)
    with pytest.raises(CollectionNotFound):
        house.catalog.update_collection(slug, actor=SYSTEM, theme="blue")
