"""`ecotone licence openness`: the class of a model in the Model Openness Framework."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone.cli import options
from ecotone.cli.client import Server, fail, model_path, print_json
from ecotone.vocabulary import Invalid

_WRONG_USAGE = 2
_MARKS = {"open": "+", "not_open": "-", "unlicensed": "?", "missing": " "}


def openness(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@REV]|FOLDER|FILE.yml",
            help="A model at the server, a hub folder, or a model file of the Model Openness Tool",
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Class (I, II, III or none) with each component's licence and evidence, and what the next class lacks.

    Folders and files need no server. Components, classes: Model Openness Framework, arXiv 2403.13784.
    """
    try:
        answer = _answer(model)
    except Invalid as error:
        fail(error.message, _WRONG_USAGE)
    if as_json:
        print_json(answer)
    else:
        _show(answer)


def _answer(model: str) -> dict[str, Any]:
    path = Path(model)
    if path.is_dir():
        from ecotone.catalog.bills import openness_of_folder
        from ecotone.licences import KnowledgeBase

        return openness_of_folder(path, KnowledgeBase.load()).to_json()
    if path.is_file() or path.suffix.lower() in (".yml", ".yaml"):
        from ecotone.licences.openness import LARGEST_RELEASE, rate, read_release

        try:
            with path.open("rb") as file:
                raw = file.read(LARGEST_RELEASE + 1)
        except OSError as error:
            raise Invalid(f"{path} cannot be read: {error.strerror}.") from None
        return rate(*read_release(raw)).to_json()
    name, _, rev = model.partition("@")
    if "/" not in name:
        raise Invalid(f"{model!r} is neither a folder or file here nor a model's id, namespace/name.")
    found: dict[str, Any] = Server().get(f"/models/{model_path(name)}/openness", revision=rev or None)
    return found


def _show(answer: dict[str, Any]) -> None:
    progress = ", ".join(f"class {n} {answer['progress'][n]:.0f} %" for n in ("3", "2", "1"))
    print(f"{answer['model']}: {answer['label']} ({progress})")
    for part in sorted(answer["components"], key=lambda p: -p["class"]):
        if part["status"] == "missing" and not part["required"]:
            continue
        licence = part["licence"] or part["status"]
        optional = "" if part["required"] else " (optional)"
        print(f"  {_MARKS[part['status']]} {part['class']} {part['name']}{optional}: {licence}")
        for evidence in part["evidence"]:
            print(f"      {evidence}")
    if answer["next_class"]:
        print(f"class {answer['next_class']} lacks:")
        for sentence in answer["missing"]:
            print(f"  {sentence}")
    print(f"{answer['source']}; {answer['notice']}")


def add_to(group: typer.Typer) -> None:
    group.command("openness")(openness)
