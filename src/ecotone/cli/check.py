"""`ecotone check`: every declared use of a model judged in a pipeline, with an exit status and SARIF."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, fail, note, print_json
from ecotone.cli.licence_pure import EXIT
from ecotone.cli.model_folders import concluded, conflicts_of
from ecotone.cli.sarif import Checked, document
from ecotone.cli.uses import AskedUse, UseFile, read_uses
from ecotone.vocabulary import Invalid, Mode, Purpose, Verdict

_WRONG_USAGE = 2


def check(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@REV]|FOLDER", help="A model at the server, or a folder with its README.md")
    ],
    use: Annotated[Path, typer.Option("--use", help="File that declares the uses", metavar="USE.TOML")],
    sarif: Annotated[Path | None, typer.Option(help="Write SARIF 2.1.0 to this file; - is stdout")] = None,
    accept_waivers: Annotated[
        bool, typer.Option("--accept-waivers", help="A use that the organisation waived does not fail the check")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Judge every use that a file declares. Exit status of the worst as `licence check`; a rule that blocks is 4.

    A folder is judged from its card alone, without a server: the organisation's rules and profile are not asked.
    """
    try:
        told = read_uses(use)
        folder = Path(model)
        checked = _folder(folder, told) if folder.is_dir() else _server(model, use, told)
    except Invalid as error:
        fail(error.message, _WRONG_USAGE)
    name = checked[0].answer["subject"]["model"]
    if sarif is not None:
        _write(sarif, name, checked)
    if as_json:
        print_json(_summary(name, checked, accept_waivers))
    elif str(sarif) != "-":
        for one in checked:
            _print(one)
    raise typer.Exit(max((_status(one, accept_waivers) for one in checked), key=_SEVERITY.index))


_SEVERITY = (0, EXIT[Verdict.UNKNOWN], EXIT[Verdict.ASK_LICENCE], EXIT[Verdict.DENY])


def _server(model: str, file: Path, told: UseFile) -> list[Checked]:
    if told.parents or told.positions:
        raise Invalid(
            f"{file} tells parents or positions, which only a folder takes: of {model} the server knows the parents, "
            "and positions are recorded with `ecotone profile set --position`."
        )
    name, _, rev = model.partition("@")
    if "/" not in name:
        raise Invalid(f"{model!r} is neither a folder here nor a model's id, namespace/name.")
    server = Server()
    place = (_uri(file), 1)
    ask = {"model": name, "revision": rev or "main"}
    return [Checked(u.name, server.post("/licence/check", {**ask, **u.question}), place) for u in told.uses]


def _folder(folder: Path, told: UseFile) -> list[Checked]:
    """Judge a folder by its card, with the knowledge base that is in this program."""
    from ecotone.catalog.cards import parse
    from ecotone.licences import KnowledgeBase, check_card, identify
    from ecotone.licences.detection.reading import Unreadable
    from ecotone.licences.duties import Folder

    file = folder / "README.md"
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{file} cannot be read ({error.strerror}); a folder is judged by its card.") from None
    except UnicodeDecodeError:
        raise Invalid(f"{file} is not UTF-8 text.") from None
    knowledge = KnowledgeBase.load()
    for name, choice in told.positions.items():
        if choice not in knowledge.positions.get(name, {}).get("values", ()):
            raise Invalid(f"{name}={choice} is no choice of the knowledge base where law is disputed.")
    card, _ = parse(content)
    known = {parent: identify(knowledge, {"license": text}).instruments for parent, text in told.parents.items()}
    lines = content.splitlines()
    line = next((n for n, text in enumerate(lines, 1) if text.startswith("license")), 1)
    place = (_uri(file), line)
    try:
        conclusion = concluded(Folder(folder), card, knowledge)
    except Unreadable as reason:
        raise Invalid(f"{folder} cannot be read: {reason}.") from None
    for conflict in conflicts_of(conclusion):
        note(f"note: {conflict}")
    found = []
    for asked in told.uses:
        name = str(asked.question["variables"].get("name") or folder.resolve().name)
        decision = check_card(
            knowledge,
            card,
            _use(asked),
            name=name,
            known=known,
            positions=told.positions,
            instruments=conclusion.concluded,
        )
        found.append(Checked(asked.name, json.loads(json.dumps(decision.to_json())), place))
    return found


def _uri(file: Path) -> str:
    return file.as_uri() if file.is_absolute() else quote(file.as_posix())


def _use(asked: AskedUse) -> Any:
    from datetime import date

    from ecotone.accounts.projects import use_variables
    from ecotone.licences import Use

    told = asked.question
    try:
        day = date.fromisoformat(told["date"]) if "date" in told else None
    except ValueError:
        raise Invalid(f"date of {asked.name} is {told['date']!r}; YYYY-MM-DD is expected.", param="date") from None
    return Use(
        mode=Mode(told["mode"]),
        purpose=Purpose(told["purpose"]),
        modified=told.get("modified", False),
        declared_licence=told.get("declared_licence"),
        date=day,
        variables=use_variables(told.get("users"), told.get("revenue"), told.get("territory", []), told["variables"]),
    )


def _status(one: Checked, accept_waivers: bool) -> int:
    if one.blocked:
        return EXIT[Verdict.DENY]
    if accept_waivers and one.waivers:
        return 0
    return EXIT[Verdict(one.answer["verdict"])]


def _summary(model: str, checked: list[Checked], accept_waivers: bool) -> dict[str, Any]:
    worst = min((Verdict(one.answer["verdict"]) for one in checked), key=lambda v: v.rank)
    return {
        "model": model,
        "verdict": worst,
        "uses": [{"name": c.name, "status": _status(c, accept_waivers), **c.answer} for c in checked],
        "knowledge_base": checked[0].answer.get("knowledge_base"),
        "notice": checked[0].answer.get("notice"),
    }


def _print(one: Checked) -> None:
    print(f"== {one.name}")
    show.decision(one.answer)


def _write(file: Path, model: str, checked: list[Checked]) -> None:
    from ecotone import __version__

    text = json.dumps(document(model, checked, __version__), indent=2, ensure_ascii=False) + "\n"
    if str(file) == "-":
        print(text, end="")
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}.")
    note(f"SARIF written to {file}")


def add_to(app: typer.Typer) -> None:
    app.command("check")(check)
