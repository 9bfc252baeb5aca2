"""`ecotone licence`: what may be done with a model, and why."""

from typing import Annotated

import typer

from ecotone.cli import licence_detect, options, show
from ecotone.cli.client import Server, print_json, segment
from ecotone.vocabulary import Verdict

EXIT = {
    Verdict.ALLOW: 0,
    Verdict.ALLOW_WITH_DUTIES: 0,
    Verdict.ASK_LICENCE: 3,
    Verdict.DENY: 4,
    Verdict.UNKNOWN: 5,
}
group = typer.Typer(
    help="May we use this model for that? With clauses, duties and what is unknown.", no_args_is_help=True
)


@group.command()
def check(
    model: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    mode: options.Mode,
    purpose: options.Purpose,
    users: options.Users = None,
    revenue: options.Revenue = None,
    territory: options.Territory = None,
    variables: options.Variables = None,
    as_json: options.Json = False,
) -> None:
    """Verdict for a use. Exit status: 0 allow or allow_with_duties, 3 ask_licence, 4 deny, 5 unknown."""
    name, _, rev = model.partition("@")
    question = {
        "model": name,
        "revision": rev or "main",
        "mode": mode,
        "purpose": purpose,
        "users": users,
        "revenue": revenue,
        "territory": territory or [],
        "variables": options.variables_of(variables),
    }
    answer = Server().post("/licence/check", question)
    if as_json:
        print_json(answer)
    else:
        show.decision(answer)
    raise typer.Exit(EXIT[Verdict(answer["verdict"])])


@group.command("list")
def list_entries(as_json: options.Json = False) -> None:
    """The licences and terms that the knowledge base holds."""
    rows = Server().get("/licences")
    show.table(rows, ["id", "title", "kind"], as_json=as_json, empty="The knowledge base is empty.")


@group.command("show")
def show_entry(entry: str, as_json: options.Json = False) -> None:
    """One licence with every fact and its clause."""
    value = Server().get(f"/licences/{segment(entry)}")
    if as_json:
        print_json(value)
        return
    print(f"{value['id']}: {value['title']} (knowledge base {value['knowledge_base']})")
    for fact in value.get("facts", []):
        clause = fact.get("clause")
        where = clause.get("sec") if isinstance(clause, dict) else clause
        about = ", ".join(fact.get("action") or []) or fact.get("duty") or ""
        print(f"  {fact.get('modality'):<9} {about:<40} {where}: {fact.get('means')}")


licence_detect.add_to(group)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="licence")
    app.add_typer(group, name="license", hidden=True)
