"""MiniLM: embeddings per CPU second over HTTP against sentence-transformers, and the delay of one text alone."""

from typing import Any

import asks
import shelf
from ground import Reference, engine, load, median, ratio

TEXTS = {8: 96, 32: 192}
BATCHES = (4, 8, 16, 32, 64)
_WARM = 40
_MS = 1000.0


def measure(rounds: int) -> dict[str, float]:
    """At 32 and 8 concurrent requests of one text each, and one at a time."""
    folder, rates = shelf.model("minilm"), dict[str, list[float]]()
    delays: dict[str, list[float]] = {"ours": [], "bare": []}
    with engine("bench/minilm", folder) as ours, Reference() as reference:
        for turn in range(-1, rounds):
            for concurrent, count in TEXTS.items():
                texts = asks.texts(count, seed=turn)
                bodies = [
                    {"model": ours.model, "input": t, "encoding_format": "base64", "truncate": True} for t in texts
                ]
                done = load(ours, "/v1/embeddings", bodies, concurrent, lambda answer: len(answer["data"]))
                by_size = [reference("encode", folder=str(folder), texts=texts, batch_size=n)["cpu"] for n in BATCHES]
                if turn >= 0:
                    rates.setdefault(f"ours {concurrent}", []).append(done.rate)
                    rates.setdefault(f"encode {concurrent}", []).append(count / min(by_size))
                    rates.setdefault(f"encode {concurrent}, batches of 32", []).append(count / by_size[3])
            texts = asks.texts(_WARM, seed=100 + turn)
            bodies = [_body(ours.model, text) for text in texts]
            alone = load(ours, "/v1/embeddings", bodies, 1, lambda answer: len(answer["data"]))
            told = reference("bare", folder=str(folder), texts=texts)
            if turn >= 0:
                delays["ours"].append(alone.p50 * _MS)
                delays["bare"].append(median(told["delays"]) * _MS)
    for what, values in rates.items():
        print(f"  minilm {what:<26}{median(values):>8,.1f} texts per CPU second", flush=True)
    ours_p50, bare_p50 = median(delays["ours"]), median(delays["bare"])
    print(f"  minilm alone, p50: ours {ours_p50:.2f} ms, bare forward {bare_p50:.2f} ms", flush=True)
    return {
        "embed_vs_st": ratio(rates["ours 32"], rates["encode 32"]),
        "embed_8_vs_st": ratio(rates["ours 8"], rates["encode 8"]),
        "embed_1_p50_vs_bar": median(
            [a / (1.3 * b + 2.0) for a, b in zip(delays["ours"], delays["bare"], strict=True)]
        ),
        "embed_1_p50_vs_bare": ratio(delays["ours"], delays["bare"]),
    }


def _body(model: str, text: str) -> dict[str, Any]:
    """Long texts are cut, as sentence-transformers cuts them."""
    return {"model": model, "input": text, "truncate": True}
