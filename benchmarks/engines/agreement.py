"""Whether what we compute is what transformers computes: logits, embeddings, greedy text. Raises when it is not."""

import asks
import shelf
from ground import Reference, answers, engine

TOKENS = 24
BAR = 1e-4


def measure() -> dict[str, float]:
    """Largest differences; greedy texts compared 32 at a time in one batch."""
    found: dict[str, float] = {}
    with Reference() as reference:
        for name in ("llama", "mistral"):
            found[f"{name}_logprob_difference"] = _causal(name, reference)
        found["embedding_difference"] = _embeddings(reference)
    print("".join(f"  {name:<28}{value:.2e}\n" for name, value in found.items()), flush=True)
    wrong = {name: value for name, value in found.items() if value > BAR}
    if wrong:
        raise SystemExit(f"differs from transformers by more than {BAR}: {wrong}")
    return found


def _causal(name: str, reference: Reference) -> float:
    folder, chats = shelf.model(name), asks.chats(32, seed=7)
    with engine(f"bench/{name}", folder) as ours:
        bodies = asks.bodies(ours.model, chats, TOKENS, logprobs=True)
        alone = answers(ours, "/v1/chat/completions", bodies[:4], 1)
        together = answers(ours, "/v1/chat/completions", bodies, 32)
    told = reference("logprobs", folder=str(folder), messages=chats, tokens=TOKENS)["answers"]
    largest = 0.0
    for (answer, _), theirs in (*zip(alone, told, strict=False), *zip(together, told, strict=True)):
        choice = answer["choices"][0]
        if choice["message"]["content"] != theirs["text"]:
            raise SystemExit(f"{name}: a greedy text is {choice['message']['content']!r}, not {theirs['text']!r}")
        values = [token["logprob"] for token in choice["logprobs"]["content"]]
        largest = max(largest, *(abs(a - b) for a, b in zip(values, theirs["logprobs"], strict=True)))
    return largest


def _embeddings(reference: Reference) -> float:
    folder, texts = shelf.model("minilm"), asks.texts(64, seed=8)
    with engine("bench/minilm", folder) as ours:
        body = {"model": ours.model, "input": texts, "truncate": True}
        ((answer, _),) = answers(ours, "/v1/embeddings", [body], 1)
    told = reference("encode", folder=str(folder), texts=texts, batch_size=8)["vectors"]
    pairs = zip((row["embedding"] for row in answer["data"]), told, strict=True)
    return max(abs(a - b) for vector, theirs in pairs for a, b in zip(vector, theirs, strict=True))
