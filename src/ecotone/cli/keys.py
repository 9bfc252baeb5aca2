"""`ecotone key`: keys of projects for the gateway. A secret that exists already never leaves this machine."""

import getpass
import hashlib
import re
import sys
from typing import Annotated, Any

import typer

from ecotone.cli import limits, options, show
from ecotone.cli.client import Server, fail, note, print_json, segment

key = typer.Typer(help="Keys of projects, for the gateway.", no_args_is_help=True)

_KEY = ["id", "project", "note", "state", "models", "expires", "created", "created_by"]
_SHORT = 20
_MOST = 4096
Project = Annotated[str, typer.Option(help="The project that the key belongs to")]
Expires = Annotated[
    str | None, typer.Option("--expires", metavar="WHEN", help="A duration (30d), a date (2027-01-31) or never")
]
Note = Annotated[str | None, typer.Option("--note", help="What it is for")]


def _terms(
    about: str | None, expires: str | None, models: Any, networks: Any, tags: Any, **more: Any
) -> dict[str, Any]:
    told = {"note": about, "expires": options.end_of(expires), "models": models, "networks": networks, "tags": tags}
    return {name: value for name, value in (told | more).items() if value is not None}


@key.command("create")
def create_key(
    project: Project,
    about: Note = None,
    expires: Expires = None,
    models: options.Models = None,
    networks: options.Networks = None,
    tags: options.Tags = None,
    requests: options.Requests = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    budget: options.Budgets = None,
    as_json: options.Json = False,
) -> None:
    """Make a key; it alone is printed on stdout, this once."""
    own = {"requests": requests, "tokens": tokens, "concurrent": concurrent, "budgets": budget}
    body = _terms(about, expires, models, networks, tags, project=project, **own)
    _show_secret(Server().post("/keys", body), f"of project {project}", as_json=as_json)


@key.command("import")
def import_key(
    project: Project,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 of the secret as hexadecimal digits, in the place of the secret")
    ] = None,
    about: Note = None,
    expires: Expires = None,
    models: options.Models = None,
    networks: options.Networks = None,
    tags: options.Tags = None,
    requests: options.Requests = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    budget: options.Budgets = None,
    as_json: options.Json = False,
) -> None:
    """Take over a key that clients have already. The secret is read from stdin or asked for; only its SHA-256 is sent.

    Any text will do, also with spaces between. Shorter ones than 20 letters can be guessed; rotate them soon.
    """
    own = {"requests": requests, "tokens": tokens, "concurrent": concurrent, "budgets": budget}
    hashed = sha256 or hashlib.sha256(_secret()).hexdigest()
    body = _terms(about, expires, models, networks, tags, project=project, sha256=hashed, **own)
    show.record(Server().post("/keys", body), as_json=as_json)


def _secret() -> bytes:
    """The secret from a prompt or a pipe, without the end of its line."""
    if sys.stdin.isatty():
        secret = getpass.getpass("The key's secret (not shown): ").encode()
    else:
        secret = sys.stdin.buffer.read(_MOST + 3).removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        fail("No secret came; pipe it in, type it at the prompt, or give its --sha256.")
    if len(secret) > _MOST or re.search(rb"[\x00-\x1f\x7f]|^ | $", secret):
        fail(
            f"A secret is one line of at most {_MOST} bytes that begins and ends with no space, as it goes in a header."
        )
    if secret.startswith(b"ect_"):
        fail("That is a user's token (ect_...), not a key; the gateway would take it for the user's.")
    if len(secret) < _SHORT:
        note(f"warning: a secret of {len(secret)} letters can be guessed; rotate it soon with `ecotone key rotate`")
    return secret


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


@key.command("set")
def set_key(
    key_id: str,
    about: Note = None,
    expires: Expires = None,
    models: options.Models = None,
    networks: options.Networks = None,
    tags: options.Tags = None,
    requests: options.Requests = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    budget: options.Budgets = None,
    clear: Annotated[list[str] | None, typer.Option(help="Empty models, networks or tags first; repeatable")] = None,
    as_json: options.Json = False,
) -> None:
    """Change what is named; the rest stays. An owner of the project may only narrow keys that they answer for."""
    server = Server()
    now = server.get(f"/keys/{segment(key_id)}")
    terms = {name: now[name] for name in ("note", "expires", "models", "networks", "tags")}
    changed: dict[str, Any] = {name: [] for name in options.lists_of(clear, ("models", "networks", "tags"))}
    changed |= _terms(about, expires, models, networks, tags)
    if expires is not None:
        changed["expires"] = options.end_of(expires)
    if changed:
        now = server.put(f"/keys/{segment(key_id)}", terms | changed)
    own = {"requests": requests, "tokens": tokens, "concurrent": concurrent, "budgets": budget}
    limits.change(server, f"key:{key_id}", own)
    show.record(now, as_json=as_json)


@key.command("rotate")
def rotate_key(
    key_id: str,
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the secrets before still work, e.g. 24h")
    ] = "0s",
    as_json: options.Json = False,
) -> None:
    """A new secret for a key; it alone is printed on stdout, this once. Id, limits and spending stay."""
    made = Server().post(f"/keys/{segment(key_id)}/rotate", {"overlap_seconds": options.seconds_of(overlap)})
    _show_secret(made, f"has a new secret; those before end after {overlap}", as_json=as_json)


@key.command("adopt")
def adopt_key(key_id: str, as_json: options.Json = False) -> None:
    """Answer for a key in the place of who did: a key is suspended once they may make no keys of its project."""
    show.record(Server().post(f"/keys/{segment(key_id)}/adopt"), as_json=as_json)


@key.command("revoke")
def revoke_key(key_id: str, as_json: options.Json = False) -> None:
    """Revoke a key; in force within two seconds."""
    show.record(Server().delete(f"/keys/{segment(key_id)}"), as_json=as_json)


key.command("remove", help="The same as revoke.", hidden=True)(revoke_key)


def _show_secret(made: dict[str, Any], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        note(f"Key {made['id']} {what}; it is shown this once:")
        print(made["key"])


def add_to(app: typer.Typer) -> None:
    app.add_typer(key, name="key")
