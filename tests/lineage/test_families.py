"""The tiny families: every derivation found and named, and never an independent model taken for one."""

import contextlib
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ecotone.lineage.comparing import Related, compare, compare_prints, explain, recover
from ecotone.lineage.opening import fingerprint_of, open_weights
from ecotone.vocabulary import Relation
from tests.lineage import derivations as made
from tests.lineage import writing

SIZES = ("S", pytest.param("M", marks=pytest.mark.slow))
HEADS = 4
INDEPENDENT = ("B_indep_samedata", "C_indep_otherdata", "D_distilled_from_A")
# what may be said of each derivation of A, by the recipe
ACCEPTED = {
    "A2_sameinit_otherdata": {Relation.CONTINUED_PRETRAIN},
    "A_ft": {Relation.FINETUNE},
    "A_cpt_heavy": {Relation.CONTINUED_PRETRAIN},
    "A_lora_merged": {Relation.ADAPTER_MERGED},
    "A_exact_copy": {Relation.MIRROR_OF},
    "A_bf16": {Relation.CONVERTED},
    "A_int8": {Relation.QUANTISED},
    "A_int4": {Relation.QUANTISED},
    "A_pruned40": {Relation.PRUNED},
    "A_noise_1e-3": {Relation.CONVERTED, Relation.QUANTISED},
    "A_merge_ft_ft2": {Relation.FINETUNE},
    "A_merge_A_B_50": {Relation.MERGE},
    "B_with_A_qk_grafted": {Relation.COMPONENT_OF},
    "A_ft_mlp_permuted": {Relation.FINETUNE},
    "A_ft_all_permuted": {Relation.FINETUNE},
    "A_depth_pruned": {Relation.DEPTH_PRUNED},
    "A_ft_vocab_ext": {Relation.VOCAB_EXTENDED},
}


@pytest.fixture(scope="module", params=SIZES)
def tiny(request: pytest.FixtureRequest, shared: Path) -> Path:
    return shared / "data/licence/lineage/tiny" / request.param


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numpy's; other tests' garbage is theirs
        yield


@cache
def _opened(path: Path):
    return open_weights(path)


def test_every_derivation_is_found_and_named(tiny: Path) -> None:
    base = _opened(tiny / "A")
    found = {n: compare(_opened(tiny / n), base) for n in ACCEPTED}
    assert {n: f.related for n, f in found.items() if f.related is not Related.YES} == {}
    assert {n: f.relation for n, f in found.items() if f.relation not in ACCEPTED[n]} == {}
    assert found["A_lora_merged"].rank == 4
    assert (found["A_int8"].bits, found["A_int4"].bits) == (8, 4)
    assert found["A_merge_A_B_50"].weights["parent"] == pytest.approx(0.5, abs=0.01)


def test_no_independent_model_is_accused(tiny: Path) -> None:
    unrelated = ["A", *INDEPENDENT]
    kin = ["A_ft_all_permuted", "A_ft_mlp_permuted", "A_int4", "A_pruned40", "A_depth_pruned", "A_ft_vocab_ext"]
    pairs = [*itertools.permutations(unrelated, 2), *((n, b) for n in kin for b in INDEPENDENT[:1])]
    alarms = [p for p in pairs if compare(_opened(tiny / p[0]), _opened(tiny / p[1])).related is not Related.NO]
    assert alarms == []


def test_the_child_is_known_where_something_was_lost_or_added(tiny: Path) -> None:
    base = _opened(tiny / "A")
    for name in ("A_bf16", "A_int4", "A_pruned40", "A_depth_pruned", "A_ft_vocab_ext", "A_cpt_heavy"):
        forward, backward = compare(_opened(tiny / name), base), compare(base, _opened(tiny / name))
        assert forward.direction is not None and forward.direction.child == "first", name
        assert backward.direction is not None and backward.direction.child == "second", name
        assert backward.relation is forward.relation, name
    for name in ("A2_sameinit_otherdata", "A_exact_copy", "A_ft"):
        assert compare(_opened(tiny / name), base).direction is None, name


