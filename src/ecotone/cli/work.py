"""`ecotone tune`, `audit`, `job`: long work and its progress."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ecotone.cli import options, show
from ecotone.cli.client import FAILURE, Server, fail, note, print_json, segment
from ecotone.vocabulary import JobState

audit = typer.Typer(help="Bias and safety measured on a revision, in its card.", no_args_is_help=True)
job = typer.Typer(help="Background work: tuning runs, audits, upkeep of the store.", no_args_is_help=True)

_JOB = ["id", "kind", "state", "progress", "message", "actor", "created"]


def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    to: Annotated[str, typer.Option(help="Model that receives the result, namespace/name")],
    data: Annotated[
        Path | None, typer.Option(help='JSONL, a row a line: {"messages": [...]}', exists=True, dir_okay=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAMESPACE/NAME[@REV]", help="Data set of the hub instead; judged with it")
    ] = None,
    method: Annotated[str, typer.Option(help="lora")] = "lora",
    epochs: Annotated[int, typer.Option(min=1)] = 3,
    learning_rate: Annotated[float, typer.Option()] = 2e-4,
    seed: Annotated[int, typer.Option()] = 0,
    project: Annotated[str | None, typer.Option(help="Project whose use is judged; default the house")] = None,
    as_json: options.Json = False,
) -> None:
    """Turn a model and private data into a private model."""
    name, _, rev = model.partition("@")
    if (data is None) == (dataset is None):
        raise typer.BadParameter("give --data or --dataset, one of both")
    try:
        text = data.read_text("utf-8") if data is not None else None
    except UnicodeDecodeError as error:
        fail(f"{data} is not UTF-8 at byte {error.start}; save it as UTF-8.")
    body = {
        "model": name,
        "revision": rev or "main",
        "data": text,
        "dataset": dataset,
        "method": method,
        "to": to,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "project": project,
    }
    server = Server()
    _wait(server, server.post("/tuning", body), as_json=as_json)


@audit.command("run")
def run_audit(
    model: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    suite: Annotated[str, typer.Option(help="weat")],
    project: Annotated[str | None, typer.Option(help="Project whose use is judged; default the house")] = None,
    as_json: options.Json = False,
) -> None:
    """Measure a revision by a suite, and wait for the result."""
    name, _, rev = model.partition("@")
    server = Server()
    started = server.post("/audits", {"model": name, "revision": rev or "main", "suite": suite, "project": project})
    _wait(server, started, as_json=as_json)


@audit.command("list")
def list_audits(
    model: Annotated[str | None, typer.Argument(help="Only this model's")] = None, as_json: options.Json = False
) -> None:
    """Measurements that are stored."""
    rows = Server().get("/audits", model=model)
    show.table(
        rows, ["id", "model", "revision", "suite", "created"], as_json=as_json, empty="Nothing was measured yet."
    )


@audit.command("show")
def show_audit(model: str, as_json: options.Json = False) -> None:
    """The measurements of one model."""
    rows = Server().get("/audits", model=model)
    if not rows and not as_json:
        print(f"Nothing was measured of {model} yet; `ecotone audit run {model} --suite weat` does.")
    for measurement in rows:
        if not as_json:
            print(
                f"{measurement['model']}@{measurement['revision'][:8]} {measurement['suite']} {measurement['created']}"
            )
            _print_tests(measurement["result"])
    if as_json:
        print_json(rows)


@audit.command("remove")
def remove_audit(
    number: Annotated[str, typer.Argument(metavar="ID", help="As `audit list` shows it")], as_json: options.Json = False
) -> None:
    """Withdraw a stored measurement; the ledger keeps that it was withdrawn, and by whom."""
    show.record(Server().delete(f"/audits/{segment(number)}"), as_json=as_json)


@job.command("list")
def list_jobs(as_json: options.Json = False) -> None:
    """Jobs, newest first."""
    show.table(Server().get("/jobs"), _JOB, as_json=as_json, empty="There is no job yet.")


@job.command("show")
def show_job(job_id: str, as_json: options.Json = False) -> None:
    """One job."""
    show.record(Server().get(f"/jobs/{segment(job_id)}"), as_json=as_json)


@job.command("logs")
def job_logs(job_id: str) -> None:
    """What a job of your own wrote to its log. Administrators may read any."""
    print(Server().get(f"/jobs/{segment(job_id)}/log")["log"], end="")


@job.command("cancel")
def cancel_job(job_id: str, as_json: options.Json = False) -> None:
    """Stop a job of your own; nothing of it is published. Administrators may stop any."""
    show.record(Server().post(f"/jobs/{segment(job_id)}/cancel"), as_json=as_json)


def _wait(server: Server, started: dict[str, Any], *, as_json: bool) -> None:
    """Follow a job to its end and end with its status."""
    found = _ended(server, started)
    if as_json:
        print_json(found)
    elif found["state"] == JobState.DONE:
        result = found.get("result") or {}
        if "tests" in result:
            _print_tests(result)
        else:
            show.record(result, as_json=False)
    _check(found)


def wait(server: Server, started: dict[str, Any]) -> dict[str, Any]:
    """Follow a job to its end; the job as it is then. Ends the program with a sentence when it was not done."""
    found = _ended(server, started)
    _check(found)
    return found


def _ended(server: Server, started: dict[str, Any]) -> dict[str, Any]:
    note(f"job {started['id']}: {started['kind']}")
    for warning in started.get("warnings", []):
        note(f"warning: {warning}")
    return _follow(server, started["id"]) if sys.stderr.isatty() else _poll(server, started["id"])


def _check(found: dict[str, Any]) -> None:
    if found["state"] != JobState.DONE:
        fail(f"job {found['id']} {found['state']}: {found.get('error') or found.get('message')}", FAILURE)


def _poll(server: Server, job_id: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = server.get(f"/jobs/{segment(job_id)}")
        if JobState(found["state"]).ended:
            return found
        time.sleep(0.3)


def _follow(server: Server, job_id: str) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("waiting", total=1.0)
        while True:
            found: dict[str, Any] = server.get(f"/jobs/{segment(job_id)}")
            progress.update(bar, completed=found["progress"] or 0.0, description=found["message"] or found["state"])
            if JobState(found["state"]).ended:
                return found
            time.sleep(0.3)


def _print_tests(result: dict[str, Any]) -> None:
    for test in result.get("tests", []):
        low, high = test.get("interval") or (None, None)
        between = f" [{low:+.2f}, {high:+.2f}]" if low is not None and high is not None else ""
        print(f"  {test.get('name', '')}: effect size {test['effect_size']:+.2f}{between}, p = {test['p_value']:.4g}")


def add_to(app: typer.Typer) -> None:
    app.command()(tune)
    app.add_typer(audit, name="audit")
    app.add_typer(job, name="job")
