"""`ecotone webhook`: what webhooks watch, and how their deliveries went. `hf webhooks` makes and changes them."""

from typing import Annotated

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, segment

webhook = typer.Typer(help="Your webhooks and their deliveries; `hf webhooks` makes them.", no_args_is_help=True)

_WEBHOOK = ["id", "url", "watched", "domains", "signed", "disabled", "why_disabled", "failures"]
_DELIVERY = ["number", "event", "subject", "state", "attempts", "status", "problem", "created"]


@webhook.command("list")
def list_webhooks(as_json: options.Json = False) -> None:
    """Your webhooks, without their secrets."""
    show.table(Server().get("/webhooks"), _WEBHOOK, as_json=as_json, empty="You have no webhook.")


@webhook.command("show")
def show_webhook(webhook_id: str, as_json: options.Json = False) -> None:
    """One webhook."""
    show.record(Server().get(f"/webhooks/{segment(webhook_id)}"), as_json=as_json)


@webhook.command("deliveries")
def list_deliveries(
    webhook_id: str,
    limit: Annotated[int, typer.Option(help="How many, newest first")] = 50,
    before: Annotated[int | None, typer.Option(help="Only those before this number")] = None,
    as_json: options.Json = False,
) -> None:
    """What a webhook was sent or is to be sent."""
    found = Server().get(f"/webhooks/{segment(webhook_id)}/deliveries", limit=limit, before=before)
    show.table(found, _DELIVERY, as_json=as_json, empty="Nothing was delivered yet.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(webhook, name="webhook")
