"""The withdrawal drill: what there is of a model whose licence ended, and whether it is gone."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.app.withdrawals import CheckOff, Drill, DrillNotFound
from ecotone.catalog import LineageEdge
from ecotone.engines import Options
from ecotone.ledger.documents import problem_of
from ecotone.publishing import AddRegular, Commit
from ecotone.vocabulary import Conflict, EdgeStatus, Relation, RepoType, Role
from tests.hub.built import Built, safetensors

ADA = Actor("user", "ada", Role.ADMIN)
CONFIG = b'{"architectures": ["BertModel"], "model_type": "bert"}'


class House(Built):
    """a/base <- b/tuned (served), c/suspect; d/copy has its bytes, unreadable by name; datasets/e/rows is from it."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, public_url=None)
        services = self.services
        self.catalog = services.catalog
        self.put("a/base", "apache-2.0", large={"model.safetensors": safetensors()})
        self.put("b/tuned", "apache-2.0", "a/base")
        self.put("c/suspect", "apache-2.0")
        self.put("d/copy", "apache-2.0", large={"renamed.bin": safetensors()})
        self.put("x/other", "apache-2.0")
        edge = LineageEdge(child="c/suspect", parent="a/base", relation=Relation.FINETUNE, status=EdgeStatus.SUSPECTED)
        self.edge("c/suspect", edge, RepoType.MODEL)
        self.catalog.create("e/rows", repo_type=RepoType.DATASET, private=False, actor=SYSTEM)
        made = LineageEdge(child="e/rows", parent="a/base", relation=Relation.GENERATED_BY, status=EdgeStatus.VERIFIED)
        self.edge("e/rows", made, RepoType.DATASET)
        options = Options(kind="openai", on_demand=True, url="http://127.0.0.1:9/v1")
        services.engines.serve("b/tuned", "main", (), ADA, options)
        services.routes.set("assistant", ("b/tuned", "x/other"), actor=ADA)
        base = self.catalog.model("a/base", viewer=SYSTEM)
        with self.catalog.materialise(base, self.catalog.revision(base)):
            pass
        self.call("shop", "b/tuned")

    def put(self, name: str, licence: str, parent: str = "", large: dict[str, bytes] | None = None) -> None:
        self.catalog.create(name, private=False, actor=SYSTEM)
        card = f"---\nlicense: {licence}\n{f'base_model: {parent}' if parent else ''}\n---\n# {name}\n"
        self.commit(f"models/{name}", {"README.md": card.encode(), "config.json": CONFIG}, large)

    def edge(self, name: str, edge: LineageEdge, repo_type: RepoType) -> None:
        changes = Commit(message="Add", operations=(AddRegular("notes.md", b"x\n"),))
        asserted: dict[str, Any] = {"repo_type": repo_type, "asserted_edges": (edge,)}
        self.services.publishing.commit(name, "main", changes, actor=SYSTEM, **asserted)

    def call(self, project: str, model: str) -> None:
        number = len(list((self.services.settings.data / "ledger").rglob("*")))
        line = {"request_id": f"req-{number}-{project}", "project": project, "model": model, "key": "k1"}
        self.services.ledger_writer.append("settled", line, flush=True)

    def drilled(self, model: str = "a/base", **more: Any) -> Drill:
        found: Drill = self.services.withdrawals.make(model, actor=ADA, **more)
        return found

    def checked(self, drill: Drill) -> CheckOff:
        found: CheckOff = self.services.withdrawals.check(drill.id, actor=ADA)
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.stop()


def by_kind(drill: Drill) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in drill.items:
        found.setdefault(item.kind, []).append(item.name)
    return found


