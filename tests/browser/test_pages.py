"""Pages as people meet them: on a telephone, at night, by keyboard, without script."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

PAGES = (
    "/",
    "/?search=zzzz",
    "/demo/bert-atlas",
    "/meta-llama/Llama-2-7b?mode=serve_api&purpose=commercial",
    "/openai/gpt-4o",
    "/unpublished/titan-nlp",
    "/demo/bert-atlas/tree/main",
    "/demo/bert-atlas/blob/main/docs/notes.md",
    "/demo/bert-atlas/commits/main",
    "/datasets/demo/rows",
    "/datasets/demo/rows/discussions?status=all",
    "/datasets/demo/rows/discussions/new",
    "/datasets/demo/rows/discussions/1",
    "/datasets/demo/rows/discussions/2",
    "/datasets/demo/rows/discussions/3",
    "/login",
    "/demo/bert-both?mode=publish_weights&purpose=commercial",
    "/ecotone/licences",
    "/ecotone/licences?search=zzzz",
    "/ecotone/licences/llama-3.1?mode=serve_api&purpose=commercial",
    "/ecotone/licences/CC-BY-NC-4.0?mode=run&purpose=internal_commercial",
    "/ecotone/licences/openai-services-agreement-2026-01-01",
    "/ecotone/profile",
    "/ecotone/status",
)
ADMINS = ("/ecotone/profile", "/ecotone/status", "/datasets/demo/rows/discussions")
Visit = Callable[..., Any]

# the contrast of each element's own text against the first background that is not transparent (WCAG 2.2, 1.4.3)
CONTRAST = """() => {
  const channel = v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const behind = e => {
    for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > .99) return c; }
    return [255, 255, 255, 1];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("svg, .hidden, .skip, [aria-hidden=true]")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.trim().slice(0, 30)}`);
  }
  return poor;
}"""
OUTLINE = """() => { const e = document.activeElement; const s = getComputedStyle(e);
  return e !== document.body && (parseFloat(s.outlineWidth) >= 2 && s.outlineStyle !== "none"); }"""


def log_in(page: Any, server: SimpleNamespace) -> None:
    page.goto("/login")
    page.fill("#token", server.services.settings.admin_token)
    page.keyboard.press("Enter")
    page.wait_for_url(server.url + "/")


def go(page: Any, server: SimpleNamespace, path: str) -> None:
    """Open a page, as an administrator where only those may."""
    if path.startswith(ADMINS):
        log_in(page, server)
    page.goto(path)


def test_light_and_dark_differ(visit: Visit) -> None:
    seen = []
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme)
        page.goto("/")
        seen.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert seen[0] != seen[1]


def test_a_model_is_found_by_keyboard_alone(visit: Visit) -> None:
    page = visit()
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(OUTLINE), "the focus cannot be seen"
        if page.evaluate("document.activeElement.id") == "search":
            break
    page.keyboard.type("bert-atlas")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?search=bert-atlas*")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href')") == "/demo/bert-atlas":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/demo/bert-atlas")
    assert page.title().startswith("demo/bert-atlas")


def test_reasons_open_by_keyboard(visit: Visit) -> None:
    page = visit()
    page.goto("/demo/bert-atlas")
    page.focus(".use summary")
    page.keyboard.press("Enter")
    page.wait_for_selector(".use[open] .reasons")


NAMES = """() => ({
    h1: document.querySelectorAll("h1").length, main: document.querySelectorAll("main").length,
    lang: document.documentElement.lang,
    unnamed: [...document.querySelectorAll("a, button, input:not([type=hidden]), select")]
        .filter(e => e.checkVisibility() && !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length))
        .map(e => e.outerHTML),
    captions: [...document.querySelectorAll("main > * table:not(.card table)")].filter(t => !t.caption && !t.closest(".card")).length,
    ids: [...document.querySelectorAll("[id]")].length - new Set([...document.querySelectorAll("[id]")].map(e => e.id)).size,
    jumps: [...document.querySelectorAll("h1,h2,h3,h4,h5,h6")].map(h => +h.tagName[1])
        .filter((level, i, all) => i && level > all[i - 1] + 1).length,
})"""  # noqa: E501


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_telephone_can_be_read_by_day_and_night_and_has_landmarks_and_names(
    visit: Visit, server: SimpleNamespace, path: str
) -> None:
    page = visit(width=360)
    go(page, server, path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1280, "height": 800})
    counts = page.evaluate(NAMES)
    assert counts == {"h1": 1, "main": 1, "lang": "en", "unnamed": [], "captions": 0, "ids": 0, "jumps": 0}
    for summary in page.query_selector_all("details:not([open]) > summary"):
        summary.click()
    assert page.evaluate(CONTRAST) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(CONTRAST) == []
    assert page.wrong == []
    assert all(asked.startswith(server.url + "/") for asked in page.asked), page.asked


def test_pages_work_without_script(visit: Visit) -> None:
    page = visit(script=False)
    page.goto("/?search=bert-atlas")
    page.click("main h3 a[href='/demo/bert-atlas']")
    page.wait_for_selector("strong:has-text('144 facts')")
    page.click(".use summary >> nth=0")
    page.wait_for_selector(".use .reasons >> nth=0")
    page.select_option("select[name=mode]", "serve_api")
    page.click("button:has-text('Judge')")
    page.wait_for_selector("summary:has-text('Your use')")


@pytest.mark.parametrize("path", ["/meta-llama/Llama-3.1-8B", "/ecotone/licences/llama-3.1"])
def test_the_answer_changes_while_the_use_changes(visit: Visit, path: str) -> None:
    page = visit()
    page.goto(path)
    assert page.inner_text("#answer").strip() == ""
    page.select_option("select[name=mode]", "serve_api")
    page.wait_for_selector("#answer .verdict-unknown")
    page.fill("input[name='org.mau_at.2024-06']", "1000")
    page.wait_for_selector("#answer .verdict-allow_with_duties")
    assert page.evaluate("document.activeElement.name") == "org.mau_at.2024-06", "nobody is torn out of a field"
    page.fill("input[name='org.mau_at.2024-06']", "800000000")
    page.wait_for_selector("#answer .verdict-ask_licence")
    assert "org.mau_at.2024-06=800000000" in page.url
    assert "Not legal advice" in page.inner_text("#answer") and "Knowledge base" in page.inner_text("#answer")
    assert page.wrong == []


def test_the_family_tree_follows_the_use_and_can_be_walked_by_keyboard(visit: Visit) -> None:
    page = visit()
    page.goto("/demo/bert-both?mode=run&purpose=research")
    tree = page.locator("#family-tree")
    assert tree.locator("a[href='/demo/bert-rivers']").count() == 1
    assert "Allowed" in tree.inner_text()
    assert re.search(r"demo/secret\s+\? Not known", tree.inner_text()), (
        "a private parent reads like one that is not here"
    )
    page.focus("#family-tree summary >> nth=0")
    page.keyboard.press("Enter")
    assert not page.is_visible("#family-tree a[href='/google-bert/bert-base-uncased']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#family-tree a[href='/google-bert/bert-base-uncased']")
    page.goto("/demo/bert-atlas")
    page.wait_for_selector("#family-tree a[href='/demo/bert-rivers']")
    before = page.inner_text("#family-tree")
    page.select_option("select[name=purpose]", "research")
    page.wait_for_function("before => document.querySelector('#family-tree').innerText !== before", arg=before)
    assert "research" in page.inner_text("#family-tree")


@pytest.mark.parametrize("script", [True, False])
def test_the_profile_is_told_in_a_browser_and_answers_follow(
    visit: Visit, server: SimpleNamespace, script: bool
) -> None:
    page = visit(script=script)
    log_in(page, server)
    question = "/meta-llama/Llama-3.1-8B?mode=serve_api&purpose=commercial"
    page.goto(question)
    assert page.locator("#answer .verdict-unknown").count() == 1
    page.goto("/ecotone/profile")
    page.fill("input[name='mau.2024-06']", "one")
    page.click("button:has-text('Save')")
    page.wait_for_selector("[role=alert]:has-text('whole number')")
    assert page.input_value("input[name='mau.2024-06']") == "one"
    page.fill("input[name='mau.2024-06']", "12,000")
    page.fill("#domicile", "us")
    page.click("button:has-text('Save')")
    page.wait_for_selector("[role=status]:has-text('Saved')")
    assert page.input_value("#domicile") == "US"
    page.goto(question)
    assert page.locator("#answer .verdict-allow_with_duties").count() == 1
    page.goto("/ecotone/profile")
    page.fill("input[name='mau.2024-06']", "")
    page.fill("#domicile", "")
    page.click("button:has-text('Save')")
    page.wait_for_selector("[role=status]:has-text('Saved')")
    page.goto(question)
    assert page.locator("#answer .verdict-unknown").count() == 1


def test_a_hostile_card_does_nothing(visit: Visit, server: SimpleNamespace) -> None:
    page = visit()
    page.goto("/demo/hostile")
    page.wait_for_timeout(300)
    assert all(asked.startswith(server.url + "/") for asked in page.asked)
    assert [w for w in page.wrong if "404" not in w] == []
    page.wait_for_selector("footer")


def test_login_in_a_browser(visit: Visit, server: SimpleNamespace) -> None:
    page = visit(width=375)
    page.goto("/demo/secret")
    page.click("main a:has-text('Log in')")
    page.wait_for_selector("#token")
    page.wait_for_function("document.activeElement.id === 'token'")
    page.keyboard.type(server.services.settings.admin_token)
    page.keyboard.press("Enter")
    page.wait_for_url(server.url + "/demo/secret")
    page.wait_for_selector("h1:has-text('Hidden words')")
    page.click("button:has-text('Log out')")
    page.wait_for_url(server.url + "/")
    page.goto("/demo/secret")
    page.wait_for_selector("h1:has-text('Nothing here')")


def test_snippets_can_be_copied(visit: Visit) -> None:
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/demo/bert-atlas")
    page.click(".copy >> nth=0")
    page.wait_for_function("navigator.clipboard.readText().then(t => t.includes('hf download demo/bert-atlas'))")
