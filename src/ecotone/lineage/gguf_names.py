"""What GGUF's tensors are called in Hugging Face's models, which of their rows llama.cpp's converter reordered, and the
experts that it stacked. Sources: the names in llama.cpp's gguf-py/gguf/tensor_mapping.py, the order in its converter
(`permute` of q and k, undone here).

A tensor without an entry keeps GGUF's name.
"""

import re
from typing import Any, Final

import msgspec

from ecotone.lineage.tensors import TensorInfo, Weights

# Architectures whose q and k rows the converter reorders.
REORDERED: Final = frozenset(
    ("llama", "mistral3", "deci", "granite", "granitemoe", "smollm3", "arcee", "olmo", "deepseek", "minicpm",
     "xverse", "baichuan", "nanbeige"),
)  # fmt: skip
_ENCODERS: Final = frozenset(("bert", "nomic-bert", "jina-bert-v2"))
_MIXTRAL: Final = frozenset(("llama", "phimoe", "granitemoe"))
# Norms stand before and after each part; elsewhere `ffn_norm` is the one behind attention.
_FOUR_NORMS: Final = frozenset(("gemma2", "gemma3", "gemma3n"))
_MOST_EXPERTS: Final = 4_096
_MOST_PARTS: Final = 100_000

_TOP: Final = {
    "token_embd": "model.embed_tokens",
    "output": "lm_head",
    "output_norm": "model.norm",
}
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
}
_SHARED_EXPERT: Final = {"ffn_gate_shexp": "gate_proj", "ffn_up_shexp": "up_proj", "ffn_down_shexp": "down_proj"}
_EXPERTS: Final = {
    "ffn_gate": ("mlp.experts", "gate_proj", "block_sparse_moe.experts", "w1"),
    "ffn_up": ("mlp.experts", "up_proj", "block_sparse_moe.experts", "w3"),
    "ffn_down": ("mlp.experts", "down_proj", "block_sparse_moe.experts", "w2"),
}
_ENCODER_TOP: Final = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
_ENCODER_LAYER: Final = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_BLOCK: Final = re.compile(r"blk\.(\d{1,9})\.([a-z0-9_]+)\.(?:(\d{1,9})\.)?(weight|bias)")


class Part(msgspec.Struct, frozen=True):
    """A tensor, or one expert of a stacked one, under Hugging Face's name.

    Args:
        heads: heads of which each had its rows reordered; 0 where they lie as in Hugging Face's file.
    """

    name: str
    tensor: TensorInfo
    heads: int = 0


def parts(weights: Weights) -> list[Part]:
    """The tensors of a GGUF file, in the order of their data."""
    kind = str(weights.metadata.get("general.architecture", ""))
    found: list[Part] = []
    for tensor in weights.tensors:
        experts = _experts(tensor, kind)
        if experts and len(experts) + len(found) <= _MOST_PARTS:
            found += experts
        else:
            found.append(Part(_name(tensor.name, kind), tensor, _heads(tensor, kind, weights)))
    return found


def _name(name: str, kind: str) -> str:
    top, layer = (_ENCODER_TOP, _ENCODER_LAYER) if kind in _ENCODERS else (_TOP, _LAYER)
    if (match := _BLOCK.fullmatch(name)) is None:
        stem, _, end = name.rpartition(".")
        return f"{top[stem]}.{end}" if stem in top and end in ("weight", "bias") else name
    number, stem, expert, end = match.groups()
    if expert is not None:
        return _expert_name(number, stem, int(expert), kind) if stem in _EXPERTS else name
    if kind in _ENCODERS:
        return f"encoder.layer.{number}.{layer[stem]}.{end}" if stem in layer else name
    if stem in _SHARED_EXPERT:
        group = "shared_expert" if kind.startswith("qwen") else "shared_experts"
        return f"model.layers.{number}.mlp.{group}.{_SHARED_EXPERT[stem]}.{end}"
    if stem == "ffn_norm" and kind in _FOUR_NORMS:
        return f"model.layers.{number}.pre_feedforward_layernorm.{end}"
    if stem == "ffn_up" and kind == "phi3":
        return f"model.layers.{number}.mlp.gate_up_proj.{end}"
    if stem == "ffn_gate_inp" and kind in _MIXTRAL:
        return f"model.layers.{number}.block_sparse_moe.gate.{end}"
    return f"model.layers.{number}.{layer[stem]}.{end}" if stem in layer else name


def _expert_name(number: str, stem: str, expert: int, kind: str) -> str:
    group, last, mixtral_group, mixtral_last = _EXPERTS[stem]
    if kind in _MIXTRAL:
        group, last = mixtral_group, mixtral_last
    return f"model.layers.{number}.{group}.{expert}.{last}.weight"


def _experts(tensor: TensorInfo, kind: str) -> list[Part]:
    """The experts of a stacked tensor, which lie one behind the other; none for another tensor."""
    match = _BLOCK.fullmatch(tensor.name)
    if match is None or not match[2].endswith("_exps") or len(tensor.shape) != 3:
        return []
    number, stem, count = match[1], match[2].removesuffix("_exps"), tensor.shape[0]
    size = tensor.end - tensor.begin
    if stem not in _EXPERTS or not 0 < count <= _MOST_EXPERTS or not size or size % count:
        return []
    step = size // count
    return [
        Part(
            _expert_name(number, stem, i, kind),
            TensorInfo(
                f"{tensor.name}[{i}]",
                tensor.dtype,
                tensor.shape[1:],
                tensor.begin + i * step,
                tensor.begin + (i + 1) * step,
            ),
        )
        for i in range(count)
    ]


def _heads(tensor: TensorInfo, kind: str, weights: Weights) -> int:
    """The heads of a tensor whose rows were reordered."""
    match = _BLOCK.fullmatch(tensor.name)
    if kind not in REORDERED or match is None or match[2] not in ("attn_q", "attn_k") or not tensor.shape:
        return 0
    heads = _count(weights, f"{kind}.attention.head_count", int(match[1]))
    if match[2] == "attn_k":
        heads = _count(weights, f"{kind}.attention.head_count_kv", int(match[1])) or heads
    return heads if heads > 0 and tensor.shape[0] > 0 and tensor.shape[0] % (2 * heads) == 0 else 0


def _count(weights: Weights, key: str, layer: int) -> int:
    """A number of heads, of the whole model or of one layer; 0 where the header does not tell it."""
    if key in weights.lists:
        return weights.lists[key][layer] if layer < len(weights.lists[key]) else 0
    value: Any = weights.metadata.get(key)
    return value if type(value) is int else 0
