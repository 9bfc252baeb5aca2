"""The family page and its neighbours as they are served: what a visitor reads, with and without rights."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import LineageEdge
from ecotone.catalog.evidence import evidence_of
from ecotone.engines import Options
from ecotone.publishing import AddRegular, Commit
from ecotone.vocabulary import EdgeStatus, Relation, Role
from tests.great_families import descend
from tests.hub.built import Built, bearer
from tests.publishing.weights import card, fresh, packed, tuned
from tests.web.markup import Page
from tests.web.test_managing import Pages

CHECKS = (
    '[{"name": "sampled_cosine", "figure": 0.994, "threshold": 0.5, "passed": true, "means": "nearly the same"},'
    '{"name": "<b>rank</b>", "figure": 4, "threshold": null, "passed": false, "means": "low"}]'
)


class House(Built):
    """a/base <- b/tuned (verified, checks) <- c/small (suspected); d/not (refuted); team/secret <- e/open."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, public_url=None)
        self.put("a/base")
        for child, parent, status, evidence in (
            ("b/tuned", "a/base", EdgeStatus.VERIFIED, CHECKS),
            ("c/small", "b/tuned", EdgeStatus.SUSPECTED, "weights: cosine 0.31"),
            ("d/not", "a/base", EdgeStatus.REFUTED, "weights: nothing in common"),
            ("team/secret", "a/base", EdgeStatus.DECLARED, "card"),
            ("e/open", "team/secret", EdgeStatus.DECLARED, "weights: as team/secret"),
            ("f/leaf", "a/base", EdgeStatus.DECLARED, "card"),
            ("team/hidden", "a/base", EdgeStatus.DECLARED, "card"),
        ):
            self.put(child, parent, status, evidence)
        for name in ("team/secret", "team/hidden"):
            model = self.services.catalog.model(name, viewer=SYSTEM)
            self.services.catalog.update(model, actor=SYSTEM, private=True)
        self.put("x/great")
        descend(self.services.database, "x/great", 1000)

    def put(self, name: str, parent: str = "", status: EdgeStatus = EdgeStatus.DECLARED, evidence: str = "") -> None:
        self.services.catalog.create(name, private=False, actor=SYSTEM)
        config = b'{"architectures": ["BertModel"], "model_type": "bert"}'
        files = {"README.md": b"---\nlicense: apache-2.0\n---\n", "config.json": config}
        changes = Commit(message="Add", operations=tuple(AddRegular(path, data) for path, data in files.items()))
        edges = ()
        if parent:
            made = LineageEdge(child=name, parent=parent, relation=Relation.FINETUNE, status=status, evidence=evidence)
            edges = (made,)
        self.services.publishing.commit(name, "main", changes, actor=SYSTEM, asserted_edges=edges)

    def page(self, path: str, token: str | None = None) -> str:
        answer = self.http.get(path, headers=bearer(token) | {"accept": "text/html"})
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
        return answer.text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("families"))
    yield found
    found.stop()


def test_a_parent_that_is_a_grandparent_too_stands_above_both(house: House) -> None:
    house.put("g/top")
    house.put("g/middle", "g/top")
    house.put("g/low", "g/middle")
    model = house.services.catalog.model("g/low", viewer=SYSTEM)
    also = LineageEdge(child="g/low", parent="g/top", relation=Relation.FINETUNE, status=EdgeStatus.DECLARED)
    kept = house.services.catalog.revision(model).edges
    changes = Commit(message="More", operations=(AddRegular("more.txt", b"more"),))
    house.services.publishing.commit("g/low", "main", changes, actor=SYSTEM, asserted_edges=(*kept, also))
    for path, above, below in (("g/low", "-2", "-1"), ("g/top", "1", "2")):
        levels = dict(re.findall(r'data-id="([^"]+)" data-depth="(-?\d+)"', house.page(f"/{path}/family")))
        found = sorted(int(level) for name, level in levels.items())
        assert found == sorted([0, int(above), int(below)]), f"an edge of {path} is hidden behind boxes: {levels}"
    picture = house.page("/g/low/family")
    places = set(re.findall(r'class="line" d="M([\d.]+) [\d.]+C([\d.]+)', picture))
    assert len({x for x, _ in places}) == 1 and len({bent for _, bent in places}) == 2, "one line goes around"


