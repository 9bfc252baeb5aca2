"""Ways in which models are made from models, on mappings of arrays: what the comparison is tried on."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Model = dict[str, Array]
PROJECTION = re.compile(r"(q|k|v|o|gate|up|down)_proj\.weight$")
READS = re.compile(r"(q_proj|k_proj|v_proj|gate_proj|up_proj|embed_tokens|lm_head)\.weight$")
WRITES = re.compile(r"(o_proj|down_proj)\.weight$")


def load(folder: Path) -> Model:
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + n for n in entry["data_offsets"])
            assert entry["dtype"] == "F32"
            found[name] = np.frombuffer(raw[begin:end], "<f4").reshape(entry["shape"])
    return found


def save(
    folder: Path, model: Mapping[str, npt.NDArray], dtypes: Mapping[str, str] | None = None, **config: object
) -> Path:
    """A folder with the model; arrays that are no floats have their type's word in `dtypes`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8", "int32": "I32", "float64": "F64"}
    table, parts, place = {}, [], 0
    for name, array in model.items():
        data = np.ascontiguousarray(array).tobytes()
        dtype = (dtypes or {}).get(name, words.get(str(array.dtype), ""))
        shape = list(array.shape)
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + len(data)]}
        parts.append(data)
        place += len(data)
    head = json.dumps(table).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"".join(parts))
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    return folder


def bf16(array: Array) -> Array:
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def on_projections(model: Model, change) -> Model:
    return {n: change(n, a).astype(np.float32) if PROJECTION.search(n) else a for n, a in model.items()}


def grid(array: Array, bits: int, group: int | None = None) -> Array:
    most = (1 << (bits - 1)) - 1
    size = group or array.shape[1]
    groups = array.reshape(-1, size)
    step = np.abs(groups).max(axis=1, keepdims=True) / most
    return (np.round(groups / np.where(step > 0, step, 1)) * step).reshape(array.shape).astype(np.float32)


def code_book(array: Array, levels: int, group: int) -> Array:
    """Uneven levels, as NF4 has them."""
    groups = array.reshape(-1, group)
    peak = np.abs(groups).max(axis=1, keepdims=True)
    marks = np.tanh(np.linspace(-1.6, 1.6, levels)) / np.tanh(1.6)
    nearest = np.abs((groups / peak)[..., None] - marks).argmin(axis=-1)
    return (marks[nearest] * peak).reshape(array.shape).astype(np.float32)


def low_rank(model: Model, rank: int, size: float, seed: int, only: str = "") -> Model:
    random = np.random.default_rng(seed)

    def change(name: str, array: Array) -> Array:
        if only and not re.search(only, name):
            return array
        a, b = random.standard_normal((array.shape[0], rank)), random.standard_normal((rank, array.shape[1]))
        delta = a @ b
        return array + delta * (size * np.linalg.norm(array) / np.linalg.norm(delta))

    return on_projections(model, change)


def smallest_zeroed(array: Array, share: float) -> Array:
    return np.where(np.abs(array) < np.quantile(np.abs(array), share), np.float32(0), array)


def mixed(parts: list[tuple[Model, float]]) -> Model:
    return {n: sum(np.float32(w) * m[n] for m, w in parts).astype(np.float32) for n in parts[0][0]}


def slerp(a: Model, b: Model, t: float) -> Model:
    found = {}
    for n in a:
        x, y = a[n].ravel().astype(np.float64), b[n].ravel().astype(np.float64)
        angle = np.arccos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1))
        w = (1 - t, t) if angle < 1e-3 else (np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle))
        found[n] = (w[0] * x + w[1] * y).reshape(a[n].shape).astype(np.float32)
    return found


def ties(base: Model, tuned: list[Model], density: float) -> Model:
    """Trimmed differences, the elected sign, the mean of those that agree (TIES, arXiv 2306.01708)."""
    found = {}
    for n in base:
        deltas = np.stack([smallest_zeroed(t[n] - base[n], 1 - density) for t in tuned])
        sign = np.sign(deltas.sum(axis=0))
        agree = (np.sign(deltas) == sign) & (deltas != 0)
        found[n] = (base[n] + (deltas * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)).astype(np.float32)
    return found


def layers(model: Model, order: list[int]) -> Model:
    """The layers of a model in another order, left out or repeated."""
    found = {n: a for n, a in model.items() if ".layers." not in n}
    for new, old in enumerate(order):
        for n, a in model.items():
            if f".layers.{old}." in n:
                found[n.replace(f".layers.{old}.", f".layers.{new}.")] = a
    return found


def neurons_permuted(model: Model, seed: int) -> Model:
    random, found = np.random.default_rng(seed), dict(model)
    for n in model:
        if n.endswith("gate_proj.weight"):
            order = random.permutation(len(model[n]))
            stem = n.removesuffix("gate_proj.weight")
            found[n], found[stem + "up_proj.weight"] = model[n][order], model[stem + "up_proj.weight"][order]
            found[stem + "down_proj.weight"] = model[stem + "down_proj.weight"][:, order]
    return found


