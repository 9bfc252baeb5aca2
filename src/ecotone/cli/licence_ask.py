"""`ecotone licence ask`: a decision on a graph that a file describes, without a server."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ecotone.cli import options, show
from ecotone.cli.client import fail, print_json
from ecotone.vocabulary import Invalid, Verdict

_WRONG_USAGE = 2
_LARGEST = 64 * 1024 * 1024


def ask(
    case: Annotated[str, typer.Argument(metavar="CASE.JSON", help="File that describes the case; - reads stdin")],
    as_json: options.Json = False,
) -> None:
    """Decide a described graph: nodes, edges, target, use and positions. Needs no server.

    Exit status: 0 allow or allow_with_duties, 3 ask_licence, 4 deny, 5 unknown, 2 a case that cannot be read.
    """
    from ecotone.cli.licence_pure import EXIT
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.asking import ask as decide

    try:
        decision = decide(KnowledgeBase.load(), _read(case))
    except Invalid as error:
        fail(error.message, _WRONG_USAGE)
    answer = decision.to_json()
    if as_json:
        print_json(answer)
    else:
        show.decision(answer)
        for warning in decision.warnings:
            print(f"note: {warning}")
    raise typer.Exit(EXIT[Verdict(decision.verdict)])


def _read(name: str) -> Any:
    """What a JSON file or stdin says; raises Invalid."""
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise Invalid(f"{name} cannot be read: {error.strerror}.", param="case") from None
    if len(raw) > _LARGEST:
        raise Invalid(f"{name} is larger than {_LARGEST >> 20} MiB; expected a smaller case.", param="case")
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = "stdin" if name == "-" else name
        raise Invalid(f"{shown} is no JSON ({error}); expected {{nodes, edges, target, use, positions}}.") from None


def add_to(group: typer.Typer) -> None:
    group.command("ask")(ask)
