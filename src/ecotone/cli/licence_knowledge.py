"""`ecotone licence list`, `show`, `export`, `diff`: the knowledge base itself, without a server."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, fail, print_json
from ecotone.vocabulary import EcotoneError

if TYPE_CHECKING:
    from ecotone.licences import Entry, Fact, KnowledgeBase

_WRONG_USAGE = 2
_PRESENT = "present"
NOTICE = "not legal advice"


def list_entries(as_json: options.Json = False) -> None:
    """The licences and terms that this program knows. Needs no server."""
    from ecotone.licences import KnowledgeBase

    knowledge = KnowledgeBase.load()
    rows = [
        {
            "id": e.id,
            "title": e.title,
            "kind": e.kind,
            "family": e.family,
            "version": e.version,
            "spdx": e.names.spdx,
            "hub": list(e.names.hf),
            "authority": e.status.authority,
        }
        for e in sorted(knowledge.entries.values(), key=lambda e: e.id.lower())
    ]
    show.table(rows, ["id", "title", "kind"], as_json=as_json, empty="The knowledge base is empty.")
    if not as_json:
        print(f"{len(rows)} entries; knowledge base {knowledge.version}; {NOTICE}")


def show_entry(
    entry: Annotated[str, typer.Argument(help="Id, SPDX id or Hub id")], as_json: options.Json = False
) -> None:
    """One licence with its facts, clauses and sources. Needs no server."""
    from ecotone.licences import KnowledgeBase

    knowledge = KnowledgeBase.load()
    found = _find(knowledge, entry)
    if as_json:
        print_json({"knowledge_base": knowledge.version, "notice": NOTICE, **msgspec.to_builtins(found)})
        return
    print(f"{found.id}: {found.title} (knowledge base {knowledge.version}; {NOTICE})")
    print(f"  {found.kind}, governs {', '.join(found.governs)}, reviewed {found.status.reviewed}")
    print(f"  source: {found.text.source or 'no text held'} (sha256 {found.text.sha256 or '-'})")
    for part in found.incorporates:
        print(f"  incorporates {part.ref} by {part.clause}{', the latest version' if part.dynamic else ''}")
    for fact in found.facts:
        print(_line(found, fact))
    demands = found.outbound.derivative.replace("_", " ")
    print(f"  a derivative: {demands}; withholds {', '.join(found.restricts) or 'nothing'}")
    if found.status.notes:
        print(f"  {found.status.notes}")


def _line(entry: "Entry", fact: "Fact") -> str:
    about = ", ".join(fact.action) or fact.duty or ""
    marks = [] if entry.authority(fact) == "primary" else ["secondary"]
    marks += ["inferred"] if fact.confidence == "inferred" else []
    marks += [f"disputed: {fact.position}"] if fact.position else []
    shown = f" [{', '.join(marks)}]" if marks else ""
    return f"  {fact.modality:<9} {about:<40} {fact.clause.sec}: {fact.means}{shown}"


def _find(knowledge: "KnowledgeBase", name: str) -> "Entry":
    from ecotone.licences.expressions import names

    if name in knowledge.entries:
        return knowledge.entries[name]
    ids = names(knowledge).get(name.strip().casefold(), ())
    if len(ids) > 1:
        fail(f"{name!r} stands for {' and '.join(ids)}; show one of them.")
    return knowledge.entry(ids[0] if ids else name)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it")], as_json: options.Json = False
) -> None:
    """Write the present knowledge base to one file, for `licence diff` later. Needs no server."""
    from ecotone.licences import KnowledgeBase

    knowledge = KnowledgeBase.load()
    try:
        file.write_bytes(knowledge.to_bytes())
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}.")
    told = {"file": str(file), "version": knowledge.version, "digest": knowledge.digest}
    show.record({**told, "entries": len(knowledge.entries)}, as_json=as_json)


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Folder of entries, or a file of `licence export`")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same; by default what this program knows")] = _PRESENT,
    at_server: Annotated[
        bool,
        typer.Option(
            "--server",
            help="Ask the server for models, projects and routes whose answer changes; "
            "OLD and NEW may then be versions that it has had",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """What differs between two knowledge bases, by entry and clause; with a server, whose answers change."""
    try:
        answer = _at_server(old, new) if at_server else msgspec.to_builtins(_compare(old, new))
    except EcotoneError as error:
        fail(error.message, _WRONG_USAGE)
    if as_json:
        print_json(answer)
        return
    _print_entries(answer)
    if at_server:
        _print_answers(answer)
    print(NOTICE)


def _compare(old: str, new: str) -> Any:
    from ecotone.licences.differences import compare

    return compare(_opened(old), _opened(new))


def _opened(name: str) -> "KnowledgeBase":
    from ecotone.licences import KnowledgeBase

    return KnowledgeBase.load() if name == _PRESENT else KnowledgeBase.open(Path(name))


def _at_server(old: str, new: str) -> Any:
    body: dict[str, Any] = {}
    for side, name in (("old", old), ("new", new)):
        if Path(name).exists():
            body[f"{side}_file"] = base64.b64encode(_opened(name).to_bytes()).decode()
        elif name != _PRESENT:
            body[side] = name
    return Server().post("/licence/diff", body)


def _print_entries(answer: dict[str, Any]) -> None:
    for side in ("old", "new"):
        print(f"{side}: {answer[side]['version']} ({answer[side]['digest'][:12]})")
    for entry in answer["entries"]:
        print(f"{entry['change']:<8} {entry['entry']}: {entry['title']}")
        for name, (before, after) in entry["fields"].items():
            print(f"    {name}: {show.text(before)} -> {show.text(after)}")
        for fact in entry["facts"]:
            print(f"    {fact['change']:<8} {fact['fact']}, {fact['clause']}: {fact['means']}")
    for name in answer["positions"]:
        print(f"changed  position {name}")
    if not answer["entries"] and not answer["positions"]:
        print("no entry differs")


def _print_answers(answer: dict[str, Any]) -> None:
    for change in answer["models"]:
        because = f" (because of {', '.join(change['because'])})" if change["because"] else ""
        print(f"{change['model']} for {change['who']}: {change['before']} -> {change['after']}{because}")
        for sign, name in (("+", "duties_added"), ("-", "duties_removed")):
            for duty in change[name]:
                print(f"    {sign} {duty}")
    print(f"projects whose answers change: {', '.join(answer['projects']) or 'none'}")
    for route in answer["routes"]:
        print(f"route {route['route']}: {', '.join(route['models'])}")


def add_to(group: typer.Typer) -> None:
    for name, command in (("list", list_entries), ("show", show_entry), ("export", export), ("diff", diff)):
        group.command(name)(command)
