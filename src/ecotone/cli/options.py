"""Options that many commands share, with one wording."""

from typing import Annotated

import typer

from ecotone import vocabulary

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout")]
Mode = Annotated[vocabulary.Mode, typer.Option("--mode", help="What is done with the model")]
Purpose = Annotated[vocabulary.Purpose, typer.Option("--purpose", help="What it is done for")]
Users = Annotated[int | None, typer.Option("--users", help="Today's monthly users of organisation and product", min=0)]
Revenue = Annotated[float | None, typer.Option("--revenue", help="Annual revenue in USD", min=0)]
Territory = Annotated[
    list[str] | None, typer.Option("--territory", help="Country (DE), EU, EEA or worldwide; repeatable")
]
Variables = Annotated[
    list[str] | None, typer.Option("--set", metavar="VAR=VALUE", help="Another fact of the use, e.g. modified=true")
]


def variables_of(pairs: list[str] | None) -> dict[str, object]:
    """`VAR=VALUE` pairs; a value that is JSON (true, 3, ["DE"]) is taken as such, anything else as text."""
    import json

    found: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--set takes VAR=VALUE, e.g. org.mau=1000; got {pair!r}")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found
