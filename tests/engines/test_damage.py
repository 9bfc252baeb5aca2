"""Damaged weights: refused with a reason when they are read; when it happens under an engine, only that one ends."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from ecotone.accounts import SYSTEM
from ecotone.engines import Deployment, Engines
from ecotone.vocabulary import DeploymentState
from tests.engines.shelf import Shelf
from tests.engines.test_engines import says

Until = Callable[..., None]
Connect = Callable[[str | None], httpx.Client]


def trailing(raw: bytes) -> bytes:
    return raw + b"\0" * 64


def cut(raw: bytes) -> bytes:
    return raw[:-64]


def absurd(raw: bytes) -> bytes:
    return struct.pack("<Q", 1 << 60) + raw[8:]


def nothing(_raw: bytes) -> bytes:
    return b""


def overlapping(raw: bytes) -> bytes:
    """Every tensor at the place of the first."""
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    tensors = [name for name in header if name != "__metadata__"]
    for name in tensors:
        header[name]["data_offsets"] = header[tensors[0]]["data_offsets"]
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + raw[8 + struct.unpack("<Q", raw[:8])[0] :]


def mistyped(raw: bytes) -> bytes:
    """The first tensor said to be of whole numbers of 8 bytes."""
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    next(v for k, v in header.items() if k != "__metadata__")["dtype"] = "I64"
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + raw[8 + size :]


@pytest.mark.parametrize("how", [trailing, cut, absurd, nothing, overlapping, mistyped])
def test_weights_whose_file_is_damaged_are_refused_with_the_reason(
    how: Callable[[bytes], bytes], made: dict[str, Path], tmp_path: Path, tiny: ModuleType
) -> None:
    from ecotone.engines.server.errors import Unloadable
    from ecotone.engines.server.folders import plan
    from ecotone.engines.server.loading import load

    folder = shutil.copytree(made["llama"], tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(how(weights.read_bytes()))
    with pytest.raises(Unloadable, match=r"cannot be loaded: \w+") as refused:
        load(plan(folder))
    assert str(tmp_path) not in str(refused.value) and len(str(refused.value)) < 800


@pytest.mark.slow
def test_weights_cut_short_under_a_running_engine_end_that_engine_alone_and_are_named(
    engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path, connect: Connect, until: Until
) -> None:
    """The file is mapped, so a read behind its new end is SIGBUS, which no `except` sees (TensorRT-LLM #17368)."""
    folder = shutil.copytree(made["llama"], tmp_path / "cut")
    shelf.put("demo/cut", folder)
    other = engines.serve("demo/other", "main", (), SYSTEM)
    before = engines.serve("demo/cut", "main", (), SYSTEM)
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(0)
    with pytest.raises(httpx.HTTPError):
        says(connect, before.socket)

    def told() -> Deployment:
        return next(d for d in engines.deployments() if d.model == "demo/cut")

    until(lambda: told().state == DeploymentState.FAILED)
    assert "model.safetensors is damaged on the disk" in (told().error or "") and told().sockets == ()
    assert next(d for d in engines.deployments() if d.model == "demo/other").pid == other.pid
    assert says(connect, other.socket)
