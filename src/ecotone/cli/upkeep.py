"""`ecotone gc`, `convert`, `fsck`: upkeep of the store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone.cli import options
from ecotone.cli.client import FAILURE, Server, fail, note, print_json
from ecotone.cli.work import wait

_TABLES = {"lfs_objects": "whole files", "xet_files": "Xet files", "xorb_tenants": "xorbs"}
_KINDS = {"lfs": "whole files", "xorbs": "xorbs", "git": "git objects"}


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go")] = False,
    grace: Annotated[
        float | None, typer.Option(help="Seconds for which what nobody names stays (ECOTONE_COLLECT_GRACE)", min=0)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Take away what no repository names, and wait for it. What is taken now is removed by a later run.

    With --grace 0 also uploads that wait for their commit go: only when nobody uploads.
    """
    server = Server()
    found = wait(server, server.post("/store/collect", {"dry_run": dry_run, "grace": grace}))["result"]
    if as_json:
        print_json(found)
        return
    would = "would be " if dry_run else ""
    for table, number in sorted(found["rows"].items()):
        print(f"{number} {_TABLES.get(table, table)} {would}no longer named")
    for verb in ("condemned", "removed"):
        for kind, count in sorted(found[verb].items()):
            print(f"{count['objects']} {_KINDS.get(kind, kind)} {would}{verb}, {count['bytes']} bytes")
    if found["waiting"]:
        print(f"{found['waiting']} objects wait to be removed by a later run")
    if not any((found["rows"], found["condemned"], found["removed"], found["waiting"])):
        print("there is nothing to collect")


def convert(as_json: options.Json = False) -> None:
    """Turn whole files (sent by LFS) into Xet files, and wait for it. Names, hashes and ETags stay."""
    server = Server()
    found = wait(server, server.post("/store/convert"))["result"]
    if as_json:
        print_json(found)
        return
    told = f"{found['new']} bytes new, {found['reused']} bytes there already"
    print(f"{found['files']} files of {found['bytes']} bytes converted: {told}")
    for line in found["failed"]:
        note(f"not converted: {line}")


def fsck(
    deep: Annotated[bool, typer.Option("--deep", help="Read and hash every byte")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is safe to mend; the server must be down")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Data folder (ECOTONE_DATA), default ./data")] = None,
    as_json: options.Json = False,
) -> None:
    """Check the store on this machine's data folder, without a server. Ends with 1 when something is wrong.

    While a server runs only reading is done. --repair writes footers of xorbs anew, moves damaged objects to
    DATA/quarantine, and drops the rows of what is gone, so that it can be sent again.
    """
    import contextlib
    import json

    import msgspec

    from ecotone.app.checking import Check, lines
    from ecotone.app.supervisor import only_one
    from ecotone.database import Database
    from ecotone.settings import Settings
    from ecotone.storage import Storage
    from ecotone.vocabulary import EcotoneError

    settings = Settings.from_environment(data=data)
    if not settings.data.is_dir():
        fail(f"There is no data folder {settings.data}; name it with --data or ECOTONE_DATA.")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_one(settings.data))
        except EcotoneError as error:
            if repair:
                fail(f"--repair needs the data folder for itself. {error.message}")
            note("a server runs; it is only read, and what changes meanwhile may be left out")
        database = Database(settings.sql_url)
        if not database.at_head():
            fail("The database is of another version of Ecotone; start the server once to bring it up to date.")
        storage = Storage(database, settings)
        found: Any = Check(settings, database, storage, deep=deep, repair=repair).run()
        told = json.loads(msgspec.json.encode(found))
        database.dispose()
    if as_json:
        print_json(told)
    else:
        for line in lines(told):
            print(line)
    if found.found > found.repaired or any(fault.lost for fault in found.faults):
        raise typer.Exit(FAILURE)


def add_to(app: typer.Typer) -> None:
    app.command()(gc)
    app.command()(convert)
    app.command()(fsck)
