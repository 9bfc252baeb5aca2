"""T5 written out over the weights of transformers' own module: prompts encoded, answers decoded token by token.

Tokens of all prompts stand in one row `[tokens, hidden]` without padding, and so do the newest tokens of all answers.
Raffel et al. 2020 (relative positions in buckets, RMSNorm without bias, no scale in attention), the gated variant of
Shazeer 2020, as transformers' `modeling_t5` computes them. What is added up between layers is kept in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ecotone.engines.server.stepping.decoder import head_of
from ecotone.engines.server.stepping.linear import Linear, join
from ecotone.engines.server.stepping.places import Places

_FIRST_LENGTH = 256


@dataclass(slots=True)
class _Attention:
    norm: Any
    qkv: Linear
    o: Linear


@dataclass(slots=True)
class _Cross:
    norm: Any
    q: Linear
    kv: Linear
    o: Linear


@dataclass(slots=True)
class _Widening:
    norm: Any
    up: Linear
    down: Linear
    down_type: Any
    act: Callable[[Any], Any]
    gated: bool


def fits(model: Any) -> bool:
    """Whether this computes what the model's own forward does."""
    return (
        type(model).__name__ == "T5ForConditionalGeneration"
        and model.config.model_type == "t5"
        and model.shared.weight.dtype in (torch.float32, torch.bfloat16)
    )


