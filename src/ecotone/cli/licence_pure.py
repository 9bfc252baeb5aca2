"""`ecotone licence ...` without a server and without a database: the licence engine as scripts call it."""

from typing import TYPE_CHECKING, Annotated

import typer

from ecotone.cli import options
from ecotone.cli.client import print_json
from ecotone.vocabulary import LicenceRelation, Verdict

if TYPE_CHECKING:
    from ecotone.licences.compat import Compatibility

EXIT = {
    Verdict.ALLOW: 0,
    Verdict.ALLOW_WITH_DUTIES: 0,
    Verdict.ASK_LICENCE: 3,
    Verdict.DENY: 4,
    Verdict.UNKNOWN: 5,
}
_POSITION = "policy."


def compat(
    parent: str,
    child: str,
    relation: Annotated[
        str,
        typer.Option("--relation", help="derive, link, aggregate, train_on, generate, host, or finetune, merge, ..."),
    ] = LicenceRelation.DERIVE.value,
    variables: options.Variables = None,
    as_json: options.Json = False,
) -> None:
    """May a work made from PARENT by a relation be published under CHILD? Ids, Hub ids or SPDX expressions.

    Asks no server. Exit status: 0 allow or allow_with_duties, 3 ask_licence, 4 deny, 5 unknown.
    """
    from ecotone.licences import KnowledgeBase
    from ecotone.licences.compat import compat as compatibility

    told = options.variables_of(variables)
    positions = {k.removeprefix(_POSITION): str(v) for k, v in told.items() if k.startswith(_POSITION)}
    others = {k: v for k, v in told.items() if not k.startswith(_POSITION)}
    try:
        answer = compatibility(KnowledgeBase.load(), parent, child, relation, positions, others)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--relation") from None
    if as_json:
        print_json(answer.to_json())
    else:
        _show(answer)
    raise typer.Exit(EXIT[answer.verdict])


def _show(answer: "Compatibility") -> None:
    print(f"{answer.verdict}: {answer.asked['child']} on a work made from {answer.asked['parent']} ({answer.relation})")
    marks = {"true": "+", "false": "-", "unknown": "?"}
    for reason in answer.reasons:
        mark = marks.get(reason.evaluation, "*")
        print(f"  {mark} {reason.entry} {reason.clause}: {reason.means}")
    for condition in answer.conditions:
        print(f"  only within {condition.entry} {condition.clause}: {condition.means}")
    for heading, duties in (("duties", answer.duties), ("possible duties", answer.possible_duties)):
        for duty in duties:
            words = f" {duty.text!r}" if duty.text else ""
            print(f"  {heading.removesuffix('ies')}y: {duty.duty}{words} ({duty.entry} {duty.clause})")
    for dispute in answer.disputed:
        print(f"  disputed: with {dispute['position']}={dispute['value']} the answer is {dispute['verdict']}")
    for words, names in (("not known", [m.what for m in answer.missing]), ("secondary", answer.secondary_facts)):
        if names:
            print(f"{words}: {', '.join(names)}")
    for warning in answer.warnings:
        print(f"note: {warning}")
    print(f"knowledge base {answer.knowledge_base}; {answer.notice}")


def add_to(group: typer.Typer) -> None:
    group.command("compat")(compat)
