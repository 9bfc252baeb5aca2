"""`ecotone rule`, `ecotone profile`: what the organisation decided, and what it is."""

from typing import Annotated, Any

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, note, print_json, segment

rule = typer.Typer(help="Rules of the organisation: warnings, blocks, waivers, positions.", no_args_is_help=True)
profile = typer.Typer(help="The organisation's figures and choices that licences ask for.", no_args_is_help=True)

_RULE = ["id", "kind", "subject", "value", "reason", "by", "approved_by", "expires", "state"]
_FIELDS = ("users", "product_users", "affiliates", "revenue", "domicile", "principal_place", "assume_below_thresholds")


@rule.command("add")
def add_rule(
    kind: Annotated[
        str,
        typer.Argument(
            help="warn, block, waiver, pass_unknown, hold_back, position, no_private, concluded or agreement"
        ),
    ],
    subject: Annotated[
        str,
        typer.Argument(
            help="Model id, namespace/*, licence:ENTRY, kind:KIND, backend:NAME, project:NAME, "
            "lineage:contradiction, a position's name, or *"
        ),
    ],
    reason: Annotated[str, typer.Option(help="Shown wherever the rule decides")],
    value: Annotated[
        str | None,
        typer.Option(
            help="Of a position the choice; of warn and block the verdicts and actions meant, with commas; of "
            "concluded the licence; of agreement ENTRY or ENTRY=ACTION,ACTION"
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Day on which it ends, YYYY-MM-DD")] = None,
    evidence: Annotated[str | None, typer.Option(help="Contract, or where the licence was found")] = None,
    as_json: options.Json = False,
) -> None:
    """Record a rule; a waiver, an agreement or a concluded licence waits for another administrator's approval."""
    body = {"kind": kind, "subject": subject, "reason": reason, "value": value, "expires": expires}
    made = Server().post("/rules", body | {"evidence": evidence})
    show.record(made, as_json=as_json)
    if made["state"].startswith("waiting") and not as_json:
        note(f"It has no effect yet: another administrator approves it with `ecotone rule approve {made['id']}`.")


@rule.command("approve")
def approve_rule(rule_id: str, as_json: options.Json = False) -> None:
    """Approve a rule that another administrator proposed; it is in force from then on."""
    show.record(Server().post(f"/rules/{segment(rule_id)}/approve"), as_json=as_json)


@rule.command("list")
def list_rules(as_json: options.Json = False) -> None:
    """The organisation's rules."""
    show.table(Server().get("/rules"), _RULE, as_json=as_json, empty="There is no rule.")


@rule.command("show")
def show_rule(rule_id: str, as_json: options.Json = False) -> None:
    """One rule."""
    show.record(Server().get(f"/rules/{segment(rule_id)}"), as_json=as_json)


@rule.command("remove")
def remove_rule(rule_id: str, as_json: options.Json = False) -> None:
    """Remove a rule."""
    show.record(Server().delete(f"/rules/{segment(rule_id)}"), as_json=as_json)


@profile.command("show")
def show_profile(as_json: options.Json = False) -> None:
    """What the organisation told of itself, and the months that licences ask for."""
    _print(Server().get("/profile"), as_json)


@profile.command("set")
def set_profile(
    users: Annotated[
        int | None, typer.Option(help="Today's monthly users of the organisation, affiliates together", min=0)
    ] = None,
    product_users: Annotated[
        int | None, typer.Option(help="Today's monthly users of the product; the organisation's when absent", min=0)
    ] = None,
    affiliates: Annotated[
        bool | None, typer.Option("--affiliates/--no-affiliates", help="Whether the figures count affiliates")
    ] = None,
    mau: Annotated[
        list[str] | None,
        typer.Option("--mau", metavar="YYYY-MM=USERS", help="Monthly users in a past month; repeatable"),
    ] = None,
    revenue: options.Revenue = None,
    domicile: Annotated[str | None, typer.Option(help="Country as two capitals, e.g. DE")] = None,
    principal_place: Annotated[str | None, typer.Option(help="Country of the principal place of business")] = None,
    position: Annotated[
        list[str] | None,
        typer.Option("--position", metavar="NAME=CHOICE", help="Choice where law is disputed; repeatable"),
    ] = None,
    assume_below_thresholds: Annotated[
        bool | None,
        typer.Option(
            "--assume-below-thresholds/--no-assume-below-thresholds",
            help="Thresholds of users count as not reached while no figure is told",
        ),
    ] = None,
    clear: Annotated[
        list[str] | None, typer.Option("--clear", metavar="FIELD", help="Forget a field, a month or a position")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Tell the organisation's profile; what is not named stays as it was told."""
    given = dict(
        zip(
            _FIELDS,
            (users, product_users, affiliates, revenue, domicile, principal_place, assume_below_thresholds),
            strict=True,
        )
    )
    server = Server()
    told: dict[str, Any] = server.get("/profile")["profile"]
    for name in clear or []:
        _clear(told, name)
    told |= {name: value for name, value in given.items() if value is not None}
    for pair in mau or []:
        month, users_then = _pair("--mau", pair)
        if not users_then.isdigit():
            raise typer.BadParameter(f"--mau takes YYYY-MM=USERS, e.g. 2024-06=1000; got {pair!r}")
        told["mau_at"][month] = int(users_then)
    for pair in position or []:
        name, choice = _pair("--position", pair)
        told["positions"][name] = choice
    _print(server.put("/profile", told), as_json)


def _clear(told: dict[str, Any], name: str) -> None:
    if name in ("mau_at", "positions"):
        told[name] = {}
    elif name in _FIELDS:
        told.pop(name, None)
    elif told["mau_at"].pop(name, None) is None and told["positions"].pop(name, None) is None:
        raise typer.BadParameter(f"--clear names a field, a month or a position that was told; got {name!r}")


def _pair(option: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise typer.BadParameter(f"{option} takes NAME=VALUE; got {pair!r}")
    return name.strip(), value.strip()


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    told = answer["profile"]
    show.record({**told, "updated": answer["updated"], "updated_by": answer["updated_by"]}, as_json=False)
    absent = {m: e for m, e in answer["asked_months"].items() if m not in told["mau_at"]}
    for month, entries in absent.items():
        print(f"not told: monthly users in {month}, asked by {', '.join(entries)} (--mau {month}=USERS)")


def add_to(app: typer.Typer) -> None:
    app.add_typer(rule, name="rule")
    app.add_typer(profile, name="profile")
