"""Small sets of weights with LLaMA's names, and what is commonly made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

Weights = Mapping[str, npt.NDArray[Any]]
WIDTH, LAYERS, INNER, WORDS = 64, 2, 96, 128


def fresh(seed: int, layers: int = LAYERS) -> dict[str, npt.NDArray[np.float32]]:
    """Weights that have nothing to do with those of another seed."""
    drawn = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
        return (drawn.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    made = {"model.embed_tokens.weight": matrix(WORDS, WIDTH), "lm_head.weight": matrix(WORDS, WIDTH)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        made |= {f"{at}self_attn.{part}_proj.weight": matrix(WIDTH, WIDTH) for part in "qkvo"}
        made |= {f"{at}mlp.{part}_proj.weight": matrix(INNER, WIDTH) for part in ("gate", "up")}
        made[f"{at}mlp.down_proj.weight"] = matrix(WIDTH, INNER)
    return made


def tuned(weights: Weights, seed: int, much: float = 0.05) -> dict[str, npt.NDArray[np.float32]]:
    """A fine-tune: every value moved a little."""
    other = fresh(seed, 1 + max(int(name.split(".")[2]) for name in weights if "layers" in name))
    return {name: (value + much * other[name]).astype(np.float32) for name, value in weights.items()}


def grafted(onto: Weights, from_: Weights) -> dict[str, npt.NDArray[np.float32]]:
    """The second's queries and keys in the first."""
    return {name: from_[name] if "q_proj" in name or "k_proj" in name else value for name, value in onto.items()}


def packed(weights: Weights) -> bytes:
    """A safetensors file."""
    return bytes(save({name: np.ascontiguousarray(value) for name, value in weights.items()}))


def card(licence: str, **fields: Any) -> bytes:
    lines = [f"license: {licence}", *(f"{name}: {value}" for name, value in fields.items())]
    return ("---\n" + "\n".join(lines) + "\n---\n# M\n").encode()
