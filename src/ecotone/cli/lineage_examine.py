"""`ecotone lineage examine`: a model's weights against those that it may come from, by the server."""

from typing import Annotated, Any

import typer

from ecotone.cli import options, work
from ecotone.cli.client import Server, note, print_json, segment


def examine(
    model: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end")] = True,
    as_json: options.Json = False,
) -> None:
    """Compare a model of the hub with those that it may come from, and show what its weights say."""
    name, _, rev = model.partition("@")
    server = Server()
    namespace, _, short = name.partition("/")
    path = f"/models/{segment(namespace)}/{segment(short)}/lineage"
    started = server.post(path, {"revision": rev or "main"})
    if not wait:
        print_json(started) if as_json else note(f"job {started['id']} examines {name}")
        return
    work.wait(server, started)
    found = server.get(path, revision=rev or "main")
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    print(f"{found['model']}@{(found['revision'] or '')[:12]}: {found['badge'] or 'nothing is known of its descent'}")
    for edge in found["edges"]:
        said = f"; {word['word']} by {word['by']} because {word['reason']}" if (word := edge.get("said")) else ""
        print(f"  {edge['relation']} of {edge['parent']}: {edge['status']} ({edge['evidence']}{said})")
    for alarm in found["alarms"]:
        print(f"  ! {alarm['means']}")
    for text in found["findings"]:
        print(f"  ! {text}")
    for candidate in found["candidates"]:
        if not candidate["parent"]:
            figures = f"mean cosine {candidate['cosine']:.3f}, shared {candidate['shared']:.1%}"
            print(f"  compared with {candidate['model']}: {candidate['related']} ({figures})")


def fingerprint(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end")] = True,
    as_json: options.Json = False,
) -> None:
    """Fingerprint all weights on the hub that have no fingerprint yet, so that their models become candidates."""
    server = Server()
    started = server.post("/lineage/fingerprints")
    if not wait:
        print_json(started) if as_json else note(f"job {started['id']} takes the fingerprints that are missing")
        return
    found = work.wait(server, started)["result"]
    if as_json:
        print_json(found)
        return
    print(f"{found['revisions']} of {found['seen']} revisions fingerprinted, {found['files']} files read")
    for text in found["findings"]:
        print(f"! {text}")


def add_to(group: typer.Typer) -> None:
    group.command()(examine)
    group.command()(fingerprint)
