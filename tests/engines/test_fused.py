"""A step by compiled kernels is the step that torch computes, in every company, on every number of threads."""

import copy
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
pytest.importorskip("numba", reason="needs the engine extra (numba)")


@pytest.fixture(scope="module")
def small() -> ModuleType:
    return importlib.import_module("tests.engines.stepping")


@pytest.fixture
def threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def stepper(model: Any, small: ModuleType, **options: Any) -> Any:
    from ecotone.engines.server.stepping.choosing import stepper_for

    found: Any = stepper_for(small.loaded(copy.deepcopy(model)), {"slots": 8, **options})
    return found


def logits(steps: Any, prompts: list[list[int]], count: int = 6) -> Any:
    """Of `count` steps, `[steps, rows, vocabulary]`."""
    with torch.inference_mode():
        rows = [steps.open(prompt) for prompt in prompts]
        while steps.filling:
            steps.fill(1000)
        found = [steps.step(rows, [(7 * row + turn) % 90 + 2 for row in range(len(rows))]) for turn in range(count)]
        for row in rows:
            steps.close(row)
    return torch.stack(found)


def test_heads_shared_out_among_threads_give_the_same(
    small: ModuleType, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecotone.engines.server.stepping import fused

    model = small.made("Mistral", sliding_window=16)
    prompts = small.texts(5, longest=90)
    threads(1)
    wanted = logits(stepper(model, small), prompts)
    monkeypatch.setattr(fused, "_WORTH_A_THREAD", 1)
    threads(3)
    steps = stepper(model, small)
    found = logits(steps, prompts)
    assert steps._fused._pool._threads, "nobody helped"
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("bias", [False, True], ids=["ranged rows", "with biases"])
def test_8_bits_are_the_same_but_for_rounding(bias: bool, small: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecotone.engines.server.quantising import quantise_layers

    model = small.made("Llama", attention_bias=bias, mlp_bias=bias)
    exact = logits(stepper(model, small), small.texts(4))
    quantise_layers(model)
    found = logits(stepper(model, small), small.texts(4))
    small.without_numba(monkeypatch)
    steps = stepper(model, small)
    assert steps._fused is None
    wanted = logits(steps, small.texts(4))
    error = (wanted - exact).std()
    assert (found - exact).std() < 1.2 * error, "no worse than torch's way"
    assert (found - wanted).std() < 1.2 * error


@pytest.mark.parametrize("what", ["nan", "inf"])
def test_damaged_weights_are_not_hidden_by_the_kernels(what: str, small: ModuleType) -> None:
    """Whoever looks for numbers that are none must find them after a fused step as after torch's."""
    model = small.made("Llama")
    model.model.layers[1].mlp.down_proj.weight[3, 4] = float(what)
    found = logits(stepper(model, small), small.texts(3), count=2)
    assert not torch.isfinite(found).all(-1).any()


def test_a_row_of_zeros_is_computed_as_well(small: ModuleType) -> None:
    """Products in 8 bits divide a row by its largest value."""
    from ecotone.engines.server.quantising import quantise_layers

    model = small.made("Llama")
    model.model.layers[1].input_layernorm.weight.data.zero_()
    model.model.layers[2].mlp.up_proj.weight.data.zero_()
    exact = logits(stepper(model, small), small.texts(3))
    quantise_layers(model)
    found = logits(stepper(model, small), small.texts(3))
    assert torch.isfinite(found).all()
    assert (found - exact).std() < 0.1 * exact.std()


def test_kernels_that_compute_something_else_are_not_used(small: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor for which they are compiled wrongly; each of them is tried."""
    from ecotone.engines.server.stepping import fused, kernels

    assert fused._tried_out(kernels)
    for name in ("normed", "gated", "attended", "ranged"):
        with monkeypatch.context() as patch:
            patch.setattr(kernels, name, lambda *_: None)
            assert not fused._tried_out(kernels), name


def test_exp_is_exact_to_single_precision() -> None:
    import numpy as np
    from numba import njit

    from ecotone.engines.server.stepping.kernels import _exp

    @njit
    def each(xs: Any) -> Any:
        found = np.empty_like(xs)
        for place in range(len(xs)):
            found[place] = _exp(xs[place])
        return found

    xs = np.linspace(-87, 88, 100_001, dtype=np.float32)
    right = np.exp(xs.astype(np.float64))
    assert (np.abs(each(xs) - right) / right).max() < 2.5e-7
    ends = each(np.array([-np.inf, -1e9, np.inf, np.nan], dtype=np.float32))
    assert ends[0] == ends[1] < 1e-37
    assert ends[2] > 1e38 and np.isnan(ends[3])


def test_kernels_compile_where_no_folder_can_be_written(tmp_path: Any) -> None:
    """An installation that belongs to root, run by a user without a home."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "from ecotone.engines.server.stepping import fused\n"
        "assert fused._kernels() is not None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_torn_files_of_the_cache_are_compiled_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a full disk or a loss of power leaves them: an engine would stay slow until somebody finds out."""
    import numba
    import numpy as np

    from ecotone.engines.server.stepping import kernels

    kept = tmp_path / "kept"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(kept))

    def was_kept() -> bool:
        """Whether a new process would find the kernel there; it works anyway."""
        made = kernels._kernel(kernels.ranged.py_func)
        rows, most = np.full((2, 3), 4, np.float32), np.empty(2, np.float32)
        made(rows.ctypes.data, most.ctypes.data, 2, 3)
        assert (rows == 1).all() and (most == 4).all()
        return bool(made.stats.cache_hits)

    assert not was_kept() and was_kept()
    for suffix, size in ((".nbi", 30), (".nbc", 2000)):
        (file,) = kept.rglob(f"*{suffix}")
        os.truncate(file, size)
        assert not was_kept() and was_kept(), suffix
    kept.chmod(0o777)
    assert not was_kept(), "what others may have put there was run"
    kept.chmod(0o700)
    for folder in (f for f in kept.rglob("*") if f.is_dir()):
        monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", _full)
        os.truncate(next(folder.glob("*.nbi")), 0)
    assert not was_kept(), "a full disk"


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_of_the_cache_is_ours_alone(tmp_path: Any) -> None:
    from ecotone.engines.server.stepping.kernels import is_ours

    inner = tmp_path / "home" / "numba"
    inner.mkdir(parents=True)
    assert is_ours(inner)
    inner.parent.chmod(0o777)
    assert not is_ours(inner)
    inner.parent.chmod(0o1777)
    assert is_ours(inner), "as below /tmp"
    inner.chmod(0o1777)
    assert not is_ours(inner)
