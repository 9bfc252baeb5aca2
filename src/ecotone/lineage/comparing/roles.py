"""What part of a network a tensor is, by the names that model families give it."""

import re
from enum import StrEnum
from typing import Final

LAYER: Final = re.compile(r"^(|.*?\.)(layers|layer|blocks|block|h)\.(\d+)\.(.+)$")
EXPERT: Final = re.compile(r"^(.*?)(?:mlp|block_sparse_moe|feed_forward)\.experts\.(\d+)\.(.+)$")
# Mixtral's words for a gated MLP
_EXPERT_WORDS: Final = {"w1.weight": "gate_proj.weight", "w3.weight": "up_proj.weight", "w2.weight": "down_proj.weight"}


class Role(StrEnum):
    """Part of a network; the residual dimension is the last axis of all but `out`, `down` (first) and norms (only)."""

    EMBEDDING = "embedding"
    HEAD = "head"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUT = "out"
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    NORM = "norm"
    ATTENTION_NORM = "attention_norm"
    MLP_NORM = "mlp_norm"
    FINAL_NORM = "final_norm"
    OTHER = "other"


_ENDINGS: Final = (
    (Role.EMBEDDING, r"(?:embed_tokens|word_embeddings|tok_embeddings|wte|embed_in|\bshared)\.weight"),
    (Role.HEAD, r"(?:lm_head|embed_out)\.weight|^output\.weight"),
    (Role.QUERY, r"(?:\bq_proj|\bq_lin|\bquery|Attention\.q|\bwq)\.weight"),
    (Role.KEY, r"(?:\bk_proj|\bk_lin|\bkey|Attention\.k|\bwk)\.weight"),
    (Role.VALUE, r"(?:\bv_proj|\bv_lin|\bvalue|Attention\.v|\bwv)\.weight"),
    (
        Role.OUT,
        r"(?:\bo_proj|\bout_proj|\bout_lin|attention\.output\.dense|Attention\.o|\bwo|self_attn\.dense)\.weight",
    ),
    (Role.GATE, r"(?:gate_proj|\bwi_0|feed_forward\.w1)\.weight"),
    (Role.UP, r"(?:up_proj|intermediate\.dense|\bfc1|\blin1|ReluDense\.wi|\bwi_1|feed_forward\.w3)\.weight"),
    (Role.DOWN, r"(?:down_proj|(?<!attention\.)output\.dense|\bfc2|\blin2|ReluDense\.wo|feed_forward\.w2)\.weight"),
    (Role.ATTENTION_NORM, r"(?:input_layernorm|attention_norm)\.weight"),
    (Role.MLP_NORM, r"(?:post_attention_layernorm|ffn_norm)\.weight"),
    (Role.FINAL_NORM, r"^(?:.*\.)?(?<!layer)(?:model\.norm|final_norm|norm_f|ln_f|final_layernorm)\.weight"),
    (Role.NORM, r"(?:norm|LayerNorm|layer_norm|ln_\d)\.weight"),
)
_PATTERNS: Final = tuple((role, re.compile(f"(?:{pattern})$")) for role, pattern in _ENDINGS)
# Buffers and tables that follow from sizes alone: equal in models that have nothing to do with each other.
_COMPUTED: Final = re.compile(
    r"inv_freq|rotary|rope_freqs|position_ids|masked_bias|attn(?:ention)?\.bias$|relative_position_index|sinusoid"
    r"|num_batches_tracked|causal_mask|token_type_ids|mel_filters",
    re.I,
)


def role_of(name: str) -> Role:
    """The part that a tensor of this name is."""
    return next((role for role, pattern in _PATTERNS if pattern.search(name)), Role.OTHER)


def is_computed(name: str) -> bool:
    """Whether a tensor of this name follows from the network's sizes and says nothing about descent."""
    return _COMPUTED.search(name) is not None


def layer_of(name: str) -> tuple[str, int, str] | None:
    """The stack, number and rest of a layer's tensor; None for what lies outside layers."""
    found = LAYER.match(name)
    return (found[1] + found[2], int(found[3][:9]), found[4]) if found else None


def dense_of(name: str) -> str | None:
    """The name that an expert's tensor has in a model without experts; None for other tensors."""
    found = EXPERT.match(name)
    return f"{found[1]}mlp.{_EXPERT_WORDS.get(found[3], found[3])}" if found else None
