"""`ecotone licence detect`: which licence is this text? Without server or database."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecotone.cli import options
from ecotone.cli.client import fail, note, print_json

if TYPE_CHECKING:
    from ecotone.licences.detection import Found

_SecondOpinion = Annotated[
    bool, typer.Option("--second-opinion", help="Ask ScanCode's engine as well, in a process of its own (extra detect)")
]
_ScancodePython = Annotated[
    str | None,
    typer.Option(envvar="ECOTONE_SCANCODE_PYTHON", metavar="PYTHON", help="Interpreter that has ScanCode installed"),
]


def detect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH ...", help="Files or folders")],
    second_opinion: _SecondOpinion = False,
    scancode_python: _ScancodePython = None,
    as_json: options.Json = False,
) -> None:
    """The licences in files: texts, notices and SPDX tags, and near texts with what differs. Not legal advice.

    Folders are walked for licence, notice, README and source files. What cannot be read is named on stderr. A text
    that only resembles a licence is `unknown`, with the licences it is near to and the clause that differs.
    """
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.detection import detect_files

    absent = [p for p in paths if not p.exists()]
    knowledge = KnowledgeBase.load()
    found = list(detect_files(paths, knowledge, _complain))
    rows = [_row(f) for f in found]
    if second_opinion:
        _add_opinions(rows, scancode_python)
    if as_json:
        print_json(rows)
    else:
        _show(rows)
    note(f"not legal advice; knowledge base {knowledge.version}")
    raise typer.Exit(1 if absent else 0)


def _complain(path: str, reason: str) -> None:
    print(f"{path}: {reason}", file=sys.stderr)


def _row(found: "Found") -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.to_builtins(found)
    if row["declared"] is None:
        del row["declared"]
    return row


def _add_opinions(rows: list[dict[str, Any]], python: str | None) -> None:
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.detection import SecondOpinionFailed
    from ecotone.licences.detection import second_opinion as ask
    from ecotone.licences.detection.detecting import Identity
    from ecotone.licences.detection.index import load

    identity = Identity(load(), KnowledgeBase.load())
    try:
        opinions = ask([Path(r["path"]) for r in rows], python=python)
    except SecondOpinionFailed as error:
        fail(error.message)
    for row, opinion in zip(rows, opinions, strict=False):
        theirs = list(dict.fromkeys(identity.of(i)[0] for i in opinion.ids))
        ours = [d["id"] for d in row["detected"]]
        row["second_opinion"] = {
            "engine": opinion.engine,
            "ids": theirs,
            "agrees": {_stem(i) for i in ours} == {_stem(i) for i in theirs},
            "error": opinion.error,
        }


def _stem(name: str) -> str:
    return name.removesuffix("-only").removesuffix("-or-later")


def _show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        declared = f"  (declares {row['declared']})" if row.get("declared") else ""
        print(f"{row['path']}{declared}")
        for one in row["detected"]:
            print(f"  {one['id']}  {one['evidence']}, {one['coverage']:.0%} of its words found")
            for near in one["near"]:
                print(f"    near {near['id']}: {near['difference']}")
        if not row["detected"]:
            print("  nothing found")
        opinion = row.get("second_opinion")
        if opinion:
            says = ", ".join(opinion["ids"]) or opinion["error"] or "nothing found"
            print(f"  {opinion['engine']} {'agrees' if opinion['agrees'] else 'says'}: {says}")


def add_to(group: typer.Typer) -> None:
    group.command()(detect)
