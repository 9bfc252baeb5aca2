"""Whether what we compute is what transformers computes: logits, embeddings, greedy text. Raises when it is not."""

import asks
import shelf
from ground import Reference, engine, load

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
    answers: dict[str, dict[str, object]] = {}
    with engine(f"bench/{name}", folder) as ours:
        bodies = asks.bodies(ours.model, chats, TOKENS, logprobs=True)

        def keep(place: int) -> object:
            def count(answer: dict[str, object]) -> int:
                answers[str(place)] = answer
                return 1

            return count

        for place, body in enumerate(bodies[:4]):  # alone
            load(ours, "/v1/chat/completions", [body], 1, keep(place))
        together: list[dict[str, object]] = []
        load(ours, "/v1/chat/completions", bodies, 32, lambda answer: together.append(answer) or 1)
    told = reference("logprobs", folder=str(folder), messages=chats, tokens=TOKENS)["answers"]
    by_text = {answer["text"]: answer for answer in told}
    largest = 0.0
    for answer in (*answers.values(), *together):
        choice = answer["choices"][0]  # type: ignore[index]
        match = by_text.get(choice["message"]["content"])
        if match is None:
            raise SystemExit(f"{name}: a greedy text is not transformers': {choice['message']['content']!r}")
        values = [token["logprob"] for token in choice["logprobs"]["content"]]
        largest = max(largest, *(abs(a - b) for a, b in zip(values, match["logprobs"], strict=True)))
    return largest


def _embeddings(reference: Reference) -> float:
    folder, texts = shelf.model("minilm"), asks.texts(64, seed=8)
    with engine("bench/minilm", folder) as ours:
        answers: list[list[float]] = []
        body = {"model": ours.model, "input": texts, "truncate": True}
        load(ours, "/v1/embeddings", [body], 1, lambda a: answers.extend(d["embedding"] for d in a["data"]) or 1)
    told = reference("encode", folder=str(folder), texts=texts, batch_size=8)["vectors"]
    pairs = zip(answers, told, strict=True)
    return max(abs(a - b) for ours_, theirs in pairs for a, b in zip(ours_, theirs, strict=True))
