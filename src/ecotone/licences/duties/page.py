"""The text that a page shows: HTML without its tags, scripts and what is hidden. Bounded by what is handed in."""

from html.parser import HTMLParser

_UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "svg"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_INLINE = frozenset({"a", "abbr", "b", "code", "em", "i", "mark", "small", "span", "strong", "sub", "sup", "u"})
_DEEPEST = 500


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        style = (told.get("style") or "").replace(" ", "").lower()
        unseen = tag in _UNSEEN or "hidden" in told or "display:none" in style or "visibility:hidden" in style
        if tag not in _VOID and (unseen or self._hidden) and len(self._hidden) < _DEEPEST:
            self._hidden.append(tag)
        if tag not in _INLINE:
            self.found.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                continue
        if tag not in _INLINE:
            self.found.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def shown_text(content: str) -> str:
    """What a reader of the page sees; text that is no HTML stays as it is."""
    parser = _Text()
    parser.feed(content)
    parser.close()
    return " ".join("".join(parser.found).split())
