"""What is asked: prompts and texts of mixed lengths, cut from our own sources, the same in every run."""

import random
from typing import Any

import shelf


def pieces(count: int, fewest: int, most: int, seed: int) -> list[str]:
    """Texts of `fewest` to `most` words."""
    words = shelf.text().split()
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        start = rng.randrange(len(words) - most)
        found.append(" ".join(words[start : start + rng.randint(fewest, most)]))
    return found


def chats(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """One message each, 4 to 16 words of source: about 10 to 80 tokens."""
    return [[{"role": "user", "content": text}] for text in pieces(count, 4, 16, seed)]


def bodies(model: str, messages: list[Any], tokens: int, **more: Any) -> list[dict[str, Any]]:
    return [{"model": model, "messages": m, "max_tokens": tokens, "temperature": 0} | more for m in messages]


def texts(count: int, seed: int = 1) -> list[str]:
    """Texts of about 6 to 256 tokens, most of them short: lengths are even on a logarithmic scale."""
    words = shelf.text().split()
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        start = rng.randrange(len(words) - 128)
        found.append(" ".join(words[start : start + round(2 ** rng.uniform(1, 6.3))]))
    return found
