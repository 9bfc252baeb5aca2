"""A card may hold anything; what reaches a page is harmless and points where its author meant."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.web.cards import card_html

REVISION = "f" * 40
BAD = (
    "<script",
    "<iframe",
    "<object",
    "<form",
    "<style",
    "<svg",
    "<base",
    "<meta",
    "javascript:",
    " onerror",
    " onclick",
)


def html(text: str) -> str:
    return str(card_html(text, "/demo/x", REVISION))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        '<a href="jAvAsCrIpT:alert(1)">a</a>',
        '<a href="java&#10;script:alert(1)">a</a>',
        '<a href="&#106;avascript:alert(1)">a</a>',
        "<svg><script>alert(1)</script></svg>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<form action=/logout method=post><button>x</button></form>",
        "<style>*{display:none}</style>",
        '<base href="https://evil.example/">',
        "<textarea><img src=x onerror=alert(1)></textarea>",
        "<!--><img src=x onerror=alert(1)>-->",
        "<div onclick=alert(1) style='position:fixed;inset:0'>x</div>",
    ],
)
def test_hostile_cards_run_nothing(text: str) -> None:
    made = html(text).lower()
    shown = made.replace("&lt;", "").replace("[a](javascript:alert(1))", "")
    assert not any(bad in shown for bad in BAD), made
    assert "style=" not in made


PIECES = (
    *("<", ">", '"', "'", "script", "img", "a", "svg", "x", "`", "[", "](", ")", "<!--", "-->", "</", "/>", " "),
    *("javascript:", "&#", ";", "\n", " src=", " onerror=", " href=", " style=", "<svg>", "<math>", "</p>", "title"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_no_mixture_makes_a_script_or_a_handler(parts: list[str]) -> None:
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "svg", "iframe", "style", "form", "object")
            for name, value in attrs:
                assert not name.startswith("on")
                assert not (value or "").lower().lstrip().startswith("javascript:")

    Reader().feed(html("".join(parts)))


def test_relative_links_and_pictures_mean_the_revision() -> None:
    made = html("[notes](docs/notes.md) ![map](./img/map.png) [up](../../../etc/passwd)")
    assert f'href="/demo/x/blob/{REVISION}/docs/notes.md"' in made
    assert f'src="/demo/x/resolve/{REVISION}/img/map.png"' in made
    assert f'href="/demo/x/blob/{REVISION}/etc/passwd"' in made


def test_pictures_from_other_hosts_are_links() -> None:
    made = html(
        "![a map](https://pictures.example/map.png) <img src='//evil.example/x.png'> "
        "<img src='data:image/png;base64,xx' alt=d>"
    )
    assert "<img" not in made
    assert 'href="https://pictures.example/map.png"' in made
    assert "a map (picture at pictures.example)" in made


def test_headings_stand_below_those_of_the_page_and_can_be_linked() -> None:
    made = html("# Title\n\n## Usage\n\n[there](#usage)\n\n<h1 id=main>x</h1>")
    assert '<h3 id="card-title">' in made and '<h4 id="card-usage">' in made
    assert 'href="#card-usage"' in made
    assert "<h1" not in made and 'id="main"' not in made


def test_ordinary_cards_keep_their_form() -> None:
    made = html(
        "**bold** `code` ~~gone~~\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- x\n\n"
        "<details><summary>more</summary>y</details>"
    )
    for part in (
        "<strong>bold</strong>",
        "<code>code</code>",
        "<s>gone</s>",
        "<td>1</td>",
        "<li>x</li>",
        "<summary>more",
    ):
        assert part in made


@pytest.mark.parametrize("text", ["[" * 100_000, "*a " * 40_000, "![](" * 30_000, "<div>" * 20_000, "&" * 100_000])
def test_costly_cards_are_bounded(text: str) -> None:
    began = time.thread_time()
    html(text)
    assert time.thread_time() - began < 100
