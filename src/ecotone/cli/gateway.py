"""`ecotone backend`, `route`, `why`: where requests go, and why they went there."""

from typing import Annotated, Any

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, note, print_json, segment
from ecotone.vocabulary import Location, Tier

backend = typer.Typer(help="Providers and remote engines that the gateway may call.", no_args_is_help=True)
route = typer.Typer(help="Public model names with candidates in order.", no_args_is_help=True)

_BACKEND = ["name", "dialect", "url", "key_env", "location", "tier", "terms"]


@backend.command("add")
def add_backend(
    name: str,
    url: Annotated[str, typer.Option(help="Base address, e.g. https://api.openai.com/v1")],
    key_env: Annotated[str | None, typer.Option(help="The server's environment variable that holds the key")] = None,
    dialect: Annotated[str, typer.Option(help="Wire format; openai")] = "openai",
    location: Annotated[Location, typer.Option(help="Whether texts leave the house")] = Location.EXTERNAL,
    tier: Annotated[Tier, typer.Option(help="Of the account; terms differ by it")] = Tier.PAID,
    terms: Annotated[str | None, typer.Option(help="Entry of the knowledge base, see `ecotone licence list`")] = None,
    as_json: options.Json = False,
) -> None:
    """Make a provider's models callable as NAME/model. The key stays in the server's environment."""
    body = {
        "name": name,
        "dialect": dialect,
        "url": url,
        "key_env": key_env,
        "location": location,
        "tier": tier,
        "terms": terms,
    }
    _show_made(Server().post("/backends", body), as_json=as_json)


@backend.command("list")
def list_backends(as_json: options.Json = False) -> None:
    """All backends."""
    show.table(Server().get("/backends"), _BACKEND, as_json=as_json, empty="There is no backend yet.")


@backend.command("show")
def show_backend(name: str, as_json: options.Json = False) -> None:
    """One backend."""
    show.record(Server().get(f"/backends/{segment(name)}"), as_json=as_json)


@backend.command("remove")
def remove_backend(name: str, as_json: options.Json = False) -> None:
    """Remove a backend; requests to its models get 404 within two seconds."""
    show.record(Server().delete(f"/backends/{segment(name)}"), as_json=as_json)


@route.command("set")
def set_route(
    name: str,
    to: Annotated[list[str], typer.Option("--to", help="A candidate model; repeatable, first choice first")],
    as_json: options.Json = False,
) -> None:
    """The first candidate that the decision and the data class allow and that works answers."""
    _show_made(Server().put(f"/routes/{segment(name)}", {"to": to}), as_json=as_json)


@route.command("list")
def list_routes(as_json: options.Json = False) -> None:
    """All routes."""
    show.table(Server().get("/routes"), ["name", "to"], as_json=as_json, empty="There is no route yet.")


@route.command("show")
def show_route(name: str, as_json: options.Json = False) -> None:
    """One route."""
    show.record(Server().get(f"/routes/{segment(name)}"), as_json=as_json)


@route.command("remove")
def remove_route(name: str, as_json: options.Json = False) -> None:
    """Remove a route."""
    show.record(Server().delete(f"/routes/{segment(name)}"), as_json=as_json)


def _show_made(made: dict[str, Any], *, as_json: bool) -> None:
    for warning in made.pop("warnings", []):
        note(f"warning: {warning}")
    show.record(made, as_json=as_json)


def why(
    request_id: Annotated[str, typer.Argument(help="The x-request-id of an answer")], as_json: options.Json = False
) -> None:
    """Replay the decision on a request.

    Inputs (not the prompt), clauses, backend, revision, tokens, cost.
    """
    told = Server().get(f"/why/{segment(request_id)}")
    if as_json:
        print_json(told)
        return
    decision = told.pop("decision", None) or {}
    show.record({k: v for k, v in told.items() if v is not None}, as_json=False)
    if decision:
        rules = f", allowed by rule {', '.join(decision['rules'])}" if decision.get("rules") else ""
        print(f"decision: {decision.get('verdict')}{rules} (knowledge base {decision.get('knowledge_base')})")
        for reason in decision.get("reasons", []):
            print(f"  - {reason.get('entry')} {reason.get('clause')}: {reason.get('means')}")


def add_to(app: typer.Typer) -> None:
    app.add_typer(backend, name="backend")
    app.add_typer(route, name="route")
    app.command()(why)
