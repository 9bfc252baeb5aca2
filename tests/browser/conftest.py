"""The pages in the system's Chromium. The house behind them is that of `tests/web`."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _house() -> Any:
    spec = importlib.util.spec_from_file_location(
        "web_house", Path(__file__).resolve().parent.parent / "web" / "conftest.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["web_house"] = module
    spec.loader.exec_module(module)
    return module


house = _house()
server = house.server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; tests that need it are skipped where the system has none. Ends with its module: while Playwright runs,
    an event loop runs in this thread, and no other test could start its own."""
    found = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'ecotone[dev]'")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_FLAGS), timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, server: SimpleNamespace) -> Iterator[Callable[..., Any]]:
    """`visit(width=..., scheme=..., script=...)` opens a tab that records what it asks for and what goes wrong."""
    contexts = []

    def opened(width: int = 1280, scheme: str = "light", script: bool = True) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            java_script_enabled=script,
            base_url=server.url,
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (page.wrong.append(dialog.message), dialog.dismiss()))
        return page

    yield opened
    for context in contexts:
        context.close()
