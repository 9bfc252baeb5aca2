"""The family tree in a browser: with script it moves, folds and tells evidence; without, its links lead to the list."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.web.test_family import House


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("families"))
    yield found
    found.stop()


def opened(chromium: Any, house: House, **how: Any) -> Any:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=house.url, **how)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    return page


def test_an_edge_tells_its_evidence_by_keyboard_and_a_branch_folds(chromium: Any, families: House) -> None:
    page = opened(chromium, families)
    page.goto("/a/base/family")
    said = page.locator("[data-said]")
    assert not said.is_visible()
    page.locator("a.edge.status-verified").focus()
    assert "0.994" in said.inner_text() and "threshold 0.5" in said.inner_text()
    page.keyboard.press("Escape")
    assert not said.is_visible()
    page.locator("a.edge.status-refuted").click()
    assert "nothing in common" in said.inner_text() and page.url.endswith("/a/base/family")
    small = page.locator('.box[data-id="c/small"]')
    assert small.is_visible()
    handle = page.locator('.fold[data-of="b/tuned"]')
    handle.focus()
    page.keyboard.press("Enter")
    assert not small.is_visible() and handle.get_attribute("aria-expanded") == "false"
    page.get_by_role("button", name="Unfold all").click()
    assert small.is_visible()
    page.context.close()
    assert page.wrong == []


def test_the_picture_grows_shrinks_and_is_dragged(chromium: Any, families: House) -> None:
    page = opened(chromium, families)
    page.goto("/x/great/family")
    svg, frame = page.locator("svg.family-graph"), page.locator("[data-graph] .scroll")
    wide = svg.bounding_box()["width"]
    frame.focus()
    page.keyboard.press("+")
    page.get_by_role("button", name="Larger").click()
    assert svg.bounding_box()["width"] == pytest.approx(wide * 1.25**2, rel=0.01)
    box = frame.bounding_box()
    before = frame.evaluate("f => f.scrollLeft")
    page.mouse.move(box["x"] + 300, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 220, box["y"] + 10, steps=3)
    page.mouse.up()
    assert frame.evaluate("f => f.scrollLeft") == pytest.approx(before + 80, abs=2)
    page.get_by_role("button", name="Full size").click()
    assert svg.bounding_box()["width"] == pytest.approx(wide, rel=0.01)
    page.context.close()
    assert page.wrong == []


def test_without_script_an_edge_leads_to_its_evidence_in_the_list(chromium: Any, families: House) -> None:
    page = opened(chromium, families, java_script_enabled=False)
    page.goto("/a/base/family")
    link = page.locator("a.edge.status-verified").get_attribute("href")
    page.goto(f"/a/base/family{link}")
    found = page.locator(link)
    assert found.count() == 1 and "verified" in found.inner_text()
    assert page.locator(".graph-tools").count() == 0
    page.context.close()
