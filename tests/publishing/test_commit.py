"""What a commit does to a model: all or nothing, once, in order, judged as a whole."""

import json
import threading
import time
from types import SimpleNamespace

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import BadPath, EntryNotFound, ModelNotFound, ReservedId, RevisionNotFound, StaleParent
from ecotone.catalog.gitformat import object_id
from ecotone.publishing import AddLarge, AddRegular, Commit, Delete, DeleteFolder, contents
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, Refused, Role, TooLarge

LLAMA = b"---\nlicense: %s\nbase_model: meta-llama/Llama-2-7b\n---\n# Mine\n"
READER = Actor("user", "rita", Role.READ)
WRITER = Actor("user", "will", Role.WRITE)


@pytest.fixture
def model(house: SimpleNamespace) -> str:
    return str(house.catalog.create("demo/one", private=False, actor=SYSTEM).id)


def head(house: SimpleNamespace, model_id: str = "demo/one") -> str:
    return str(house.catalog.model(model_id, viewer=SYSTEM).head)


def test_files_arrive_and_the_commit_is_a_git_commit(house: SimpleNamespace, model: str) -> None:
    before = head(house)
    done = house.publish(model, {"a.txt": b"one", "b/c.txt": b"two"})
    found = house.catalog.model(model, viewer=SYSTEM)
    revision = house.catalog.revision(found)
    assert revision.id == done.revision_id == found.head and revision.parents == (before,)
    kind, data = house.storage.git_object(revision.id)
    assert kind == "commit" and object_id("commit", data) == revision.id and revision.tree.encode() in data
    assert [f.path for f in house.catalog.files(revision)] == [".gitattributes", "a.txt", "b/c.txt"]
    assert b"".join(house.storage.read(house.catalog.file(revision, "b/c.txt").content)) == b"two"
    assert house.catalog.file(revision, "a.txt").last_commit == revision.id
    assert house.catalog.file(revision, ".gitattributes").last_commit == before


def test_a_bad_operation_leaves_everything_as_it_was(house: SimpleNamespace, model: str) -> None:
    before = head(house)
    bad: list[tuple[object, type[EcotoneError]]] = [
        (AddRegular("../evil", b"x"), BadPath),
        (AddRegular(".gitattributes/x", b"x"), BadPath),
        (AddRegular("A.txt", b"x"), BadPath),
        (Delete("nothing"), EntryNotFound),
        (DeleteFolder("nothing/"), EntryNotFound),
        (AddLarge("m.bin", "0" * 64, 3), EcotoneError),
    ]
    for operation, error in bad:
        with pytest.raises(error):
            house.publishing.commit(
                model, "main", Commit(message="x", operations=(AddRegular("a.txt", b"1"), operation)), actor=SYSTEM
            )
    assert head(house) == before


def test_delete_and_delete_folder(house: SimpleNamespace, model: str) -> None:
    house.publish(model, {"a.txt": b"1", "d/x": b"2", "d/e/y": b"3", "dd": b"4"})
    house.publishing.commit(
        model, "main", Commit(message="less", operations=(Delete("a.txt"), DeleteFolder("d/"))), actor=SYSTEM
    )
    revision = house.catalog.revision(house.catalog.model(model, viewer=SYSTEM))
    assert [f.path for f in house.catalog.files(revision)] == [".gitattributes", "dd"]


def test_a_stale_parent_is_refused_and_nothing_is_lost(house: SimpleNamespace, model: str) -> None:
    before = head(house)
    house.publish(model, {"a.txt": b"1"}, parent=before)
    with pytest.raises(StaleParent) as caught:
        house.publish(model, {"b.txt": b"2"}, parent=before)
    assert caught.value.head == head(house)


def test_a_commit_sent_twice_is_made_once(house: SimpleNamespace, model: str) -> None:
    before = head(house)
    first = house.publish(model, {"a.txt": b"1"}, parent=before)
    again = house.publish(model, {"a.txt": b"1"}, parent=before)
    assert again.revision_id == first.revision_id
    assert len(house.catalog.commits(house.catalog.model(model, viewer=SYSTEM))) == 2


def test_equal_files_make_no_commit(house: SimpleNamespace, model: str) -> None:
    first = house.publish(model, {"a.txt": b"1"})
    assert house.publish(model, {"a.txt": b"1"}, message="Other words").revision_id == first.revision_id


