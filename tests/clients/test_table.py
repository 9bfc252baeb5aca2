"""Each client does each task: a user of that client would lose what the task is called."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import table
from tests.clients.clients import KINDS, Client, Kind, Row, Session, serving, sessions
from tests.running import running

Work = dict[tuple[str, str], Session]
QUICK = {("huggingface_hub", "0.36.2"), ("huggingface_hub", "2.4.0")}


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    folder = tmp_path_factory.mktemp("clients")
    with running(folder / "server") as server, sessions(server, folder) as found:
        yield found


def every_pair() -> Iterator[object]:
    for kind in KINDS:
        for client, task in kind.pairs():
            if client.moving_only and not task.moves:
                continue
            quick = task.quick and (kind.title, client.title) in QUICK
            marks = () if quick else (pytest.mark.slow,)
            yield pytest.param(kind, client, task, marks=marks, id=f"{kind.title}-{client.name}-{task.title}")


@pytest.mark.parametrize(("kind", "client", "task"), list(every_pair()))
def test_client_does_task(at_work: Work, kind: Kind, client: Client, task: serving.Task) -> None:
    row = at_work[kind.title, client.name].do(task)
    if row.ok is None:
        pytest.skip(row.detail)
    assert row.ok, row.detail


def test_a_failed_task_is_told_as_failed(tmp_path: Path) -> None:
    """The table can be red: a row that failed, and one whose client ended, are no `ok` on the page."""
    kind = KINDS[0]
    rows = {(kind.title, c.title, t.title): Row(t.title, True, "", 0.0) for c, t in kind.pairs()}
    broken = next(iter(rows))
    rows[broken] = Row(broken[2], False, "the reason", 0.0)
    lines = "\n".join([f"## {kind.title}", *table._table(kind, rows)])
    cells = table.cells_of(lines)
    assert cells[(broken[0], broken[1], table.shown(broken[2]))] == "FAIL [1]" and "1. the reason" in lines
    assert len(cells) == len(rows) and sum(cell == "ok" for cell in cells.values()) == len(rows) - 1
