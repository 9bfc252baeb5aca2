"""Token vectors to one vector for each text, as the model's own sentence-transformers files say.

`modules.json` lists the steps after the transformer, `1_Pooling/config.json` the kind of pooling. Without them: the
mean over the tokens, and `description` says that it was chosen here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import json_file

_ORDER = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken")


@dataclass(frozen=True)
class Pooling:
    """`kinds` are joined end to end in the order that sentence-transformers uses."""

    kinds: tuple[str, ...]
    normalise: bool
    description: str
    max_tokens: int | None = None
    lower_case: bool = False
    prompt: str = ""
    prompts: dict[str, str] = field(default_factory=dict)

    def __call__(self, vectors: Any, mask: Any, *, normalised: bool = True) -> Any:
        """Pool `[batch, tokens, width]` with its attention mask `[batch, tokens]` into `[batch, width * kinds]`."""
        weights = mask.unsqueeze(-1).to(vectors.dtype)
        pooled = torch.cat([_pool(kind, vectors, weights, mask) for kind in self.kinds], dim=-1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalise and normalised else pooled

    def packed(self, vectors: Any, lengths: Sequence[int], *, normalised: bool = True) -> Any:
        """Pool `[tokens, width]`, texts of these lengths one after the other, into `[texts, width * kinds]`."""
        counts = torch.tensor(lengths, device=vectors.device)
        pooled = torch.cat([_pool_packed(kind, vectors, counts) for kind in self.kinds], dim=-1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalise and normalised else pooled


def read(folder: Path) -> Pooling:
    """The pooling of a model's folder.

    Raises:
        Unloadable: it has a step that is not built in, because leaving it out would give other vectors.
    """
    modules = _modules(folder)
    transformer = json_file(folder / "sentence_bert_config.json")
    limit = transformer.get("max_seq_length")
    more: dict[str, Any] = {
        "max_tokens": limit if isinstance(limit, int) and limit > 0 else None,
        "lower_case": bool(transformer.get("do_lower_case")),
        "prompt": _prompt(folder),
        "prompts": _prompts(folder),
    }
    if modules is None:
        return Pooling(("mean",), False, "mean over the tokens (the model names no pooling)", **more)
    kinds: tuple[str, ...] = ()
    normalise = False
    for place, (name, path) in enumerate(modules):
        if name == "Transformer" and place == 0:
            continue
        if name == "Pooling":
            kinds = _kinds(json_file(folder / path / "config.json"))
        elif name == "Normalize":
            normalise = True
        else:
            raise Unloadable(f"modules.json has a step {name!r}, which this engine does not compute.")
    if not kinds:
        raise Unloadable("modules.json names no pooling, so that a text has no vector of its own.")
    return Pooling(kinds, normalise, f"{' + '.join(kinds)}{', normalised' if normalise else ''} (modules.json)", **more)


def _modules(folder: Path) -> list[tuple[str, str]] | None:
    path = folder / "modules.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        steps = [(str(step["type"]).rpartition(".")[2], str(step["path"])) for step in found]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Unloadable("modules.json is not a list of steps with type and path.") from None
    if any(".." in place or place.startswith("/") for _, place in steps):
        raise Unloadable("modules.json names a path outside the model's folder.")
    return steps


def _kinds(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if isinstance(named, str):
        named = [named]
    chosen = {k for k in _ORDER if config.get(f"pooling_mode_{k}_token") or config.get(f"pooling_mode_{k}_tokens")}
    if config.get("pooling_mode_lasttoken"):
        chosen.add("lasttoken")
    chosen |= set(named or ())
    if unknown := chosen - set(_ORDER):
        raise Unloadable(f"pooling {sorted(unknown)[0]!r} is not computed by this engine.")
    return tuple(kind for kind in _ORDER if kind in chosen)


def _prompt(folder: Path) -> str:
    name = json_file(folder / "config_sentence_transformers.json").get("default_prompt_name")
    return _prompts(folder).get(str(name), "") if name else ""


def _prompts(folder: Path) -> dict[str, str]:
    found = json_file(folder / "config_sentence_transformers.json").get("prompts")
    return {str(name): str(text or "") for name, text in found.items()} if isinstance(found, dict) else {}


def _pool(kind: str, vectors: Any, weights: Any, mask: Any) -> Any:
    if kind == "cls":
        return vectors[:, 0]
    if kind == "max":
        return vectors.masked_fill(weights == 0, torch.finfo(vectors.dtype).min).max(dim=1).values
    if kind == "lasttoken":
        return vectors[torch.arange(len(vectors)), mask.sum(dim=1) - 1]
    if kind == "weightedmean":
        weights = weights * torch.arange(1, vectors.shape[1] + 1, dtype=vectors.dtype).view(1, -1, 1).to(vectors.device)
    total = (vectors * weights).sum(dim=1)
    count = weights.sum(dim=1).clamp(min=1e-9)
    return total / (count.sqrt() if kind == "mean_sqrt_len" else count)


def _pool_packed(kind: str, vectors: Any, counts: Any) -> Any:
    ends = counts.cumsum(0)
    if kind == "cls":
        return vectors[ends - counts]
    if kind == "lasttoken":
        return vectors[ends - 1]
    if kind == "max":
        return torch.stack([part.amax(dim=0) for part in vectors.split(counts.tolist())])
    texts = torch.arange(len(counts), device=vectors.device).repeat_interleave(counts)
    empty = vectors.new_zeros(len(counts), vectors.shape[1])
    weights = torch.ones_like(texts)
    if kind == "weightedmean":
        weights = torch.arange(1, len(vectors) + 1, device=vectors.device) - (ends - counts)[texts]
        vectors = vectors * weights.unsqueeze(1)
    total = empty.index_add_(0, texts, vectors)
    count = torch.zeros_like(counts).index_add_(0, texts, weights).unsqueeze(1).to(vectors.dtype)
    return total / (count.sqrt() if kind == "mean_sqrt_len" else count)
