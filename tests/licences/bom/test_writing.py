"""What a consumer of our documents relies on: the form, declared beside concluded, ancestors, and nothing invented."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ecotone.catalog.bills import FORMATS, written
from ecotone.licences import Edge, Family, Node
from ecotone.licences.bom import validation
from ecotone.licences.bom.checking import KnownModel, check
from ecotone.licences.bom.facts import Bill, Descent, FilePart, Licensing, Work, bill_of
from ecotone.vocabulary import Relation
from tests.licences.bom.families import KNOWLEDGE, bills

MOMENT = "2026-01-01T00:00:00Z"


def made(bill: Bill, form: str) -> dict[str, Any]:
    return json.loads(json.dumps(written(bill, KNOWLEDGE, form, timestamp=MOMENT)))  # type: ignore[no-any-return]


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {p["name"].removeprefix("ecotone:"): p["value"] for p in component["properties"]}


def nobody(model_id: str, revision: str | None) -> KnownModel | None:
    return None


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(bills())
def test_any_family_gives_valid_documents_in_which_our_own_check_finds_nothing(bill: Bill) -> None:
    for form in FORMATS:
        document = made(bill, form)
        claimed = validation.format_of(document)
        assert claimed is not None and validation.problems(document, claimed) == []
        answer = check(json.dumps(document).encode(), KNOWLEDGE, nobody)
        assert (answer.valid, answer.findings) == (True, ())
        assert made(bill, form) == document


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(bills())
def test_spdx_s_own_library_reads_what_we_write(bill: Bill) -> None:
    model = pytest.importorskip("spdx_python_model.bindings.v3_0_1.model", reason="pip install spdx-python-model")
    document = made(bill, "spdx-3")
    found = model.SHACLObjectSet()
    model.JSONLDDeserializer().deserialize_data(document, found)
    assert not found.missing_ids


def family() -> Bill:
    """A merge of two: one adapter of a model that may not be seen, one trained on what a model wrote."""
    nodes = {
        "me/merge": Node("me/merge", instruments=("Apache-2.0", "llama-2")),
        "me/a": Node("me/a", instruments=("llama-2",)),
        "you/b": Node("you/b", instruments=("unknown",)),
        "you/secret": Node("you/secret", instruments=("MIT",), visible=False),
        "datasets/me/d": Node("datasets/me/d", instruments=("CC-BY-4.0",), kind="dataset"),
        "openai/gpt": Node("openai/gpt", instruments=("openai-services-agreement-2026-01-01",), kind="api"),
    }
    edges = (
        Edge("me/merge", "me/a", Relation.MERGE),
        Edge("me/merge", "you/b", Relation.MERGE),
        Edge("me/a", "you/secret", Relation.ADAPTER),
        Edge("me/merge", "datasets/me/d", Relation.TRAINED_ON),
        Edge("datasets/me/d", "openai/gpt", Relation.GENERATED_BY),
    )
    subject = Work(
        id="me/merge",
        revision="a" * 40,
        hub="",
        licensing=Licensing(declared="apache-2.0", concluded=("Apache-2.0", "llama-2"), reason="the text is another"),
        files=(FilePart(path="model.safetensors", sha256="b" * 64, size=9, role="weights"),),
    )
    descents = (
        Descent(child="me/merge", parent="me/a", relation=Relation.MERGE, parent_revision="c" * 40, evidence="weights"),
        Descent(child="me/a", parent="you/secret", relation=Relation.ADAPTER, evidence="card of you/secret"),
    )
    return bill_of(Family("me/merge", nodes, edges), [subject], descents)


@pytest.mark.parametrize("form", ["cyclonedx-1.6", "cyclonedx-1.7"])
def test_licences_are_told_apart_as_declared_and_concluded(form: str) -> None:
    component = made(family(), form)["metadata"]["component"]
    told = [
        (e["license"].get("id") or e["license"]["name"], e["license"]["acknowledgement"]) for e in component["licenses"]
    ]
    llama = "Llama 2 Community License Agreement"
    assert told == [("Apache-2.0", "declared"), ("Apache-2.0", "concluded"), (llama, "concluded")]
    assert component["licenses"][2]["license"]["licensing"]["altIds"] == ["LicenseRef-llama-2"]
    assert component["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert component["purl"] == f"pkg:huggingface/me/merge@{'a' * 40}"


def test_a_merge_names_both_ancestors_with_relation_and_revision() -> None:
    ancestors = made(family(), "cyclonedx-1.7")["metadata"]["component"]["pedigree"]["ancestors"]
    assert [(f"{a['group']}/{a['name']}", properties(a)["relation"]) for a in ancestors] == [
        ("me/a", "merge"),
        ("you/b", "merge"),
    ]
    assert (ancestors[0]["version"], properties(ancestors[0])["lineage:evidence"]) == ("c" * 40, "weights")
    assert properties(ancestors[1])["lineage:revision"] == "unknown"


def test_what_is_unknown_says_so_and_why() -> None:
    document = made(family(), "cyclonedx-1.7")
    unknown = next(c for c in document["components"] if c["name"] == "b")
    assert "licenses" not in unknown
    assert properties(unknown)["licence:concluded"] == "NOASSERTION"
    assert "nothing is known" in properties(unknown)["licence:concluded:reason"]
    assert document["compositions"][0]["aggregate"] == "incomplete"


@pytest.mark.parametrize("form", FORMATS)
def test_a_work_that_may_not_be_seen_leaves_no_trace_of_its_name(form: str) -> None:
    text = json.dumps(made(family(), form))
    assert "secret" not in text and "undisclosed-1" in text


def test_data_sets_and_the_models_that_wrote_them_are_components() -> None:
    document = made(family(), "cyclonedx-1.7")
    data = next(c for c in document["components"] if c["type"] == "data")
    card = document["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert [(a["name"], properties(a)["relation"]) for a in data["pedigree"]["ancestors"]] == [("gpt", "generated_by")]
    assert {d["ref"] for d in document["dependencies"]} >= {data["bom-ref"], "api:openai/gpt"}


def test_spdx_has_one_declared_and_one_concluded_licence_for_each_package() -> None:
    graph = made(family(), "spdx-3")["@graph"]
    packages = [e["spdxId"] for e in graph if e["type"] in ("ai_AIPackage", "dataset_DatasetPackage")]
    for kind in ("hasDeclaredLicense", "hasConcludedLicense"):
        from_each = sorted(e["from"] for e in graph if e.get("relationshipType") == kind)
        assert from_each == sorted(packages)
    kinds = {e["relationshipType"] for e in graph if e["type"] == "Relationship"}
    assert {"ancestorOf", "trainedOn", "generates"} <= kinds
    document = next(e for e in graph if e["type"] == "SpdxDocument")
    assert "ai" not in document["profileConformance"]  # nobody knows when these were released


def test_a_choice_keeps_its_or_in_both_versions() -> None:
    licensing = Licensing(declared="mit or apache-2.0", concluded=("MIT",))
    bill = bill_of(Family("x", {"x": Node("x", instruments=("MIT",))}), [Work(id="x", licensing=licensing)])
    newer, older = (made(bill, f"cyclonedx-{v}")["metadata"]["component"]["licenses"][0] for v in ("1.7", "1.6"))
    assert newer == {"expression": "Apache-2.0 OR MIT", "acknowledgement": "declared"}
    assert older == {"license": {"name": "Apache-2.0 OR MIT", "acknowledgement": "declared"}}


def test_time_and_serial_can_be_set_and_nothing_else_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    serial = "11111111-2222-4333-8444-555555555555"
    document = written(family(), KNOWLEDGE, "cyclonedx-1.7", serial=serial)
    assert (document["metadata"]["timestamp"], document["serialNumber"]) == (
        "1970-01-01T00:00:00Z",
        f"urn:uuid:{serial}",
    )
    later = written(family(), KNOWLEDGE, "cyclonedx-1.7", timestamp=MOMENT)
    again = {**later, "serialNumber": document["serialNumber"]}
    again["metadata"] = {**later["metadata"], "timestamp": "1970-01-01T00:00:00Z"}
    assert again == document


def test_names_that_look_alike_are_told_apart() -> None:
    files = tuple(FilePart(path=p, sha256="b" * 64, size=1) for p in ("\x01", "\x02", "a  b", "a b"))
    bill = bill_of(Family("x", {"x": Node("x")}), [Work(id="x", files=files)])
    parts = made(bill, "cyclonedx-1.7")["metadata"]["component"]["components"]
    assert [p["name"] for p in parts] == ["unnamed", "unnamed (2)", "a b", "a b (2)"]
    assert len({p["bom-ref"] for p in parts}) == 4
