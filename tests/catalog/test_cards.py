"""Cards come from anybody: a broken or hostile one must cost its author a message and nobody else anything."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.catalog import BadCard
from ecotone.catalog.cards import parse, tags_of, title_of


def card(front: str, text: str = "# Title\n") -> str:
    return f"---\n{front}\n---\n{text}"


def test_metadata_and_text() -> None:
    found, text = parse(card("license: apache-2.0\ntags: [a, b]", "# Hello\nWorld\n"))
    assert found == {"license": "apache-2.0", "tags": ["a", "b"]}
    assert text == "# Hello\nWorld\n" and title_of(text) == "Hello"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_of_any_system(newline: str) -> None:
    found, text = parse(card("license: mit", "x").replace("\n", newline))
    assert found == {"license": "mit"} and text == "x"


def test_no_front_matter_is_no_metadata() -> None:
    assert parse("# Only text\n---\nmore") == ({}, "# Only text\n---\nmore")
    assert parse("") == ({}, "")
    assert parse("---\n---\ntext") == ({}, "text")


def test_norwegian_is_no_boolean_and_dates_stay_text() -> None:
    found, _ = parse(card("language: no\ndate: 2024-01-02\nversion: 1.10\nclock: 12:30:45\nn: 012\nyes: on"))
    assert found == {"language": "no", "date": "2024-01-02", "version": 1.1, "clock": "12:30:45", "n": 12, "yes": "on"}


@pytest.mark.parametrize(
    "front",
    ["a: [", "a: b: c", "\t- x", "- a\n- b", "just text", "a: &x [1]\nb: *x", "!!python/object:os.system x",
     "a: !!binary x?", "{" * 2000, "? [a]\n: b", "a: !!timestamp x", "'", "\x00", "[" * 30 + "]" * 30],
)  # fmt: skip
def test_what_cannot_be_read_is_a_bad_card(front: str) -> None:
    with pytest.raises(BadCard) as caught:
        parse(card(front))
    assert "README.md" in caught.value.message


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
    )
    start = time.monotonic()
    with pytest.raises(BadCard, match="anchors"):
        parse(card(bomb))
    assert time.monotonic() - start < 30, "nine to the twentieth values"


def test_size_and_number_are_bounded() -> None:
    with pytest.raises(BadCard):
        parse(card("a: " + "x" * 1_100_000))
    with pytest.raises(BadCard, match="too deep or too long"):
        parse(card("\n".join(f"k{i}: 1" for i in range(60_000))[:900_000]))


def test_the_line_of_an_error_is_that_of_the_file() -> None:
    with pytest.raises(BadCard, match="line 3"):
        parse(card("license: mit\nlanguage: en: x\ntags: [a]"))


@given(st.text(max_size=200))
def test_any_text_gives_json_or_a_bad_card(front: str) -> None:
    try:
        found, text = parse(card(front))
    except BadCard:
        return
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert "\0" not in str(found) and "\0" not in text


def test_tags_follow_the_card() -> None:
    tags = tags_of(
        {"license": "mit", "base_model": "a/b", "base_model_relation": "finetune", "language": ["en", "no"],
         "tags": ["x"], "datasets": "d/e", "pipeline_tag": "fill-mask"},
        {"config.json", "model.safetensors"},
        {"architectures": ["BertModel"], "model_type": "bert"},
    )  # fmt: skip
    assert {"license:mit", "base_model:a/b", "base_model:finetune:a/b", "dataset:d/e", "en", "no", "x", "fill-mask",
            "transformers", "safetensors", "bert"} <= set(tags)  # fmt: skip
