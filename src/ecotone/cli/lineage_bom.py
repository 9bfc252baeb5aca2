"""`ecotone lineage bom`: a model's bill of materials, and others' documents checked."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone.cli import options
from ecotone.cli.client import Server, fail, model_path, note, print_json
from ecotone.vocabulary import Invalid

_WRONG_USAGE = 2
_FOUND = 4
_Model = Annotated[
    str | None, typer.Argument(metavar="[MODEL[@REV]|FOLDER]", help="A model at the server, or a hub folder here")
]
_Format = Annotated[str, typer.Option("--format", help="cyclonedx-1.7, cyclonedx-1.6 or spdx-3")]
_Output = Annotated[Path | None, typer.Option("--output", help="Write the document to this file", metavar="FILE")]
_Check = Annotated[
    Path | None,
    typer.Option("--check", metavar="FILE", help="Check a CycloneDX (1.4 to 1.7) or SPDX 3 document instead"),
]
_Ask = Annotated[bool, typer.Option("--server", help="With --check: against the models of the server as well")]
_Name = Annotated[str | None, typer.Option("--name", metavar="ID[@REV]", help="With FOLDER: what the model is called")]
_Timestamp = Annotated[
    str | None, typer.Option("--timestamp", help="Of the document, UTC; default SOURCE_DATE_EPOCH or now")
]
_Serial = Annotated[str | None, typer.Option("--serial", help="UUID of the document; default made from its content")]


def bom(
    model: _Model = None,
    form: _Format = "cyclonedx-1.7",
    output: _Output = None,
    check: _Check = None,
    server: _Ask = False,
    name: _Name = None,
    timestamp: _Timestamp = None,
    serial: _Serial = None,
    as_json: options.Json = False,
) -> None:
    """The bill of materials of a model, as a document on stdout; with --check, what is wrong with somebody's document.

    A folder needs no server: card, licence files and weights are read, and the starter catalogue. Exit status of
    --check: 0 nothing found, 4 something found.
    """
    if (model is None) == (check is None):
        raise typer.BadParameter("either a model or --check FILE is expected", param_hint="MODEL")
    if check is not None:
        _checked(check, server, as_json)
        return
    assert model is not None
    try:
        if Path(model).is_dir():
            document = _of_folder(Path(model), form, name, timestamp, serial)
        else:
            document = _of_server(model, form, timestamp, serial)
    except Invalid as error:
        fail(error.message, _WRONG_USAGE)
    _write(document, output, as_json)


def _of_folder(folder: Path, form: str, name: str | None, timestamp: str | None, serial: str | None) -> dict[str, Any]:
    from ecotone.catalog.bills import bill_of_folder, written
    from ecotone.licences import KnowledgeBase

    knowledge = KnowledgeBase.load()
    written_before = bill_of_folder(folder, knowledge, name=name)
    return written(written_before, knowledge, form, timestamp=timestamp, serial=serial)


def _of_server(model: str, form: str, timestamp: str | None, serial: str | None) -> dict[str, Any]:
    name, _, rev = model.partition("@")
    if "/" not in name:
        raise Invalid(f"{model!r} is neither a folder here nor a model's id, namespace/name.")
    path = f"/models/{model_path(name)}/bom"
    found: dict[str, Any] = Server().get(path, format=form, revision=rev or None, timestamp=timestamp, serial=serial)
    return found


def _write(document: dict[str, Any], output: Path | None, as_json: bool) -> None:
    if output is None:
        print_json(document)
        return
    from ecotone.catalog.bills.writing import text_of

    try:
        output.write_text(text_of(document), encoding="utf-8")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}.")
    note(f"written to {output}")
    if as_json:
        print_json(document)


def _checked(file: Path, server: bool, as_json: bool) -> None:
    from ecotone.licences.bom.reading import read_file
    from ecotone.licences.errors import UnreadableBill

    try:
        raw = read_file(file)
    except UnreadableBill as error:
        fail(f"{file} {error.problem}.", _WRONG_USAGE)
    answer = Server().call("POST", "/bom/check", content=raw) if server else _check_here(raw)
    if as_json:
        print_json(answer)
    else:
        _show(file, answer)
    raise typer.Exit(_FOUND if answer["findings"] else 0)


def _check_here(raw: bytes) -> dict[str, Any]:
    import msgspec

    from ecotone.catalog.bills import known_starter
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.bom.checking import check

    found: dict[str, Any] = msgspec.to_builtins(check(raw, KnowledgeBase.load(), known_starter))
    return found


def _show(file: Path, answer: dict[str, Any]) -> None:
    valid = "valid" if answer["valid"] else "not valid"
    print(f"{file}: {answer['format'] or 'no format that is read here'}, {valid}")
    for finding in answer["findings"]:
        print(f"  {finding['level']} {finding['rule']} at {finding['pointer'] or '/'}: {finding['message']}")
    print(f"{answer['components']} components, {answer['claims']} licence claims, {len(answer['findings'])} findings")
    if answer["unrecognised"]:
        print(f"names that nobody here knows: {', '.join(answer['unrecognised'])}")
    print(f"knowledge base {answer['knowledge_base']}; {answer['notice']}")


def add_to(group: typer.Typer) -> None:
    group.command("bom")(bom)
