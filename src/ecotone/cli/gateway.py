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
    dialect: Annotated[str, typer.Option(help="Wire format: openai, azure or vllm")] = "openai",
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


@backend.command("set")
def set_backend(
    name: str,
    url: Annotated[str | None, typer.Option(help="Base address, e.g. https://api.openai.com/v1")] = None,
    key_env: Annotated[str | None, typer.Option(help="The server's environment variable that holds the key")] = None,
    dialect: Annotated[str | None, typer.Option(help="Wire format: openai, azure or vllm")] = None,
    location: Annotated[Location | None, typer.Option(help="Whether texts leave the house")] = None,
    tier: Annotated[Tier | None, typer.Option(help="Of the account; terms differ by it")] = None,
    terms: Annotated[str | None, typer.Option(help="Entry of the knowledge base, see `ecotone licence list`")] = None,
    as_json: options.Json = False,
) -> None:
    """Change what is named of a backend; the rest stays. Routes that lead to it go on."""
    server, told = Server(), locals()
    names = ("url", "key_env", "dialect", "location", "tier", "terms")
    now = server.get(f"/backends/{segment(name)}")
    body = {n: now[n] for n in names} | {n: told[n] for n in names if told[n] is not None}
    _show_made(server.put(f"/backends/{segment(name)}", body), as_json=as_json)


@route.command("set")
def set_route(
    name: str,
    to: Annotated[
        list[str], typer.Option("--to", metavar="MODEL[=WEIGHT]", help="A candidate; repeatable, first choice first")
    ],
    strategy: Annotated[
        str | None, typer.Option(help="fallback, fixed, weighted, cheapest or fastest; weighted where weights are told")
    ] = None,
    retries: Annotated[int, typer.Option(help="Further candidates called, but for fallback: it tries all", min=0)] = 1,
    connect_seconds: Annotated[float, typer.Option(help="Until a connection; 0 is the setting's", min=0)] = 0,
    first_seconds: Annotated[float, typer.Option(help="Until the first token; 0 is the setting's", min=0)] = 0,
    idle_seconds: Annotated[float, typer.Option(help="Between two tokens; 0 is the setting's", min=0)] = 0,
    cache: Annotated[str | None, typer.Option(metavar="DURATION", help="Keep answers, e.g. 60s; else never")] = None,
    shadow: Annotated[str | None, typer.Option(metavar="MODEL", help="Gets copies; its answers nobody sees")] = None,
    shadow_share: Annotated[float, typer.Option(help="The share of requests that is copied")] = 1.0,
    alias: Annotated[bool, typer.Option("--alias", help="Put the route's own name into answers")] = False,
    sticky: Annotated[
        bool, typer.Option("--sticky", help="Keep a conversation where its beginning is in a prompt cache")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Set a route whole. No strategy leads where the decision or the data class forbids."""
    names, weights = _candidates(to)
    body = {
        "to": names,
        "weights": weights,
        "strategy": strategy or ("weighted" if weights else "fallback"),
        "retries": retries,
        "connect_seconds": connect_seconds,
        "first_seconds": first_seconds,
        "idle_seconds": idle_seconds,
        "cache_seconds": options.seconds_of(cache) if cache else 0,
        "shadow": shadow,
        "shadow_share": shadow_share,
        "alias": alias,
        "sticky": sticky,
    }
    _show_made(Server().put(f"/routes/{segment(name)}", body), as_json=as_json)


def _candidates(to: list[str]) -> tuple[list[str], list[float]]:
    """Names and weights; no weights where none was told."""
    pairs = [one.partition("=") for one in to]
    try:
        weights = [float(weight) if equals else 1.0 for _, equals, weight in pairs]
    except ValueError:
        raise typer.BadParameter("--to takes MODEL or MODEL=WEIGHT, e.g. openai/gpt-4o=2") from None
    told = any(equals for _, equals, _ in pairs)
    return [name for name, _, _ in pairs], weights if told else []


@route.command("list")
def list_routes(as_json: options.Json = False) -> None:
    """All routes."""
    show.table(
        Server().get("/routes"), ["name", "strategy", "to", "weights"], as_json=as_json, empty="There is no route yet."
    )


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
            where = f" (from {reason['node']})" if reason.get("node") not in (None, told.get("model")) else ""
            print(f"  - {reason.get('entry')} {reason.get('clause')}{where}: {reason.get('means')}")


def add_to(app: typer.Typer) -> None:
    app.add_typer(backend, name="backend")
    app.add_typer(route, name="route")
    app.command()(why)
