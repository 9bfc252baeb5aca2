"""`ecotone licence duties`: what is owed for a model, written as files, and looked for in a bundle or on a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecotone import vocabulary
from ecotone.cli import options
from ecotone.cli.client import Server, fail, model_path, note, print_json
from ecotone.vocabulary import EcotoneError, Invalid

if TYPE_CHECKING:
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.duties import Duties

_WRONG_USAGE = 2
EXIT = {"complete": 0, "open": 4, "unknown": 5}
_MOST_SENT = 3 * 1024 * 1024

_Model = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL[@REV]|DIR]", help="A folder with a model's card, or a model at the server"),
]
_Write = Annotated[
    Path | None, typer.Option("--write", metavar="OUT", help="Write the files that are owed into this folder")
]
_Verify = Annotated[
    str | None, typer.Option("--verify", metavar="OUT|URL", help="Look for what is owed in a folder or on a live page")
]
_Parents = Annotated[
    list[str] | None,
    typer.Option("--parent", metavar="DIR|ID=DIR|ID=LICENCE", help="Files or licence of a parent; repeatable"),
]
_Name = Annotated[str | None, typer.Option("--name", help="Name under which it is published; else that of its card")]
_Force = Annotated[bool, typer.Option("--force", help="Replace licence texts and documents that somebody else wrote")]
_Mode = Annotated[vocabulary.Mode, typer.Option("--mode", help="What is done with the model")]
_Purpose = Annotated[vocabulary.Purpose, typer.Option("--purpose", help="What it is done for")]


def duties(
    model: _Model = None,
    write: _Write = None,
    verify: _Verify = None,
    parent: _Parents = None,
    name: _Name = None,
    mode: _Mode = vocabulary.Mode.PUBLISH_WEIGHTS,
    purpose: _Purpose = vocabulary.Purpose.COMMERCIAL,
    users: options.Users = None,
    revenue: options.Revenue = None,
    territory: options.Territory = None,
    variables: options.Variables = None,
    force: _Force = False,
    as_json: options.Json = False,
) -> None:
    """What a model owes by its licences and its parents': texts, notices, card, change statement, terms, strings, name.

    Of a folder it needs no server. Without --write and --verify it lists the duties, with where each stands in the
    folder itself. Exit status of --verify: 0 all there, 4 something is missing, 5 a licence is unknown or a text cannot
    be checked, 2 nothing could be read.
    """
    told = options.variables_of(variables)
    use = {"mode": mode, "purpose": purpose, "users": users, "revenue": revenue, "territory": territory or []}
    try:
        if write is not None and verify is not None:
            raise Invalid("--write and --verify are two commands; verify what was written with a second one.")
        document, written = _answer(model, write, verify, parent or [], name, use | {"variables": told}, force)
    except EcotoneError as error:
        fail(error.message, _WRONG_USAGE)
    if as_json:
        print_json(document if written is None else {**document, "written": written})
    else:
        _show(document, written, str(write))
    raise typer.Exit(EXIT[document["status"]] if verify is not None else 0)


def _answer(
    model: str | None,
    write: Path | None,
    verify: str | None,
    parents: list[str],
    name: str | None,
    use: dict[str, Any],
    force: bool,
) -> tuple[dict[str, Any], list[str] | None]:
    """The document, and what was written."""
    if model is None:
        if verify is None or _is_url(verify):
            raise Invalid("Which model? Give its folder, or its id at the server; a bundle alone can be verified.")
        model = verify
    if not Path(model).is_dir() and ("/" in model.strip("/") and not model.startswith((".", "/", "~"))):
        if parents or name:
            raise Invalid("--parent and --name are for a folder; the server knows the family and name of its models.")
        return _of_server(model, write, verify, use, force)
    made, present = _of_folder(Path(model), parents, name, use)
    if write is not None:
        return _written(made, write, force)
    if verify is None:
        return made.in_bundle(present), None
    if _is_url(verify):
        from ecotone.cli.live_pages import fetched

        page = fetched(verify)
        return (made.in_bundle(page) if not isinstance(page, str) else made.on_page(page, verify)), None
    return made.in_bundle(_bundle(Path(verify))), None


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _bundle(folder: Path) -> Any:
    from ecotone.licences.detection.reading import Unreadable
    from ecotone.licences.duties import Folder

    try:
        found = Folder(folder)
        found.paths()
    except Unreadable as reason:
        raise Invalid(f"{folder} cannot be read: {reason}; a folder with a bundle is expected.") from None
    return found


def _present(folder: Path) -> Any:
    return _bundle(folder) if folder.exists() else None


def _written(made: "Duties", folder: Path, force: bool) -> tuple[dict[str, Any], list[str]]:
    from ecotone.licences.detection.reading import Unreadable
    from ecotone.licences.duties import write

    try:
        files = made.files(_present(folder))
    except Unreadable as reason:
        raise Invalid(f"A file in {folder} that would be continued cannot be read: {reason}.", param="write") from None
    written = write(files, folder, force=force)
    return made.in_bundle(_bundle(folder)), written


# -- a folder --------------------------------------------------------------------------------------------------------
def _of_folder(folder: Path, parents: list[str], name: str | None, use: dict[str, Any]) -> tuple["Duties", Any]:
    import msgspec

    from ecotone.cli.model_folders import changed_files, compose, read_folder, read_parents
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.duties import Duties, Material, owing

    knowledge = KnowledgeBase.load()
    model = read_folder(folder, knowledge, name)
    composed = compose(model, read_parents(parents, knowledge), knowledge)
    asked, positions = _use(knowledge, use)
    found = owing(knowledge, composed.family, asked, positions, declared=model.declared)
    notes = tuple(dict.fromkeys((*composed.notes, *found.notes)))
    found = msgspec.structs.replace(found, notes=notes, named=model.named)
    material = Material(composed.files, changed_files(composed.family, composed.files))
    return Duties(knowledge, found, material, declared=model.declared), model.files


def _use(knowledge: "KnowledgeBase", told: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    from ecotone.accounts.projects import check_territory, use_variables
    from ecotone.licences import Use, check_variables

    check_territory(told["territory"])
    others = {k: v for k, v in told["variables"].items() if not k.startswith("policy.")}
    positions = {k.removeprefix("policy."): str(v) for k, v in told["variables"].items() if k.startswith("policy.")}
    check_variables(knowledge, others)
    variables = use_variables(told["users"], told["revenue"], told["territory"], others)
    modified = variables.get("modified") is True
    return Use(mode=told["mode"], purpose=told["purpose"], modified=modified, variables=variables), positions


# -- a model at the server -------------------------------------------------------------------------------------------
def _of_server(
    model: str, write: Path | None, verify: str | None, use: dict[str, Any], force: bool
) -> tuple[dict[str, Any], list[str] | None]:
    name, _, revision = model.partition("@")
    path = f"/models/{model_path(name)}/duties"
    body: dict[str, Any] = {**use, "revision": revision or "main"}
    server = Server()
    if write is not None:
        from ecotone.licences.duties import write as write_files

        body["bundle"] = _sent(_present(write))
        answer = server.post(path, {**body, "files": True})
        written = write_files(answer.pop("files"), write, force=force)
        return answer, written
    if verify is None:
        return server.post(path, body), None
    if _is_url(verify):
        from ecotone.cli.live_pages import fetched

        page = fetched(verify)
        body["page" if isinstance(page, str) else "bundle"] = page if isinstance(page, str) else _sent(page)
    else:
        body["bundle"] = _sent(_bundle(Path(verify)))
    return server.post(path, body), None


def _sent(bundle: Any) -> dict[str, str | None]:
    """The files of a bundle that the duties look at, as text; None for one that cannot be read."""
    from ecotone.licences.detection.reading import Unreadable
    from ecotone.licences.duties import is_artefact

    found: dict[str, str | None] = {}
    size = 0
    for path in bundle.paths() if bundle is not None else ():
        if not is_artefact(path):
            continue
        try:
            found[path] = bundle.text(path)
        except Unreadable:
            found[path] = None
        size += len((found[path] or "").encode())
        if size > _MOST_SENT:
            raise Invalid(f"The texts of the bundle are more than {_MOST_SENT >> 20} MiB, more than is sent.")
    return found


# -- for people ------------------------------------------------------------------------------------------------------
_MARKS = {"done": "+", "open": "-", "cannot_be_checked": "?"}


def _show(document: dict[str, Any], written: list[str] | None, out: str) -> None:
    use = document["use"]
    print(f"{document['subject']['model']}: {document['status']}")
    print(f"  may it be done at all ({use['mode']}, {use['purpose']})? {document['verdict']}")
    for one in document["reasons"] if document["verdict"] == "deny" else ():
        print(f"  against: {one['what']} ({one['entry']} {one['clause']})")
    for one in document["duties"]:
        place = f" in {one['artefact']}" if one["artefact"] else ""
        words = f" {one['text']!r}" if one["text"] else ""
        print(f"  {_MARKS[one['status']]} {one['duty']}{words}{place} ({one['entry']} {one['clause']})")
        if one["reason"] and one["status"] == "open":
            print(f"      {one['reason']}")
        if one["todo"]:
            print(f"      {one['todo']}")
    for one in document["possible"]:
        untold = ", ".join(one["if"])
        print(f"  possibly {one['duty']} ({one['entry']} {one['clause']}): {one['what']}; not told: {untold}")
    for one in document["unknown"]:
        print(f"unknown: {one['node']}: {one['reason']}; {one['todo']}")
    for text in document["notes"]:
        print(f"note: {text}")
    if written is not None:
        note(f"{len(written)} files written to {out}" if written else f"nothing to write: {out} is as it should be")
    print(f"knowledge base {document['knowledge_base']}; {document['notice']}")


def add_to(group: typer.Typer) -> None:
    group.command("duties")(duties)
