"""`ecotone model`: the catalogue."""

from typing import Annotated

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, model_path

model = typer.Typer(help="Models of the catalogue, open and proprietary.", no_args_is_help=True)

_MODEL = ["id", "kind", "licence", "private", "updated"]


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


def add_to(app: typer.Typer) -> None:
    app.add_typer(model, name="model")
