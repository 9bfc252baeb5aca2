"""What openai-python's makers test of a server holds for this one."""

from pathlib import Path

import pytest

from tests.conformance import table
from tests.conformance.places import COLUMNS
from tests.conformance.suite import PARTS, Column, run_all


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Column]:
    return run_all(tmp_path_factory.mktemp("conformance"))


@pytest.mark.slow
def test_what_the_sdk_can_do_through_a_bare_proxy_it_can_do_through_the_gateway(columns: dict[str, Column]) -> None:
    wrong = {test: why for test, why in table.lost(columns).items() if table.group(test) is None}
    assert not wrong, "\n".join(f"{test}: {why[:300]}" for test, why in wrong.items())


@pytest.mark.slow
def test_the_provider_of_the_suite_passes_it_so_that_a_failure_is_the_gateways(columns: dict[str, Column]) -> None:
    for name in ("direct", "nginx"):
        failed = [test for tests in columns[name].values() for test, said in tests.items() if not said.passed]
        assert not failed, (name, failed)
    assert all(len(columns["direct"][part]) >= 20 for part in PARTS)


@pytest.mark.slow
def test_nothing_is_called_not_offered_that_works(columns: dict[str, Column]) -> None:
    missing = {table.group(test) for test in table.lost(columns)}
    assert set(table.LATER) <= missing


def test_the_published_table_has_every_part_and_place() -> None:
    lines = table.PAGE.read_text().splitlines()
    assert f"| part | {' | '.join(COLUMNS)} |" in lines, f"docs/conformance.md is out of date: run `{table.COMMAND}`"
    assert all(any(line.startswith(f"| {part} |") for line in lines) for part in PARTS)


def test_a_test_that_fails_only_through_the_gateway_is_told(tmp_path: Path) -> None:
    """The table can be red: what fails here and not through nginx stands in it with its reason."""
    from tests.conformance.suite import Said

    fine: Column = {part: {f"{part}::test_method_create": Said("passed")} for part in PARTS}
    broken: Column = fine | {"embeddings": {"embeddings::test_method_create": Said("failed", "no base64")}}
    text = table.page({"direct": fine, "nginx": fine, "Ecotone": broken}, 1.0)
    assert "| embeddings | 1 passed | 1 passed | 1 failed |" in text
    assert "no base64" in text
