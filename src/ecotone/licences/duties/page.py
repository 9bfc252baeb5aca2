"""The text that a page shows: HTML without its tags, scripts and what is hidden. Bounded by what is handed in."""

import re
from html import unescape
from typing import Final

_UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "svg"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_INLINE = frozenset({"a", "abbr", "b", "code", "em", "i", "mark", "small", "span", "strong", "sub", "sup", "u"})
_DEEPEST = 500
_LONGEST: Final = 4096  # of a tag, as far as its attributes are read
_QUOTED: Final = 8
_TAG: Final = re.compile(r"<(/?)([A-Za-z][^\s/>]*)")
_STYLE: Final = re.compile(r"""\sstyle\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", re.I)
_VALUE: Final = re.compile(r""""[^"]*"|'[^']*'""")
_RAW: Final = {name: re.compile(f"</{name}", re.I) for name in ("script", "style")}
_HIDDEN: Final = re.compile(r"\shidden(?=[\s=/>])", re.I)


class _Text:
    """Takes a page apart in one pass: whatever is left open, each byte is looked at a bounded number of times."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._hidden: list[str] = []

    def feed(self, content: str) -> None:
        at = 0
        while (begin := content.find("<", at)) >= 0:
            comment = content.startswith("<!--", begin)
            tag = _TAG.match(content, begin, begin + 100)
            if not comment and tag is None and content[begin + 1 : begin + 2] not in ("!", "?", "/"):
                self.handle_data(content[at : begin + 1])
                at = begin + 1
                continue
            self.handle_data(content[at:begin])
            end = content.find("-->" if comment else ">", begin)
            if end < 0:  # left open: nothing of it is shown
                return
            if tag is not None:
                end = self._tag(content, begin, end, tag[1] == "/", tag[2].lower())
            at = end + (3 if comment else 1)
        self.handle_data(content[at:])

    def _tag(self, content: str, begin: int, end: int, closing: bool, name: str) -> int:
        """Takes a tag; where it ends, a few `>` within quotes passed over."""
        for _ in range(_QUOTED):
            further = content.find(">", end + 1, begin + _LONGEST)
            if further < 0 or not content.count('"', begin, min(end, begin + _LONGEST)) % 2:
                break
            end = further
        if closing:
            self.handle_endtag(name)
        else:
            self.handle_starttag(name, content[begin : min(end, begin + _LONGEST)] + ">")
        if name in _RAW and not closing:
            close = _RAW[name].search(content, end)
            return close.start() - 1 if close is not None else len(content)
        return end

    def handle_starttag(self, tag: str, text: str) -> None:
        found = _STYLE.search(text)
        style = found[1].replace(" ", "").lower() if found is not None else ""
        hidden = _HIDDEN.search(_VALUE.sub("", text)) is not None
        unseen = tag in _UNSEEN or hidden or "display:none" in style or "visibility:hidden" in style
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
            self.found.append(unescape(data))


def shown_text(content: str) -> str:
    """What a reader of the page sees; text that is no HTML stays as it is."""
    parser = _Text()
    parser.feed(content)
    return " ".join("".join(parser.found).split())
