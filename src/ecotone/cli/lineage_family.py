"""`ecotone lineage family`, `impact`, `withdrawal`: who descends from a model, and what hangs on its licence."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone import vocabulary
from ecotone.cli import options
from ecotone.cli.client import Server, fail, note, print_json, segment

_STILL_THERE = 4
_MOST_LINES = 60

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="namespace/name; a dataset as datasets/namespace/name")]
_Mode = Annotated[vocabulary.Mode | None, typer.Option("--mode", help="What is done with the models")]
_Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there already")]
_Purpose = Annotated[vocabulary.Purpose | None, typer.Option("--purpose", help="What it is done for")]


def family(
    model: _Model,
    mode: _Mode = None,
    purpose: _Purpose = None,
    relation: Annotated[str | None, typer.Option("--relation", help="Only descendants by this relation")] = None,
    status: Annotated[str | None, typer.Option("--status", help="declared, verified, suspected or refuted")] = None,
    verdict: Annotated[str | None, typer.Option("--verdict", help="Only descendants with this verdict")] = None,
    as_json: options.Json = False,
) -> None:
    """The family tree of a model: ancestors above, descendants below, with verdicts for a use (serve_api, commercial
    unless told)."""
    told = {"mode": mode and mode.value, "purpose": purpose and purpose.value}
    chosen = {"relation": relation, "status": status, "verdict": verdict}
    server, offset = Server(), 0
    answer = server.get("/lineage/family", model=model, **told, **chosen)
    page = answer
    while page["next_offset"] is not None and len(answer["members"]) < 20_000:
        offset = page["next_offset"]
        page = server.get("/lineage/family", model=model, offset=offset, **told, **chosen)
        answer["members"] += [m for m in page["members"] if m["depth"] > 0]
        known = {json.dumps(edge) for edge in answer["edges"]}
        answer["edges"] += [edge for edge in page["edges"] if json.dumps(edge) not in known]
    answer["next_offset"] = None
    if as_json:
        print_json(answer)
        return
    _print_tree(answer)


def _print_tree(answer: dict[str, Any]) -> None:
    parents: dict[str, list[dict[str, Any]]] = {}
    for edge in answer["edges"]:
        parents.setdefault(edge["child"], []).append(edge)
    names = {m["id"]: m["title"] for m in answer["members"]}
    for member in answer["members"]:
        marks = [w for w in ("private", "deleted") if member[w]] + ([] if member["known"] else ["not here"])
        came = "; ".join(
            f"{e['relation']} of {names.get(e['parent'], '?')}, {e.get('said') or e['status']}"
            for e in parents.get(member["id"], ())[:3]
        )
        place = (
            "this model"
            if member["depth"] == 0
            else f"{abs(member['depth'])} {'up' if member['depth'] < 0 else 'down'}"
        )
        parts = [
            place,
            member["title"],
            member["verdict"] or "-",
            ", ".join(member["licences"]),
            came,
            ", ".join(marks),
        ]
        print("  ".join(part for part in parts if part))
    if answer["cut"]:
        note("The family is larger than what is walked; the rest is left out.")


def impact(
    model: _Model,
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="An entry of the knowledge base, unknown, or withdrawn")
    ],
    day: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="Judge as on this day, e.g. 2027-01-01")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Only this revision of the model")] = None,
    mode: _Mode = None,
    purpose: _Purpose = None,
    users: options.Users = None,
    revenue: options.Revenue = None,
    territory: options.Territory = None,
    variables: options.Variables = None,
    as_json: options.Json = False,
) -> None:
    """Which models, deployments, routes and projects are answered otherwise if the licence (or a provider's terms)
    were another? Judged for what each project declares, or for --mode and --purpose. Changes nothing."""
    if (mode is None) is not (purpose is None):
        raise typer.BadParameter("--mode and --purpose are given together")
    use: dict[str, Any] = {
        "users": users,
        "revenue": revenue,
        "territory": territory,
        "variables": options.variables_of(variables),
    }
    asked: dict[str, Any] | None = (
        None if mode is None or purpose is None else {"mode": mode.value, "purpose": purpose.value}
    )
    if asked is not None:
        asked |= {k: v for k, v in use.items() if v is not None}
    elif users is not None or revenue is not None or territory or variables:
        raise typer.BadParameter("facts of a use need --mode and --purpose; else each project's own use is judged")
    if day is not None:
        try:
            day = date.fromisoformat(day).isoformat()
        except ValueError:
            raise typer.BadParameter(f"--from takes a day such as 2027-01-01; got {day!r}") from None
    body = {"model": model, "licence": licence, "day": day, "revision": revision, "use": asked}
    answer = Server().post("/lineage/impact", body)
    if as_json:
        print_json(answer)
        return
    print(f"{answer['model']}: {', '.join(answer['replaces'])} -> {answer['title']}, judged as on {answer['day']}")
    print(
        f"{answer['changed']} of {answer['looked_at']} models are answered otherwise"
        + (" (cut)" if answer["cut"] else "")
    )
    for held in answer["held_by"]:
        print(f"holds in spite of it: {held}")
    for kind in ("deployments", "backends", "models"):
        shown = answer[kind][:_MOST_LINES]
        print(f"{kind}: {len(answer[kind])}")
        for one in shown:
            _print_changes(one.get("model") or one["name"], one)
        if len(answer[kind]) > len(shown):
            print(f"  and {len(answer[kind]) - len(shown)} more (--json shows them)")
    print(f"routes: {len(answer['routes'])}")
    for route in answer["routes"]:
        for project in route["projects"]:
            after = ", ".join([*project["after"], *project["not_concerned"]]) or "nothing"
            print(
                f"  {route['route']} for {project['project']}: {', '.join(project['before']) or 'nothing'} -> {after}"
            )
    print(f"projects: {', '.join(answer['projects']) or 'none'}")
    if answer["in_doubt"]:
        print(f"only suspected to descend, not counted: {', '.join(answer['in_doubt'][:_MOST_LINES])}")
    print(answer["notice"])


def _print_changes(name: str, one: dict[str, Any]) -> None:
    for change in one["changes"]:
        clause = change["clause"]
        why = f"; {clause['entry']} clause {clause['clause']}: {clause['means']}" if clause else ""
        print(f"  {name} for {', '.join(change['who'][:6])}: {change['before']} -> {change['after']}{why}")
    way = [f"{step['relation']} {step['child']}" for step in one.get("way", ())]
    if way:
        print(f"    through {', '.join(way)}")


def withdrawal(
    model: _Model,
    revision: Annotated[str | None, typer.Option("--revision", help="Only this revision of the model")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Stands in the drill and the ledger")] = "",
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Keep the signed drill here too")
    ] = None,
    force: _Force = False,
    as_json: options.Json = False,
) -> None:
    """Its licence ended: list every derivative, copy, deployment, route and caller, with what to do about each. The
    list is signed, kept on the server and recorded in the ledger; nothing else changes."""
    _check_place(write, force)
    answer = Server().post("/lineage/withdrawals", {"model": model, "revision": revision, "reason": reason})
    if write is not None:
        _write(write, answer, force)
        note(f"The drill is in {write}; `ecotone lineage withdrawal-verify {write}` says what is left.")
    if as_json:
        print_json(answer)
        return
    print(
        f"drill {answer['id']} of {answer['model']}, {len(answer['items'])} items" + (" (cut)" if answer["cut"] else "")
    )
    for end in answer["ends"]:
        print(f"the text: {end['entry']} clause {end['clause']}: {end['means']}")
    for item in answer["items"]:
        print(f"  {item['kind']:<11} {item['name']}  ({item['where']})")
    musts = {item["kind"]: item["must"] for item in answer["items"]}
    for kind, must in musts.items():
        print(f"{kind}: {must}")
    for beyond in answer["beyond"]:
        print(f"not in this list: {beyond}")


def withdrawals(as_json: options.Json = False) -> None:
    """The drills that were made, newest first."""
    answer = Server().get("/lineage/withdrawals")
    if as_json:
        print_json(answer)
        return
    for line in answer:
        print(f"{line['id']}  {line['made']}  {line['model']}  {line['items']} items, by {line['by']}")


def withdrawal_verify(
    drill: Annotated[str, typer.Argument(metavar="DRILL|FILE", help="Its id, or the file of --write")],
    key: Annotated[str | None, typer.Option("--key", metavar="HEX", help="The installation's public key")] = None,
    signature_only: Annotated[
        bool, typer.Option("--signature-only", help="Check a file's signature and ask no server")
    ] = False,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Keep the signed check-off here")
    ] = None,
    force: _Force = False,
    as_json: options.Json = False,
) -> None:
    """What of a drill is gone, and where the rest still is. Exit status: 0 nothing is left here, 4 something is."""
    _check_place(write, force)
    path, document = Path(drill), None
    if path.is_file():
        document = _signed(path, key)
        if signature_only:
            print(f"{path} is as {document['proof']['key']} signed it")
            return
        drill = str(document.get("drill") or document.get("id"))
    elif signature_only:
        raise typer.BadParameter("--signature-only needs the file of a drill")
    answer = Server().post(f"/lineage/withdrawals/{segment(drill)}/check")
    if document is not None and _drill_hash(document) != answer["drill_sha256"]:
        fail(
            f"{path} is not what the server keeps as {drill}: somebody else signed it, or gave it that id.",
            _STILL_THERE,
        )
    if write is not None:
        _write(write, answer, force)
    if as_json:
        print_json(answer)
    else:
        _print_check(answer)
    raise typer.Exit(0 if answer["done"] else _STILL_THERE)


def _check_place(file: Path | None, force: bool) -> None:
    """End before anything is done when a file would be replaced that nobody said to replace."""
    if file is not None and not force and (file.exists() or file.is_symlink()):
        fail(f"{file} is there already; say --force to replace it, or another name.")
    if file is not None and not file.absolute().parent.is_dir():
        fail(f"{file} cannot be written: there is no folder {file.parent}.")


def _write(file: Path, document: dict[str, Any], force: bool) -> None:
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}. The server keeps it (`ecotone lineage withdrawals`).")


def _print_check(answer: dict[str, Any]) -> None:
    counts = (
        f"{answer['gone']} gone, {answer['there']} still there, {answer['by_hand']} by hand, {len(answer['new'])} new"
    )
    print(f"drill {answer['drill']} of {answer['model']}, checked {answer['checked']}: {counts}")
    for one in answer["items"]:
        if one["state"] != "gone":
            print(f"  {one['state']:<11} {one['item']['kind']:<11} {one['item']['name']}  ({one['where']})")
    for item in answer["new"]:
        print(f"  {'new':<11} {item['kind']:<11} {item['name']}  ({item['where']})")


def _signed(path: Path, key: str | None) -> dict[str, Any]:
    """The document in a file; ends the program when it is not what was signed."""
    from ecotone.ledger.documents import MOST_BYTES, problem_of, read_document

    try:
        with path.open("rb") as file:
            document = read_document(file.read(MOST_BYTES + 1))
        problem = problem_of(document, bytes.fromhex(key) if key is not None else None)
    except (OSError, ValueError) as error:
        fail(f"{path} is no drill: {error}.")
    if problem:
        fail(f"{path} is not what was signed: {problem}.", _STILL_THERE)
    return document


def _drill_hash(document: dict[str, Any]) -> str:
    """Of the drill that a file is, or that the check-off in it is about."""
    return str(document["drill_sha256"] if "drill" in document else document["proof"]["sha256"])


def add_to(group: typer.Typer) -> None:
    group.command("family")(family)
    group.command("impact")(impact)
    group.command("withdrawal")(withdrawal)
    group.command("withdrawals")(withdrawals)
    group.command("withdrawal-verify")(withdrawal_verify)
