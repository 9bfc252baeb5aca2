"""Documents that want to break the reader: a finding each, in bounded time, and never an error."""

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotone.catalog.bills import known_starter
from ecotone.licences import KnowledgeBase
from ecotone.licences.bom.checking import Checked, check
from ecotone.licences.bom.reading import LARGEST

KNOWLEDGE = KnowledgeBase.load()
START = b'{"bomFormat":"CycloneDX","specVersion":"1.6",'


def checked(raw: bytes) -> Checked:
    return check(raw, KNOWLEDGE, known_starter)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no JSON"),
        (b"[" * 300_000, "nested"),
        (b'{"a":' * 300_000, "nested"),
        (START + b'"x":' + b"[" * 150 + b"]" * 150 + b"}", "nested more than 100"),
        (START + b'"x":"' + b"a" * LARGEST + b'"}', "larger than"),
        (START + b'"x":[' + b"0," * 300_000 + b"0]}", "values"),
        (START + b'"version":' + b"9" * 10_000 + b"}", "is not of type 'integer'"),
        (START + b'"version":1e999}', "is not of type 'integer'"),
        (START + b'"version":NaN}', "NaN"),
        (START + b'"specVersion":"1.5"}', "twice"),
        (b'{"bomFormat":"CycloneDX\xff"}', "UTF-8"),
        (b"<bom/>", "XML"),
        (b"null", "neither"),
        (START + b'"components":{"a":1},"metadata":[],"services":"x"}', "is not of type"),
    ],
)
def test_bytes_that_are_no_document_are_a_finding(raw: bytes, words: str) -> None:
    started = time.thread_time()
    answer = checked(raw)
    assert time.thread_time() - started < 10
    assert answer.findings and any(words in f.message for f in answer.findings)
    assert all(len(f.message) <= 700 and len(f.pointer) <= 600 for f in answer.findings)


def test_paths_and_half_characters_in_names_go_nowhere() -> None:
    component = {
        "type": "machine-learning-model",
        "group": "..",
        "name": "../../etc/passwd",
        "purl": "pkg:huggingface/../..%2F..%2Fetc@x",
        "licenses": [{"license": {"name": "\ud800"}}, {"license": {"id": "../MIT"}}],
    }
    answer = checked(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [component]}).encode())
    assert "licence-id" in {f.rule for f in answer.findings}
    "".join([*(f.message for f in answer.findings), *answer.unrecognised]).encode()


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "name",
                    "licenses",
                    "license",
                    "expression",
                    "id",
                    "text",
                    "content",
                    "pedigree",
                    "ancestors",
                    "components",
                    "purl",
                    "spdxId",
                    "@id",
                    "from",
                    "to",
                    "relationshipType",
                    "creationInfo",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(_JSON, st.sampled_from(["1.4", "1.7", "3"]))
def test_any_values_in_any_place_are_answered(value: Any, version: str) -> None:
    if version == "3":
        document = {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": [value, value]}
    else:
        document = {"bomFormat": "CycloneDX", "specVersion": version, "components": [value], "metadata": value}
    answer = checked(json.dumps(document).encode())
    assert answer.format is not None
    "".join(f.message for f in answer.findings).encode()
