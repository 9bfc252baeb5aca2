"""A page as a browser's parser would take it, read strictly: what is badly nested or named twice is a problem."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VOID = _names("area base br col embed hr img input link meta source track wbr")
_BLOCKS = _names(
    "address article aside blockquote details div dl fieldset figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr main nav ol p pre section table ul"
)
_PHRASES = _names("a b bdi button code h1 h2 h3 h4 h5 h6 label legend p pre q small span strong sub sup time")
_ONLY_IN = {
    "li": {"ul", "ol"},
    "dt": {"dl", "div"},
    "dd": {"dl", "div"},
    "tr": {"thead", "tbody", "tfoot", "table"},
    "td": {"tr"},
    "th": {"tr"},
    "caption": {"table"},
    "summary": {"details"},
    "option": {"select", "datalist"},
    "legend": {"fieldset"},
}
_ONLY_HOLDS = {
    "ul": {"li"},
    "ol": {"li"},
    "dl": {"div", "dt", "dd"},
    "table": {"caption", "thead", "tbody", "tfoot", "tr"},
    "tr": {"th", "td"},
    "select": {"option"},
    "datalist": {"option"},
}
_PRESSED = _names("a button input select textarea label summary")


@dataclass
class Sent:
    """A form: where it goes, and the names of its fields with their first values."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """`problems` of a page, its `links` with whether each stands in text that users wrote (a card, a comment), and the
    titles of its `tabs`, of which `current` is marked."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.links: list[tuple[str, bool]] = []
        self.loaded: list[str] = []
        self.forms: list[Sent] = []
        self.ids: list[str] = []
        self.tabs: list[str] = []
        self.current: list[str] = []
        self.title = ""
        self.headings: list[int] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._named: list[str] = []
        self._fields: list[tuple[str, dict[str, str | None], bool]] = []
        self.feed(text)
        self.close()
        self._end()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if len(values) < len(attrs):
            self._wrong(f"<{tag}> has an attribute twice")
        self._check_place(tag)
        self._note(tag, values)
        if tag not in _VOID:
            self._open.append((tag, values))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID or self._inside("svg"):
            self._note(tag, dict(attrs))
        else:
            self._wrong(f"<{tag}/> does not end itself in HTML")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self._wrong(f"</{tag}> where <{self._open[-1][0] if self._open else 'nothing'}> is open")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._inside("title") and not self._inside("svg"):
            self.title += data
        if data.strip() and self._inside("nav") and self._class_of("nav") == "tabs":
            link = next((values for name, values in self._open if name == "a"), None)
            if link is not None and self._open[-1][0] == "a":
                self.tabs.append(data.strip())
                self.current += [data.strip()] * ("aria-current" in link)
        if data.strip() and self._open and self._open[-1][0] in _ONLY_HOLDS:
            self._wrong(f"text directly in <{self._open[-1][0]}>: {data.strip()[:40]}")

    def _check_place(self, tag: str) -> None:
        parent = self._open[-1][0] if self._open else ""
        if tag in _ONLY_IN and parent not in _ONLY_IN[tag]:
            self._wrong(f"<{tag}> in <{parent}>")
        if parent in _ONLY_HOLDS and tag not in _ONLY_HOLDS[parent]:
            self._wrong(f"<{tag}> directly in <{parent}>")
        around = {name for name, _ in self._open}
        if tag in _BLOCKS and around & _PHRASES and not self._may_hold(tag):
            self._wrong(f"<{tag}> in {sorted(around & _PHRASES)}")
        if tag in _PRESSED - {"label", "summary"} and around & {"a", "button"}:
            self._wrong(f"<{tag}> in something that is pressed itself")
        if tag == "form" and "form" in around:
            self._wrong("<form> in <form>")

    def _may_hold(self, tag: str) -> bool:
        """A link may hold blocks, a legend a heading."""
        phrases = [name for name, _ in self._open if name in _PHRASES]
        return phrases == ["a"] or (phrases == ["legend"] and tag[0] == "h")

    def _note(self, tag: str, values: dict[str, str | None]) -> None:
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for name in ("aria-labelledby", "aria-describedby", "for"):
            self._named += (values.get(name) or "").split()
        if tag == "a" and values.get("href") is not None:
            written = any("card" in (v.get("class") or "").split() for _, v in self._open)
            self.links.append((str(values["href"]), written))
        if tag in ("img", "script", "source") and values.get("src"):
            self.loaded.append(str(values["src"]))
        if tag == "link" and values.get("href"):
            self.loaded.append(str(values["href"]))
        if tag == "img" and values.get("alt") is None:
            self._wrong("<img> without alt")
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        if tag == "form":
            self.forms.append(Sent((values.get("method") or "get").lower(), values.get("action") or ""))
        if (
            tag in ("input", "select", "textarea", "button")
            and self.forms
            and self._inside("form")
            and values.get("name")
        ):
            self.forms[-1].fields.setdefault(str(values["name"]), values.get("value") or "")
        if tag in ("input", "select", "textarea") and values.get("type") != "hidden" and "hidden" not in values:
            self._fields.append((tag, values, self._inside("label")))

    def _inside(self, tag: str) -> bool:
        return any(name == tag for name, _ in self._open)

    def _class_of(self, tag: str) -> str | None:
        return next((values.get("class") for name, values in self._open if name == tag), None)

    def _wrong(self, what: str) -> None:
        self.problems.append(f"line {self.getpos()[0]}: {what}")

    def _end(self) -> None:
        self.problems += [f"<{tag}> is never closed" for tag, _ in self._open]
        self.problems += [f"id {name} twice" for name in twice(self.ids)]
        self.problems += [f"nothing has the id {name}" for name in self._named if name not in self.ids]
        self.problems += [
            f"<{tag} name={values.get('name')}> has no label"
            for tag, values, is_inside in self._fields
            if not is_inside and not values.get("aria-label") and values.get("id") not in self._named
        ]
        if self.headings.count(1) != 1:
            self.problems.append(f"{self.headings.count(1)} h1")
        pairs = zip(self.headings, self.headings[1:], strict=False)
        self.problems += [f"h{after} after h{before}" for before, after in pairs if after > before + 1]


def twice(names: Iterable[str]) -> list[str]:
    """Names that occur more than once."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
