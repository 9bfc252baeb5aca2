"""LoRA: 32 requests over 8 adapters in one batch against the same requests to their base alone, both by our server."""

import http.client
import json

import asks
import shelf
from ground import Server, engine, load, median, ratio

TOKENS = 32


def measure(rounds: int) -> dict[str, float]:
    """Tokens per CPU second of 64 chats, 32 at a time."""
    names = [f"bench/adapter-{n}@{'0' * 40}" for n in range(shelf.ADAPTERS)]
    found: dict[str, list[float]] = {}
    with engine("bench/llama", shelf.model("llama")) as server:
        rates = {"base, before": ["bench/llama"]}
        for turn in range(-1, rounds):
            _write(server, rates, turn, found)
        for number, name in enumerate(names):
            _add(server, name, str(shelf.model(f"adapter-{number}")))
        rates = {"base": ["bench/llama"], "one adapter": names[:1], "8 adapters": names}
        for turn in range(-1, rounds):
            _write(server, rates, turn, found)
    for what, values in found.items():
        print(f"  {what:<14}{median(values):>8,.0f} tokens per CPU second", flush=True)
    return {
        "adapters_vs_base": ratio(found["8 adapters"], found["base"]),
        "adapters_vs_base_before": ratio(found["8 adapters"], found["base, before"]),
        "one_adapter_vs_base": ratio(found["one adapter"], found["base"]),
    }


def _write(server: Server, rates: dict[str, list[str]], turn: int, found: dict[str, list[float]]) -> None:
    for what, models in rates.items():
        bodies = [
            body | {"model": models[place % len(models)]}
            for place, body in enumerate(asks.bodies("", asks.chats(64, turn), TOKENS))
        ]
        done = load(server, "/v1/chat/completions", bodies, 32, lambda answer: answer["usage"]["completion_tokens"])
        if turn >= 0:
            found.setdefault(what, []).append(done.rate)


def _add(server: Server, name: str, folder: str) -> None:
    connection: http.client.HTTPConnection = server.connect()
    body = json.dumps({"name": name, "folder": folder})
    connection.request("POST", "/adapters", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the adapter {name} was not taken: {data[:300]!r}")
