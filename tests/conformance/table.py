"""The published result of other people's test suites: `make conformance` runs them and writes docs/conformance.md."""

import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.conformance.places import COLUMNS
from tests.conformance.suite import PARTS, VERSION, Column, Said, run_all

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
COMMAND = "make conformance"
LATER = {
    "chat.completions.test_messages": "answers that the provider stores (`GET /chat/completions/{id}/messages`)",
    "chat.test_completions::retrieve": "answers that the provider stores (`GET /chat/completions/{id}`)",
    "chat.test_completions::update": "answers that the provider stores (`POST /chat/completions/{id}`)",
    "chat.test_completions::list": "answers that the provider stores (`GET /chat/completions`)",
    "chat.test_completions::delete": "answers that the provider stores (`DELETE /chat/completions/{id}`)",
    "test_models::delete": "`DELETE /models/{model}`: a key of a project removes no model",
}
"""What the gateway does not offer, by the beginning of a test's place, or place and method."""


def group(test: str) -> str | None:
    """Which entry of `LATER` a test belongs to; None when it must pass."""
    place, _, name = test.partition("::")
    module = place.rpartition(".")[0]
    method = next(
        (word for word in LATER if word.startswith(f"{module}::") and f"_{word.split('::')[1]}" in name), None
    )
    return method or (module if module in LATER else None)


def lost(columns: Mapping[str, Column]) -> dict[str, str]:
    """Tests that pass through nginx and not through Ecotone, with what they said."""
    return {
        test: columns["Ecotone"][part][test].why
        for part, tests in columns["nginx"].items()
        for test, said in tests.items()
        if said.passed and not columns["Ecotone"][part][test].passed
    }


def page(columns: Mapping[str, Column], seconds: float) -> str:
    """The whole page in Markdown."""
    lines = [
        "# Conformance",
        "",
        f"The tests that openai-python {VERSION} brings in its source distribution, run three times in one sitting:",
        "against a stand-in for the provider that answers each method with the smallest answer of the documented type,",
        "through nginx with a bare `proxy_pass` to it, and through Ecotone with a project's key. What passes through",
        "nginx is to pass through Ecotone; what is not offered is listed below.",
        "",
        f"Run on {datetime.now(UTC):%Y-%m-%d} by `{COMMAND}` with Ecotone {version('ecotone')}, in {seconds:.0f} s.",
        "",
        f"| part | {' | '.join(COLUMNS)} |",
        "|---|---|---|---|",
    ]
    lines += [f"| {part} | {' | '.join(_cell(columns[name][part]) for name in COLUMNS)} |" for part in PARTS]
    missing = lost(columns)
    lines += ["", f"Pass through nginx and not through Ecotone: {len(missing)}.", ""]
    counts: dict[str, int] = {}
    for test, why in missing.items():
        known = group(test)
        told = LATER[known] if known else f"`{test}`: {' '.join(why.split())[:160]}"
        counts[told] = counts.get(told, 0) + 1
    if counts:
        lines += [
            "| tests | not offered, or wrong |",
            "|---|---|",
            *(f"| {n} | {told} |" for told, n in counts.items()),
        ]
    return "\n".join([*lines, ""])


def _cell(tests: Mapping[str, Said]) -> str:
    counts: dict[str, int] = {}
    for said in tests.values():
        counts[said.outcome] = counts.get(said.outcome, 0) + 1
    return ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped") if name in counts)


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        columns = run_all(Path(folder))
    PAGE.write_text(page(columns, time.monotonic() - began))
    print(f"{PAGE} written")
    for test, why in lost(columns).items():
        if group(test) is None:
            print(f"WRONG {test}: {why[:300]}")


if __name__ == "__main__":
    main()