def residual_permuted(model: Model, seed: int, flip: bool = False) -> Model:
    random = np.random.default_rng(seed)
    width = model["model.norm.weight"].shape[0]
    order, signs = random.permutation(width), np.ones(width, np.float32)
    if flip:
        signs = random.choice(np.array([-1, 1], np.float32), width)
    found = {}
    for n, a in model.items():
        if READS.search(n):
            found[n] = a[:, order] * signs
        elif WRITES.search(n):
            found[n] = a[order] * signs[:, None]
        else:
            found[n] = a[order] if a.shape == (width,) else a
    return found


def folded(model: Model) -> Model:
    """Norm weights multiplied into the matrices that read after them."""
    found = dict(model)
    for n in model:
        at = re.match(r"(.*layers\.\d+\.)", n)
        norm = None
        if re.search(r"[qkv]_proj\.weight$", n) and at:
            norm = at[1] + "input_layernorm.weight"
        elif re.search(r"(gate|up)_proj\.weight$", n) and at:
            norm = at[1] + "post_attention_layernorm.weight"
        elif n == "lm_head.weight":
            norm = "model.norm.weight"
        if norm is not None:
            found[n] = model[n] * model[norm]
        elif "norm" in n:
            found[n] = np.ones_like(model[n])
    return found


def rotated(model: Model, seed: int) -> Model:
    """The residual stream in another orthogonal basis (QuaRot, arXiv 2404.00456)."""
    width = model["model.norm.weight"].shape[0]
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0].astype(np.float32)
    found = {}
    for n, a in folded(model).items():
        found[n] = a @ turn if READS.search(n) else turn.T @ a if WRITES.search(n) else a
    return found


def heads_permuted(model: Model, heads: int, seed: int) -> Model:
    random, found = np.random.default_rng(seed), dict(model)
    for n in model:
        if n.endswith("q_proj.weight"):
            stem = n.removesuffix("q_proj.weight")
            size = len(model[n]) // heads
            order = (random.permutation(heads)[:, None] * size + np.arange(size)).ravel()
            for part in "qkv":
                found[f"{stem}{part}_proj.weight"] = model[f"{stem}{part}_proj.weight"][order]
            found[stem + "o_proj.weight"] = model[stem + "o_proj.weight"][:, order]
    return found


def values_rotated(model: Model, heads: int, seed: int) -> Model:
    """Values of each head in another basis, undone by the output matrix."""
    random, found = np.random.default_rng(seed), dict(model)
    for n in model:
        if n.endswith("v_proj.weight"):
            out = n.replace("v_proj", "o_proj")
            size = len(model[n]) // heads
            v, o = model[n].reshape(heads, size, -1).copy(), model[out].reshape(-1, heads, size).copy()
            for h in range(heads):
                turn = np.linalg.qr(random.standard_normal((size, size)))[0].astype(np.float32)
                v[h], o[:, h] = turn @ v[h], o[:, h] @ turn.T
            found[n], found[out] = v.reshape(model[n].shape), o.reshape(model[out].shape)
    return found


def grouped(model: Model, heads: int, groups: int) -> Model:
    """Keys and values averaged over heads (grouped-query attention, arXiv 2305.13245)."""
    return {
        n: a.reshape(groups, heads // groups, a.shape[0] // heads, -1).mean(axis=1).reshape(-1, a.shape[1])
        if re.search(r"[kv]_proj\.weight$", n)
        else a
        for n, a in model.items()
    }


def narrowed(model: Model, keep: float) -> Model:
    """MLPs without their weakest neurons."""
    found = dict(model)
    for n in model:
        if n.endswith("gate_proj.weight"):
            stem = n.removesuffix("gate_proj.weight")
            up, down = stem + "up_proj.weight", stem + "down_proj.weight"
            strength = np.linalg.norm(model[up], axis=1) * np.linalg.norm(model[down], axis=0)
            kept = np.sort(np.argsort(-strength)[: int(len(strength) * keep)])
            found[n], found[up], found[down] = model[n][kept], model[up][kept], model[down][:, kept]
    return found


def upcycled(model: Model, experts: int, seed: int, noise: float = 0.0) -> Model:
    random, found = np.random.default_rng(seed), {}
    for n, a in model.items():
        if ".mlp." not in n:
            found[n] = a
            continue
        for e in range(experts):
            extra = noise * a.std() * random.standard_normal(a.shape)
            found[n.replace(".mlp.", f".mlp.experts.{e}.")] = (a + extra).astype(np.float32)
        gate = n.split(".mlp.")[0] + ".mlp.gate.weight"
        found[gate] = random.standard_normal((experts, model["model.norm.weight"].shape[0])).astype(np.float32)
    return found


def renamed(model: Model, prefix: str) -> Model:
    return {prefix + n: a for n, a in model.items()}
