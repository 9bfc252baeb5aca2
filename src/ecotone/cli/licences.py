"""`ecotone licence`: what may be done with a model, and why."""

from typing import Annotated

import typer

from ecotone.cli import (
    licence_ask,
    licence_detect,
    licence_duties,
    licence_knowledge,
    licence_openness,
    licence_pure,
    options,
    show,
)
from ecotone.cli.client import Server, print_json
from ecotone.cli.licence_pure import EXIT
from ecotone.vocabulary import Verdict

group = typer.Typer(help="May we use this model for that? With clauses and duties.", no_args_is_help=True)


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


licence_ask.add_to(group)
licence_knowledge.add_to(group)
licence_pure.add_to(group)
licence_detect.add_to(group)
licence_duties.add_to(group)
licence_openness.add_to(group)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="licence")
    app.add_typer(group, name="license", hidden=True)