def test_the_tree_shows_verdict_relation_status_and_evidence_without_script(house: House) -> None:
    page = house.page("/a/base/family")
    assert 'class="box verdict-allow"' in page and 'class="edge status-verified"' in page
    assert "status-suspected" in page and "status-refuted" in page
    assert "Sampled cosine" in page.replace("sampled cosine", "Sampled cosine") and "0.994" in page
    assert "&lt;b&gt;rank" in page and "<b>rank" not in page
    assert "weights: cosine 0.31" in page
    for number in re.findall(r'href="#edge-(\d+)"', page):
        assert f'id="edge-{number}"' in page
    assert house.page("/a/base").count("/a/base/family") >= 1


def test_an_edge_found_by_weights_shows_the_checks_and_that_of_a_private_parent_shows_none(house: House) -> None:
    weights = fresh(1)
    for name, own, text in (
        ("w/base", weights, card("mit")),
        ("w/tuned", tuned(weights, 7), card("mit")),
        ("w/private", fresh(2), card("mit")),
        ("w/copy", fresh(2), card("mit")),
    ):
        house.services.catalog.create(name, private=False, actor=SYSTEM)
        files = (AddRegular("README.md", text), AddRegular("model.safetensors", packed(own)))
        house.services.publishing.commit(name, "main", Commit(message="Add", operations=files), actor=SYSTEM)
    secret = house.services.catalog.model("w/private", viewer=SYSTEM)
    house.services.catalog.update(secret, actor=SYSTEM, private=True)
    for subject in ("w/base", "w/tuned"):
        page = house.page(f"/{subject}/family")
        assert "weights: mean cosine" in page and "shared tensors</strong>" in page and "(threshold" in page
        told = house.http.get("/api/ecotone/v1/lineage/family", params={"model": subject}).json()
        (edge,) = told["edges"]
        assert edge["asserted_by"] == "weights" and {c["name"] for c in edge["evidence"]["checks"]} >= {"cosine"}
    page = house.page("/w/copy/family")
    assert "a private model" in page and "shared tensors</strong>" not in page
    assert "shared tensors</strong>" in house.page("/w/copy/family", house.tokens["reader"])


def test_a_private_member_is_unnamed_and_one_that_leads_nowhere_is_not_there(house: House) -> None:
    page = house.page("/a/base/family")
    assert "team/secret" not in page and "team/hidden" not in page
    assert "e/open" not in page and "a private model" not in page, "e/open's card named what nobody here may know of"
    answer = house.http.get("/api/ecotone/v1/lineage/family", params={"model": "a/base"}).text
    assert "team/" not in answer and '"private-1"' not in answer
    told = house.http.get("/api/ecotone/v1/lineage/family", params={"model": "e/open"}).json()
    (above,) = (m for m in told["members"] if m["depth"] < 0)
    assert (above["name"], above["known"], above["private"]) == ("team/secret", False, False)
    seen = house.page("/a/base/family", house.tokens["reader"])
    assert "team/secret" in seen and "team/hidden" in seen


def test_another_use_colours_the_tree_anew_and_nonsense_is_passed_over(house: House) -> None:
    page = house.page("/a/base/family?mode=publish_weights&purpose=research&users=5&verdict=nonsense&offset=x")
    assert "publish weights, research" in page and "verdict-allow_with_duties" in page


def test_a_thousand_descendants_are_summed_up_and_can_be_chosen(house: House) -> None:
    page = house.page("/x/great/family")
    assert "1,000 descendants" in page and len(page) < 400_000
    assert page.count('class="box') < 60 and " by finetune" in page
    some = house.page("/x/great/family?relation=quantised&q=member-000")
    assert "member-0001" in some and "member-0002" not in some and "None fits" not in some
    second = house.page("/x/great/family?offset=100")
    assert "101 to 200 of 1,000" in second


