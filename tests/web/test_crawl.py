"""Every page of the built application, followed link by link as each kind of visitor, behind a path of a proxy.

The table of routes is the application's: a page that is added tomorrow is asked for too.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest
from starlette.routing import Match, Route

from ecotone import web
from tests.hub.built import bearer
from tests.web.everything import Everything
from tests.web.markup import Page, twice

pytestmark = pytest.mark.timeout(1200)  # the first has all walks ahead of it: minutes on a busy machine

ROOT = "/prefix"
VIEWERS = ("anonymous", "reader", "writer", "administrator")
MOST = (4, 5)
"""Pages of one kind in each of our repositories, and in all of the starter catalogue; slow tests look at more."""
MORE = (7, 12)
MOST_BYTES = 70_000
LONG_TEXT = "/team/long"
OWN = ("wanda", "team", "only-datasets", "only-spaces", "ada", "rita")
TABLE = [route for route in web.routes() if isinstance(route, Route)]


def template(path: str, method: str = "GET") -> str | None:
    """The route that answers an address, as the table has it."""
    scope = {"type": "http", "path": path, "method": method}
    return next((route.path for route in TABLE if route.matches(scope)[0] is Match.FULL), None)


@dataclass
class Walk:
    """What one visitor saw: pages by address, and everything that was wrong."""

    pages: dict[str, Page] = field(default_factory=dict)
    reached: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


class Walker:
    """One visitor. Follows each link that leads to a page of ours, a few of each kind."""

    def __init__(self, house: Everything, viewer: str, root: str = ROOT, most: tuple[int, int] = MOST) -> None:
        self.house, self.walk, self.root = house, Walk(), root
        self._most = most
        self._taken: Counter[object] = Counter()
        self.http = httpx.Client(base_url=house.url, headers=bearer(house.viewers[viewer]), timeout=120)
        self._waiting: deque[tuple[str, str]] = deque()
        self._seen: set[str] = set()

    def go(self, starts: list[str]) -> Walk:
        for start in starts:
            self._want(start, "the table of routes")
        while self._waiting:
            self._open(*self._waiting.popleft())
        self.http.close()
        return self.walk

    def _want(self, address: str, source: str) -> None:
        if address in self._seen:
            return
        self._seen.add(address)
        parts = urlsplit(address)
        shape = template(parts.path.removeprefix(self.root)) or re.sub(
            r"[^/]{13,}|\d+", "*", parts.path.rpartition("/")[0]
        )
        words = parts.path.removeprefix(self.root).split("/")
        own = "/".join(w for w in words[1:4] if w)[:200] if any(name in words for name in OWN) else ""
        kind = (shape, own, tuple(sorted(name for name, _ in parse_qsl(parts.query))))
        self._taken[kind] += 1
        if self._taken[kind] <= self._most[0 if own else 1]:
            self._waiting.append((address, source))

    def _open(self, address: str, source: str) -> None:
        path = urlsplit(address).path
        if not path.startswith(self.root):
            self.walk.wrong.append(f"{source} leads out of the prefix, to {address}")
            return
        shape = template(path.removeprefix(self.root))
        answer = self.http.request("GET" if shape else "HEAD", address)
        if answer.is_redirect:
            if "/login" in answer.headers["location"] or (shape is not None and "resolve" in shape):
                self.walk.wrong.append(f"{source} leads to {address}, which asks for a login")
            self.walk.reached[shape or ""] += 1
            return
        if answer.status_code != 200:
            self.walk.wrong.append(f"{source} leads to {address}: {answer.status_code}")
            return
        if shape is None:
            return
        self.walk.reached[shape] += 1
        if answer.headers["content-type"].startswith("text/html"):
            self._read(address, answer.text)

    def _read(self, address: str, text: str) -> None:
        page = self.walk.pages[address] = Page(text)
        self.walk.sizes[address] = len(text.encode())
        self.walk.wrong += [f"{address}: {problem}" for problem in page.problems]
        for link, is_written in page.links:
            target = urljoin(address, link)
            if is_written or urlsplit(target).scheme not in ("", "http", "https") or urlsplit(target).netloc:
                continue
            bare, _, fragment = target.partition("#")
            if fragment and bare == address and fragment not in page.ids:
                self.walk.wrong.append(f"{address}: nothing stands at #{fragment}")
            self._want(bare, address)
        for form in page.forms:
            target = urlsplit(urljoin(address, form.action)).path
            if template(target.removeprefix(self.root), form.method.upper()) is None or not target.startswith(
                self.root
            ):
                self.walk.wrong.append(f"{address}: no route takes a {form.method} of {form.action}")
            if form.method == "post" and not form.fields.get("form_token"):
                self.walk.wrong.append(f"{address}: the form to {form.action} does not say who sent it")
        for loaded in page.loaded:
            self._want(urljoin(address, loaded), address)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    found = Everything(tmp_path_factory.mktemp("everything"))
    yield found
    found.stop()


def starts(house: Everything, viewer: str, root: str = ROOT) -> list[str]:
    """Where a visitor begins: the front page, what no page leads to, and codes and ids that come from elsewhere."""
    found = ["/", "/login", "/favicon.ico", "/models", "/wanda", "/wanda/atlas/blob/main/pixel.png"]
    if viewer != "anonymous":
        found += [f"/login/device?user_code={house.devices[viewer]}", f"/ecotone/why/{house.answered}"]
    return [root + path for path in found]


@pytest.fixture(scope="module", params=[MOST, pytest.param(MORE, marks=pytest.mark.slow)], ids=["", "more"])
def walks(house: Everything, request: pytest.FixtureRequest) -> dict[str, Walk]:
    return {viewer: Walker(house, viewer, most=request.param).go(starts(house, viewer)) for viewer in VIEWERS}


@pytest.fixture(params=VIEWERS)
def walk(walks: dict[str, Walk], request: pytest.FixtureRequest) -> Walk:
    return walks[request.param]


def test_no_link_is_dead_or_closed_to_who_sees_it_and_every_page_is_valid(walk: Walk) -> None:
    assert len(walk.pages) > 100
    assert walk.wrong == []


def test_pages_are_told_apart_by_their_titles(walk: Walk) -> None:
    titles = {address: page.title for address, page in walk.pages.items() if not urlsplit(address).query}
    again = twice(titles.values())
    assert [address for address, title in titles.items() if title in again] == []


def test_each_page_of_a_repository_has_the_same_tabs_and_marks_its_own(walk: Walk) -> None:
    seen: dict[str, set[tuple[str, ...]]] = {}
    for address, page in walk.pages.items():
        found = re.match(ROOT + r"/((?:datasets/|spaces/)?(?:wanda|team|only-\w+)/[\w.-]+)(?:/|\Z|\?)", address)
        if found and f"{ROOT}/{found[1]}" in walk.pages:  # else its family page alone is there
            seen.setdefault(found[1], set()).add(tuple(page.tabs))
            assert len(page.current) == 1, address
    assert len(seen) > 15
    assert {name: tabs for name, tabs in seen.items() if len(tabs) != 1} == {}
    order = ["Card", "Family", "Files", "Commits", "Branches and tags", "Discussions", "Access", "Settings"]
    every = [[tab for tab in order if tab in tabs] == list(tabs) for (tabs,) in seen.values()]
    assert all(every)


def test_pages_are_light(walk: Walk) -> None:
    heavy = {address: size for address, size in walk.sizes.items() if size > MOST_BYTES and LONG_TEXT not in address}
    assert heavy == {}


def test_every_route_of_the_table_is_reached_by_links(walks: dict[str, Walk]) -> None:
    missed = {route.path for route in TABLE if "GET" in (route.methods or ())} - set(walks["administrator"].reached)
    assert missed == set()
