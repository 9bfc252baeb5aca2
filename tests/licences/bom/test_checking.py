"""Others' documents: what is wrong in them is found with its place, and what is merely unknown here is not blamed."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ecotone.catalog.bills import known_starter
from ecotone.licences import KnowledgeBase
from ecotone.licences.bom.checking import Checked, check

DATA = Path(__file__).parents[4] / "shared" / "data" / "licence"
FILES = sorted((DATA / "cyclonedx").glob("1.*/*.json"))
KNOWLEDGE = KnowledgeBase.load()


def checked(document: Any) -> Checked:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = check(raw, KNOWLEDGE, known_starter)
    json.dumps([f.message for f in answer.findings]).encode()
    return answer


def bom(*components: Any, version: str = "1.6", **more: Any) -> dict[str, Any]:
    return {"bomFormat": "CycloneDX", "specVersion": version, "components": list(components), **more}


def licensed(*licences: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "library", "name": "x", "licenses": list(licences), **more}


def rules(answer: Checked) -> list[tuple[str, str]]:
    return [(f.rule, f.pointer) for f in answer.findings]


@pytest.mark.skipif(not FILES, reason="../shared/data/licence/cyclonedx is not here")
def test_the_35_documents_of_the_specification_are_valid_as_their_names_say() -> None:
    assert len(FILES) == 35
    for file in FILES:
        assert checked(file.read_bytes()).valid is file.name.startswith("valid-"), file.name


@pytest.mark.parametrize("version", ["1.4", "1.5", "1.6", "1.7"])
def test_each_version_is_read(version: str) -> None:
    answer = checked(bom(licensed({"license": {"id": "MIT"}}), version=version, version_=1) | {})
    assert not answer.valid  # version_ is no field
    good = bom(licensed({"license": {"id": "MIT"}}), version=version) | {"version": 1}
    assert (checked(good).valid, checked(good).findings, checked(good).format) == (True, (), f"cyclonedx-{version}")


def test_an_id_that_is_on_no_list_is_found_at_its_place() -> None:
    answer = checked(bom(licensed({"license": {"id": "Apache-2"}}), licensed({"expression": "MIT AND Apache2"})))
    found = dict(rules(answer))
    assert not answer.valid and "licence-id" in found
    places = [p for r, p in rules(answer) if r == "licence-id"]
    assert places == ["/components/0/licenses/0/license/id", "/components/1/licenses/0/expression"]


def test_an_expression_that_cannot_be_parsed_is_found() -> None:
    answer = checked(bom(licensed({"expression": "MIT AND ("})))
    assert answer.valid and rules(answer) == [("licence-expression", "/components/0/licenses/0/expression")]


def test_names_that_nobody_here_knows_are_told_and_not_blamed() -> None:
    answer = checked(bom(licensed({"license": {"name": "Acme Terms"}}), licensed({"expression": "LicenseRef-acme"})))
    assert (answer.findings, answer.unrecognised) == ((), ("Acme Terms", "LicenseRef-acme"))


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/licence is not here")
@pytest.mark.parametrize("encoded", [False, True])
def test_a_text_that_is_not_the_licence_beside_it_is_found(encoded: bool) -> None:
    text = (DATA / "detection" / "spdx_simple" / "GPL-3.0-only.txt").read_text()
    carried = (
        {"content": base64.b64encode(text.encode()).decode(), "encoding": "base64"} if encoded else {"content": text}
    )
    wrong = checked(bom(licensed({"license": {"id": "MIT", "text": carried}})))
    assert rules(wrong) == [("licence-text", "/components/0/licenses/0/license/id")]
    assert "GPL-3.0" in wrong.findings[0].message
    right = checked(bom(licensed({"license": {"id": "GPL-3.0-only", "text": carried}})))
    assert right.findings == ()


def model(name: str, **more: Any) -> dict[str, Any]:
    group, _, short = name.partition("/")
    return {"type": "machine-learning-model", "group": group, "name": short, **more}


def test_a_model_known_under_other_terms_is_found() -> None:
    answer = checked(bom(model("meta-llama/Llama-2-7b", licenses=[{"license": {"id": "MIT"}}])))
    assert rules(answer) == [("licence-differs", "/components/0/licenses/0/license/id")]
    assert "LicenseRef-llama-2" in answer.findings[0].message
    titled = {"license": {"name": "Llama 2 Community License Agreement"}}
    assert checked(bom(model("meta-llama/Llama-2-7b", licenses=[titled]))).findings == ()
    by_purl = {"type": "library", "name": "x", "purl": "pkg:huggingface/meta-llama/Llama-2-7b@abc"}
    assert rules(checked(bom(by_purl))) == [("licence-missing", "/components/0")]


def test_an_ancestor_that_is_known_and_left_out_is_found() -> None:
    terms = [{"expression": "LicenseRef-llama-2"}]
    alone = checked(bom(model("meta-llama/Llama-2-7b-hf", licenses=terms)))
    assert rules(alone) == [("ancestor-missing", "/components/0")]
    named = {"ancestors": [model("meta-llama/Llama-2-7b", licenses=terms)]}
    assert checked(bom(model("meta-llama/Llama-2-7b-hf", licenses=terms, pedigree=named))).findings == ()


def spdx(*elements: dict[str, Any]) -> dict[str, Any]:
    creation = {
        "type": "CreationInfo",
        "@id": "_:c",
        "specVersion": "3.0.1",
        "created": "2026-01-01T00:00:00Z",
        "createdBy": ["urn:agent"],
    }
    agent = {"type": "Agent", "spdxId": "urn:agent", "creationInfo": "_:c"}
    told = [{"creationInfo": "_:c", **e} for e in elements]
    return {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": [creation, agent, *told]}


def test_spdx_claims_are_checked_too() -> None:
    package = {"type": "ai_AIPackage", "spdxId": "urn:m", "name": "meta-llama/Llama-2-7b-hf"}
    licence = {
        "type": "simplelicensing_LicenseExpression",
        "spdxId": "urn:l",
        "simplelicensing_licenseExpression": "MIT",
    }
    link = {"type": "Relationship", "spdxId": "urn:r", "from": "urn:m", "to": ["urn:l"]}
    link["relationshipType"] = "hasDeclaredLicense"
    answer = checked(spdx(package, licence, link))
    assert answer.valid
    assert {r for r, _ in rules(answer)} == {"licence-differs", "ancestor-missing"}
    assert ("licence-differs", "/@graph/3/simplelicensing_licenseExpression") in rules(answer)


def test_the_form_of_spdx_is_checked() -> None:
    wrong = [
        {"type": "NoSuchClass", "spdxId": "urn:1"},
        {"type": "Relationship", "spdxId": "urn:2", "from": "urn:1", "to": [], "relationshipType": "loves"},
        {"type": "ai_AIPackage", "name": 3, "colour": "red"},
        {"type": "dataset_DatasetPackage", "spdxId": "urn:4"},
    ]
    told = {f.pointer: f.message for f in checked(spdx(*wrong)).findings}
    assert "no class" in told["/@graph/2/type"]
    assert "loves" in told["/@graph/3/relationshipType"] and "at least one" in told["/@graph/3/to"]
    assert told["/@graph/4"].endswith("needs an `spdxId`") and "colour" in told["/@graph/4/colour"]
    assert "dataset_datasetType" in told["/@graph/5"]
