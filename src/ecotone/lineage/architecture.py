"""The architecture signature of a model: what must agree before two sets of weights are worth comparing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ecotone.lineage.tensors import Weights

# What model families call the same thing in config.json.
_NAMES: Final = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "width": ("hidden_size", "d_model", "n_embd", "dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "vocabulary": ("vocab_size",),
}


class Architecture(msgspec.Struct, frozen=True):
    """Type and sizes of a model; a size that its configuration does not tell is None."""

    model_type: str
    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    vocabulary: int | None = None

    @property
    def signature(self) -> str:
        """One word that is equal for equal architectures, such as `llama-32x4096-32h-32000v`."""
        shown = ["?" if n is None else str(n) for n in (self.layers, self.width, self.heads, self.vocabulary)]
        return f"{self.model_type}-{shown[0]}x{shown[1]}-{shown[2]}h-{shown[3]}v"


def architecture(config: Mapping[str, Any]) -> Architecture | None:
    """The architecture that a `config.json` describes; `None` when it names no model type."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not 0 < len(model_type) <= 100:
        return None
    inner = config.get("text_config")
    places = [config, inner] if isinstance(inner, Mapping) else [config]
    sizes = {field: _first(places, names) for field, names in _NAMES.items()}
    return Architecture(model_type, **sizes)


def architecture_of_gguf(weights: Weights) -> Architecture | None:
    """The architecture that a GGUF header describes, under GGUF's word for it (a Mistral is a `llama` there)."""
    kind = weights.metadata.get("general.architecture")
    if not isinstance(kind, str) or not 0 < len(kind) <= 100:
        return None
    vocabulary = next((t.shape[0] for t in weights.tensors if t.name == "token_embd.weight" and t.shape), None)
    named = {"layers": "block_count", "width": "embedding_length", "heads": "attention.head_count"}
    sizes = {field: _first([weights.metadata], (f"{kind}.{name}",)) for field, name in named.items()}
    return Architecture(kind, **sizes, vocabulary=vocabulary)


def _first(places: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> int | None:
    for place in places:
        for name in names:
            value = place.get(name)
            if type(value) is int and 0 < value < 1 << 40:
                return value
    return None
