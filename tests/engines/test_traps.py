"""The table of traps names tests that are there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = [line for line in (TESTS / "engines" / "traps.md").read_text().splitlines() if line.startswith("| ")]


def test_each_trap_has_a_test_that_exists() -> None:
    known: dict[str, set[str]] = {}
    rows = [row for row in ROWS if not row.startswith("| trap |")]
    assert len(rows) > 50
    for row in rows:
        named = re.findall(r"([\w/]+\.py)::(\w+)", row.rpartition(" | ")[2])
        assert named, f"no test: {row}"
        for file, name in named:
            if file not in known:
                tree = ast.parse((TESTS / file).read_text())
                known[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in known[file], f"{file} has no {name}"