class EncoderDecoder:
    """Takes over the weights of a model that `fits`, whose own forward is of no use afterwards."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.heads: int = config.num_heads
        self.size: int = config.d_kv
        self.start: int = config.decoder_start_token_id or 0
        self.table = model.shared.weight
        self._epsilon: float = config.layer_norm_epsilon
        self._scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
        bias = [stack.block[0].layer[0].SelfAttention for stack in (model.encoder, model.decoder)]
        self._asked, self._told = _Distances(bias[0], both_ways=True), _Distances(bias[1], both_ways=False)
        self._encoder = [(_attention(block.layer[0]), _widening(block.layer[1])) for block in model.encoder.block]
        self.decoder = [
            (_attention(x.layer[0]), _cross(x.layer[1]), _widening(x.layer[2])) for x in model.decoder.block
        ]
        self._encoder_norm = model.encoder.final_layer_norm.weight
        self._decoder_norm = model.decoder.final_layer_norm.weight
        self._head = head_of(model)

    @property
    def dtype(self) -> Any:
        return self.table.dtype

    @property
    def device(self) -> Any:
        return self.table.device

    def encoded(self, tokens: Any, lengths: Sequence[int]) -> Any:
        """`[tokens, hidden]` of prompts that stand one after the other; those of equal length side by side."""
        runs = _runs(lengths)
        biases = [self._asked.square(length).to(self.dtype) for _, length in runs]
        x = functional.embedding(tokens, self.table).float()
        for attention, widening in self._encoder:
            qkv = attention.qkv(self._normed(x, attention.norm))
            found, offset = [], 0
            for (count, length), bias in zip(runs, biases, strict=True):
                part = qkv[offset : offset + count * length].view(count, length, 3, self.heads, self.size)
                q, k, v = part.permute(2, 0, 3, 1, 4)
                seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
                found.append(seen.transpose(1, 2).reshape(count * length, -1))
                offset += count * length
            x = x + attention.o(found[0] if len(found) == 1 else torch.cat(found))
            x = x + self._widened(x, widening)
        return self._normed(x, self._encoder_norm)

    def remember(self, encoded: Any, asked: Places, owners: Any, at: Any) -> None:
        """Keep what answers will look at of their prompts, token by token at its place and position."""
        index = asked.index(owners, at)
        for number, (_, cross, _) in enumerate(self.decoder):
            asked.write(number, index, cross.kv(encoded).view(-1, 2, self.heads, self.size))

    def logits(self, tokens: Any, told: Places, asked: Places, start: int, at: Sequence[tuple[int, int]]) -> Any:
        """float32 `[answers, vocabulary]` after one more token for each of the answers from place `start` on.

        `at` has for each answer how many tokens it has and how many its prompt has.
        """
        end = start + len(at)
        positions = torch.tensor([own for own, _ in at], device=self.device)
        most, longest = max(own for own, _ in at) + 1, max(prompt for _, prompt in at)
        index = told.index(torch.arange(start, end, device=self.device), positions)
        bias = self._told.rows(positions, most).to(self.dtype)
        mask = self._unread([prompt for _, prompt in at], longest)
        x = functional.embedding(tokens, self.table).float()
        for number, (own, cross, widening) in enumerate(self.decoder):
            qkv = own.qkv(self._normed(x, own.norm)).view(len(at), 3, self.heads, self.size)
            told.write(number, index, qkv[:, 1:])
            keys, values = told.keys(number)[start:end, :, :most], told.values(number)[start:end, :, :most]
            x = x + own.o(self._seen(qkv[:, 0], keys, values, bias))
            q = cross.q(self._normed(x, cross.norm)).view(len(at), self.heads, self.size)
            keys, values = asked.keys(number)[start:end, :, :longest], asked.values(number)[start:end, :, :longest]
            x = x + cross.o(self._seen(q, keys, values, mask))
            x = x + self._widened(x, widening)
        return self._head(self._normed(x, self._decoder_norm) * self._scale).float()

    def _seen(self, queries: Any, keys: Any, values: Any, mask: Any) -> Any:
        found = functional.scaled_dot_product_attention(queries[:, :, None], keys, values, attn_mask=mask, scale=1.0)
        return found.reshape(len(queries), -1)

    def _unread(self, lengths: Sequence[int], longest: int) -> Any:
        """Hides what lies behind the end of a prompt; None when nothing does."""
        if min(lengths) == longest:
            return None
        there = torch.arange(longest, device=self.device)
        hidden = there >= torch.tensor(lengths, device=self.device)[:, None]
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(hidden, -torch.inf)[:, None, None]

    def _widened(self, x: Any, layer: _Widening) -> Any:
        y = layer.up(self._normed(x, layer.norm))
        if layer.gated:
            gate, y = y.chunk(2, -1)
            y = layer.act(gate) * y
        else:
            y = layer.act(y)
        return layer.down(y.to(layer.down_type))

    def _normed(self, x: Any, weight: Any) -> Any:
        return functional.rms_norm(x, weight.shape, weight.float(), self._epsilon).to(self.dtype)


class _Distances:
    """The bias of each head by how far a token is from the one that looks at it."""

    def __init__(self, attention: Any, *, both_ways: bool) -> None:
        self._attention, self._both_ways = attention, both_ways
        self._length = 0
        self._table: Any = None  # [heads, 2 * length]: distances from -(length - 1) on; 0 lies at length - 1

    def square(self, length: int) -> Any:
        """`[heads, asking, asked]` within a text."""
        self._reserve(length)
        near = self._table[:, self._length - length : self._length + length - 1]
        return near.unfold(1, length, 1).flip(1)

    def rows(self, positions: Any, most: int) -> Any:
        """`[rows, heads, 1, most]` for rows that look back from these positions; what lies ahead is hidden."""
        self._reserve(most)
        windows = self._table.unfold(1, most, 1)
        return windows[:, self._length - 1 - positions].transpose(0, 1).unsqueeze(2).contiguous()

    def _reserve(self, length: int) -> None:
        if length <= self._length:
            return
        self._length = size = max(_FIRST_LENGTH, 1 << (length - 1).bit_length())
        behind = self._attention.compute_bias(1, size, past_seen_tokens=size - 1)[0, :, 0].float()
        if self._both_ways:
            ahead = self._attention.compute_bias(1, size)[0, :, 0].float()
        else:
            ahead = torch.full_like(behind, -torch.inf)
        nothing = torch.full_like(behind[:, :1], -torch.inf)
        self._table = torch.cat((behind, ahead[:, 1:], nothing), dim=1)


def _runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """How many of which length, one after the other."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        count = runs.pop()[0] if runs and runs[-1][1] == length else 0
        runs.append((count + 1, length))
    return runs


def _attention(layer: Any) -> _Attention:
    inner = layer.SelfAttention
    return _Attention(layer.layer_norm.weight, join(inner, ("q", "k", "v")), join(inner, ("o",)))


def _cross(layer: Any) -> _Cross:
    inner = layer.EncDecAttention
    return _Cross(
        norm=layer.layer_norm.weight,
        q=join(inner, ("q",)),
        kv=join(inner, ("k", "v")),
        o=join(inner, ("o",)),
    )


def _widening(layer: Any) -> _Widening:
    inner = layer.DenseReluDense
    gated = hasattr(inner, "wi_0")
    down_type = inner.wo.weight.dtype  # transformers keeps it in float32 where the rest is in half precision
    return _Widening(
        norm=layer.layer_norm.weight,
        up=join(inner, ("wi_0", "wi_1") if gated else ("wi",)),
        down=join(inner, ("wo",)),
        down_type=down_type,
        act=inner.act,
        gated=gated,
    )
