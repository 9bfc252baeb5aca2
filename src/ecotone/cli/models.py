"""`ecotone model`, `serve`, `unserve`, `ps`: the catalogue and the engines."""

from typing import Annotated

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, note, segment

model = typer.Typer(help="Models of the catalogue, open and proprietary.", no_args_is_help=True)

_MODEL = ["id", "kind", "licence", "private", "updated"]
_DEPLOYMENT = ["model", "revision", "state", "task", "projects", "restarts", "error"]


@model.command("list")
def list_models(
    search: Annotated[str | None, typer.Option(help="Text to find in names")] = None, as_json: options.Json = False
) -> None:
    """Models of hub and starter catalogue."""
    show.table(Server().get("/models", search=search), _MODEL, as_json=as_json, empty="No model was found.")


@model.command("show")
def show_model(model_id: str, as_json: options.Json = False) -> None:
    """One model."""
    show.record(Server().get(f"/models/{segment(model_id, id=True)}"), as_json=as_json)


@model.command("remove")
def remove_model(model_id: str, as_json: options.Json = False) -> None:
    """Delete a model; a tombstone with its lineage and licence remains."""
    show.record(Server().delete(f"/models/{segment(model_id, id=True)}"), as_json=as_json)


def serve(
    name: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    project: Annotated[list[str] | None, typer.Option("--project", help="Who may call it; repeatable")] = None,
    as_json: options.Json = False,
) -> None:
    """Start a local engine for a model and wait until it is ready to answer."""
    model_id, _, rev = name.partition("@")
    note(f"starting an engine for {name} ...")
    made = Server().post("/deployments", {"model": model_id, "revision": rev or "main", "projects": project or []})
    for warning in made.pop("warnings", []):
        note(f"note: {warning}")
    show.record(made, as_json=as_json)


def unserve(name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: options.Json = False) -> None:
    """Stop a model's engine."""
    show.record(Server().delete(f"/deployments/{segment(name, id=True)}"), as_json=as_json)


def ps(as_json: options.Json = False) -> None:
    """Running engines."""
    show.table(Server().get("/deployments"), _DEPLOYMENT, as_json=as_json, empty="No engine is running.")


def engine_log(name: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """What a model's engine wrote to its log."""
    print(Server().get(f"/deployments/{segment(name, id=True)}/log")["log"], end="")


def add_to(app: typer.Typer) -> None:
    app.add_typer(model, name="model")
    app.command()(serve)
    app.command()(unserve)
    app.command()(ps)
    app.command("logs")(engine_log)