def test_a_merge_tells_its_parents_and_their_shares(tiny: Path) -> None:
    candidates = {n: _opened(tiny / n) for n in ("A", "A_ft", "ft2", *INDEPENDENT)}
    for name, wanted in (
        ("A_merge_ft_ft2", {"A_ft": 0.5, "ft2": 0.5}),
        ("A_merge_A_B_50", {"A": 0.5, "B_indep_samedata": 0.5}),
    ):
        best = explain(_opened(tiny / name), candidates)[0]
        assert best.relation is Relation.MERGE and best.parents == pytest.approx(wanted, abs=0.01)
    alone = recover(_opened(tiny / "A_ft"), {n: candidates[n] for n in ("A", "ft2", "B_indep_samedata")})
    assert not alone.merged
    assert recover(candidates["B_indep_samedata"], {"A": candidates["A"]}).residual > 0.9
    assert explain(candidates["D_distilled_from_A"], {n: candidates[n] for n in ("A", "A_ft")}) == []


def test_fingerprints_alone_find_all_but_permuted_copies(tiny: Path) -> None:
    base = fingerprint_of(tiny / "A")
    found = {n: compare_prints(fingerprint_of(tiny / n), base) for n in (*ACCEPTED, *INDEPENDENT)}
    unrelated = {n for n, f in found.items() if f.related is not Related.YES}
    assert unrelated == {*INDEPENDENT, "A_ft_all_permuted"}
    assert set(found["B_with_A_qk_grafted"].grafted) == {
        n for n in base.tensors if n.endswith(("q_proj.weight", "k_proj.weight"))
    }
    assert len(found["A_depth_pruned"].missing_layers) == 1


