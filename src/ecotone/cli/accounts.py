"""`ecotone project`, `token`: who may do what."""

from typing import Annotated

import typer

from ecotone.cli import limits, options, show
from ecotone.cli.client import Server, note, print_json, segment
from ecotone.vocabulary import Mode, PersonalData, Purpose, Role

project = typer.Typer(help="Projects inside the organisation, with their declared use.", no_args_is_help=True)
token = typer.Typer(help="Tokens of users, for hub, API and pages.", no_args_is_help=True)

_PROJECT = ["name", "mode", "purpose", "personal_data", "users", "revenue", "territory", "models", "scan"]
_READ_ONLY = ("name", "may_call_private", "created", "created_by")
_TOKEN = ["id", "user", "role", "note", "created", "revoked", "expires"]

Owners = Annotated[list[str] | None, typer.Option("--owner", help="A user who may keep its keys; repeatable")]
UserBudgets = Annotated[
    list[str] | None, typer.Option("--user-budget", metavar="AMOUNT/WINDOW", help="For each of its end-users alike")
]
SetMode = Annotated[Mode | None, typer.Option("--mode", help="What is done with the model")]
SetPurpose = Annotated[Purpose | None, typer.Option("--purpose", help="What it is done for")]
SetPersonalData = Annotated[
    PersonalData | None,
    typer.Option("--personal-data", help="What happens to personal data that would leave the house"),
]


@project.command("create")
def create_project(
    name: str,
    mode: options.Mode,
    purpose: options.Purpose,
    personal_data: Annotated[
        PersonalData, typer.Option(help="What happens to personal data that would leave the house")
    ] = PersonalData.LOCAL_ONLY,
    users: options.Users = None,
    revenue: options.Revenue = None,
    territory: options.Territory = None,
    variables: options.Variables = None,
    owner: Owners = None,
    models: options.Models = None,
    networks: options.Networks = None,
    tags: options.Tags = None,
    requests: options.Requests = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    budget: options.Budgets = None,
    user_budget: UserBudgets = None,
    as_json: options.Json = False,
) -> None:
    """Declare a project and what it uses models for; limits and budgets may be set at once."""
    body = {
        "name": name,
        "mode": mode,
        "purpose": purpose,
        "personal_data": personal_data,
        "users": users,
        "revenue": revenue,
        "territory": territory or [],
        "variables": options.variables_of(variables),
        "owners": owner or [],
        "models": models or [],
        "networks": networks or [],
        "tags": tags or [],
    }
    server = Server()
    made = server.post("/projects", body)
    wanted = {"requests": requests, "tokens": tokens, "concurrent": concurrent, "budgets": budget}
    limits.change(server, f"project:{name}", wanted)
    limits.change(server, f"project:{name}/user:*", {"budgets": user_budget})
    show.record(made, as_json=as_json)


@project.command("set")
def set_project(
    name: str,
    mode: SetMode = None,
    purpose: SetPurpose = None,
    personal_data: SetPersonalData = None,
    owner: Owners = None,
    models: options.Models = None,
    networks: options.Networks = None,
    tags: options.Tags = None,
    scan: Annotated[
        bool | None, typer.Option("--scan/--no-scan", help="Look through its texts for what is sensitive")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why texts need not be looked through; for the ledger")] = None,
    keep_texts: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Keep prompts and answers, e.g. 30d; 0d for not at all")
    ] = None,
    requests: options.Requests = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    budget: options.Budgets = None,
    user_budget: UserBudgets = None,
    clear: Annotated[
        list[str] | None, typer.Option(help="Empty owners, models, networks or tags first; repeatable")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Change what is named; the rest stays."""
    server = Server()
    now = server.get(f"/projects/{segment(name)}")
    wanted: dict[str, object] = {
        "mode": mode,
        "purpose": purpose,
        "personal_data": personal_data,
        "owners": owner,
        "models": models,
        "networks": networks,
        "tags": tags,
        "scan": scan,
        "scan_reason": reason,
        "keep_days": options.seconds_of(keep_texts) // 86400 if keep_texts else None,
    }
    changed: dict[str, object] = {
        name: [] for name in options.lists_of(clear, ("owners", "models", "networks", "tags"))
    }
    changed |= {key: value for key, value in wanted.items() if value is not None}
    if changed:
        now = server.put(f"/projects/{segment(name)}", {k: v for k, v in now.items() if k not in _READ_ONLY} | changed)
    own = {"requests": requests, "tokens": tokens, "concurrent": concurrent, "budgets": budget}
    limits.change(server, f"project:{name}", own)
    limits.change(server, f"project:{name}/user:*", {"budgets": user_budget})
    show.record(now, as_json=as_json)


@project.command("list")
def list_projects(as_json: options.Json = False) -> None:
    """All projects."""
    show.table(Server().get("/projects"), _PROJECT, as_json=as_json, empty="There is no project yet.")


@project.command("show")
def show_project(name: str, as_json: options.Json = False) -> None:
    """One project."""
    show.record(Server().get(f"/projects/{segment(name)}"), as_json=as_json)


@project.command("remove")
def remove_project(name: str, as_json: options.Json = False) -> None:
    """Remove a project and its keys."""
    show.record(Server().delete(f"/projects/{segment(name)}"), as_json=as_json)


@token.command("create")
def create_token(
    user: str,
    role: Annotated[Role, typer.Option(help="What it may do")] = Role.READ,
    about: Annotated[str, typer.Option("--note", help="What it is for")] = "",
    as_json: options.Json = False,
) -> None:
    """Make a user's token; it alone is printed on stdout, this once."""
    made = Server().post("/tokens", {"user": user, "role": role, "note": about})
    if as_json:
        print_json(made)
    else:
        note(f"Token {made['id']} of {user} ({made['role']}); it is shown this once:")
        print(made["token"])


@token.command("list")
def list_tokens(as_json: options.Json = False) -> None:
    """Your tokens, without their secrets; an administrator sees everybody's."""
    show.table(Server().get("/tokens"), _TOKEN, as_json=as_json, empty="There is no token.")


@token.command("show")
def show_token(token_id: str, as_json: options.Json = False) -> None:
    """One of your tokens, without its secret."""
    show.record(Server().get(f"/tokens/{segment(token_id)}"), as_json=as_json)


@token.command("revoke")
def revoke_token(token_id: str, as_json: options.Json = False) -> None:
    """Revoke one of your tokens; an administrator revokes anybody's. In force within two seconds."""
    show.record(Server().delete(f"/tokens/{segment(token_id)}"), as_json=as_json)


token.command("remove", help="The same as revoke.", hidden=True)(revoke_token)


def add_to(app: typer.Typer) -> None:
    for name, group in (("project", project), ("token", token)):
        app.add_typer(group, name=name)
