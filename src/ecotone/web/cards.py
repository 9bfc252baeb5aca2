"""Cards and comments as HTML: Markdown in, harmless HTML out.

Raw HTML in cards is common and kept as far as it is harmless. The sanitiser runs last, over everything: whatever the
steps before it make of hostile input, only its allow-list reaches a page. Pictures from other hosts become links,
relative addresses point at the revision's own files, and headings move below those of the page.
"""

import re
from functools import lru_cache
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

MOST_CHARACTERS = 120_000
TOP_HEADING = 3
_TAG_NAMES = (
    "a abbr b blockquote br caption code dd del details div dl dt em h2 h3 h4 h5 h6 hr i img ins kbd li ol p pre q s "
    "samp small span strong sub summary sup table tbody td tfoot th thead tr ul var"
)
_TAGS = set(_TAG_NAMES.split())
_ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "width", "height"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan", "scope"},
    "ol": {"start"},
    "div": {"align", "tabindex"},
    "p": {"align"},
    "details": {"open"},
    **{f"h{level}": {"id", "align"} for level in range(2, 7)},
}
_CLASSES = {"div": {"scroll"}, "a": {"elsewhere"}}
_ID = re.compile(r"card-[a-z0-9-]{1,80}\Z")
_NUMBER = re.compile(r"[0-9]{1,4}%?\Z")
_ATTACHED = re.compile(r"[0-9a-f]{64}\.(png|jpg|gif|webp)\Z")
_SLUG = re.compile(r"[^a-z0-9]+")


def _markdown(*, with_ids: bool = True) -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": True, "maxNesting": 20}).enable(["table", "strikethrough"])
    if with_ids:
        made.core.ruler.push("heading_ids", _heading_ids)
    made.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
    made.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return made


def _heading_ids(state: object) -> None:
    tokens: list[Token] = state.tokens  # type: ignore[attr-defined]
    taken: dict[str, int] = {}
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            slug = _SLUG.sub("-", inline.content.lower()).strip("-")[:60] or "section"
            taken[slug] = taken.get(slug, 0) + 1
            opening.attrSet("id", f"card-{slug}" + (f"-{taken[slug]}" if taken[slug] > 1 else ""))


class _Rewriter(HTMLParser):
    """Passes HTML through, but for the addresses and headings that need changing."""

    def __init__(self, page: str, revision: str, shift: int, attachments: tuple[str, str] | None = None) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self._attachments = attachments
        self._shift = shift
        self._blob = f"{page}/blob/{revision}/"
        self._resolve = f"{page}/resolve/{revision}/"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in reversed(attrs)}
        if tag == "img":
            self.parts.append(self._picture(values))
            return
        if tag == "a" and "href" in values:
            values["href"] = self._link(values["href"])
        level = self._level(tag)
        written = "".join(f' {name}="{escape(value)}"' for name, value in values.items())
        self.parts.append(f"<{f'h{level}' if level else tag}{written}>")

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag: str) -> None:
        level = self._level(tag)
        self.parts.append(f"</{f'h{level}' if level else tag}>")

    def handle_data(self, data: str) -> None:
        self.parts.append(data if self.cdata_elem is None else escape(data))

    def handle_entityref(self, name: str) -> None:
        self.parts.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.parts.append(f"&#{name};")

    def _level(self, tag: str) -> int | None:
        if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            return max(TOP_HEADING, min(6, int(tag[1]) + self._shift))
        return None

    def _picture(self, values: dict[str, str]) -> str:
        source, told = values.get("src", "").strip(), values.get("alt", "").strip()
        own = self._attachment(source)
        if own or _is_relative(source):
            kept = {k: v for k, v in values.items() if k in ("alt", "title", "width", "height")}
            kept = {"alt": told, **kept, "src": own or self._resolve + _plain(source)}
            return "<img" + "".join(f' {name}="{escape(value)}"' for name, value in kept.items()) + ">"
        host = _host(source)
        if host is None:
            return escape(told)
        words = f"picture at {host}" if not told else f"{told} (picture at {host})"
        return f'<a class="elsewhere" href="{escape(source)}">{escape(words)}</a>'

    def _attachment(self, source: str) -> str | None:
        """The path of a picture that was attached here, from its full address."""
        if self._attachments is None or not source.startswith(self._attachments[0]):
            return None
        name = source.removeprefix(self._attachments[0])
        return self._attachments[1] + name if _ATTACHED.match(name) else None

    def _link(self, href: str) -> str:
        href = href.strip()
        if href.startswith("#"):
            slug = _SLUG.sub("-", href[1:].lower()).strip("-")
            return f"#card-{slug}" if slug and not slug.startswith("card-") else f"#{slug}"
        if _is_relative(href):
            return self._blob + _plain(href)
        return href


def _is_relative(address: str) -> bool:
    if not address or address[0] in "/#\\?" or any(ord(c) < 33 for c in address):
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc and ":" not in address.split("/")[0]


def _plain(address: str) -> str:
    """A relative path without dots that climb; those are for browsers to resolve, not for us to pass on."""
    path = urlsplit(address).path
    kept = [part for part in path.split("/") if part not in ("", ".", "..")]
    return quote("/".join(kept), safe="/%")


def _host(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        return parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        return None


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "id":
        return value if _ID.match(value) else None
    if name in ("width", "height", "colspan", "rowspan", "start"):
        return value if _NUMBER.match(value) else None
    if name == "tabindex":
        return value if value == "0" else None
    if name == "align":
        return value if value in ("left", "right", "center") else None
    if tag == "img" and name == "src":
        return value if value.startswith("/") and not value.startswith("//") else None
    return value


_MARKDOWN = _markdown()
_COMMENTS = _markdown(with_ids=False)


@lru_cache(maxsize=64)
def card_html(text: str, page: str, revision: str) -> Markup:
    """A card's text as harmless HTML.

    Args:
        text: Markdown, perhaps with raw HTML; at most `MOST_CHARACTERS` of it are shown.
        page: the path of the model's page, with what a proxy puts before it.
        revision: the commit whose files relative links and pictures mean.
    """
    return _harmless(_MARKDOWN, text, page, revision, None)


@lru_cache(maxsize=256)
def comment_html(text: str, page: str, attachments: tuple[str, str]) -> Markup:
    """A comment of a discussion as harmless HTML.

    Args:
        page: the path of the repository's page; relative links mean files of its branch main.
        attachments: how the full address of an attached picture begins, and what its path begins with on a page.
    """
    return _harmless(_COMMENTS, text, page, "main", attachments)


def _harmless(markdown: MarkdownIt, text: str, page: str, revision: str, attachments: tuple[str, str] | None) -> Markup:
    environment: dict[str, Any] = {}
    tokens = markdown.parse(text[:MOST_CHARACTERS], environment)
    highest = min((int(token.tag[1]) for token in tokens if token.type == "heading_open"), default=1)
    rewriter = _Rewriter(quote(page, safe="/"), revision, TOP_HEADING - highest, attachments)
    rewriter.feed(markdown.renderer.render(tokens, markdown.options, environment))
    rewriter.close()
    clean = nh3.clean(
        "".join(rewriter.parts),
        tags=_TAGS,
        clean_content_tags={"script", "style", "iframe", "object", "template", "noscript", "svg", "math", "title"},
        attributes=_ATTRIBUTES,
        allowed_classes=_CLASSES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto"},
        strip_comments=True,
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)  # noqa: S704  sanitised one line above