def _further(a, b, c, ft, ft2) -> dict:
    """Derivations beyond the recipe, with what may be said of them."""
    cut = a | {n: a[n][:200] for n in ("model.embed_tokens.weight", "lm_head.weight")}
    layers = len({n.split(".")[2] for n in a if ".layers." in n})
    random = np.random.default_rng(5)
    tower = {f"vision.blocks.{i}.fc.weight": random.standard_normal((256, 256)).astype(np.float32) for i in range(2)}

    def quantised(model: made.Model, bits: int, group: int | None = None) -> made.Model:
        return made.on_projections(model, lambda _, x: made.grid(x, bits, group))

    return {
        "adapter of rank 8 on all": (made.low_rank(a, 8, 0.1, 1), {Relation.ADAPTER_MERGED}),
        "adapter, then bfloat16": (
            {n: made.bf16(x) for n, x in made.low_rank(a, 8, 0.1, 1).items()},
            {Relation.ADAPTER_MERGED},
        ),
        "tuned, then int8": (quantised(ft, 8), {Relation.QUANTISED}),
        "int4 kept in float16": (
            {n: x.astype(np.float16) for n, x in quantised(a, 4, 32).items()},
            {Relation.QUANTISED},
        ),
        "uneven levels": (made.on_projections(a, lambda n, x: made.code_book(x, 16, 32)), {Relation.QUANTISED}),
        "pruned, then int8": (
            quantised(made.on_projections(a, lambda n, x: made.smallest_zeroed(x, 0.5)), 8),
            {Relation.QUANTISED, Relation.PRUNED},
        ),
        "float16": ({n: x.astype(np.float16) for n, x in a.items()}, {Relation.CONVERTED}),
        "scaled": ({n: x * np.float32(1.7) for n, x in a.items()}, {Relation.CONVERTED}),
        "norms folded": (made.folded(a), {Relation.CONVERTED}),
        "signs flipped": (made.residual_permuted(a, 1, flip=True), {Relation.CONVERTED}),
        "rotated and tuned": (made.rotated(ft, 1), {Relation.FINETUNE}),
        "rotated, values too, then int4": (
            quantised(made.values_rotated(made.rotated(a, 1), HEADS, 2), 4, 32),
            {Relation.QUANTISED},
        ),
        "heads, neurons and residual permuted": (
            made.neurons_permuted(made.residual_permuted(made.heads_permuted(ft, HEADS, 1), 2), 3),
            {Relation.FINETUNE},
        ),
        "grouped queries": (made.grouped(a, HEADS, 2), {Relation.PRUNED, Relation.CONVERTED}),
        "neurons left out": (made.narrowed(ft, 0.6), {Relation.PRUNED}),
        "first layer left out": (made.layers(ft, list(range(1, layers))), {Relation.DEPTH_PRUNED}),
        "layers repeated": (made.layers(a, [*range(layers), layers - 1]), {Relation.UPCYCLED, Relation.MERGE}),
        "experts of one MLP": (made.upcycled(ft, 4, 1, 0.1), {Relation.UPCYCLED}),
        "frozen, with a tower": (a | tower, {Relation.COMPONENT_OF}),
        "vocabulary cut": (cut, {Relation.PRUNED, Relation.VOCAB_EXTENDED}),
        "names with a prefix": (made.renamed(ft, "language_model.base."), {Relation.FINETUNE}),
        "three merged": (made.mixed([(ft, 0.4), (ft2, 0.3), (b, 0.3)]), {Relation.MERGE}),
        "spherical merge": (made.slerp(a, b, 0.5), {Relation.MERGE}),
        "a small part of a merge": (made.mixed([(a, 0.2), (b, 0.8)]), {Relation.MERGE}),
        "MLPs in another model": (
            {n: a[n] if ".mlp." in n else b[n] for n in a},
            {Relation.MERGE, Relation.COMPONENT_OF},
        ),
        "independent": (b, {None}),
        "independent, int4": (quantised(b, 4, 32), {None}),
        "independent, rotated": (made.rotated(c, 1), {None}),
        "independent, upcycled": (made.upcycled(c, 4, 1), {None}),
        "independent, fewer heads": (made.grouped(c, HEADS, 2), {None}),
    }


@pytest.mark.parametrize("size", SIZES)
def test_derivations_beyond_the_recipe_are_found(size: str, shared: Path, tmp_path: Path) -> None:
    tiny = shared / "data/licence/lineage/tiny" / size
    a, b, c, ft, ft2 = (made.load(tiny / n) for n in ("A", "B_indep_samedata", "C_indep_otherdata", "A_ft", "ft2"))
    base = _opened(tiny / "A")
    wrong = {}
    for name, (model, accepted) in _further(a, b, c, ft, ft2).items():
        folder = made.save(tmp_path / re.sub(r"\W+", "_", name), model, model_type="llama", num_attention_heads=HEADS)
        found = compare(open_weights(folder), base)
        if found.relation not in accepted or (found.related is Related.NO) != (accepted == {None}):
            wrong[name] = (found.related, found.relation)
    assert wrong == {}


def test_merges_of_other_kinds_tell_their_parents(tiny: Path, tmp_path: Path) -> None:
    names = ("A", "B_indep_samedata", "A_ft", "ft2", "C_indep_otherdata")
    a, b, ft, ft2 = (made.load(tiny / n) for n in names[:4])
    candidates = {n: _opened(tiny / n) for n in names}
    for name, model, wanted in (
        ("three", made.mixed([(ft, 0.4), (ft2, 0.3), (b, 0.3)]), {"A_ft", "ft2", "B_indep_samedata"}),
        ("spherical", made.slerp(a, b, 0.4), {"A", "B_indep_samedata"}),
    ):
        folder = made.save(tmp_path / name, model, model_type="llama", num_attention_heads=HEADS)
        best = explain(open_weights(folder), candidates)[0]
        assert best.relation is Relation.MERGE and wanted <= set(best.parents), (name, best)


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _q4_0(array: np.ndarray) -> writing.Tensor:
    """Rounded to 4 bits with a scale for 32 values (ggml's Q4_0)."""
    groups = array.reshape(-1, 32)
    peak = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], 1)
    scales = (peak / -8).astype("<f2")
    wide = scales.astype(np.float32)
    numbers = np.clip(np.floor(groups / np.where(wide == 0, 1, wide) + 8.5), 0, 15).astype(np.uint8)
    packed = numbers[:, :16] | numbers[:, 16:] << 4
    return "Q4_0", array.shape, np.concatenate((scales.view(np.uint8), packed), axis=1).tobytes()


