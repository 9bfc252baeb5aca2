"""One page of every route of the web face, the longest that links lead to, in a browser.

The list is made from the table of routes by the crawl of `tests/web`: a page that is added tomorrow is looked at too.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.test_pages import CONTRAST
from tests.hub.built import bearer
from tests.web.everything import LONG, Everything
from tests.web.test_crawl import TABLE, Walker, starts, template

pytestmark = pytest.mark.timeout(1200)  # the walk and every page in one test: minutes on a busy machine

BEYOND = """width => [...document.querySelectorAll("body *")].filter(e => e.checkVisibility()
    && !e.closest(".hidden, .skip") && !e.parentElement.closest(".scroll, pre, .lines-frame, svg")
    && e.getBoundingClientRect().right > width).map(e => e.outerHTML.slice(0, 200))"""
PRESSED = "button, .button, .tabs a, .filters a, select, input:not([type=hidden]):not([type=radio])"
SMALL = f"""() => [...document.querySelectorAll("{PRESSED}")]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).map(e => e.outerHTML.slice(0, 120))"""
REACHED = "a, button, input:not([type=hidden]), select, textarea, summary"
FOCUS = f"""() => [...document.querySelectorAll("{REACHED}")].filter(e => e.checkVisibility()).slice(0, 60)
    .filter(e => {{
        e.focus({{focusVisible: true}}); const s = getComputedStyle(e);
        return document.activeElement === e && (parseFloat(s.outlineWidth) < 2 || s.outlineStyle === "none");
    }}).map(e => e.outerHTML.slice(0, 120))"""

WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    found = Everything(tmp_path_factory.mktemp("everything"), public_url=None)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def addresses(house: Everything) -> dict[str, str]:
    """The longest page of each route that an administrator reaches, and what a name of the greatest length does."""
    walk = Walker(house, "administrator", "", most=(2, 4)).go(starts(house, "administrator", ""))
    found: dict[str, str] = {}
    for address in sorted(walk.pages, key=lambda at: walk.sizes[at]):
        shape = template(urlsplit(address).path)
        if shape is not None and "/team/long" not in address:
            found[shape] = address
    return found | {f"long{part}": f"/team/{LONG}{part}" for part in ("", "/tree/main", "/settings", "/discussions")}


def test_every_page_fits_can_be_read_by_day_and_night_and_shows_where_the_focus_is(
    chromium: Any, house: Everything, addresses: dict[str, str]
) -> None:
    files = ("/picture/", "/favicon.ico", "/static/", "/refs/delete", "/delete/")
    pages = {route.path for route in TABLE if "GET" in (route.methods or ())}
    assert {path for path in pages - set(addresses) if not any(word in path for word in files)} <= {"/models"}
    context = chromium.new_context(reduced_motion="reduce", base_url=house.url)
    context.set_default_timeout(120_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    context.set_extra_http_headers(bearer(house.viewers["administrator"]))
    for address in addresses.values():
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if width == WIDTHS[0]:
                page.goto(address)
                page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            found = {
                "wider than the screen": page.evaluate("document.documentElement.scrollWidth") > width,
                "beyond the edge": page.evaluate(BEYOND, width),
                "too small to press": page.evaluate(SMALL),
                "focus not seen": page.evaluate(FOCUS),
            }
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                found[f"cannot be read when {scheme}"] = page.evaluate(CONTRAST)
            wrong += [f"{address} at {width}: {what}: {which}" for what, which in found.items() if which]
    context.close()
    assert wrong == []
