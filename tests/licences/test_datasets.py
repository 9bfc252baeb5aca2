"""Dataset licences: what reaches a model that was trained on the data, and what data made from the data keeps."""

from typing import Any

import pytest

from ecotone.licences import Decision, Edge, Family, KnowledgeBase, Node, Use, judge
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
FREE = ("CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "C-UDA-1.0", "O-UDA-1.0", "PDDL-1.0")
ATTRIBUTED = ("ODC-By-1.0", "ODbL-1.0", "etalab-2.0")


def trained(licence: str, mode: str = "serve_api", positions: dict[str, str] | None = None) -> Decision:
    nodes = {"m": Node("m", instruments=("MIT",)), "d": Node("d", instruments=(licence,), kind="dataset")}
    graph = Family("m", nodes, (Edge("m", "d", Relation.TRAINED_ON),))
    declared = "mit" if mode == "publish_weights" else None
    asked = Use(mode=Mode(mode), purpose=Purpose.COMMERCIAL, declared_licence=declared)
    return judge(KB, graph, asked, positions)


def data(licence: str, mode: str, **more: Any) -> Decision:
    graph = Family("d", {"d": Node("d", instruments=(licence,), kind="dataset")})
    return judge(KB, graph, Use(mode=Mode(mode), purpose=Purpose.COMMERCIAL, **more))


@pytest.mark.parametrize("licence", FREE)
@pytest.mark.parametrize("mode", ["serve_api", "publish_weights"])
def test_results_are_free_where_the_text_says_so(licence: str, mode: str) -> None:
    """A robot that warns of copyleft in CDLA-Sharing data makes a team drop data that it may train on."""
    for choice in ("none", "attribution", "full"):
        found = trained(licence, mode, {"dataset_propagation": choice})
        assert found.verdict.passes, choice
        assert not {"same_licence", "attribution"} & {d.duty for d in found.duties}, choice


@pytest.mark.parametrize("licence", ATTRIBUTED)
def test_attribution_reaches_the_model_as_the_organisation_reads_it(licence: str) -> None:
    assert "attribution" in {d.duty for d in trained(licence).duties}
    assert not trained(licence, positions={"dataset_propagation": "none"}).duties
    if licence != "etalab-2.0":
        neither = trained(licence, positions={"model_from_database": "neither"})
        assert "attribution" not in {d.duty for d in neither.duties}


def test_a_model_as_derivative_database_is_share_alike_and_that_is_a_choice() -> None:
    found = trained("ODbL-1.0", positions={"model_from_database": "derivative_database"})
    assert "same_licence" in {d.duty for d in found.duties}
    assert "same_licence" not in {d.duty for d in trained("ODbL-1.0").duties}


@pytest.mark.parametrize(
    ("licence", "may"), [("nvidia-data-training-2025", False), ("CDLA-Permissive-2.0", True), ("ODbL-1.0", True)]
)
def test_data_for_training_is_not_always_data_to_pass_on(licence: str, may: bool) -> None:
    assert data(licence, "finetune").verdict.passes
    assert data(licence, "publish_weights").verdict.passes is may
    assert trained(licence, positions={"dataset_propagation": "full"}, mode="run").verdict.passes


@pytest.mark.parametrize("licence", ["ODbL-1.0", "CDLA-Sharing-1.0", "LGPLLR"])
def test_data_made_from_share_alike_data_stays_under_it(licence: str) -> None:
    nodes = {n: Node(n, instruments=(i,), kind="dataset") for n, i in (("d", "MIT"), ("p", licence))}
    graph = Family("d", nodes, (Edge("d", "p", Relation.MERGE),))
    asked = Use(mode=Mode.PUBLISH_WEIGHTS, purpose=Purpose.NONCOMMERCIAL, declared_licence="mit")
    assert judge(KB, graph, asked).verdict is Verdict.DENY
    kept = Family("d", nodes | {"d": Node("d", instruments=(licence,), kind="dataset")}, graph.edges)
    asked = Use(mode=Mode.PUBLISH_WEIGHTS, purpose=Purpose.NONCOMMERCIAL, declared_licence=licence)
    assert judge(KB, kept, asked).verdict.passes
