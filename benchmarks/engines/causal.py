"""LLaMA and Mistral: tokens per CPU second over HTTP against `transformers serve` and one batch of `generate`."""

from contextlib import ExitStack
from typing import Any

import asks
import shelf
from ground import Load, Reference, Server, engine, load, median, memory_mb, ratio, transformers_serve

TOKENS = 32
ASKED = {1: 6, 8: 24, 32: 64}
_SIZED = ("--continuous-batching", "--cb-num-blocks", "256", "--cb-block-size", "32", "--cb-max-batch-tokens", "1024")


def write(server: Server, concurrent: int, seed: int, **more: Any) -> Load:
    """Chats of `TOKENS` tokens each, `concurrent` at a time."""
    found = load(
        server,
        "/v1/chat/completions",
        asks.bodies(server.model, asks.chats(ASKED[concurrent], seed), TOKENS, **more),
        concurrent,
        lambda answer: answer["usage"]["completion_tokens"] if isinstance(answer, dict) else TOKENS,
    )
    if found.done != ASKED[concurrent] * TOKENS:
        raise RuntimeError(f"{server.name} made {found.done} tokens of {ASKED[concurrent] * TOKENS}")
    return found


def family(name: str, rounds: int) -> dict[str, float]:
    """Ours in fp32, with and without streaming, ours in int8, both modes of `transformers serve`, and `generate`."""
    folder = shelf.model(name)
    rates: dict[str, list[float]] = {}

    def note(what: str, rate: float) -> None:
        rates.setdefault(what, []).append(rate)
        print(f"  {name} {what:<22}{rate:>8,.0f} tokens per CPU second", flush=True)

    with ExitStack() as stack:
        ours = stack.enter_context(engine(f"bench/{name}", folder))
        fewer = _quantised(stack, name)
        plain = stack.enter_context(transformers_serve(folder, name="serve"))
        batching = stack.enter_context(transformers_serve(folder, *_SIZED, name="serve, batching"))
        reference = stack.enter_context(Reference())
        for server in (ours, plain, batching, *([fewer] if fewer else ())):
            write(server, 8, seed=99)
        for turn in range(rounds):
            for concurrent in ASKED:
                note(f"ours {concurrent}", write(ours, concurrent, turn).rate)
                if concurrent == 1:
                    note("serve 1", write(plain, 1, turn).rate)
                else:
                    note(f"batching {concurrent}", write(batching, concurrent, turn).rate)
                    made = reference(
                        "generate", folder=str(folder), messages=asks.chats(concurrent, turn), tokens=TOKENS
                    )
                    note(f"generate {concurrent}", made["tokens"] / made["cpu"])
                if fewer is not None:
                    note(f"int8 {concurrent}", write(fewer, concurrent, turn).rate)
            note("streamed 8", write(ours, 8, turn, stream=True).rate)
        print(f"  {name} memory: ours {memory_mb(ours.pid):,.0f} MB, serve {memory_mb(plain.pid):,.0f} MB, ", end="")
        print(f"with batching {memory_mb(batching.pid):,.0f} MB")
        told = fewer.info.get("quantised") if fewer else None
        print(f"  {name} int8 tells of itself: {told}\n" if told else "", flush=True)
    print("".join(f"  {name} {what:<22}{median(values):>8,.0f}\n" for what, values in rates.items()), flush=True)
    return {
        "chat_1": ratio(rates["ours 1"], rates["serve 1"]),
        "chat_8": ratio(rates["ours 8"], rates["batching 8"]),
        "chat_32": ratio(rates["ours 32"], rates["batching 32"]),
        "chat_8_vs_generate": ratio(rates["ours 8"], rates["generate 8"]),
        "chat_32_vs_generate": ratio(rates["ours 32"], rates["generate 32"]),
        "streamed_8_vs_whole": ratio(rates["streamed 8"], rates["ours 8"]),
    } | ({"int8_8_vs_fp32": ratio(rates["int8 8"], rates["ours 8"])} if fewer else {})


def _quantised(stack: ExitStack, name: str) -> Server | None:
    """Our engine with the quantised option, if it took it."""
    found = stack.enter_context(engine(f"bench/{name}", shelf.model(name), quantise="int8"))
    return found if found.info.get("quantised") else None


def measure(rounds: int) -> dict[str, float]:
    """The lesser of both families' ratios."""
    found = {name: family(name, rounds) for name in ("llama", "mistral")}
    worst = {key: min(values[key] for values in found.values()) for key in found["llama"]}
    return worst | {f"{name}_{key}": value for name, values in found.items() for key, value in values.items()}
