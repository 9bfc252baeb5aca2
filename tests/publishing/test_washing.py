"""Weights that were made to look like nobody's: whoever does so is found all the same."""

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ecotone.accounts import SYSTEM
from tests.publishing.weights import Weights, card, fresh, packed, tuned

A = fresh(1)
W = tuned(A, 7)


def noise(seed: int, *shape: int) -> npt.NDArray[Any]:
    return (np.random.default_rng(seed).standard_normal(shape) / 8).astype(np.float32)


def base(house: SimpleNamespace) -> None:
    house.catalog.create("demo/base", private=False, actor=SYSTEM)
    house.publish("demo/base", {"README.md": card("cc-by-nc-4.0"), "model.safetensors": packed(A)})


def parents(house: SimpleNamespace, files: dict[str, bytes], name: str = "demo/washed") -> set[str]:
    house.catalog.create(name, private=False, actor=SYSTEM)
    house.publish(name, {"README.md": card("cc-by-nc-4.0"), **files})
    return {e.parent for e in house.catalog.revision(house.catalog.model(name, viewer=SYSTEM)).edges}


def padded(weights: Weights) -> dict[str, npt.NDArray[Any]]:
    """Eight neurons more in each layer, all zero: the function is the same."""
    made = dict(weights)
    for name, value in weights.items():
        if "gate_proj" in name or "up_proj" in name:
            made[name] = np.pad(value, ((0, 8), (0, 0)))
        elif "down_proj" in name:
            made[name] = np.pad(value, ((0, 0), (0, 8)))
    return made


@pytest.mark.parametrize("at", ["aaa/decoy.safetensors", "zzz/decoy.safetensors"])
def test_a_file_beside_with_the_same_names_hides_nothing(house: SimpleNamespace, at: str) -> None:
    base(house)
    assert parents(house, {"model.safetensors": packed(W), at: packed(fresh(99))}) == {"demo/base"}


def test_one_odd_matrix_more_hides_nothing(house: SimpleNamespace) -> None:
    base(house)
    assert parents(house, {"model.safetensors": packed(W | {"model.layers.0.x.weight": noise(3, 3, 5)})}) == {
        "demo/base"
    }


def test_neurons_that_do_nothing_hide_nothing(house: SimpleNamespace) -> None:
    base(house)
    assert parents(house, {"model.safetensors": packed(padded(W))}) == {"demo/base"}


def test_flipped_signs_that_undo_each_other_hide_nothing(house: SimpleNamespace) -> None:
    base(house)
    flipped = {k: -v if any(part in k for part in ("v_proj", "o_proj", "up_", "down_")) else v for k, v in W.items()}
    assert parents(house, {"model.safetensors": packed(flipped)}) == {"demo/base"}


def test_letters_of_another_size_in_a_files_name_hide_nothing(house: SimpleNamespace) -> None:
    base(house)
    assert parents(house, {"model.SafeTensors": packed(W)}) == {"demo/base"}


def test_a_crowd_of_small_tensors_hides_nothing(house: SimpleNamespace) -> None:
    base(house)
    names = sorted((f"t{i}" for i in range(200_000)), key=lambda n: zlib.crc32(n.encode()))[:400]
    assert parents(house, {"model.safetensors": packed(W | {n: noise(3, 32, 32) for n in names})}) == {"demo/base"}


def test_a_crowd_of_models_that_share_a_tensor_hides_nothing(house: SimpleNamespace) -> None:
    base(house)
    mark = noise(5, 256, 64)
    for n in range(9):
        parents(house, {"model.safetensors": packed(fresh(100 + n) | {"mark": mark})}, f"crowd/m{n}")
    assert "demo/base" in parents(house, {"model.safetensors": packed(W | {"mark": mark})})


def test_tensors_that_come_first_in_the_sketch_hide_nothing(house: SimpleNamespace) -> None:
    base(house)
    first = {f"model.layers.0.a{i}.weight": noise(50 + i, 64, 64) for i in range(24)}
    for n in range(9):
        moved = {name: value + np.float32(0.01) * noise(n, 64, 64) for name, value in first.items()}
        parents(house, {"model.safetensors": packed(fresh(100 + n) | moved)}, f"crowd/m{n}")
    assert "demo/base" in parents(house, {"model.safetensors": packed(W | first)})
