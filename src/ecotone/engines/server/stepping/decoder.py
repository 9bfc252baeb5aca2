"""LLaMA's decoder and its likes, written out over the weights of transformers' own module: tokens in, logits out.

Tokens of all answers stand in one row `[tokens, hidden]`, without padding; what they attend to is the caller's part.
RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), gated MLP (Shazeer 2020), grouped queries (Ainslie
et al. 2023), as transformers' `modeling_llama`, `modeling_mistral` and `modeling_qwen2` compute them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ecotone.engines.server.stepping.linear import Linear, Plain, join, linear
from ecotone.engines.server.stepping.lora import Added, Products

_SHAPES = ("llama", "mistral", "qwen2")
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # others depend on how long the text becomes
_PRODUCTS = {  # the products of a layer: where the modules are that each joins
    "qkv": ("self_attn", ("q_proj", "k_proj", "v_proj")),
    "o": ("self_attn", ("o_proj",)),
    "gate_up": ("mlp", ("gate_proj", "up_proj")),
    "down": ("mlp", ("down_proj",)),
}
_MOST_TWICE = 256 << 20  # bytes of embeddings that may be kept a second time, in the layout of the last product

# (layer, queries [tokens, heads, size], keys and values [tokens, 2, kv heads, size]) -> [tokens, heads * size]
Attend = Callable[[int, Any, Any], Any]


@dataclass(slots=True)
class Layer:
    first_norm: Any
    qkv: Linear
    o: Linear
    second_norm: Any
    gate_up: Linear
    down: Linear
    window: int | None


def fits(model: Any) -> bool:
    """Whether this decoder computes what the model's own forward does."""
    config = model.config
    if config.model_type not in _SHAPES or type(model).__name__.removesuffix("ForCausalLM").lower() not in _SHAPES:
        return False
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        rotation in _FIXED_ROTATIONS
        and config.hidden_act in ("silu", "swish")
        and getattr(config, "pretraining_tp", 1) == 1
        and model.get_input_embeddings().weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
    )


class Decoder:
    """Takes over the weights of a model that `fits`; its modules go on working."""

    def __init__(self, model: Any) -> None:
        config = model.config
        inner = model.model
        attention = inner.layers[0].self_attn
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.size: int = attention.head_dim
        self.scale: float = attention.scaling
        self.table = inner.embed_tokens.weight
        self.shapes, self.products = _modules(inner.layers)
        self.layers = [
            _layer(layer, window) for layer, window in zip(inner.layers, _windows(config, inner), strict=True)
        ]
        self.norm = inner.norm.weight
        self.epsilon: float = inner.norm.variance_epsilon
        self._epsilon = torch.tensor(self.epsilon, device=self.device)
        self._rotary = inner.rotary_emb
        self._cos = self._sin = torch.empty(0)
        self._head = head_of(model)

    @property
    def dtype(self) -> Any:
        return self.table.dtype

    @property
    def device(self) -> Any:
        return self.table.device

    def hidden(self, tokens: Any, positions: Any, most: int, attend: Attend, added: Added | None = None) -> Any:
        """The last hidden states, `[tokens, hidden]`; `most` is above every position."""
        x = functional.embedding(tokens, self.table)
        cos, sin = self.rotation(positions, most)
        count, turned, queries = len(tokens), self.heads + self.kv_heads, self.heads * self.size
        half, cut = self.size // 2, turned * self.size
        for place, layer in enumerate(self.layers):
            y = self._normed(x, layer.first_norm)
            qkv = layer.qkv(y)
            if added is not None:
                added.add(place, "qkv", y, qkv)
            turning = qkv[:, :cut].view(count, turned, self.size)
            swapped = turning.roll(half, -1)
            turning.mul_(cos).addcmul_(swapped, sin)
            y = attend(
                place,
                qkv[:, :queries].view(count, self.heads, self.size),
                qkv[:, queries:].view(count, 2, self.kv_heads, self.size),
            )
            out = layer.o(y)
            if added is not None:
                added.add(place, "o", y, out)
            x = out.add_(x)
            y = self._normed(x, layer.second_norm)
            both = layer.gate_up(y)
            if added is not None:
                added.add(place, "gate_up", y, both)
            gate, up = both.chunk(2, -1)
            y = functional.silu(gate).mul_(up)
            out = layer.down(y)
            if added is not None:
                added.add(place, "down", y, out)
            x = out.add_(x)
        return self._normed(x, self.norm)

    def logits(self, hidden: Any) -> Any:
        """float32 `[rows, vocabulary]`."""
        return self._head(hidden).float()

    def _normed(self, x: Any, weight: Any) -> Any:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        factor = torch.addcmul(self._epsilon, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * factor).to(x.dtype).mul_(weight)

    def rotation(self, positions: Any, most: int) -> tuple[Any, Any]:
        """Cosines, and sines with the sign of the half they meet, each `[tokens, 1, size]`."""
        if len(self._cos) < most:
            until = max(256, 1 << (most - 1).bit_length())
            cos, sin = self._rotary(self.table[:1], torch.arange(until, device=self.device)[None])
            sin = torch.cat((-sin[..., : self.size // 2], sin[..., self.size // 2 :]), dim=-1)
            self._cos, self._sin = cos[0][:, None], sin[0][:, None]
        return self._cos[positions], self._sin[positions]


def _modules(layers: Any) -> tuple[dict[str, tuple[int, int]], Products]:
    """The shape `(out, in)` of each module that an adapter can change, and where it stands in the joined products."""
    shapes: dict[str, tuple[int, int]] = {}
    joined: dict[str, tuple[tuple[str, int, int], ...]] = {}
    for product, (owner, names) in _PRODUCTS.items():
        parts, start = [], 0
        for name in names:
            module = getattr(getattr(layers[0], owner), name)
            shapes[name] = (module.out_features, module.in_features)
            parts.append((name, start, start + module.out_features))
            start += module.out_features
        joined[product] = tuple(parts)
    return shapes, Products(joined, len(layers))


def _layer(layer: Any, window: int | None) -> Layer:
    return Layer(
        first_norm=layer.input_layernorm.weight,
        second_norm=layer.post_attention_layernorm.weight,
        window=window,
        **{product: join(getattr(layer, owner), names) for product, (owner, names) in _PRODUCTS.items()},
    )


def _windows(config: Any, inner: Any) -> list[int | None]:
    """How far back each layer looks, itself included; None for all the way."""
    window = getattr(config, "sliding_window", None) if config.model_type != "llama" else None
    if config.model_type == "qwen2":
        return [window if kind == "sliding_attention" else None for kind in config.layer_types]
    return [window] * len(inner.layers)


def head_of(model: Any) -> Linear:
    """The product that makes logits."""
    head, table = model.lm_head, model.get_input_embeddings().weight
    if type(head) is not nn.Linear:
        found: Linear = head
        return found
    if head.weight.data_ptr() != table.data_ptr():
        return join(model, ("lm_head",))
    if table.nbytes <= _MOST_TWICE:
        return linear(table.data, head.bias)
    return Plain(table.data, head.bias)
