"""The published table of clients is whole and green: it has every client and task of the tests, and no failure."""

from tests.clients import table
from tests.clients.clients import KINDS


def test_the_table_has_every_client_and_task_and_no_failure() -> None:
    cells = table.cells_of(table.PAGE.read_text())
    wanted = {(k.title, c.title, table.shown(t.title)) for k in KINDS for c, t in k.pairs()}
    assert set(cells) == wanted, f"docs/clients.md is out of date: run `{table.COMMAND}`"
    failed = {key: cell for key, cell in cells.items() if not (cell == "ok" or cell.startswith("- ["))}
    assert not failed, failed


def test_no_client_is_all_gaps() -> None:
    """A column in which nothing was done would say nothing."""
    cells = table.cells_of(table.PAGE.read_text())
    for kind in KINDS:
        for client in kind.clients:
            assert any(v == "ok" for (k, c, _), v in cells.items() if (k, c) == (kind.title, client.title)), client
