"""What a user would lose: a finding that the fast scan passes over, or a body that holds up all others."""

import re
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.privacy import reference, samples
from ecotone.privacy import Findings, TooDeep, find, inspect, quick
from ecotone.privacy import normal as normal
from ecotone.privacy.checksums import IBAN_LENGTH
from ecotone.privacy.finding import holds
from ecotone.privacy.secrets import secret_rules
from ecotone.privacy.values import NOTHING
from ecotone.privacy.windows import WINDOW, each

SECRETS = ["".join(pieces) for rule in secret_rules() for pieces in (*rule.positive, *rule.negative)]
KEYWORDS = sorted({keyword for rule in secret_rules() for keyword in rule.keywords})
VALUES = [
    "maria.lopez@example.org", "m+x@sub.example.co.uk", "maria%40example.org", "maria.lopez @ example.org",
    "git@github.com:org/repo.git", "m\u00e4x@m\u00fcller.example", "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819", "de89370400440532013000", "DE89.3704.0044.0532.0130.00", "DE89_3704_0044_0532_0130_00",
    "MT84MALT011000012345MTLCAST001S", "4111 1111 1111 1111", "5555555555554444", "3782 822463 10005",
    "4111-1111-1111-1111", "4111_1111_1111_1111", "4111\t1111\t1111\t1111", "4111\n1111\n1111\n1111",
    "4111111111111111.0", "123-45-6789", "+49 (30) 1234567", "+12025550143", "0049 151 23456789",
    "0049 (0) 151 23456789", "%2B4915123456789", "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----",
    "postgres://app:k7wQ-92mz@db.internal/x", "2024-01-05T10:11:12Z", "20240105101112", "192.168.100.200", "1,234.56",
    "550e8400-e29b-41d4-a716-446655440000", "7" * 30,
]  # fmt: skip
SEPARATORS = [
    *" .()/\t\r\n_-@%+:;,&\\\"'<>{}[]0189aAbBkKxXzZ=~#!\0", "00", "://", " @ ", "\u00a0", "\u202f", "\u2011", "\u2013",
    "\uff0d", "\u3002", "\uff0e", "\uff20", "\uff14", "\u0664", "\u200b", "\u00ad", "\U000e0031", "\ufe0f", "\u00e4",
    "\u00df", "\u017f", "\u0130", "\u4f60", "\U0001f600", "\ud800", "&#64;", "&commat;", "&nbsp;", "&shy;", "&amp;",
    r"\u0040", r"\\u0034", r"\u200b", r"\n", "%40", "%2B", "%2b", "40", "2B",
]  # fmt: skip
FRAGMENT = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(SECRETS),
    st.sampled_from(KEYWORDS),
    st.sampled_from(SEPARATORS),
    st.sampled_from(sorted(IBAN_LENGTH)),
    st.text("0123456789", min_size=1, max_size=19),
    st.text(max_size=4),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Findings and what is nearly one, torn, with separators and invisible characters anywhere."""
    text = draw(st.lists(FRAGMENT, max_size=10).map("".join))
    for place in draw(st.lists(st.integers(0, 200), max_size=3)):
        cut = place % (len(text) + 1)
        kept = cut + draw(st.integers(0, 1))
        text = text[:cut] + draw(st.sampled_from(["", *SEPARATORS])) + text[kept:]
    return text


@given(texts())
@settings(max_examples=1000)
@example("a@" + ("x" * 61 + ".") * 4 + "com" * 30)
@example("0123456789-123-45-6789 \u0663 maria @ example.org")
@example("\\\\\\\\\\u0040 4111&#49;11&shy;1111111111")
def test_the_fast_scan_finds_what_the_plain_one_finds(text: str) -> None:
    assert find(text) == reference.find(text)
    assert holds(text) is bool(reference.find(text))


@given(st.lists(texts(), min_size=1, max_size=6))
@settings(max_examples=500)
@example(["user://a:secretpw", "word@x"])
@example(["4111 1111", " 1111 1111"])
def test_texts_that_hold_nothing_together_hold_nothing_apart(parts: list[str]) -> None:
    if not holds('"'.join(parts)):
        assert [reference.find(part) for part in parts] == [[]] * len(parts)


NAMES = st.sampled_from(
    ["content", "text", "arguments", "input", "prompt", "image_url", "type", "4111111111111111", "a@b.org"]
)
BODIES = st.recursive(
    st.one_of(texts(), st.booleans(), st.none(), st.integers(), st.floats(), st.just(4111111111111111)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)


@given(BODIES)
@settings(max_examples=500)
@example({"content": [{"text": "4111 1111"}, {"text": " 1111 1111"}]})
@example({"arguments": '{"to": "maria\\u0040example.org"}'})
@example({"content": "data:text/plain;base64,bWFyaWFAZXhhbXBsZS5vcmc="})
@example({"input": [1, 2, 3]})
@example({"image_url": {"url": "x"}})
def test_a_body_is_classed_as_the_plain_scan_classes_it_and_quick_never_clears_one_that_is_not(value: Any) -> None:
    told = reference.inspect(value)
    assert inspect(value) == told
    assert quick(value) in (None, told)
    assert quick(value) is None or told == Findings(NOTHING.data_class, {})


def test_quick_clears_the_usual_body_and_none_that_holds_anything() -> None:
    assert quick(samples.chat()) == NOTHING
    assert quick(samples.chat(samples.filled(samples.FILLER, 60_000))) == NOTHING
    assert quick(samples.chat("mail maria@example.org")) is None
    assert quick({"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]}) is None


def test_quick_does_no_more_than_it_is_told() -> None:
    assert quick("x" * 70_000) is None
    assert quick("x" * 70_000, limit=80_000) == NOTHING
    assert quick(dict.fromkeys(map(str, range(10_000)))) is None
    assert quick([[]] * 10_000) is None
    nest: Any = []
    for _ in range(300):
        nest = [nest]
    with pytest.raises(TooDeep):
        quick(nest)


@pytest.mark.parametrize("kind", samples.kinds(1000))
def test_a_long_text_gives_the_same_in_steps(kind: str) -> None:
    text = samples.kinds(3 * WINDOW)[kind]
    assert find(text) == reference.find(text)


@pytest.mark.parametrize(
    "value", [*VALUES, *SECRETS, "7" * 70_000, "4111 " * 20_000, "-----BEGIN RSA PRIVATE KEY-----" + "A\n" * 50_000]
)
def test_a_value_is_found_on_the_edge_of_a_step(value: str) -> None:
    for before in {1, len(value) // 2, max(1, len(value) - 1)}:
        text = "word " * (WINDOW // 5 - 1)
        text += " " * (WINDOW - len(text) - min(before, 300)) + value + " word" * 20
        assert find(text) == reference.find(text)


@given(texts(), st.sampled_from(["\u200b", "\\u0041", "&#64;", "\u2013", "\uff11"]))
@settings(max_examples=30)
def test_unicode_on_the_edge_of_a_step_changes_nothing(text: str, clothed: str) -> None:
    long = "x " * (WINDOW // 2 - len(text) // 4) + text + clothed + text + clothed * 3 + " y" * 100
    assert find(long) == reference.find(long)


@given(st.text("ab0 ", max_size=60), st.integers(0, 20))
def test_a_search_in_steps_gives_what_finditer_gives(text: str, at: int) -> None:
    pattern = re.compile(r"a0{0,3}(?!b)|(?<=b)0")
    long = "c" * (WINDOW - at) + text + "c" * (WINDOW - at) + text
    assert [m.span() for m in each(pattern, long, 8)] == [m.span() for m in pattern.finditer(long)]


def test_letters_that_are_passed_over_stand_for_nothing_else() -> None:
    for code in range(128, 0x110000):
        if normal._MAY_STAND.match(chr(code)) is None:
            assert normal._plain(chr(code)) == chr(code), unicodedata.name(chr(code), hex(code))


@given(st.text(max_size=50), st.text(max_size=30))
def test_the_plain_form_of_a_text_of_many_scripts_is_the_same(some: str, seed: str) -> None:
    alphabet = "".join(map(chr, [*range(0xFF01, 0xFF5F), *range(0x660, 0x66A), 0x200B, 0xAD, 0x4E00, 0xE4]))
    text = some + (alphabet + seed) * 30 + some
    assert normal.plain(text)[0] == reference.plain(text)[0]


@pytest.mark.parametrize(
    "piece", ["4111\n", "sk-", "-eyJ", "0049 1", "%40", "a@b.", "DE89\n", "&#64;", "\\u0040", "1\u200b"]
)
def test_no_text_makes_quick_slow(piece: str) -> None:
    value = samples.filled(piece, 60_000)
    took = []
    for _ in range(5):
        began = time.thread_time()
        quick(value)
        took.append(time.thread_time() - began)
    assert min(took) < 0.1, "a few milliseconds; looked at in full it takes a hundred times as long"
