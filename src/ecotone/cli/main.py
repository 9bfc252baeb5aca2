"""The commands' root: `up`, and the groups of each noun."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ecotone.cli import (
    accounts,
    check,
    deployments,
    gateway,
    keys,
    ledger,
    licences,
    limits,
    lineage,
    models,
    operate,
    policy,
    prices,
    traces,
    upkeep,
    webhooks,
    work,
)
from ecotone.cli.client import fail, note
from ecotone.vocabulary import EcotoneError

app = typer.Typer(
    name="ecotone",
    help="Hub, licences, gateway, engines, tuning, privacy and audits for open and proprietary language models.\n\n"
    "All but up, restart, fsck and most of licence and lineage talk to the server at ECOTONE_URL (default "
    "http://127.0.0.1:7070) with the token in ECOTONE_TOKEN. Files and repositories are sent and fetched by "
    "the hf command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def up(
    data: Annotated[Path | None, typer.Option(help="Data folder (ECOTONE_DATA), default ./data")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (ECOTONE_HOST), default 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (ECOTONE_PORT), default 7070")] = None,
    database_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL (ECOTONE_DATABASE_URL)")] = None,
    admin_token: Annotated[
        str | None,
        typer.Option(
            help="First administrator's token (ECOTONE_ADMIN_TOKEN, which other users of the machine cannot see)"
        ),
    ] = None,
    public_url: Annotated[str | None, typer.Option(help="Address that clients use (ECOTONE_PUBLIC_URL)")] = None,
) -> None:
    """Start the server: hub, pages, API and gateway on one port."""
    from ecotone.app.supervisor import run
    from ecotone.settings import Settings, strangers, with_file

    flags = {
        "data": data,
        "host": host,
        "port": port,
        "database_url": database_url,
        "admin_token": admin_token,
        "public_url": public_url,
    }

    def read() -> tuple[Settings, Mapping[str, str]]:
        environ = with_file(os.environ, data)
        for sentence in strangers(environ):
            note(f"ecotone: {sentence}")
        return Settings.from_environment(environ, **flags), environ

    raise SystemExit(run(read))


app.command()(operate.restart)
app.command("gateway")(operate.gateway)


@app.command()
def version() -> None:
    """The version of this program, and whether its gateway is compiled."""
    from ecotone import __version__
    from ecotone.gateway import compiled

    print(f"{__version__} (gateway compiled)" if compiled() else __version__)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and end", callback=_version, is_eager=True)
    ] = (False),
) -> None:
    """Hub, licences, gateway, engines, tuning, privacy and audits on one decision."""


licences.add_to(app)
lineage.add_to(app)
models.add_to(app)
deployments.add_to(app)
gateway.add_to(app)
prices.add_to(app)
ledger.add_to(app)
accounts.add_to(app)
keys.add_to(app)
limits.add_to(app)
policy.add_to(app)
check.add_to(app)
lineage.add_to(app)
webhooks.add_to(app)
work.add_to(app)
upkeep.add_to(app)
traces.add_to(app)


def main() -> None:
    """Entry point of `ecotone`."""
    try:
        app()
    except EcotoneError as error:
        fail(error.message)
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
