"""Small language models of the tiny family's kind, trained here with any seed: decoders of bytes with LLaMA's names.

python tests/lineage/training.py FOLDER [--seed 7] [--share 1.0]     # the whole family that needs training
"""

import argparse
import math
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

LAYERS, WIDTH, NEURONS, HEADS, VOCABULARY, CONTEXT = 3, 64, 176, 4, 256, 128
STEPS, RATE = 600, 3e-3
CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "intermediate_size": NEURONS,
    "vocab_size": VOCABULARY,
}
Parameters = dict[str, torch.Tensor]


def text(*patterns: str) -> torch.Tensor:
    """Bytes of files of the standard library, which every machine has."""
    root = Path(sysconfig.get_paths()["stdlib"])
    data = b"".join(f.read_bytes() for p in patterns for f in sorted(root.glob(p)))
    return torch.from_numpy(np.frombuffer(data, np.uint8).astype(np.int64))


TEXTS = {"D1": "pydoc_data/topics.py", "D2": "asyncio/*.py", "D3": "email/*.py", "D4": "unittest/*.py"}


def fresh(seed: int) -> Parameters:
    random = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, size: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) * size

    found = {"model.embed_tokens.weight": normal(VOCABULARY, WIDTH, 0.08)}
    for n in range(LAYERS):
        stem = f"model.layers.{n}."
        for part in "qkvo":
            found[f"{stem}self_attn.{part}_proj.weight"] = normal(WIDTH, WIDTH, WIDTH**-0.5)
        for part in ("gate", "up"):
            found[f"{stem}mlp.{part}_proj.weight"] = normal(NEURONS, WIDTH, WIDTH**-0.5)
        found[stem + "mlp.down_proj.weight"] = normal(WIDTH, NEURONS, NEURONS**-0.5)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{stem}{norm}.weight"] = torch.ones(WIDTH)
    found["model.norm.weight"] = torch.ones(WIDTH)
    found["lm_head.weight"] = normal(VOCABULARY, WIDTH, 0.5 * WIDTH**-0.5)
    return found


def logits(p: Mapping[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    batch, length = tokens.shape
    size = WIDTH // HEADS
    angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
    cos, sin = (torch.cat([f(angle)] * 2, -1) for f in (torch.cos, torch.sin))

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight

    def turned(x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat([-right, left], -1) * sin

    x = p["model.embed_tokens.weight"][tokens]
    for n in range(LAYERS):
        stem = f"model.layers.{n}."
        y = norm(x, p[stem + "input_layernorm.weight"])
        q, k, v = (
            (y @ p[f"{stem}self_attn.{part}_proj.weight"].T).view(batch, length, HEADS, size).transpose(1, 2)
            for part in "qkv"
        )
        y = functional.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + y @ p[stem + "self_attn.o_proj.weight"].T
        y = norm(x, p[stem + "post_attention_layernorm.weight"])
        gate, up = (y @ p[f"{stem}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (functional.silu(gate) * up) @ p[stem + "mlp.down_proj.weight"].T
    return norm(x, p["model.norm.weight"]) @ p["lm_head.weight"].T


def trained(
    start: Parameters,
    data: str,
    steps: int,
    rate: float,
    *,
    seed: int = 0,
    teacher: Parameters | None = None,
    rank: int = 0,
) -> Parameters:
    """The parameters after training; with a rank, only a low-rank difference of q and v, merged at the end."""
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(1000 + seed)
    tokens = text(TEXTS[data])
    base = {n: t.detach().clone() for n, t in start.items()}
    parts: Parameters = {}
    for n in [n for n in base if rank and n.endswith(("q_proj.weight", "v_proj.weight"))]:
        parts[n + "/a"] = torch.randn(rank, WIDTH, generator=random) * WIDTH**-0.5
        parts[n + "/b"] = torch.zeros(WIDTH, rank)
    learned = [t.requires_grad_() for t in (parts if rank else base).values()]

    def whole() -> Parameters:
        return {n: t + 2 * parts[n + "/b"] @ parts[n + "/a"] if n + "/a" in parts else t for n, t in base.items()}

    optimiser = torch.optim.AdamW(learned, rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        for group in optimiser.param_groups:
            waning = 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = rate * min(1.0, (step + 1) / 20) * waning
        places = torch.randint(len(tokens) - CONTEXT - 1, (16,), generator=random)
        batch = torch.stack([tokens[i : i + CONTEXT + 1] for i in places])
        found = logits(whole(), batch[:, :-1]).flatten(0, 1)
        if teacher is None:
            loss = functional.cross_entropy(found, batch[:, 1:].flatten())
        else:
            with torch.no_grad():
                wanted = logits(teacher, batch[:, :-1]).flatten(0, 1).log_softmax(-1)
            loss = functional.kl_div(found.log_softmax(-1), wanted, log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
    return {n: t.detach().clone() for n, t in whole().items()}


def family(seed: int, share: float, kinds: set[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """The models of a family that need training, from seeds of its own.

    Args:
        seed: the base's; independents have the ones that follow.
        share: of the recipe's steps.
        kinds: those that are wanted beside the base; None for all.
    """
    full, some = int(STEPS * share), lambda n: max(30, int(n * share))
    base = trained(fresh(seed), "D1", full, RATE, seed=seed)
    makers = {
        "B": lambda: trained(fresh(seed + 1), "D1", full, RATE, seed=seed + 1),
        "C": lambda: trained(fresh(seed + 2), "D2", full, RATE, seed=seed + 2),
        "D": lambda: trained(fresh(seed + 3), "D1", full, RATE, seed=seed + 3, teacher=base),
        "A2": lambda: trained(fresh(seed), "D2", full, RATE, seed=seed + 4),
        "ft": lambda: trained(base, "D3", some(150), 3e-4, seed=seed + 5),
        "ft2": lambda: trained(base, "D4", some(150), 3e-4, seed=seed + 6),
        "cpt": lambda: trained(base, "D2", full, RATE, seed=seed + 7),
        "lora": lambda: trained(base, "D3", some(200), RATE, seed=seed + 8, rank=4),
    }
    found = {"A": base} | {n: make() for n, make in makers.items() if kinds is None or n in kinds}
    return {n: {k: t.numpy().astype(np.float32) for k, t in m.items()} for n, m in found.items()}


def main() -> None:
    from tests.lineage.derivations import save

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=1.0, help="of the recipe's steps")
    parser.add_argument("--kinds", help="those wanted beside the base, with commas; default all")
    asked = parser.parse_args()
    kinds = set(asked.kinds.split(",")) if asked.kinds else None
    for name, model in family(asked.seed, asked.share, kinds).items():
        save(asked.folder / name, model, **CONFIG)
        print(name, flush=True)


if __name__ == "__main__":
    main()
