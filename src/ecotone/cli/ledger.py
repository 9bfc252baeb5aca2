"""`ecotone usage` and `ecotone ledger`: what was used, and the record that proves it."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone.cli import ledger_dataset, options, show
from ecotone.cli.client import Server, fail, note, print_json, segment

ledger = typer.Typer(help="The record of decisions and usage.", no_args_is_help=True)
usage = typer.Typer(help="Tokens and cost.", invoke_without_command=True)

_SHOWN = [
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost_usd",
    "unpriced",
    "estimates",
    "errors",
]
_Since = Annotated[str | None, typer.Option(help="From this day or moment on (UTC)")]
_Until = Annotated[str | None, typer.Option(help="Up to this day or moment, without it")]


@usage.callback()
def show_usage(
    context: typer.Context,
    by: Annotated[
        str,
        typer.Option(help="Groups, comma-separated: project, key, user, tag, route, backend, model, face, day, hour"),
    ] = "project,model",
    since: _Since = None,
    until: _Until = None,
    project: Annotated[str | None, typer.Option(help="Of this project alone")] = None,
    key: Annotated[str | None, typer.Option(help="Of the key with this id alone")] = None,
    tag: Annotated[str | None, typer.Option(help="Of requests with this tag alone")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model alone")] = None,
    backend: Annotated[str | None, typer.Option(help="Of this backend alone")] = None,
    as_json: options.Json = False,
) -> None:
    """Tokens and cost by whom and what you like, from tables that are kept up to date from the ledger."""
    if context.invoked_subcommand is not None:
        return
    told = Server().get(
        "/usage", group=by, since=since, until=until, project=project, key=key, tag=tag, model=model, backend=backend
    )
    if as_json:
        print_json(told)
        return
    show.table(told["rows"], [*told["group"], *_SHOWN], as_json=False, empty="Nothing was used yet.")
    total = told["total"]
    print(
        f"total: {total['requests']} requests, {total['prompt_tokens']} + {total['completion_tokens']} tokens, "
        f"{total['cost_usd']} USD ({total['unpriced']} without a known price, {total['estimates']} estimated)"
    )


@usage.command("rebuild")
def rebuild_usage(as_json: options.Json = False) -> None:
    """Make the tables anew from the ledger; the sums are the same as before."""
    told = Server().post("/usage/rebuild")
    if as_json:
        print_json(told)
    else:
        print(f"{told['records']} records read: {told['requests']} requests, {told['cost_usd']} USD")


@ledger.command("verify")
def verify_ledger(
    file: Annotated[Path | None, typer.Argument(help="An export; then no server is needed")] = None,
    key: Annotated[str | None, typer.Option(help="The installation's public key, from `ecotone ledger key`")] = None,
    as_json: options.Json = False,
) -> None:
    """Prove that every chain, or an export, is whole; otherwise name the place, and exit with 1."""
    if file is not None:
        _verify_export(file, key, as_json=as_json)
        return
    report = Server().get("/ledger/verify")
    if as_json:
        print_json(report)
    elif report["ok"]:
        print(f"whole: {report['records']} records in {report['segments']} segments, every hash and checkpoint holds")
    if not report["ok"]:
        places = [
            f"{p['segment_file']}, record {p['record']}, byte {p['offset']}: {p['what']}" for p in report["problems"]
        ]
        fail("the ledger is not whole:\n  " + "\n  ".join(places))


def _verify_export(file: Path, key: str | None, *, as_json: bool) -> None:
    import msgspec

    from ecotone.ledger.exported import verify_export

    try:
        known = bytes.fromhex(key) if key is not None else None
    except ValueError:
        known = b""
    if known is not None and len(known) != 32:
        fail("--key is 64 hexadecimal digits, as `ecotone ledger key` prints them.")
    try:
        report = verify_export(file, known)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror or error}.")
    if as_json:
        print_json(msgspec.to_builtins(report))
    if not report.ok:
        fail(f"{file} does not hold:\n  " + "\n  ".join(report.problems))
    if not as_json:
        of = f" of the project {report.project}" if report.project else ""
        print(f"holds: {report.records} records{of} in {report.chains} chains, signed by {report.key}")
        if known is None:
            note("compare that key with the one the installation tells (`ecotone ledger key`), or give it with --key")


@ledger.command("key")
def ledger_key(as_json: options.Json = False) -> None:
    """The public key with which this installation signs checkpoints and exports."""
    told = Server().get("/ledger/key")
    print_json(told) if as_json else print(told["key"])


@ledger.command("export")
def export_ledger(
    to: Annotated[Path, typer.Option("--to", help="File to write; - is the standard output")] = Path("-"),
    since: _Since = None,
    until: _Until = None,
    project: Annotated[str | None, typer.Option(help="Records of this project alone")] = None,
) -> None:
    """Records as they stand in the chains, with the signed checkpoint that covers them.

    Anybody can verify the file without the server: `ecotone ledger verify FILE`. Segments of which the server knows
    that they were exported whole, to a file, may be removed when they are old (`ecotone ledger retire`).
    """
    server = Server()
    body = {k: v for k, v in {"since": since, "until": until, "project": project}.items() if v is not None}
    if str(to) == "-":
        for piece in server.pieces("/ledger/export", body):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    digest = hashlib.sha256()
    draft = to.with_name(f".{to.name}.part")
    with draft.open("wb") as file:
        for piece in server.pieces("/ledger/export", body):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    _verify_export(draft, server.get("/ledger/key")["key"], as_json=False)
    draft.replace(to)
    told = server.post("/ledger/export/received", {"sha256": digest.hexdigest()})
    note(f"{to} is written and holds; {told['segments']} closed segments are in it whole")


@ledger.command("retire")
def retire_segments(
    older_than: Annotated[
        float | None, typer.Option(help="Days; default is ECOTONE_LEDGER_KEEP_DAYS of the server")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Remove old segments that were exported. Their usage stays counted; the chain verifies from there on."""
    told = Server().post("/ledger/retire", {"older_than": older_than})
    if as_json:
        print_json(told)
    else:
        print("\n".join(f"removed {name}" for name in told["removed"]) or "Nothing is due.")


@ledger.command("text")
def text(
    request_id: Annotated[str, typer.Argument(help="The x-request-id of an answer")],
) -> None:
    """A request's kept prompt and answer; the ledger records who read it."""
    print_json(Server().get(f"/texts/{segment(request_id)}"))


@ledger.command("destroy-texts")
def destroy_texts(project: str, as_json: options.Json = False) -> None:
    """Destroy all kept prompts and answers of a project, with the key that opens copies of them."""
    told: dict[str, Any] = Server().delete(f"/texts/projects/{segment(project)}")
    show.record(told, as_json=as_json)


@ledger.command("usage")
def ledger_usage(as_json: options.Json = False) -> None:
    """Tokens and cost by project and model, summed from the ledger."""
    columns = ["project", "model", "requests", "prompt_tokens", "completion_tokens", "cost_usd", "estimates"]
    show.table(Server().get("/ledger/usage"), columns, as_json=as_json, empty="Nothing was used yet.")


def add_to(app: typer.Typer) -> None:
    ledger.command("dataset")(ledger_dataset.make_dataset)
    app.add_typer(ledger, name="ledger")
    app.add_typer(usage, name="usage")
