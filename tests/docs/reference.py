"""Writes the reference pages of `docs/` from the program itself: `make docs`. The tests compare them with what it says.

Settings from `ecotone.settings`, commands from the command line's own help, endpoints from the REST API's register and
from the route tables of hub and gateway.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route
from typer.main import get_command

from ecotone import hub, web
from ecotone.api import ENDPOINTS, PREFIX
from ecotone.cli.main import app
from ecotone.gateway.plane import FACES
from ecotone.settings import options

DOCS = Path(__file__).parents[2] / "docs"


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Read at each start from the environment and from lines `NAME=value` in `DATA/settings.env`; the first wins.",
        "`ecotone restart` reads the file anew ([how](operations.md#restart-without-cutting-a-transfer)). Those with a",
        "flag can be given to `ecotone up` too. A variable `ECOTONE_...` that is no setting is named at the start.",
        "",
        "| variable | flag | default | meaning |",
        "|---|---|---|---|",
    ]
    flags = {name: p.opts[0] for p in get_command(app).commands["up"].params if (name := p.name)}  # type: ignore[attr-defined]
    for option in options():
        flag = f"`{flags[option.name]}`" if option.name in flags else ""
        default = "" if option.default in (None, "") else f"`{option.default}`"
        lines.append(f"| `{option.variable}` | {flag} | {default} | {option.doc.replace('|', chr(92) + '|')} |")
    lines += [
        "",
        "The command line reads `ECOTONE_URL` (default `http://127.0.0.1:7070`) and `ECOTONE_TOKEN` (default: the file",
        "`admin-token` of the data folder named by `ECOTONE_DATA`, else of `./data`). Providers' keys and, for S3,",
        "`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_REGION` are read under their own names.",
        "",
    ]
    return "\n".join(lines)


def commands_page() -> str:
    lines = [
        "# Commands",
        "",
        "`ecotone COMMAND` talks to the server at `ECOTONE_URL` with `ECOTONE_TOKEN`. Results go to stdout, all else",
        "to stderr; every command that prints data takes `--json`. Exit status: 0 done, 1 failed, 2 wrong usage;",
        "`licence check` and `licence ask` end with 0 allow or allow_with_duties, 3 ask_licence, 4 deny, 5 unknown.",
        "Commands that say so need no server.",
        "",
    ]
    _describe(get_command(app), ["ecotone"], lines)
    return "\n".join(lines)


def _describe(command: object, path: list[str], lines: list[str]) -> None:
    group = getattr(command, "commands", None)
    if group is not None:
        if command.invoke_without_command and path != ["ecotone"]:  # type: ignore[attr-defined]
            _describe_one(command, path, lines)
        for name in group:
            if not group[name].hidden:
                _describe(group[name], [*path, name], lines)
        return
    _describe_one(command, path, lines)


def _describe_one(command: object, path: list[str], lines: list[str]) -> None:
    parameters = [p for p in command.params if p.name != "help"]  # type: ignore[attr-defined]
    arguments = [_placeholder(p) for p in parameters if p.param_type_name == "argument"]
    lines += [f"## `{' '.join([*path, *arguments])}`", "", (command.help or "").strip(), ""]  # type: ignore[attr-defined]
    rows = [
        f"| `{'`, `'.join(p.opts)}` | {(getattr(p, 'help', None) or '').replace('|', chr(92) + '|')} |"
        for p in parameters
        if p.param_type_name == "option"
    ]
    if rows:
        lines += ["| option | |", "|---|---|", *rows, ""]


def _placeholder(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def api_page() -> str:
    lines = [
        "# REST API",
        "",
        f"Under `{PREFIX}`; the OpenAPI document is at `{PREFIX}/openapi.json`. Send `Authorization: Bearer TOKEN`.",
        'Errors are `{"error": {"message", "code", "param"}, "ecotone": {...}}` with the status of their category: 400',
        "invalid, 401 who are you, 403 you may not, 404 absent or not visible, 405 another method (`Allow` has those",
        "that are taken), 409 conflict, 413 too large, 451",
        "refused by the decision, 503 try again.",
        "",
        "| endpoint | needs | |",
        "|---|---|---|",
    ]
    lines += [f"| `{e.method} {e.path}` | {e.need.value} | {e.summary} |" for e in ENDPOINTS]
    lines += [
        "",
        "## Gateway",
        "",
        "OpenAI's API under `/v1`, with a project's key as `Authorization: Bearer KEY`:",
        "",
        *[f"- `POST {path}`" for path in FACES],
        "- `GET /v1/models`, `GET /v1/models/{id}`",
        "",
        "## Hub",
        "",
        "The Hugging Face Hub's API, for its own clients: set `HF_ENDPOINT` to this server and `HF_TOKEN` to a user's",
        "token.",
        "",
        *_routes_of(hub.routes()),
        "",
        "## Pages and health",
        "",
        "- `GET /health`, `GET /health/ready`, `GET /metrics`",
        *_routes_of(web.routes()),
    ]
    return "\n".join([*lines, ""])


def _routes_of(routes: Sequence[BaseRoute]) -> list[str]:
    """A line for each address, with its methods."""
    methods: dict[str, set[str]] = {}
    for route in routes:
        if isinstance(route, Route):
            found = route.methods or {"GET"}
            methods.setdefault(route.path, set()).update((found - {"HEAD"}) or found)
    return [f"- `{', '.join(sorted(found))} {path}`" for path, found in methods.items()]


PAGES = {"settings.md": settings_page, "commands.md": commands_page, "api.md": api_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
