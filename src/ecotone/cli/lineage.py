"""`ecotone lineage`: where a model comes from, as its weights show it."""

import typer

from ecotone.cli import lineage_bom, lineage_compare, lineage_examine, lineage_family, lineage_words

group = typer.Typer(help="Where a model comes from, read from its weights.", no_args_is_help=True)

lineage_bom.add_to(group)
lineage_compare.add_to(group)
lineage_examine.add_to(group)
lineage_family.add_to(group)
lineage_words.add_to(group)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="lineage")
