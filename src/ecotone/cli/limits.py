"""`ecotone limit`: what a scope may use, in requests, tokens and money."""

from typing import Annotated, Any

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, scope_path

limit = typer.Typer(help="Limits and budgets by scope.", no_args_is_help=True)
_COLUMNS = ["scope", "requests", "tokens", "concurrent", "budgets", "updated_by"]
Scope = Annotated[
    str,
    typer.Argument(help="organisation, backend:NAME, key:ID, project:NAME, project:NAME/user:*, project:NAME/tag:NAME"),
]


@limit.command("set")
def set_limits(
    scope: Scope,
    requests: options.Requests = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    budget: options.Budgets = None,
    as_json: options.Json = False,
) -> None:
    """Set limits and budgets of a scope in the place of those that it has; what is not named has none."""
    if requests is None and tokens is None and concurrent is None and not budget:
        raise typer.BadParameter(
            "name at least one of --requests, --tokens, --concurrent, --budget; "
            f"`ecotone limit remove {scope}` takes all away"
        )
    body = {"requests": requests, "tokens": tokens, "concurrent": concurrent, "budgets": budget or []}
    show.record(Server().put(f"/limits/{scope_path(scope)}", body), as_json=as_json)


@limit.command("list")
def list_limits(as_json: options.Json = False) -> None:
    """Limits and budgets of all scopes."""
    show.table(Server().get("/limits"), _COLUMNS, as_json=as_json, empty="No limits are set.")


@limit.command("show")
def show_limits(scope: Scope, as_json: options.Json = False) -> None:
    """Limits and budgets of one scope."""
    show.record(Server().get(f"/limits/{scope_path(scope)}"), as_json=as_json)


@limit.command("remove")
def remove_limits(scope: Scope, as_json: options.Json = False) -> None:
    """Take the limits and budgets of a scope away."""
    show.record(Server().delete(f"/limits/{scope_path(scope)}"), as_json=as_json)


def change(server: Server, scope: str, wanted: dict[str, Any]) -> None:
    """Change those limits of a scope that are told; the rest stays."""
    told = {name: value for name, value in wanted.items() if value is not None}
    if not told:
        return
    known = [one for one in server.get("/limits") if one["scope"] == scope]
    now = {name: known[0][name] for name in ("requests", "tokens", "concurrent", "budgets")} if known else {}
    server.put(f"/limits/{scope_path(scope)}", now | told)


def add_to(app: typer.Typer) -> None:
    app.add_typer(limit, name="limit")
