"""`ecotone project`, `key`, `token`: who may do what."""

from typing import Annotated

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, note, print_json, segment
from ecotone.vocabulary import PersonalData, Role

project = typer.Typer(help="Projects inside the organisation, with their declared use.", no_args_is_help=True)
key = typer.Typer(help="Keys of projects, for the gateway.", no_args_is_help=True)
token = typer.Typer(help="Tokens of users, for hub, API and pages.", no_args_is_help=True)

_PROJECT = ["name", "mode", "purpose", "personal_data", "users", "revenue", "territory"]
_KEY = ["id", "project", "created", "created_by", "revoked"]
_TOKEN = ["id", "user", "role", "note", "created", "revoked", "expires"]


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
    as_json: options.Json = False,
) -> None:
    """Declare a project and what it uses models for."""
    body = {
        "name": name,
        "mode": mode,
        "purpose": purpose,
        "personal_data": personal_data,
        "users": users,
        "revenue": revenue,
        "territory": territory or [],
        "variables": options.variables_of(variables),
    }
    show.record(Server().post("/projects", body), as_json=as_json)


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


@key.command("create")
def create_key(
    project: Annotated[str, typer.Option(help="The project that the key belongs to")], as_json: options.Json = False
) -> None:
    """Make a key; it alone is printed on stdout, this once."""
    made = Server().post("/keys", {"project": project})
    if as_json:
        print_json(made)
    else:
        note(f"Key {made['id']} of project {project}; it is shown this once:")
        print(made["key"])


@key.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only keys of this project")] = None, as_json: options.Json = False
) -> None:
    """Keys, without their secrets."""
    show.table(Server().get("/keys", project=project), _KEY, as_json=as_json, empty="There is no key yet.")


@key.command("show")
def show_key(key_id: str, as_json: options.Json = False) -> None:
    """One key, without its secret."""
    show.record(Server().get(f"/keys/{segment(key_id)}"), as_json=as_json)


@key.command("revoke")
def revoke_key(key_id: str, as_json: options.Json = False) -> None:
    """Revoke a key; in force within two seconds."""
    show.record(Server().delete(f"/keys/{segment(key_id)}"), as_json=as_json)


key.command("remove", help="The same as revoke.", hidden=True)(revoke_key)


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
    for name, group in (("project", project), ("key", key), ("token", token)):
        app.add_typer(group, name=name)
