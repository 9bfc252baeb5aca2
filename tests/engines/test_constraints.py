"""Answers held to a schema keep it, written by the worst of writers; what cannot be kept is refused by its place."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ecotone.engines.server import schemas
from ecotone.engines.server.errors import RequestError

SCHEMAS: dict[str, dict[str, Any]] = {
    "person": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mail": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]{1,5}@[a-z]{1,5}$"}]},
        },
        "required": ["name", "age", "mail"],
        "additionalProperties": False,
    },
    "list": {
        "type": "array",
        "minItems": 1,
        "maxItems": 4,
        "items": {"enum": ["red", "green", 3, None, {"x": True}]},
    },
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "leaf": {"type": "boolean"},
                    "left": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
                },
                "required": ["leaf", "left"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "numbers": {
        "type": "object",
        "properties": {
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "even": {"type": "integer", "multipleOf": 2, "minimum": -8, "maximum": 8},
            "id": {"type": "string", "format": "uuid"},
        },
        "required": ["share", "even", "id"],
        "additionalProperties": False,
    },
    "pair": {
        "type": "array",
        "prefixItems": [{"const": "é漢"}, {"type": ["boolean", "null"]}],
        "minItems": 2,
        "items": False,
    },
}


@pytest.fixture(scope="module")
def writers(tiny: Any, made: dict[str, Path]) -> Any:
    """The tiny LLaMA's tokenizer over bytes, and grammars for it."""
    pytest.importorskip("llguidance")
    from transformers import AutoTokenizer

    from ecotone.engines.server.constraints import Grammars

    tokenizer = AutoTokenizer.from_pretrained(made["llama"])
    return tokenizer, Grammars(tokenizer, [1], len(tokenizer) + 7)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_random_logits_at_temperature_one_keep_the_schema(name: str, writers: Any) -> None:
    """100 answers for each of five schemas, drawn from logits that know nothing."""
    import torch

    from ecotone.engines.server.requests import Sampling
    from ecotone.engines.server.sampling import Chooser

    tokenizer, grammars = writers
    grammar = grammars.compile(schemas.checked(SCHEMAS[name], "response_format", ""), "response_format")
    validator = jsonschema.Draft202012Validator(SCHEMAS[name])
    torch.manual_seed(5)
    seen = set()
    for number in range(100):
        chooser = Chooser(Sampling(seed=number), None, frozenset({1}), constraint=grammar.constraint())
        made: list[int] = []
        while not chooser.finished and len(made) < 2000:
            made.append(chooser.choose(torch.randn(len(tokenizer) + 7), made).token)
            if made[-1] == 1:
                break
        assert chooser.finished
        text = tokenizer.decode(made, skip_special_tokens=True)
        validator.validate(json.loads(text))
        seen.add(text)
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "object", "patternProperties": {}}, "/patternProperties"),
        ({"properties": {"a/b": {"items": {"uniqueItems": True}}}}, "/properties/a~1b/items/uniqueItems"),
        ({"anyOf": [{}, {"not": {}}]}, "/anyOf/1/not"),
        ({"$defs": {"x": {"oneOf": []}}}, "/$defs/x/oneOf"),
        ({"x-guidance": {"whitespace_flexible": True}}, "/x-guidance"),
        ({"format": "zebra"}, "/format"),
        ({"format": ["date"]}, "/format"),
        ({"$ref": "http://elsewhere/schema"}, "/$ref"),
        ({"properties": []}, "/properties"),
        ({"items": 7}, "/items"),
    ],
)
def test_a_keyword_that_would_not_be_kept_is_refused_by_name_and_place(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(RequestError) as refused:
        schemas.of_response_format({"type": "json_schema", "json_schema": {"schema": schema}})
    assert f"/json_schema/schema{place}" in refused.value.message and refused.value.status == 400


@pytest.mark.parametrize(
    "schema", [{"type": "zebra"}, {"$ref": "#/$defs/none"}, {"type": "integer", "minimum": 5, "maximum": 3}]
)
def test_a_schema_that_is_none_is_refused_before_anything_is_computed(schema: dict[str, Any], writers: Any) -> None:
    with pytest.raises(RequestError, match="response_format") as refused:
        writers[1].compile(json.dumps(schema), "response_format")
    assert refused.value.status == 400


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"items": found}
    return found


def test_a_schema_is_bounded() -> None:
    for schema in (deep(100), {"enum": ["x" * 200_000]}):
        with pytest.raises(RequestError, match="at most"):
            schemas.checked(schema, "response_format", "")


def test_hugging_faces_form_of_a_schema_is_taken() -> None:
    assert json.loads(schemas.of_response_format({"type": "json_object", "value": {"type": "array"}}) or "") == {
        "type": "array"
    }
    assert json.loads(schemas.of_response_format({"type": "json_object"}) or "") == {"type": "object"}
    assert schemas.of_response_format({"type": "text"}) is schemas.of_response_format(None) is None