def test_a_drill_finds_what_descends_what_is_copied_and_what_calls_it_and_changes_nothing(house: House) -> None:
    before = {m.id: m.head for m in house.catalog.models(viewer=SYSTEM, limit=1000).models}
    house.services.withdrawals.look("a/base", actor=ADA)
    assert house.services.withdrawals.kept() == []
    drill = house.drilled(reason="the licensor withdrew it")
    found = by_kind(drill)
    assert found["model"] == ["a/base"] and found["dataset"] == ["datasets/e/rows"]
    assert found["derivative"] == ["b/tuned", "c/suspect"] and found["duplicate"] == ["d/copy"]
    assert found["deployment"] == ["b/tuned"] and found["route"] == ["assistant"] and found["cached"] == ["a/base"]
    assert sorted(i.mark.split(":")[1] for i in drill.items if i.kind == "object") == ["a", "d"]
    assert found["caller"] == ["shop, key k1"]
    suspect = next(i for i in drill.items if i.name == "c/suspect")
    assert suspect.status == "suspected" and "settle" in suspect.must
    assert suspect.way == ("c/suspect <- a/base (finetune, suspected)",)
    assert drill.ends and drill.ends[0]["entry"] == "Apache-2.0" and drill.ends[0]["clause"]
    assert not any("x/other" in i.name for i in drill.items)
    assert {m.id: m.head for m in house.catalog.models(viewer=SYSTEM, limit=1000).models} == before
    assert [d.model for d in house.services.engines.deployments()] == ["b/tuned"]


def test_checking_off_says_what_is_gone_what_is_still_there_and_where(house: House) -> None:
    drill = house.drilled()
    first = house.checked(drill)
    assert (first.gone, first.done) == (1, False)  # the caller has not called since
    house.services.routes.set("assistant", ("x/other",), actor=ADA)
    house.services.engines.stop("b/tuned")
    house.catalog.delete(house.catalog.model("b/tuned", viewer=SYSTEM), SYSTEM)
    house.catalog.move(house.catalog.model("c/suspect", viewer=SYSTEM), "c/renamed", actor=SYSTEM)
    found = {(c.item.kind, c.item.name): c for c in house.checked(drill).items}
    assert {found[k].state for k in (("deployment", "b/tuned"), ("route", "assistant"), ("derivative", "b/tuned"))} == {
        "gone"
    }
    moved = found["derivative", "c/suspect"]
    assert (moved.state, moved.where) == ("still there", "/c/renamed, which was c/suspect")
    assert found["cached", "a/base"].state == "still there"


def test_bytes_are_there_until_garbage_collection_took_them_though_the_model_was_deleted(house: House) -> None:
    drill = house.drilled()
    house.catalog.delete(house.catalog.model("a/base", viewer=SYSTEM), SYSTEM)
    states = {c.item.kind: c.state for c in house.checked(drill).items if c.item.name.startswith("a/base")}
    assert states == {"model": "gone", "cached": "still there", "object": "still there"}
    again = house.drilled()
    assert again.deleted and "derivative" in by_kind(again) and "model" not in by_kind(again)
    assert any(i.kind == "object" for i in again.items)


def test_a_call_after_the_drill_is_noticed_and_so_is_what_came_since(house: House) -> None:
    drill = house.drilled()
    house.call("shop", "b/tuned")
    house.put("f/late", "apache-2.0", "a/base")
    found = house.checked(drill)
    caller = next(c for c in found.items if c.item.kind == "caller")
    assert (caller.state, caller.where) == ("still there", "1 calls since")
    assert [i.name for i in found.new if i.kind == "derivative"] == ["f/late"] and not found.done


def test_who_changes_a_kept_drill_is_found_out(house: House) -> None:
    drill = house.drilled()
    document = msgspec.to_builtins(drill)
    assert problem_of(document, house.services.public_ledger_key()) == ""
    assert problem_of(document, hashlib.sha256(b"another").digest()) == "another key signed it"
    assert problem_of(document | {"model": "x/other"}) == "its words are not those that were signed"
    place = house.services.settings.folder("withdrawals") / f"{drill.id}.json"
    place.write_bytes(place.read_bytes().replace(b"c/suspect", b"c/another"))
    with pytest.raises(Conflict, match="not what was signed"):
        house.checked(drill)
    with pytest.raises(DrillNotFound):
        house.services.withdrawals.get("../../etc/passwd")
