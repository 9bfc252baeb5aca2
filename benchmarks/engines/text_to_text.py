"""T5: tokens per CPU second over HTTP against one batch of `generate`."""

import asks
import shelf
from ground import Reference, engine, load, median, ratio

TOKENS = 32


def measure(rounds: int) -> dict[str, float]:
    """At 8 and 32 at a time; `t5_vs_generate` is the lesser."""
    folder = shelf.model("t5")
    rates: dict[str, list[float]] = {}
    with engine("bench/t5", folder) as ours, Reference() as reference:
        for turn in range(-1, rounds):
            for concurrent in (8, 32):
                texts = asks.pieces(concurrent, 4, 16, seed=turn)
                bodies = [
                    {"model": ours.model, "prompt": text, "max_tokens": TOKENS, "temperature": 0} for text in texts
                ]
                done = load(
                    ours, "/v1/completions", bodies, concurrent, lambda answer: answer["usage"]["completion_tokens"]
                )
                made = reference("generate", folder=str(folder), messages=texts, tokens=TOKENS, is_causal=False)
                if turn >= 0:
                    rates.setdefault(f"ours {concurrent}", []).append(done.rate)
                    rates.setdefault(f"generate {concurrent}", []).append(made["tokens"] / made["cpu"])
    for what, values in rates.items():
        print(f"  t5 {what:<14}{median(values):>8,.0f} tokens per CPU second", flush=True)
    found = {n: ratio(rates[f"ours {n}"], rates[f"generate {n}"]) for n in (8, 32)}
    return {"t5_vs_generate": min(found.values()), "t5_8_vs_generate": found[8], "t5_32_vs_generate": found[32]}
