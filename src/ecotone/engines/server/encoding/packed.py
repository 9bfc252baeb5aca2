"""The forward of BERT, RoBERTa and DistilBERT without padding: all tokens of a batch in one row of vectors.

Linear layers, norms and activations see `[tokens, width]`; attention runs over texts of equal length at once. The
numbers are those of transformers' own modules, whose weights are taken over: where they are kept in another layout, the
modules' own copies are given up, and the modules can compute no more.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ecotone.engines.server.encoding.texts import Text
from ecotone.engines.server.stepping.linear import Linear, linear

_FROM_PAD = ("roberta", "xlm-roberta", "camembert", "xmod", "data2vec-text")  # positions counted from the padding's id
_LIKE_BERT = ("bert", *_FROM_PAD[:3])
_ACTIVATIONS = {"gelu": "gelu", "relu": "relu"}


@dataclass(frozen=True)
class Packing:
    """Where the texts of a batch lie in its row: `starts[i]` is the place of the first token of text i."""

    lengths: list[int]
    starts: Any
    runs: list[tuple[int, int, int]]  # (first token, texts, tokens of each)

    @classmethod
    def of(cls, lengths: list[int], device: str) -> "Packing":
        ends = list(itertools.accumulate(lengths))
        starts = torch.tensor([0, *ends[:-1]], device=device)
        runs, at = [], 0
        for length, group in itertools.groupby(lengths):
            count = sum(1 for _ in group)
            runs.append((at, count, length))
            at += count * length
        return cls(lengths, starts, runs)


class Packed:
    """The encoder of a loaded model, for texts sorted by length."""

    def __init__(self, backbone: Any) -> None:
        config = backbone.config
        bert = config.model_type != "distilbert"
        part = backbone.embeddings
        self._words = part.word_embeddings.weight
        self._places = part.position_embeddings.weight
        self._first = (config.pad_token_id or 0) + 1 if config.model_type in _FROM_PAD else 0
        self._types = part.token_type_embeddings.weight if bert else None
        self._norm = part.LayerNorm
        layers = backbone.encoder.layer if bert else backbone.transformer.layer
        heads = config.num_attention_heads if bert else config.n_heads
        activation = config.hidden_act if bert else config.activation
        self._layers = [(_like_bert if bert else _like_distilbert)(layer, heads, activation) for layer in layers]
        self._device = str(self._words.device)

    @staticmethod
    def fits(backbone: Any) -> bool:
        """Whether the model has the shape that is computed here."""
        config = backbone.config
        if config.model_type == "distilbert":
            return config.activation in _ACTIVATIONS
        return (
            config.model_type in _LIKE_BERT
            and config.hidden_act in _ACTIVATIONS
            and getattr(config, "position_embedding_type", None) in (None, "absolute")
            and not config.is_decoder
            and not getattr(config, "add_cross_attention", False)
        )

    def __call__(self, texts: Sequence[Text]) -> tuple[Any, Packing]:
        """The last hidden states `[tokens, width]` of texts that are sorted by length."""
        packing = Packing.of([len(text) for text in texts], self._device)
        hidden = self._embedded(texts)
        for layer in self._layers:
            hidden = layer(hidden, packing.runs)
        return hidden, packing

    def _embedded(self, texts: Sequence[Text]) -> Any:
        ids = torch.tensor(list(itertools.chain.from_iterable(t.ids for t in texts)), device=self._device)
        places = list(itertools.chain.from_iterable(range(self._first, self._first + len(t)) for t in texts))
        hidden = functional.embedding(ids, self._words)
        if self._types is not None:
            if any(text.types is not None for text in texts):
                kinds = itertools.chain.from_iterable(t.types or itertools.repeat(0, len(t)) for t in texts)
                hidden += functional.embedding(torch.tensor(list(kinds), device=self._device), self._types)
            else:
                hidden += self._types[0]
        hidden += functional.embedding(torch.tensor(places, device=self._device), self._places)
        return self._norm(hidden)


@dataclass(frozen=True)
class _Layer:
    heads: int
    joined: Linear  # query, key and value at once
    out: Linear
    norm: Any
    grow: Linear
    shrink: Linear
    last_norm: Any

    def __call__(self, hidden: Any, runs: list[tuple[int, int, int]]) -> Any:
        attended = self.out(self._attended(self.joined(hidden), runs))
        hidden = self.norm(attended.add_(hidden))
        return self.last_norm(self.shrink(self.grow(hidden)).add_(hidden))

    def _attended(self, joined: Any, runs: list[tuple[int, int, int]]) -> Any:
        width = joined.shape[1] // 3
        parts = []
        for first, count, length in runs:
            rows = joined[first : first + count * length].view(count, length, 3, self.heads, -1)
            query, key, value = rows.permute(2, 0, 3, 1, 4).unbind(0)
            found = functional.scaled_dot_product_attention(query, key, value)
            parts.append(found.transpose(1, 2).reshape(count * length, width))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _like_bert(layer: Any, heads: int, activation: str) -> _Layer:
    attention = layer.attention
    return _Layer(
        heads=heads,
        joined=_joined(attention.self.query, attention.self.key, attention.self.value),
        out=_taken(attention.output.dense),
        norm=attention.output.LayerNorm,
        grow=_taken(layer.intermediate.dense, _ACTIVATIONS[activation]),
        shrink=_taken(layer.output.dense),
        last_norm=layer.output.LayerNorm,
    )


def _like_distilbert(layer: Any, heads: int, activation: str) -> _Layer:
    attention = layer.attention
    return _Layer(
        heads=heads,
        joined=_joined(attention.q_lin, attention.k_lin, attention.v_lin),
        out=_taken(attention.out_lin),
        norm=layer.sa_layer_norm,
        grow=_taken(layer.ffn.lin1, _ACTIVATIONS[activation]),
        shrink=_taken(layer.ffn.lin2),
        last_norm=layer.output_layer_norm,
    )


def _joined(*modules: Any) -> Linear:
    weight = torch.cat([module.weight.detach() for module in modules])
    bias = torch.cat([module.bias for module in modules])
    for module in modules:
        _give_up(module)
    return linear(weight, bias)


def _taken(module: Any, activation: str = "none") -> Linear:
    found = linear(module.weight.detach(), module.bias, activation)
    _give_up(module)
    return found


def _give_up(module: Any) -> None:
    """Drop the module's own reference to its weights: only the function that was made of them holds any now."""
    module.weight = None
