"""`ecotone lineage confirm`, `reject`, `approve`, `words`, `take-back`: an administrator's word on an edge."""

from typing import Annotated, Any

import typer

from ecotone import vocabulary
from ecotone.cli import options, show
from ecotone.cli.client import Server, note, print_json, segment

_Child = Annotated[str, typer.Argument(metavar="MODEL[@REV]")]
_Parent = Annotated[str, typer.Argument(metavar="PARENT")]
_Reason = Annotated[str, typer.Option("--reason", help="Is shown wherever the edge is")]
_COLUMNS = ("id", "word", "model", "parent", "state", "by", "reason")


def confirm(
    model: _Child,
    parent: _Parent,
    reason: _Reason,
    relation: Annotated[
        vocabulary.Relation | None, typer.Option("--relation", help="Of an edge that is not there yet")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say that a model comes from a parent. It counts as declared, whatever the weights hint at."""
    _say(model, parent, "confirmed", reason, relation and relation.value, as_json)


def reject(
    model: _Child,
    parent: _Parent,
    reason: _Reason,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="DIGEST", help="Of refused weights, as the refusal says"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say that a model does not come from a parent. It counts once another administrator has approved it, and holds for
    these weights whatever is examined later."""
    _say(model, parent, "rejected", reason, None, as_json, weights)


def _say(
    model: str, parent: str, word: str, reason: str, relation: str | None, as_json: bool, weights: str | None = None
) -> None:
    name, _, rev = model.partition("@")
    body: dict[str, Any] = {"model": name, "parent": parent, "word": word, "reason": reason, "relation": relation}
    answer = Server().post("/lineage/words", body | {"revision": rev or "main", "weights": weights})
    if as_json:
        print_json(answer)
        return
    print(f"{answer['id']}: {answer['model']} from {answer['parent']}: {answer['word']}, {answer['state']}")
    if answer["state"] != "in force":
        note(f"Another administrator runs `ecotone lineage approve {answer['id']}`.")


def approve(word: Annotated[str, typer.Argument(metavar="WORD")], as_json: options.Json = False) -> None:
    """Approve a rejection that another administrator proposed."""
    show.record(Server().post(f"/lineage/words/{segment(word)}/approve"), as_json=as_json)


def words(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only those on this model's edges")] = None,
    as_json: options.Json = False,
) -> None:
    """What administrators said of lineage edges."""
    empty = "Nobody said anything of an edge."
    show.table(Server().get("/lineage/words", model=model), _COLUMNS, as_json=as_json, empty=empty)


def take_back(word: Annotated[str, typer.Argument(metavar="WORD")], as_json: options.Json = False) -> None:
    """Take a word back: the edge is again what it was found to be."""
    show.record(Server().delete(f"/lineage/words/{segment(word)}"), as_json=as_json)


def add_to(group: typer.Typer) -> None:
    group.command("confirm")(confirm)
    group.command("reject")(reject)
    group.command("approve")(approve)
    group.command("words")(words)
    group.command("take-back")(take_back)
