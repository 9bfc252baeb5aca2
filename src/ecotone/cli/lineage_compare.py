"""`ecotone lineage compare`: was one model made from another? Read from the weights, without server or database."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ecotone.cli import options
from ecotone.cli.client import print_json
from ecotone.vocabulary import EcotoneError

if TYPE_CHECKING:
    from ecotone.lineage.comparing import Comparison
    from ecotone.lineage.sources import Source

EXIT = {"yes": 0, "no": 4, "unsure": 5}
UNREADABLE = 2
_CONFIG_LIMIT = 1 << 20


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A model's folder, or a safetensors or GGUF file")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other")],
    as_json: options.Json = False,
) -> None:
    """Was A made from B, B from A, or both from a third? Read from the weights alone.

    Asks no server. Distillation and training on outputs cannot be seen. Exit status: 0 related, 4 not, 5 unsure, 2 when
    one of them cannot be read.
    """
    found = _compared(first, second)
    table = _table(found, first, second)
    if as_json:
        print_json(table)
    else:
        _show(table)
    raise typer.Exit(EXIT[found.related.value])


def _compared(first: Path, second: Path) -> "Comparison":
    from ecotone.lineage.comparing import against_base, is_adapter
    from ecotone.lineage.comparing import compare as compared
    from ecotone.lineage.opening import fingerprint_of

    sources = [_opened(p) for p in (first, second)]
    adapters = [is_adapter(s) for s in sources]
    try:
        if adapters[0] != adapters[1]:
            place = adapters.index(True)
            declared = _declared_base((first, second)[place])
            side = "first" if place == 0 else "second"
            return against_base(sources[place], sources[1 - place], declared, side)
        return compared(sources[0], sources[1], prints=(fingerprint_of(first), fingerprint_of(second)))
    except (EcotoneError, OSError) as error:
        _refuse(f"{first} and {second} cannot be compared: {_reason(error)}")


def _opened(path: Path) -> "Source":
    from ecotone.lineage.opening import open_weights

    if not path.exists():
        _refuse(f"{path} is not there. Name a model's folder, or a safetensors or GGUF file.")
    try:
        source = open_weights(path)
    except (EcotoneError, OSError) as error:
        _refuse(f"{path} cannot be read: {_reason(error)}")
    if not source.tensors:
        _refuse(f"{path} holds no tensor. Name a model's folder, or a safetensors or GGUF file.")
    return source


def _reason(error: Exception) -> str:
    if isinstance(error, EcotoneError):
        return error.message
    return getattr(error, "strerror", None) or str(error)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise typer.Exit(UNREADABLE)


def _declared_base(path: Path) -> str | None:
    import msgspec

    from ecotone.lineage import declared_edges

    file = (path if path.is_dir() else path.parent) / "adapter_config.json"
    try:
        if not file.is_file() or file.stat().st_size > _CONFIG_LIMIT:
            return None
        table: Any = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    edges = declared_edges({}, adapter_config=table) if isinstance(table, dict) else []
    return edges[0].parent if edges else None


def _table(found: "Comparison", first: Path, second: Path) -> dict[str, Any]:
    """The answer with A and B in place of first and second."""
    table = found.to_json()
    letters = {"first": "A", "second": "B"}
    if table["direction"] is not None:
        table["direction"]["child"] = letters[table["direction"]["child"]]
    child = "B" if table["direction"] is not None and table["direction"]["child"] == "B" else "A"
    for check in table["evidence"]:
        words = check["means"].replace("the child", child).replace("the parent", "A" if child == "B" else "B")
        check["means"] = words
    return {"a": str(first), "b": str(second), **table}


def _show(table: dict[str, Any]) -> None:
    print(f"related: {table['related']}{_sentence(table)}")
    if table["also"]:
        print(f"also: {', '.join(table['also'])}")
    marks = {True: "+", False: "-", None: "."}
    for check in table["evidence"]:
        figure = "" if check["figure"] is None else f" {check['figure']:.4g}"
        limit = "" if check["threshold"] is None else f" (threshold {check['threshold']:.4g})"
        print(f"  {marks[check['passed']]} {check['name']}{figure}{limit}: {check['means']}")
    print(f"note: {table['note']}")


def _sentence(table: dict[str, Any]) -> str:
    if table["relation"] is None:
        return ""
    details = [f"{word} {table[word]}" for word in ("rank", "bits") if table[word] is not None]
    details += [f"{share:.0%} of the other" for share in table["weights"].values()]
    words = f", {table['relation']}" + (f" ({', '.join(details)})" if details else "")
    toward = table["direction"]
    if toward is None:
        return words + "; the weights do not tell which was made from the other"
    other = "B" if toward["child"] == "A" else "A"
    return f"{words}; {toward['child']} was made from {other}: {toward['why']}"


def add_to(group: typer.Typer) -> None:
    group.command()(compare)
