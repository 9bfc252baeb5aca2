"""`ecotone model`, `serve`, `unserve`, `ps`: the catalogue and the engines."""

from typing import Annotated

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, model_path, note

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
    show.record(Server().get(f"/models/{model_path(model_id)}"), as_json=as_json)


@model.command("remove")
def remove_model(model_id: str, as_json: options.Json = False) -> None:
    """Delete a model; a tombstone with its lineage and licence remains."""
    show.record(Server().delete(f"/models/{model_path(model_id)}"), as_json=as_json)


def serve(
    name: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    project: Annotated[
        list[str] | None,
        typer.Option("--project", help="Who may call it; repeatable. A model that is served already keeps its limit"),
    ] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Lift the limit that it had")] = False,
    as_json: options.Json = False,
) -> None:
    """Start a local engine for a model and wait until it is ready."""
    model_id, _, rev = name.partition("@")
    if project and everybody:
        raise typer.BadParameter("--project and --everybody exclude each other")
    note(f"starting an engine for {name} ...")
    body: dict[str, object] = {"model": model_id, "revision": rev or "main"}
    if project or everybody:
        body["projects"] = project or []
    made = Server().post("/deployments", body)
    for warning in made.pop("warnings", []):
        note(f"note: {warning}")
    show.record(made, as_json=as_json)


def unserve(name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: options.Json = False) -> None:
    """Stop a model's engine."""
    show.record(Server().delete(f"/deployments/{model_path(name)}"), as_json=as_json)


def ps(as_json: options.Json = False) -> None:
    """Running engines."""
    show.table(Server().get("/deployments"), _DEPLOYMENT, as_json=as_json, empty="No engine is running.")


def engine_log(name: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """What a model's engine wrote to its log."""
    print(Server().get(f"/deployments/{model_path(name)}/log")["log"], end="")


def add_to(app: typer.Typer) -> None:
    app.add_typer(model, name="model")
    app.command()(serve)
    app.command()(unserve)
    app.command()(ps)
    app.command("logs")(engine_log)