def test_a_deleted_parent_and_one_that_is_elsewhere_still_have_their_page(house: House) -> None:
    house.put("gone/base")
    house.put("gone/child", "gone/base")
    house.put("gone/other", "elsewhere/base")
    house.services.catalog.delete(house.services.catalog.model("gone/base", viewer=SYSTEM), SYSTEM)
    page = house.page("/gone/base/family")
    assert "It was deleted here" in page and "gone/child" in page
    assert "Nobody here has it" in house.page("/elsewhere/base/family")
    assert house.http.get("/no/where/family", headers={"accept": "text/html"}).status_code == 404


def test_what_if_is_for_users_and_names_clauses(house: House) -> None:
    answer = house.http.get("/a/base/family/impact", headers={"accept": "text/html"})
    assert answer.status_code in (401, 403)
    page = house.page(
        "/a/base/family/impact?licence=CC-BY-NC-4.0&mode=serve_api&purpose=commercial", house.tokens["reader"]
    )
    assert "Not allowed" in page and "CC-BY-NC-4.0, " in page
    assert "Only suspected to descend" in page
    ada = Actor("user", "ada", Role.ADMIN)
    options = Options(kind="openai", on_demand=True, url="http://127.0.0.1:9/v1")
    house.services.engines.serve("b/tuned", "main", (), ada, options)
    house.services.routes.set("assistant", ("b/tuned",), actor=ada)
    page = house.page("/a/base/family/impact?licence=withdrawn", house.tokens["reader"])
    assert Page(page).problems == []
    assert "deployment</span>" in page and "<strong>assistant</strong>" in page and "may not be called then" in page
    wrong = house.http.get(
        "/a/base/family/impact?licence=no-such", headers=bearer(house.tokens["reader"]) | {"accept": "text/html"}
    )
    assert wrong.status_code == 400 and "ecotone licence list" in wrong.text


def test_drills_are_for_administrators(house: House) -> None:
    for path in ("/ecotone/withdrawals", "/ecotone/withdrawals/w0123456789abcdef"):
        answer = house.http.get(path, headers=bearer(house.tokens["reader"]) | {"accept": "text/html"})
        assert answer.status_code == 403


def test_a_drill_is_made_and_checked_off_by_forms(house: House) -> None:
    pages = Pages(house)
    wrong = pages.sends("/ecotone/withdrawals", "make", model="no/where")
    assert wrong.status_code == 400 and 'value="no/where"' in wrong.text
    made = pages.sends("/ecotone/withdrawals", "make", model="a/base", reason="<i>a letter</i>")
    assert made.status_code == 303
    path = made.headers["location"]
    page = pages.sees(path)
    assert (
        "&lt;i&gt;a letter" in page and "What was made from it" in page and path in pages.sees("/ecotone/withdrawals")
    )
    house.services.catalog.delete(house.services.catalog.model("f/leaf", viewer=SYSTEM), SYSTEM)
    checked = pages.sends(path, "check")
    assert checked.status_code == 200 and Page(checked.text).problems == []
    assert "1 gone" in checked.text and "still there" in checked.text
    ledger = "".join(p.read_text() for p in (house.services.settings.data / "ledger").rglob("*") if p.is_file())
    assert '"withdrawal.drilled"' in ledger and '"withdrawal.checked"' in ledger
    drill = house.services.withdrawals.get(path.rpartition("/")[2])
    assert drill.proof is not None and ledger.count(drill.proof.sha256) == 2  # when it was made, and checked off


@pytest.mark.parametrize("kept", ["[", "{}", "[1, null]", '[{"name": 3}]', "[" * 5000, '{"checks": 5}', "\ud800["])
def test_evidence_that_is_no_evidence_is_shown_as_it_is(kept: str) -> None:
    assert evidence_of(kept).checks == ()
