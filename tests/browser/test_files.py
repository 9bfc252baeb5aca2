"""Files, history and their forms in a browser: on a telephone, at night, by keyboard, without script."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.publishing import AddLarge, AddRegular, Commit
from tests.browser.test_pages import CONTRAST, OUTLINE, log_in

PAGES = (
    "/demo/names/tree/main",
    "/demo/names/blob/main/pixel.png",
    "/demo/names/blob/main/evil.svg",
    "/demo/bert-atlas/blob/main/docs/notes.md?plain=1",
    "/demo/bert-atlas/blob/main/model.safetensors",
    "/demo/shown/commits/main",
    "/demo/shown/commit/{head}",
    "/demo/shown/refs",
    "/demo/shown/tree/main",
    "/demo/shown/upload/main/some/folder",
    "/demo/bert-atlas/edit/main/README.md",
    "/demo/shown/delete/main/a.txt",
    "/demo/shown/refs/delete?ref=refs/tags/v1",
)
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def shown(server: SimpleNamespace) -> str:
    """A repository with a branch, a tag, a large file and a title that turns its reading direction; its head."""
    services = server.services
    services.catalog.create("demo/shown", private=False, actor=SYSTEM)
    data = bytes(range(256))
    sha256 = hashlib.sha256(data).hexdigest()
    with services.storage.lfs.receiving("demo", sha256, len(data)) as upload:
        upload.write(data)
        upload.finish()
    long = b"a line that is longer than any telephone is wide, and then some more of it, and more\n"
    for number in range(2):
        operations = (AddRegular("a.txt", long * (3 + number)), AddLarge("w.bin", sha256))
        changes = Commit(message=f"Title \u202e number {number}", operations=operations)
        made = services.publishing.commit("demo/shown", "main", changes, actor=SYSTEM)
    model = services.catalog.model("demo/shown", viewer=SYSTEM)
    services.catalog.create_branch(model, "side/branch", actor=SYSTEM)
    services.catalog.create_tag(model, "v1", actor=SYSTEM)
    return str(made.revision_id)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_pages_can_be_read_and_used(visit: Visit, server: SimpleNamespace, shown: str, width: int, scheme: str) -> None:
    page = visit(width=width, scheme=scheme)
    log_in(page, server)
    for path in PAGES:
        page.goto(path.format(head=shown))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        for summary in page.query_selector_all("details:not([open]) > summary"):
            summary.click()
        assert page.evaluate(CONTRAST) == [], path
        unnamed = page.evaluate("""() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea")]
            .filter(e => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length)).map(e => e.outerHTML)""")  # noqa: E501
        assert unnamed == [], path
        assert page.locator("h1").count() == 1, path
        tables = page.evaluate(
            "[...document.querySelectorAll('main table')].filter(t => !t.caption && !t.closest('.card')).length"
        )
        assert tables == 0, path
    assert page.wrong == []
    assert all(asked.startswith(server.url + "/") for asked in page.asked)


@pytest.mark.parametrize("script", [True, False])
def test_files_are_uploaded_edited_and_deleted(
    visit: Visit, server: SimpleNamespace, shown: str, tmp_path: Path, script: bool
) -> None:
    folder = f"up{int(script)}"
    for name, data in (("one.txt", b"first\n"), ("two.bin", bytes(99))):
        (tmp_path / name).write_bytes(data)
    page = visit(script=script)
    log_in(page, server)
    page.goto("/demo/shown/tree/main")
    page.click("main a:has-text('Upload files')")
    page.set_input_files("#files", [str(tmp_path / "one.txt"), str(tmp_path / "two.bin")])
    page.fill("#folder", folder)
    page.fill("#message", "From a browser")
    page.click("button:has-text('Upload')")
    page.wait_for_selector("h1:has-text('From a browser')")
    page.wait_for_selector("text=2 files changed")
    page.goto(f"/demo/shown/tree/main/{folder}")
    page.wait_for_selector("tr:has-text('two.bin') .chip:has-text('LFS')")
    page.click("th a:has-text('one.txt')")
    page.click("main a:has-text('Edit')")
    page.fill("#text", "second\n")
    page.click("button:has-text('Commit to main')")
    page.wait_for_selector(".diff .add:has-text('second')")
    page.wait_for_selector(".diff .drop:has-text('first')")
    page.click(f"h3 a:has-text('{folder}/one.txt')")
    assert page.inner_text(".lines") == "second"
    page.goto(f"/demo/shown/delete/main/{folder}/one.txt")
    page.click("button:has-text('Delete the file')")
    page.wait_for_selector(".is-removed:has-text('removed')")


def test_a_refusal_comes_back_on_the_form_with_its_clause(visit: Visit, server: SimpleNamespace, shown: str) -> None:
    page = visit()
    log_in(page, server)
    page.goto("/demo/shown/edit/main/README.md")
    card = "---\nlicense: mit\nbase_model: meta-llama/Llama-2-7b-hf\n---\n# Mine\n"
    page.fill("#text", card)
    page.click("button:has-text('Commit')")
    assert "clause" in page.inner_text("[role=alert]") and "Nothing was changed" in page.inner_text("[role=alert]")
    assert page.input_value("#text") == card


def test_a_branch_is_made_and_deleted_by_keyboard(visit: Visit, server: SimpleNamespace, shown: str) -> None:
    page = visit()
    log_in(page, server)
    page.goto("/demo/shown/refs")
    page.focus("#name")
    assert page.evaluate(OUTLINE)
    page.keyboard.type("by-keys")
    page.keyboard.press("Enter")
    page.wait_for_selector("a[aria-label='Delete by-keys']")
    page.focus("a[aria-label='Delete by-keys']")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Delete the branch by-keys?')")
    page.focus("button.danger")
    assert page.evaluate(OUTLINE)
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Branches and tags')")
    assert page.locator("a[aria-label='Delete by-keys']").count() == 0


def test_a_picture_is_shown_and_opened_alone_it_can_do_nothing(visit: Visit) -> None:
    page = visit()
    page.goto("/demo/names/blob/main/pixel.png")
    assert page.evaluate("document.querySelector('.picture img').naturalWidth") == 1
    page.goto("/demo/names/picture/main/pixel.png")
    assert page.evaluate("window.origin") == "null"
