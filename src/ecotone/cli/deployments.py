"""`ecotone serve`, `deploy`, `ps`, `stop`, `logs`: engines that serve models."""

import re
import textwrap
from typing import Annotated, Any

import typer

from ecotone.cli import options, show
from ecotone.cli.client import Server, model_path, note

_COLUMNS = [
    *("model", "revision", "state", "replicas", "memory", "tokens/s", "idle", "options", "task", "projects"),
    *("restarts", "error"),
]
_REPLICAS = re.compile(r"([0-9]{1,3})(?:\.\.([0-9]{1,3}))?")
_MIB = 1 << 20
_ERROR = 160  # letters of it in the table; the whole one stands with `--json` and on the deployment's page
_NOT_TOLD = ("kind", "replicas", "most_replicas", "arguments")


def serve(
    name: Annotated[str, typer.Argument(metavar="MODEL[@REV]")],
    project: Annotated[
        list[str] | None,
        typer.Option("--project", help="Who may call it; repeatable. A model that is served already keeps its limit"),
    ] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Lift the limit that it had")] = False,
    replicas: Annotated[
        str | None, typer.Option("--replicas", metavar="N|MIN..MAX", help="Engines beside each other; more on demand")
    ] = None,
    quantise: Annotated[str | None, typer.Option("--quantise", help="int8: weights of 8 bits, on a CPU")] = None,
    idle: Annotated[
        str | None, typer.Option("--idle", metavar="15m|never", help="Unload it after so long without a call")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Never unload it, neither for time nor for memory")] = False,
    on_demand: Annotated[bool, typer.Option("--on-demand", help="Load it at the first call, not now")] = False,
    slots: Annotated[int | None, typer.Option("--slots", help="Answers computed at once", min=1)] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of each engine", min=1)] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1; default: the best one")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="builtin, vllm, openai, tei or ray")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Address of an engine that runs elsewhere")] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", metavar="VARIABLE", help="The server's variable with that engine's key")
    ] = None,
    served_as: Annotated[str | None, typer.Option("--served-as", help="What that engine calls the model")] = None,
    location: Annotated[str | None, typer.Option("--location", help="Where that engine is: local or external")] = None,
    argument: Annotated[
        list[str] | None, typer.Option("--arg", metavar="NAME=VALUE", help="A further one of the kind; repeatable")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Start engines for a model and wait until they are ready. With other options or another revision than it has, new
    engines take over when they are ready, and the old ones end after their last answers. Options that are not named
    go back to their defaults; where none is named, they stay as they are."""
    model_id, _, rev = name.partition("@")
    if project and everybody:
        raise typer.BadParameter("--project and --everybody exclude each other")
    if pin and idle is not None:
        raise typer.BadParameter("--pin and --idle exclude each other: what is pinned is never unloaded")
    fewest, most = _replicas(replicas)
    told: dict[str, Any] = {
        "kind": kind,
        "replicas": fewest,
        "most_replicas": most,
        "quantise": quantise,
        "idle": _idle(idle),
        "pin": pin or None,
        "on_demand": on_demand or None,
        "slots": slots,
        "threads": threads,
        "device": device,
        "url": url,
        "key_env": key_env,
        "served_as": served_as,
        "location": location,
        "arguments": _arguments(argument) or None,
    }
    told = {option: value for option, value in told.items() if value is not None}
    note(f"starting an engine for {name} ...")
    body: dict[str, object] = {"model": model_id, "revision": rev or "main"}
    if project or everybody:
        body["projects"] = project or []
    if told:
        body["options"] = told
    server = Server()
    made = server.post("/deployments", body)
    for warning in made.pop("warnings", []):
        note(f"note: {warning}")
    if as_json:
        show.record(made, as_json=True)
        return
    show.record(_shown(made), as_json=False)
    if made["error"]:
        note(f"note: {made['error']}")
    note(f"call it as {made['model']} at {server.url}/v1, or by InferenceClient at {server.url}/models/{made['model']}")


def stop(name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: options.Json = False) -> None:
    """Stop a model's engines."""
    show.record(Server().delete(f"/deployments/{model_path(name)}"), as_json=as_json)


def ps(as_json: options.Json = False) -> None:
    """Engines with their state, memory (MiB), tokens a second, seconds until they are unloaded, and options."""
    rows = Server().get("/deployments")
    shown = rows if as_json else [_row(row) for row in rows]
    show.table(shown, _COLUMNS, as_json=as_json, empty="No engine is running.")


def engine_log(name: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """What a model's engines wrote to their log."""
    text = Server().get(f"/deployments/{model_path(name)}/log")["log"]
    if not text:
        note(f"nothing was written for {name} yet; `ecotone ps` shows its state")
    print(text, end="")


def _row(told: dict[str, Any]) -> dict[str, Any]:
    """A deployment on one line."""
    replicas, chosen, memory = told["replicas"], told["options"], told["memory"]
    ready = sum(1 for replica in replicas if replica["state"] == "ready")
    state = f"{told['state']} ({told['progress']})" if told["progress"] else told["state"]
    named = [] if told["kind"] == "builtin" else [told["kind"]]
    named += _options(chosen)
    named += [f"on {told['on_base']}"] if told["on_base"] else []
    return {
        **told,
        "revision": told["revision"][:12],
        "state": state,
        "replicas": f"{ready}/{len(replicas)}",
        "memory": None if memory is None else f"{memory / _MIB:.0f}",
        "tokens/s": told["tokens_per_second"] if told["state"] == "ready" else None,
        "idle": None if told["idle_left"] is None else f"{told['idle_left']:.0f}",
        "options": " ".join(named) or None,
        "error": textwrap.shorten(told["error"].splitlines()[0], _ERROR, placeholder=" ...") if told["error"] else None,
    }


def _shown(made: dict[str, Any]) -> dict[str, Any]:
    """A deployment that was just made, for a person: what it is, where it runs, what it costs."""
    row = _row(made)
    found = {name: row[name] for name in ("model", "revision", "state", "task", "replicas", "options", "projects")}
    if made["memory"] is not None:
        found["memory"] = f"{row['memory']} MiB"
    if made["context_length"] is not None:
        found["context"] = f"{made['context_length']} tokens"
    if isinstance(quantised := made.get("info", {}).get("quantised"), dict):
        found["quantised"] = quantised
    return found


def _options(chosen: dict[str, Any]) -> list[str]:
    """Options as they are written on the command line."""
    found = []
    for option, value in chosen.items():
        if option not in _NOT_TOLD:
            told = _duration(value) if option == "idle" else value
            name = option.replace("_", "-")
            found.append(name if value is True else f"{name}={told}")
    return found + [f"{name}={value}" for name, value in (chosen.get("arguments") or {}).items()]


def _duration(seconds: float) -> str:
    if not seconds:
        return "never"
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def _replicas(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    found = _REPLICAS.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"--replicas is {text!r}; a number is expected, or fewest and most: 2 or 1..4")
    return int(found[1]), int(found[2]) if found[2] else None


def _idle(text: str | None) -> float | None:
    if text is None:
        return None
    return 0.0 if text.strip().lower() == "never" else float(options.seconds_of(text))


def _arguments(pairs: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--arg takes NAME=VALUE; got {pair!r}")
        found[name.strip()] = value
    return found


def add_to(app: typer.Typer) -> None:
    app.command()(serve)
    app.command("deploy")(serve)
    app.command()(stop)
    app.command("unserve")(stop)
    app.command()(ps)
    app.command("logs")(engine_log)
