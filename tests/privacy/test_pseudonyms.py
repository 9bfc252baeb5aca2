"""What a user would lose: a value that leaves unmasked, an answer that comes back masked, or another one's value."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ecotone.privacy import Pseudonyms, TooDeep, find, inspect, scan
from ecotone.privacy.restoring import PLACEHOLDER, WORDS
from ecotone.vocabulary import DataClass

VALUES = [
    "maria.lopez@example.org",
    "m+x@sub.example.co.uk",
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
    "4111 1111 1111 1111",
    "5555555555554444",
    "123-45-6789",
    "+49 30 1234567",
    "ma\u200bria@example.org",
]
WORD = st.sampled_from(
    [
        "Email_",
        "Email_K7Q2X4M6",
        "email k7q2x4m6",
        "E",
        "Email",
        "Iban\\_A2",
        "A2B3C4D5",
        "_",
        " ",
        "\n",
        "\\",
        '"',
        "Text_",
    ]
)
TEXT = st.lists(st.one_of(st.sampled_from(VALUES), WORD, st.text(max_size=6)), max_size=12).map("".join)
SPACED = st.lists(st.one_of(st.sampled_from(VALUES), WORD, st.text(max_size=6)), max_size=12).map(" ".join)


# What may begin a URL, in which placeholders stay.
URL = re.compile(r"[/\\][/\\\s]|&|\]\(|:(?=\S)|www|[?#]|[a-z]/", re.IGNORECASE)


def torn(text: str, cuts: list[int]) -> list[str]:
    places = sorted({c % (len(text) + 1) for c in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


@given(TEXT)
@settings(max_examples=300)
def test_restoring_what_was_masked_gives_the_text_back(text: str) -> None:
    assume(not URL.search(text))
    names = Pseudonyms()
    assert names.restore(names.mask(text)) == text


@given(SPACED)
def test_masked_text_holds_none_of_the_values(text: str) -> None:
    masked = Pseudonyms().mask(text)
    for item in find(text):
        assert text[item.start : item.end] not in masked
    assert find(masked) == []


@given(TEXT, st.lists(st.integers(0, 10_000), max_size=30))
@settings(max_examples=300)
@example("Greet maria.lopez@example.org and DE89 3704 0044 0532 0130 00 today", list(range(0, 90, 3)))
def test_a_stream_torn_anywhere_restores_to_the_same(text: str, cuts: list[int]) -> None:
    assume(not URL.search(text))
    names = Pseudonyms()
    masked = names.mask(text)
    stream = names.restorer()
    shown = [stream.feed(piece) for piece in torn(masked, cuts)]
    assert "".join(shown) + stream.finish() == text


@given(TEXT, st.lists(st.integers(0, 10_000), max_size=30), st.binary(min_size=1, max_size=4))
def test_a_stream_says_what_the_whole_text_says_whatever_the_model_writes(
    text: str, cuts: list[int], key: bytes
) -> None:
    names = Pseudonyms(key)
    issued = names.mask(" ".join(VALUES)).split()
    answer = text + issued[0].lower() + text + "".join(issued) + issued[1][:-1]
    stream = names.restorer()
    assert "".join([*map(stream.feed, torn(answer, cuts)), stream.finish()]) == names.restore(answer)


def test_only_the_beginning_of_a_placeholder_is_held_back() -> None:
    names = Pseudonyms()
    placeholder = names.mask("maria@example.org")
    stream = names.restorer()
    assert stream.feed("Dear ") == "Dear "
    assert stream.feed("Maria, ") == "Maria, "
    assert stream.feed("Ema") == ""
    assert stream.feed("nation ") == "Emanation "
    assert stream.feed(placeholder[:-1]) == ""
    assert stream.feed(placeholder[-1]) == "maria@example.org", "shown with its last character, not later"
    assert stream.feed("Iban_A2") == "Iban_A2", "no such placeholder was issued, so nothing is held"
    assert stream.feed(placeholder[:-1]) == ""
    assert stream.finish() == placeholder[:-1]


def test_models_that_mangle_a_placeholder_are_understood() -> None:
    names = Pseudonyms()
    placeholder = names.mask("maria@example.org")
    word, tail = placeholder.split("_")
    within = [template.format(placeholder) for template in ("**{}**", "`{}`", "<b>{}</b>", "{}'s")]
    joined = [word + separator + tail for separator in ("\\_", " ", "-", "")]
    for said in (placeholder.upper(), placeholder.lower(), *within, *joined):
        assert "maria@example.org" in names.restore(said), said


def test_the_same_value_has_one_placeholder_and_another_request_another_one() -> None:
    names, others = Pseudonyms(), Pseudonyms()
    first = names.mask("maria@example.org")
    assert names.mask("maria@example.org") == first
    assert names.mask("mario@example.org") != first
    assert others.mask("maria@example.org") != first
    assert others.restore(first) == first
    assert Pseudonyms(b"talk 7").mask("maria@example.org") == Pseudonyms(b"talk 7").mask("maria@example.org")
    assert names.kinds == {"email": 2}


def test_a_forged_placeholder_comes_back_as_it_was_sent() -> None:
    key = b"a conversation's key that leaked"
    forged = Pseudonyms(key).mask("maria@example.org")
    names = Pseudonyms(key)
    sent = names.mask(f"maria@example.org {forged} {forged.lower()}")
    assert sent.count(forged) == 1
    assert names.restore(sent) == f"maria@example.org {forged} {forged.lower()}"


def test_placeholders_cannot_overlap() -> None:
    words = [w.upper() for w in WORDS.values()]
    assert len(set(words)) == len(words)
    assert not any(a != b and a.endswith(b) for a in words for b in words)
    assert not any(re.search(r"\d", w) for w in words)


BODY = {
    "model": "fake/gpt-test",
    "user": "maria@example.org",
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "mail maria@"}, {"type": "text", "text": "example.org now"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {
            "name": "pay", "arguments": '{"iban": "DE89 3704 0044 0532 0130 00", "n": 4111111111111111, "x": 1.50}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sent to maria@example.org"},
    ],
    "metadata": {"maria@example.org": "yes"},
}  # fmt: skip


def test_every_place_of_a_chat_body_is_masked_and_only_where_needed() -> None:
    names = Pseudonyms()
    sent = names.mask_json(BODY)
    told = json.dumps(sent)
    assert not any(value in told for value in ("maria", "3704", "4111111111111111"))
    assert sent["model"] == "fake/gpt-test"
    arguments = sent["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert re.fullmatch(r'\{"iban": "Iban_\w{8}", "n": "Card_\w{8}", "x": 1.50\}', arguments)
    assert json.loads(arguments)
    parts = [p["text"] for p in sent["messages"][0]["content"]]
    assert PLACEHOLDER.fullmatch(parts[0].removeprefix("mail "))
    assert parts[1] == " now"
    assert scan(sent) is DataClass.PUBLIC
    assert names.restore_json(sent["messages"][2])["content"] == "sent to maria@example.org"
    clean = {"messages": [{"role": "user", "content": "Hi"}], "n": 1, "stop": ["a", "b"]}
    assert names.mask_json(clean) is clean


@given(st.text(max_size=20))
def test_restored_tool_arguments_stay_valid_json(noise: str) -> None:
    assume(not URL.search(noise))
    names = Pseudonyms()
    value = 'ma\u200bria@example.org "quoted" \\ \n' + noise
    masked = names.mask(value)
    answer = json.dumps({"to": masked}, ensure_ascii=False)
    stream = names.restorer(in_json=True)
    assert json.loads("".join(map(stream.feed, answer)) + stream.finish()) == {"to": value}
    restored = names.restore_json({"function": {"arguments": answer}})
    assert json.loads(restored["function"]["arguments"]) == {"to": value}


def test_classes_of_a_whole_body() -> None:
    assert scan({"messages": [{"role": "user", "content": "Hello"}]}) is DataClass.PUBLIC
    assert scan("maria@example.org") is DataClass.PERSONAL
    assert scan(["maria@example.org", "4111111111111111"]) is DataClass.CONFIDENTIAL
    assert scan({"n": 4111111111111111}) is DataClass.CONFIDENTIAL
    assert scan({"maria@example.org": 1}) is DataClass.PERSONAL
    assert scan("gh" + "p_" + "a8Kd0Lw5Zx2Qv7Nb3Mc9Pe4Rt6Yu1Io8Sg5H") is DataClass.SECRET
    assert scan({"function": {"arguments": '{"to": "maria\\u0040example.org"}'}}) is DataClass.PERSONAL
    assert scan([{"text": "4111 1111 "}, {"text": "1111 1111"}]) is DataClass.CONFIDENTIAL
    assert inspect(BODY).maskable
    assert inspect(BODY).kinds["email"] >= 3


def test_what_cannot_be_looked_into_is_confidential_and_not_maskable() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    for body in (
        picture,
        {"input": [[1, 2, 3]]},
        {"input": [464, 3139]},
        {"type": "input_audio", "input_audio": {"data": "AA"}},
    ):
        assert scan(body) is DataClass.CONFIDENTIAL
        assert not inspect(body).maskable
    text = "data:text/plain;base64,bWFyaWFAZXhhbXBsZS5vcmc="
    assert scan({"url": text}) is DataClass.PERSONAL
    assert scan({"url": Pseudonyms().mask_json({"url": text})["url"]}) is DataClass.PUBLIC
    assert inspect("a" * 50, limit=10).unscanned == 1


DATA_URLS = [
    "data:text/plain;base64,aGVsbG8= my mail is maria@example.org, card 4111111111111111",
    "data:4111111111111111,hello",
    "data:DE89370400440532013000,hello",
    "data:+4915123456789,is my phone",
    "data:;xbase64x,aGVsbG8gd29ybGQ= mail maria@example.org",
    "data:a;p=4111111111111111,hello",
    "DATA:text/plain;BASE64,bWFyaWFAZXhhbXBsZS5vcmc=",
    "data:text/plain,maria%2540%65xample.org maria@example.org",
    "data:application/json,%7B%22to%22:%22%6Daria@example.org%22%7D",
]


@pytest.mark.parametrize("url", DATA_URLS)
def test_nothing_leaves_in_or_around_a_data_url(url: str) -> None:
    found = inspect({"content": url})
    assert found.data_class.rank >= DataClass.PERSONAL.rank
    assert found.kinds
    names = Pseudonyms()
    sent = names.mask_json({"content": url})
    left = inspect(sent)
    assert not left.kinds
    assert left.unscanned == found.unscanned, "what is no strict base64 stays unseen, and that is told"
    for value in ("maria@", "4111111111111111", "DE8937", "+4915"):
        assert value not in sent["content"]


@pytest.mark.parametrize(
    "text",
    [
        r"maria.lopez\u0040example.org",
        r'say "maria.lopez\u0040example.org"',
        r"maria.lopez\\u0040example.org",
        "maria.lopez&#64;example.org",
        r"4111\u0020111111111111",
        r"ma\u200bria@example.org",
    ],
)
def test_what_is_found_behind_an_escape_is_masked_and_comes_back(text: str) -> None:
    for value in ({"content": text}, {"arguments": text}, {"messages": [{"content": [{"text": text}]}]}):
        assert inspect(value).kinds
        names = Pseudonyms()
        sent = names.mask_json(value)
        assert inspect(sent).kinds == {}
        assert "arguments" in value or names.restore_json(sent) == value


def test_a_card_number_written_as_a_float_is_masked() -> None:
    body = {"a": 4111111111111111.0, "b": 0.5, "arguments": '{"n": 4111111111111111.0}'}
    assert inspect(body).kinds["card"] >= 1
    sent = Pseudonyms().mask_json(body)
    assert "4111111111111111" not in json.dumps(sent)
    assert inspect(sent).kinds == {}
    assert sent["b"] == 0.5


def test_too_deep_a_body_does_not_pass_unseen() -> None:
    deep: object = "maria@example.org"
    for _ in range(500):
        deep = [deep]
    for look in (scan, Pseudonyms().mask_json, Pseudonyms().restore_json):
        with pytest.raises(TooDeep):
            look(deep)


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["text", "arguments", "input", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(JUNK)
def test_any_json_is_masked_until_nothing_is_found(value: object) -> None:
    names = Pseudonyms()
    left = inspect(names.mask_json(value))
    assert set(left.kinds) <= set()
