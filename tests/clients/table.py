"""The table of clients and tasks, from a run of all against a real server: `make clients` writes docs/clients.md.

A cell is `ok`, `FAIL` or `-` (not applicable), the last two with a note that says why. Nothing is written that was not
run: a client that could not be run has a note in each cell, and no `ok`.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.clients.clients import KINDS, Client, Kind, Row, sessions
from tests.running import running

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
COMMAND = "make clients"
SHOWN = ("huggingface_hub", "hf_xet", "transformers", "tokenizers", "torch", "datasets", "pyarrow", "fsspec")
CELLS = {True: "ok", False: "FAIL", None: "-"}
Rows = Mapping[tuple[str, str, str], Row]  # by (kind, client, task)


def run_all(kinds: Iterable[Kind] = KINDS) -> dict[tuple[str, str, str], Row]:
    """Do every task with every client, two clients at a time."""
    rows: dict[tuple[str, str, str], Row] = {}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        server = opened.enter_context(running(folder / "server"))
        at = opened.enter_context(sessions(server, folder / "clients", kinds))
        pool = opened.enter_context(ThreadPoolExecutor(2))

        def one(kind: Kind, client: Client) -> None:
            session = at[kind.title, client.name]
            for task in kind.tasks:
                row = rows[kind.title, client.title, task.title] = session.do(task)
                print(kind.title, client.title, task.title, CELLS[row.ok], row.detail[:200], row.seconds, sep=" | ")
            session.stop()

        list(pool.map(lambda pair: one(*pair), [(kind, client) for kind in kinds for client in kind.clients]))
    return rows


def page(rows: Rows, kinds: Iterable[Kind] = KINDS, seconds: float = 0.0) -> str:
    """The whole page in Markdown."""
    lines = [
        "# Clients",
        "",
        "What unmodified clients do against a real server of this version, each in an environment of its own, and",
        "with `HF_ENDPOINT` set. `ok`: done and the result checked; `-`: not applicable, for the",
        'reason in the note; `FAIL`: not done. Columns with "Xet off" run with `HF_HUB_DISABLE_XET=1`, that is over',
        "LFS and plain HTTP; they do the tasks that move large files. Without it, versions from 1.20 on upload by",
        "Xet; older ones by LFS, and download by Xet.",
        "",
        f"Run on {datetime.now(UTC):%Y-%m-%d} by `{COMMAND}` with Ecotone {version('ecotone')}, in {seconds / 60:.0f} "
        "minutes. The tasks are in",
        "`tests/clients/tasks/`.",
    ]
    for kind in kinds:
        lines += ["", f"## {kind.title}", "", *_table(kind, rows)]
        lines += ["", "| environment | versions |", "|---|---|"]
        lines += [f"| {client.title} | {versions(client)} |" for client in kind.clients if not client.moving_only]
    return "\n".join([*lines, ""])


def _table(kind: Kind, rows: Rows) -> list[str]:
    notes: dict[str, int] = {}
    lines = [f"| task | {' | '.join(c.title for c in kind.clients)} |", "|---" * (len(kind.clients) + 1) + "|"]
    for task in kind.tasks:
        cells = []
        for client in kind.clients:
            row = rows[kind.title, client.title, task.title]
            note = "" if row.ok else f" [{notes.setdefault(told(row.detail), len(notes) + 1)}]"
            cells.append(CELLS[row.ok] + note)
        lines.append(f"| {shown(task.title)} | {' | '.join(cells)} |")
    return [*lines, "", *(f"{number}. {text}" for text, number in notes.items())]


def told(detail: str) -> str:
    """A note without what differs from run to run: ports, request ids, folders."""
    text = re.sub(r"http://127\.0\.0\.1:\d+|\(Request ID: [^)]*\)|/tmp/\S+", "", detail)
    return " ".join(text.split())[:240]


def shown(title: str) -> str:
    return title.replace("|", "\\|").replace("*", "\\*")


def versions(client: Client) -> str:
    """What is installed in an environment, asked of itself; of a tool, what it says of itself."""
    if client.environment is None:
        tool = client.settings["CLIENT_TOOL"]
        return subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    code = (
        "import platform, sys; from importlib.metadata import distributions\n"
        "found = {d.name.replace('-', '_'): d.version for d in distributions()}\n"
        "named = [f'{n} {found[n]}' for n in sys.argv[1:] if n in found]\n"
        "print(', '.join(['Python ' + platform.python_version(), *named]))"
    )
    asked = [client.python(), "-c", code, *SHOWN, "vllm_tpu"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def cells_of(text: str) -> dict[tuple[str, str, str], str]:
    """The cells of a page, by (kind, client, task)."""
    found: dict[tuple[str, str, str], str] = {}
    kind, clients = "", []
    for line in text.splitlines():
        if line.startswith("## "):
            kind, clients = line[3:], []
        elif line.startswith("| task |"):
            clients = [cell.strip() for cell in line.split("|")[2:-1]]
        elif line.startswith("| environment |"):
            clients = []
        elif line.startswith("| ") and clients:
            task, *cells = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            found |= {(kind, client, task): cell for client, cell in zip(clients, cells, strict=True)}
    return found


if __name__ == "__main__":
    began = time.monotonic()
    done = run_all()
    PAGE.write_text(page(done, seconds=time.monotonic() - began))
    failed = [key for key, row in done.items() if row.ok is False]
    print(f"{len(done)} cells, {len(failed)} failed; written to {PAGE}")
    sys.exit(1 if failed else 0)