def test_twenty_writers_without_parent_are_put_on_top_of_each_other_and_none_is_sent_away(
    house: SimpleNamespace, model: str
) -> None:
    failures: list[Exception] = []

    def write(n: int) -> None:
        try:
            house.publish(model, {f"{n}.txt": b"x"}, message=f"Add {n}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    revision = house.catalog.revision(house.catalog.model(model, viewer=SYSTEM))
    assert failures == []
    assert {f"{n}.txt" for n in range(20)} <= {f.path for f in house.catalog.files(revision)}


def test_who_may_not_write(house: SimpleNamespace, model: str) -> None:
    change = Commit(message="x", operations=(AddRegular("a", b"1"),))
    with pytest.raises(Forbidden):
        house.publishing.commit(model, "main", change, actor=READER)
    with pytest.raises(ModelNotFound):
        house.publishing.commit("demo/none", "main", change, actor=WRITER)
    with pytest.raises(RevisionNotFound):
        house.publishing.commit(model, "other", change, actor=WRITER)
    for fixed in ("0" * 40, "refs/tags/v1"):
        with pytest.raises(Invalid):
            house.publishing.commit(model, fixed, change, actor=WRITER)
    with pytest.raises(ReservedId):
        house.catalog.create("meta-llama/Llama-2-7b", private=False, actor=WRITER)


def test_mit_on_llama_2_is_refused_by_name_and_clause(house: SimpleNamespace, model: str) -> None:
    before = head(house)
    with pytest.raises(Refused) as caught:
        house.publish(model, {"README.md": LLAMA % b"mit", "w.txt": b"weights"})
    assert "Llama 2" in caught.value.message and "1.b.i" in caught.value.message and "mit" in caught.value.message
    assert "\n" not in caught.value.message
    assert head(house) == before
    record = list(house.ledger.records("decision"))[-1]
    assert "mit" in str(record) and "False" in str(record)


def test_the_licence_of_the_base_itself_is_taken(house: SimpleNamespace, model: str) -> None:
    done = house.publish(model, {"README.md": LLAMA % b"llama2"})
    assert done.decision is not None and done.decision.verdict != "deny"
    edges = house.catalog.parents(
        house.catalog.model(model, viewer=SYSTEM), house.catalog.revision(house.catalog.model(model, viewer=SYSTEM))
    )
    assert [(e.parent, e.relation) for e in edges] == [("meta-llama/Llama-2-7b", "finetune")]


def test_each_revision_is_judged_as_a_whole(house: SimpleNamespace, model: str) -> None:
    """Parents and licence may come in different commits: the one that completes the breach is refused."""
    house.publish(model, {"adapter_config.json": b'{"base_model_name_or_path": "meta-llama/Llama-2-7b"}'})
    with pytest.raises(Refused):
        house.publish(model, {"README.md": b"---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b\n---\n"})


def test_inherited_terms_pass_through_models_in_between(house: SimpleNamespace, model: str) -> None:
    house.catalog.create("demo/two", private=False, actor=SYSTEM)
    house.publish(model, {"README.md": LLAMA % b"llama2"})
    with pytest.raises(Refused):
        house.publish("demo/two", {"README.md": b"---\nlicense: mit\nbase_model: demo/one\n---\n"})
    house.catalog.delete(house.catalog.model(model, viewer=SYSTEM), SYSTEM)
    with pytest.raises(Refused):
        house.publish("demo/two", {"README.md": b"---\nlicense: mit\nbase_model: demo/one\n---\n"}, message="again")


def test_an_own_non_commercial_model_may_be_published(house: SimpleNamespace, model: str) -> None:
    assert house.publish(model, {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"}).revision_id == head(house)


def test_unknown_licences_are_taken_with_a_warning(house: SimpleNamespace, model: str) -> None:
    done = house.publish(model, {"README.md": b"---\nlicense: other\nlicense_name: house-rules\n---\n"})
    assert done.warnings and done.decision is not None and done.decision.verdict == "unknown"


def test_who_forgot_the_licence_is_told_where_to_write_it(house: SimpleNamespace, model: str) -> None:
    assert any("add `license: ID`" in warning for warning in house.publish(model, {"a.txt": b"a"}).warnings)
    other = house.publish(model, {"README.md": b"---\nlicense: other\nlicense_name: rules\n---\n"})
    assert other.warnings and not any("names no licence" in warning for warning in other.warnings)


def test_a_malformed_card_is_a_finding(house: SimpleNamespace, model: str) -> None:
    done = house.publish(model, {"README.md": b"---\nlicense: [\n---\n# Text\n"})
    revision = house.catalog.revision(house.catalog.model(model, viewer=SYSTEM))
    assert revision.card == {} and any("YAML" in finding for finding in revision.findings)
    assert any("YAML" in warning for warning in done.warnings)


def test_weights_that_are_none_are_a_finding(house: SimpleNamespace, model: str) -> None:
    house.publish(model, {"model.safetensors": b"\xff" * 64})
    revision = house.catalog.revision(house.catalog.model(model, viewer=SYSTEM))
    assert any("model.safetensors" in finding for finding in revision.findings)


def test_weights_are_counted(house: SimpleNamespace, model: str) -> None:
    header = b'{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
    weights = len(header).to_bytes(8, "little") + header + b"\0" * 24
    house.publish(model, {"model.safetensors": weights})
    house.publish(model, {"b.txt": b"unrelated"})
    revision = house.catalog.revision(house.catalog.model(model, viewer=SYSTEM))
    assert revision.weights["parameters"] == {"F32": 6} and revision.weights["total"] == 6


def test_what_the_card_check_says(house: SimpleNamespace) -> None:
    check = house.publishing.check_card
    errors, _ = check((LLAMA % b"mit").decode())
    assert len(errors) == 1 and "Llama 2" in errors[0] and "1.b.i" in errors[0]
    assert check("---\nlicense: apache-2.0\n---\n")[0] == []
    assert check("---\nlicense: [\n---\n")[0] and check("no front matter")[0] == []


def header(number: int) -> bytes:
    """Weights of that many empty tensors."""
    table = {f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(number)}
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize("name", ["../1-abc/model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", 7])
def test_an_index_that_would_load_another_models_weights_is_refused(
    house: SimpleNamespace, model: str, name: object
) -> None:
    before = head(house)
    with pytest.raises(Invalid, match=r"a/model\.safetensors\.index\.json is refused: it names .*without folders"):
        house.publish(model, {"a/model.safetensors.index.json": json.dumps({"weight_map": {"w": name}}).encode()})
    assert head(house) == before


def test_an_index_may_come_before_its_shards_and_says_so(house: SimpleNamespace, model: str) -> None:
    """Clients send large folders in several commits."""
    table = json.dumps({"weight_map": {"w": "one.safetensors", "v": "two.safetensors"}}).encode()
    first = house.publish(model, {"s/model.safetensors.index.json": table, "other.index.json": b"[1]"})
    assert any("names 2 files that are not here yet, one.safetensors among them" in w for w in first.warnings)
    files = {"s/one.safetensors": header(0), "s/two.safetensors": header(0)}
    assert not any("not here yet" in w for w in house.publish(model, files).warnings)


def test_an_absurd_header_is_refused_before_it_costs_anything(
    house: SimpleNamespace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One upload would take a processor for many seconds, and each later reading of the headers again."""
    start = time.process_time()
    with pytest.raises(TooLarge, match=r"m\.safetensors is refused: .*100000 tensors.*more files"):
        house.publish(model, {"m.safetensors": header(100_010)})
    assert time.process_time() - start < 60
    monkeypatch.setattr(contents, "MOST_TENSORS_READ", 100)
    house.publish(model, {f"{n}.safetensors": header(90) for n in range(50)})  # the same bytes are read once
    with pytest.raises(TooLarge, match="several parts"):
        house.publish(model, {f"{n}.safetensors": header(40 + n) for n in range(4)})


def test_a_copy_of_a_gated_model_is_gated_from_its_first_moment(house: SimpleNamespace, model: str) -> None:
    house.publish(model, {"README.md": b"---\nlicense: apache-2.0\n---\n# Mine\n"})
    source = house.catalog.update(house.catalog.model(model, viewer=SYSTEM), actor=SYSTEM, gated="manual")
    gates: list[str | None] = []
    house.catalog.events.listen(lambda _session, event: gates.append(event.model.gated))
    house.publishing.duplicate(source, "demo/copy", actor=SYSTEM)
    assert len(gates) >= 3 and set(gates) == {"manual"}