def _as_gguf(model: made.Model, how) -> bytes:
    """As llama.cpp's converter writes it: its names, and rows of q and k in its order."""
    found = {}
    for name, array in model.items():
        short = name.removesuffix(".weight").replace("model.layers.", "blk.")
        end = next(hf for hf in NAMES if short == hf or short.endswith("." + hf))
        if NAMES[end] in ("attn_q", "attn_k"):
            halves = array.reshape(HEADS, 2, -1, array.shape[1])
            array = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
        fits = array.ndim == 2 and array.shape[1] % 32 == 0
        found[short.removesuffix(end) + NAMES[end] + ".weight"] = how(array) if fits else writing.stored(array)
    metadata = {"general.architecture": "llama", "llama.attention.head_count": HEADS}
    return writing.gguf(found, metadata | {"llama.attention.head_count_kv": HEADS})


def test_a_gguf_file_is_known_for_what_it_was_made_from(tiny: Path, tmp_path: Path) -> None:
    base, model = _opened(tiny / "A"), made.load(tiny / "A")
    for name, how, relation, bits in (
        ("f16", lambda x: writing.stored(x.astype(np.float16)), Relation.CONVERTED, None),
        ("q8_0", writing.q8_0, Relation.QUANTISED, 8),
        ("q4_0", _q4_0, Relation.QUANTISED, 4),
    ):
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(_as_gguf(model, how))
        found = compare(open_weights(file), base)
        assert (found.related, found.relation, found.bits) == (Related.YES, relation, bits), name
        assert found.direction is not None and found.direction.child == "first"
    other = tmp_path / "other.gguf"
    other.write_bytes(_as_gguf(made.load(tiny / "B_indep_samedata"), _q4_0))
    assert compare(open_weights(other), base).related is Related.NO


@pytest.mark.slow
def test_families_of_other_seeds_are_found_and_named() -> None:
    """Trained with a fraction of the recipe's steps, once, and kept in the machine's temporary folder."""
    pytest.importorskip("torch")
    seed, share, kinds = 31, 0.2, ("B", "C", "A2", "ft", "cpt", "lora")
    folder = Path(tempfile.gettempdir()) / f"ecotone-tiny-family-{seed}-{share}"
    if not (folder / "lora/model.safetensors").is_file():
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))  # whole or not there: others may look for it
        script = [sys.executable, "-m", "tests.lineage.training", draft, "--seed", str(seed), "--share", str(share)]
        root = Path(__file__).resolve().parent.parent.parent
        subprocess.run([*script, "--kinds", ",".join(kinds)], check=True, cwd=root)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was quicker
            draft.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
    source = {n: open_weights(folder / n) for n in ("A", *kinds)}
    for x, y in itertools.permutations("ABC", 2):
        assert compare(source[x], source[y]).related is Related.NO, (x, y)
    relations = {n: compare(source[n], source["A"]) for n in ("A2", "ft", "cpt", "lora")}
    assert {n: f.relation for n, f in relations.items()} == {
        "A2": Relation.CONTINUED_PRETRAIN,
        "ft": Relation.FINETUNE,
        "cpt": Relation.CONTINUED_PRETRAIN,
        "lora": Relation.ADAPTER_MERGED,
    }
    assert relations["lora"].rank == 4
