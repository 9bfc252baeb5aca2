"""`ecotone price`: what models cost, and prices that the organisation sets itself."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server

price = typer.Typer(help="What models cost; prices set here win over the providers' lists.", no_args_is_help=True)

_LIST = ["model", "version", "free", "figures", "created", "created_by"]
_IN_FORCE = ["model", "free", "input", "output", "cache_read", "cache_write", "version"]


def _at(model: str) -> str:
    return f"/prices/{quote(model, safe='/')}"


@price.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="BACKEND/model, 'BACKEND/*' for all of a backend, or a local model")],
    input: Annotated[str | None, typer.Option(help="USD per million tokens of the prompt")] = None,  # noqa: A002
    output: Annotated[str | None, typer.Option(help="USD per million tokens of the answer")] = None,
    cache_read: Annotated[str | None, typer.Option(help="USD per million tokens read from a cache")] = None,
    cache_write: Annotated[str | None, typer.Option(help="USD per million tokens written to a cache")] = None,
    cache_write_1h: Annotated[str | None, typer.Option(help="The same for a cache of one hour")] = None,
    input_audio: Annotated[str | None, typer.Option(help="USD per million tokens of audio in the prompt")] = None,
    output_audio: Annotated[str | None, typer.Option(help="USD per million tokens of audio in the answer")] = None,
    request: Annotated[str | None, typer.Option(help="USD per request")] = None,
    free: Annotated[bool, typer.Option("--free", help="It costs nothing, also when a budget is spent")] = False,
    as_json: options.Json = False,
) -> None:
    """Set a price; in force within two seconds. The one before stays in the history."""
    figures: dict[str, Any] = {
        "input": input,
        "output": output,
        "cache_read": cache_read,
        "cache_write": cache_write,
        "cache_write_1h": cache_write_1h,
        "input_audio": input_audio,
        "output_audio": output_audio,
        "request": request,
    }
    body = {name: value for name, value in figures.items() if value is not None}
    show.record(Server().put(_at(model), {**body, "free": free}), as_json=as_json)


@price.command("list")
def list_prices(
    backend: Annotated[str | None, typer.Option(help="All prices in force at this backend")] = None,
    as_json: options.Json = False,
) -> None:
    """Prices that were set; with --backend all that are in force there."""
    rows = Server().get("/prices", backend=backend)
    empty = f"No prices are known for {backend}." if backend else "No price was set; the providers' lists apply."
    show.table(rows, _IN_FORCE if backend else _LIST, as_json=as_json, empty=empty)


@price.command("show")
def show_price(model: str, as_json: options.Json = False) -> None:
    """The price in force, where it comes from, and what was set before."""
    show.record(Server().get(_at(model)), as_json=as_json)


@price.command("remove")
def remove_price(model: str, as_json: options.Json = False) -> None:
    """Go back to the provider's listed price."""
    show.record(Server().delete(_at(model)), as_json=as_json)


def add_to(app: typer.Typer) -> None:
    app.add_typer(price, name="price")
